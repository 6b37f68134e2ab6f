/*
 * validator.c
 *	  TV, the transaction validator: opens final transactions and acts on their verdicts.
 *
 * The chain answers with one FT a block.  For each transaction in it a row of
 * apm.final_transaction says what became of it, for ever; the refused ones are the audit
 * (view apm.refused).  A valid record of our own APM goes to the outbox: its body comes
 * from the ledger and is sealed for the APM, under a content key of the network server's
 * own.  A registration makes the records and consents ready that wait for it.  What became of a query, or of a
 * dataset, goes to whoever asked.
 *
 * One transaction does all this and takes the FT from the queue, so that an FT is handled once; and what
 * an earlier one has said of a Tid is not said again.  An FT that fails is tried three times and
 * goes to quarantine; the others go on.
 */
#include "postgres.h"

#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "apm_errors.h"
#include "apm_sql.h"
#include "chain/chain.h"
#include "cloud/cloud.h"
#include "keys/keyring.h"
#include "worker/worker.h"
#include "network/network_server.h"

#define BLOCKS 8
#define FT_TRIES 3
#define RETRY_MS 1000
#define BODY_BYTES (32 * 1024 * 1024) /* aimed at, of one statement */
#define BODIES_FIRST 16
#define BODIES_MAX 1000

/* Rows of FTs that failed: not before that time, and then one by one. */
static TimestampTz retry_at = 0;
static bool singly = false;

/* An FT, opened. */
typedef struct ApmFinal
{
	int64 id;
	uint64 height;
	ApmEntry *entries;
	size_t n;
	const char *fault;
} ApmFinal;

static void
open_final(const ApmFinalBlock *block, ApmFinal *out)
{
	ApmBuf plain = {0};
	ApmDigest hash;
	ApmStatus status = apm_key_open(APM_PAIR_NS, block->sealed, &plain);

	memset(out, 0, sizeof(*out));
	out->id = block->id;
	if (status == APM_ERR_MEMORY || status == APM_ERR_CRYPTO)
		apm_raise(status, "open a final transaction");
	if (status != APM_OK)
	{
		out->fault = "cannot be opened";
		return;
	}
	status = apm_final_decode(APM_SLICE(plain.data, plain.len), &hash, &out->height, &out->entries, &out->n);
	if (status == APM_ERR_MEMORY)
		apm_raise(status, "read a final transaction");
	if (status != APM_OK)
		out->fault = "is not a final transaction";
}

/* Writes down what became of each transaction.  Returns the valid records that nothing was known of before. */
static int
write_down(const ApmFinal *final, ApmUuid **records)
{
	static ApmStatement insert = {
		"WITH fresh AS (INSERT INTO apm.final_transaction"
		" (tid, kind, rule, height, position, pooled_at, validated_at)"
		" SELECT u.tid, u.kind, u.rule, $5, u.position, u.pooled_at, pg_catalog.clock_timestamp()"
		" FROM unnest($1, $2, $3, $4, (SELECT q.pooled_at FROM ONLY apm.final_queue AS q WHERE q.id = $6))"
		" AS u (tid, kind, rule, position, pooled_at)"
		" ON CONFLICT (tid) DO NOTHING RETURNING tid, kind, rule, position)"
		" SELECT tid FROM fresh WHERE kind = 2 AND rule = 0 ORDER BY position",
		6,
		{UUIDARRAYOID, INT2ARRAYOID, INT2ARRAYOID, INT4ARRAYOID, INT8OID, INT8OID},
		NULL,
	};
	int n = (int) final->n;
	ApmUuid *tids = palloc(sizeof(ApmUuid) * Max(n, 1));
	int16 *kinds = palloc(sizeof(int16) * Max(n, 1));
	int16 *rules = palloc(sizeof(int16) * Max(n, 1));
	int32 *positions = palloc(sizeof(int32) * Max(n, 1));
	Datum args[6];
	int found;

	for (int i = 0; i < n; i++)
	{
		tids[i] = final->entries[i].tid;
		kinds[i] = (int16) final->entries[i].kind;
		rules[i] = (int16) final->entries[i].rule;
		positions[i] = i;
	}
	args[0] = apm_uuid_array(tids, n);
	args[1] = apm_int2_array(kinds, n);
	args[2] = apm_int2_array(rules, n);
	args[3] = apm_int4_array(positions, n);
	args[4] = Int64GetDatum((int64) final->height);
	args[5] = Int64GetDatum(final->id);
	found = (int) apm_run(&insert, args);
	for (int i = 0; i < found; i++)
		apm_row_uuid(i, 1, &tids[i]);
	*records = tids;
	return found;
}

/* The outbox's row of a body; false if the record is not our APM's. */
static bool
make_row(const ApmUuid *tid, const ApmBody *body, const ApmDigest *origin, ApmCloudRow *out)
{
	ApmSigned parts = {.transaction = body->transaction, .proof = body->proof};
	ApmBuf plain = {0};
	ApmBuf sealed = {0};
	ApmTransaction tx;

	apm_check(apm_transaction_decode(body->transaction, &tx), "read a record's transaction");
	if (tx.kind != APM_KIND_PRIMARY || memcmp(&tx.origin, origin, sizeof(ApmDigest)) != 0)
		return false;

	memcpy(parts.nonce, body->nonce, APM_NONCE_LEN);
	apm_signed_encode(&parts, &plain);
	apm_check(apm_buf_status(&plain), "write a record for the cloud");
	apm_check(apm_sealer_seal(apm_key_sealer(true, false, false), APM_SLICE(plain.data, plain.len),
							  (uint64) GetCurrentTimestamp(), &sealed),
			  "seal a record for the cloud");
	apm_buf_reset(&plain);
	out->tid = *tid;
	out->rid = tx.u.primary.rid;
	out->apid = tx.u.primary.apid;
	out->apr = APM_SLICE(sealed.data, sealed.len);
	out->tokens = APM_SLICE(tx.u.primary.tokens.bytes, (size_t) tx.u.primary.tokens.count * APM_TOKEN_LEN);
	return true;
}

/* Puts up to count records into the outbox; returns the bytes of their bodies. */
static size_t
send_some(const ApmUuid *tids, int count, const ApmDigest *origin)
{
	ApmBody *bodies = palloc(sizeof(ApmBody) * count);
	ApmCloudRow *rows = palloc(sizeof(ApmCloudRow) * count);
	size_t bytes = 0;
	int n = 0;

	apm_ledger_bodies(tids, count, bodies);
	for (int i = 0; i < count; i++)
	{
		bytes += bodies[i].transaction.len;
		/* no body: erased meanwhile */
		if (bodies[i].transaction.len > 0 && make_row(&tids[i], &bodies[i], origin, &rows[n]))
			n++;
	}
	apm_outbox_put(rows, n);
	return bytes;
}

/* Sends these records on their way to the cloud, in portions that fit into memory. */
static void
send_to_cloud(const ApmUuid *tids, int n)
{
	MemoryContext portion =
		AllocSetContextCreate(CurrentMemoryContext, "apm outbox portion", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(portion);
	int count = BODIES_FIRST;
	ApmDigest chain;
	ApmDigest origin;

	if (n > 0 && !apm_chain_identity(&chain, &origin))
		ereport(ERROR, (errcode(ERRCODE_APM_NOT_SET_UP), errmsg("this database takes part in no chain"),
						errhint("Call apm_setup().")));
	for (int at = 0; at < n;)
	{
		int these = Min(count, n - at);
		size_t bytes = send_some(tids + at, these, &origin);

		at += these;
		count = (int) Min(Max(BODY_BYTES / Max(bytes / these, 1), 1), (size_t) Min(count * 4, BODIES_MAX));
		MemoryContextReset(portion);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(portion);
}

static void
handle(const ApmFinal *final)
{
	ApmUuid *records;
	int n = write_down(final, &records);

	send_to_cloud(records, n);
	for (size_t i = 0; i < final->n; i++)
	{
		const ApmEntry *entry = &final->entries[i];

		if (entry->kind == APM_KIND_PATIENT && entry->rule == APM_RULE_NONE)
		{
			apm_queue_release_waiting();
			break;
		}
	}
	for (size_t i = 0; i < final->n; i++)
	{
		const ApmEntry *entry = &final->entries[i];

		if (entry->kind == APM_KIND_QUERY || entry->kind == APM_KIND_EXPORT)
			apm_gate_prepare(entry, final->height);
	}
}

/* Counts a failure, in a transaction of its own; after the last try the FT goes to quarantine. */
static void
blame(int64 id, const char *reason)
{
	static ApmStatement tried = {
		"UPDATE ONLY apm.final_queue SET tries = tries + 1 WHERE id = $1", 1, {INT8OID}, NULL};
	static ApmStatement move = {
		"WITH gone AS (DELETE FROM ONLY apm.final_queue WHERE id = $1 AND tries >= $3 RETURNING sealed)"
		" INSERT INTO apm.quarantine (stage, reason, content) SELECT 'final', $2, sealed FROM gone",
		3,
		{INT8OID, TEXTOID, INT4OID},
		NULL,
	};
	Datum args[3];

	apm_turn_begin("noting a final transaction that failed");
	args[0] = Int64GetDatum(id);
	args[1] = apm_text_datum(APM_SLICE(reason, strlen(reason)));
	args[2] = Int32GetDatum(FT_TRIES);
	apm_run(&tried, args);
	apm_run(&move, args);
	apm_turn_commit();
	retry_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), RETRY_MS);
}

/* What one turn has in hand; lives until it ends. */
typedef struct ApmValidation
{
	int64 done[BLOCKS];
	int ndone;
	int64 faulty[BLOCKS];
	const char *faults[BLOCKS];
	int nfaulty;
	int64 current; /* the one in hand, should it raise */
} ApmValidation;

/* Handles the oldest FTs in a transaction.  Returns how many there were. */
static int
validate(ApmValidation *v)
{
	ApmFinalBlock blocks[BLOCKS];
	bool early = GetCurrentTimestamp() < retry_at;
	int n;

	apm_turn_begin("validating");
	n = apm_final_peek(blocks, BLOCKS);
	if (n > 0 && apm_chain_loaded())
		n = 0; /* the ledger that they speak of may not be there yet */
	for (int i = 0; i < n; i++)
	{
		ApmFinal final;

		if (early && blocks[i].tries > 0)
			continue;
		v->current = blocks[i].id;
		open_final(&blocks[i], &final);
		if (final.fault != NULL)
		{
			v->faulty[v->nfaulty] = final.id;
			v->faults[v->nfaulty++] = final.fault;
			continue;
		}
		handle(&final);
		v->done[v->ndone++] = final.id;
		if (singly)
			break;
	}
	if (v->ndone > 0)
		apm_final_done(v->done, v->ndone);
	apm_turn_commit();
	return n;
}

int
apm_validator_turn(void)
{
	MemoryContext turn = CurrentMemoryContext;
	ApmValidation *v = palloc0(sizeof(ApmValidation));
	volatile int sqlstate = 0;
	volatile int n = 0;

	apm_gate_discard();
	PG_TRY();
	{
		n = validate(v);
	}
	PG_CATCH();
	{
		sqlstate = apm_turn_blame(turn, apm_blames_row);
	}
	PG_END_TRY();

	if (sqlstate != 0)
	{
		if (singly)
			blame(v->current, psprintf("cannot be handled (SQLSTATE %s)", unpack_sql_state(sqlstate)));
		singly = true;
		return APM_TURN_AGAIN;
	}
	apm_gate_send();
	for (int i = 0; i < v->nfaulty; i++)
		blame(v->faulty[i], v->faults[i]);
	if (v->ndone > 0)
	{
		singly = false;
		return APM_TURN_AGAIN;
	}
	return n > 0 ? RETRY_MS : APM_TURN_IDLE;
}
