/*
 * validator.c
 *	  TV, the transaction validator: opens final transactions and acts on their verdicts.
 *
 * The chain answers with one FT a block.  For each transaction in it a row of
 * apm.final_transaction says what became of it, for ever; the refused ones are the audit
 * (view apm.refused).  Valid records of our own APM go to the outbox, and whom a valid
 * erasure is about leaves the cloud (dispatch.c).  A registration makes the records and consents ready that wait for it.  What became of a query, or of a
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
#include "keys/keyring.h"
#include "worker/worker.h"
#include "network/dispatch.h"
#include "network/network_server.h"

#define BLOCKS 8
#define FT_TRIES 3
#define RETRY_MS 1000

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

/* Valid transactions that nothing was known of before. */
typedef struct ApmFresh
{
	ApmUuid *records;
	int nrecords;
	ApmUuid *erasures;
	int nerasures;
} ApmFresh;

/* Writes down what became of each transaction. */
static void
write_down(const ApmFinal *final, ApmFresh *fresh)
{
	static ApmStatement insert = {
		"WITH fresh AS (INSERT INTO apm.final_transaction"
		" (tid, kind, rule, height, position, pooled_at, validated_at)"
		" SELECT u.tid, u.kind, u.rule, $5, u.position, u.pooled_at, pg_catalog.clock_timestamp()"
		" FROM unnest($1, $2, $3, $4, (SELECT q.pooled_at FROM ONLY apm.final_queue AS q WHERE q.id = $6))"
		" AS u (tid, kind, rule, position, pooled_at)"
		/* nobody else inserts here, and a block has a Tid once: no need to insert and see */
		" WHERE NOT EXISTS (SELECT FROM ONLY apm.final_transaction AS known WHERE known.tid = u.tid)"
		" RETURNING tid, kind, rule, position)"
		" SELECT tid, kind FROM fresh WHERE kind IN (2, 5) AND rule = 0 ORDER BY position",
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

	memset(fresh, 0, sizeof(*fresh));
	fresh->records = palloc(sizeof(ApmUuid) * Max(found, 1));
	fresh->erasures = palloc(sizeof(ApmUuid) * Max(found, 1));
	for (int i = 0; i < found; i++)
	{
		if (apm_row_int2(i, 2) == APM_KIND_PRIMARY)
			apm_row_uuid(i, 1, &fresh->records[fresh->nrecords++]);
		else
			apm_row_uuid(i, 1, &fresh->erasures[fresh->nerasures++]);
	}
}

static void
handle(const ApmFinal *final)
{
	ApmFresh fresh;

	write_down(final, &fresh);
	apm_dispatch_records(fresh.records, fresh.nrecords, false);
	apm_dispatch_erasures(fresh.erasures, fresh.nerasures);
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

		if (entry->kind == APM_KIND_ERASURE)
			apm_wake_at_commit(APM_WORKER_RECEPTION); /* which goes on with it */
	}
	apm_gate_prepare(final->entries, final->n, final->height);
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
	apm_turn_commit_async();
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
