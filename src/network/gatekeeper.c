/*
 * gatekeeper.c
 *	  The query gate, the network server's side.
 *
 * A letter's way:
 *
 *		taken -> written -> waiting -> prepared -> answered
 *		  |         |          |
 *		  +---------+----------+--> failed
 *
 * Letters that wait together are written in one flushed transaction: the QTs into the
 * pool, and who is behind the staff pseudonyms.  From then on the trace is there, whatever
 * the reader does.  A letter waits, keyed by its Tid, until the final transaction of its
 * block comes; the answer is made in the transaction that handles that, and sent when it is
 * committed, so that the records it lists are in the outbox or further.
 *
 * Nothing that is written here can be locked by a client, or a reader's own transaction could make the
 * worker wait for the reader who waits for it: apm.staff has no unique key for that reason.
 *
 * While the node refuses to serve, or the server lacks a key, every letter fails at once.  A letter whose query the
 * chain has lost (quarantined, or removed by hand) fails when that is noticed.  When the
 * worker ends, the mailbox fails what it had taken.
 */
#include "postgres.h"

#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "apm_errors.h"
#include "apm_sql.h"
#include "core/contract.h"
#include "worker/mailbox.h"
#include "worker/worker.h"
#include "network/gate.h"
#include "network/network_server.h"

#define LETTERS 128
#define STARTING_MS 5000 /* so long may it be unknown whether the node serves */
#define STARTING_POLL_MS 50
#define LOST_AFTER_MS 2000 /* a letter that waits longer may be lost */
#define LOOK_MS 2000
#define MINER_AWAY_MS 15000 /* it is not coming back soon */

static const char *const no_reads = "this node serves no reads";

/* A letter, opened. */
typedef struct ApmQuery
{
	ApmLetter letter;
	ApmGateRequest request;
	ApmOpened opened;
} ApmQuery;

/* A letter whose query is in the pool or in a block. */
typedef struct ApmWaiting
{
	ApmUuid tid; /* key */
	ApmLetter letter;
	ApmSlice apid; /* allocated in the gate's context */
	TimestampTz since;
} ApmWaiting;

/* A letter whose query is final. */
typedef struct ApmPrepared
{
	ApmUuid tid;
	uint16 rule;
	ApmBuf answer; /* if it is allowed */
} ApmPrepared;

static MemoryContext gate_context = NULL;
static HTAB *waiting = NULL;
static MemoryContext prepared_context = NULL;
static List *prepared = NIL;	 /* of ApmPrepared */
static ApmLetter taken[LETTERS]; /* their requests live until the turn ends */
static int ntaken = 0;
static TimestampTz started_at = 0;
static TimestampTz looked_at = 0;

static void
start(void)
{
	HASHCTL control = {.keysize = APM_UUID_LEN, .entrysize = sizeof(ApmWaiting)};

	if (waiting != NULL)
		return;
	gate_context = AllocSetContextCreate(TopMemoryContext, "apm query gate", ALLOCSET_DEFAULT_SIZES);
	prepared_context =
		AllocSetContextCreate(TopMemoryContext, "apm query gate's answers", ALLOCSET_DEFAULT_SIZES);
	control.hcxt = gate_context;
	waiting = hash_create("apm letters waiting", 128, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	started_at = GetCurrentTimestamp();
}

static void
forget(ApmWaiting *entry)
{
	pfree(unconstify(uint8_t *, entry->apid.data));
	hash_search(waiting, entry->tid.bytes, HASH_REMOVE, NULL);
}

static int
refusal_sqlstate(ApmRefusal why)
{
	switch (why)
	{
		case APM_REFUSAL_NO_CHAIN:
			return ERRCODE_APM_NOT_SET_UP;
		case APM_REFUSAL_NO_KEY:
			return ERRCODE_APM_KEY_MISSING;
		case APM_REFUSAL_GUARD:
			return ERRCODE_APM_LEDGER_GUARD;
		case APM_REFUSAL_UNKNOWN:
			return ERRCODE_APM_WORKER_DOWN;
		case APM_REFUSAL_STANDBY:
			return ERRCODE_READ_ONLY_SQL_TRANSACTION;
		default:
			return ERRCODE_APM_ROLLED_BACK;
	}
}

/* Opens a letter; false and failed if it is not a query. */
static bool
open_letter(const ApmLetter *letter, ApmQuery *out)
{
	ApmStatus status = APM_ERR_FORMAT;

	out->letter = *letter;
	if (apm_gate_decode_request(APM_SLICE(letter->request, letter->request_len), &out->request))
		status = apm_open_signed(out->request.query, &out->opened);
	if (status == APM_OK && out->opened.wellformed && out->opened.tx.kind == APM_KIND_QUERY &&
		hash_search(waiting, out->opened.tid.bytes, HASH_FIND, NULL) == NULL)
		return true;
	apm_mailbox_fail(letter, ERRCODE_PROTOCOL_VIOLATION, "the network server does not understand the query",
					 "");
	return false;
}

/* Who is behind the pseudonyms, for those not known yet. */
static void
write_staff(const ApmQuery *queries, int n)
{
	static ApmStatement note = {
		"INSERT INTO apm.staff (pseudonym, acting, login)"
		" SELECT DISTINCT u.* FROM unnest($1, $2::pg_catalog.name[], $3::pg_catalog.name[])"
		" AS u (pseudonym, acting, login)"
		" WHERE NOT EXISTS (SELECT FROM ONLY apm.staff AS s WHERE s.pseudonym = u.pseudonym)",
		3,
		{BYTEAARRAYOID, TEXTARRAYOID, TEXTARRAYOID},
		NULL,
	};
	ApmSlice *pseudonyms = palloc(sizeof(ApmSlice) * n);
	ApmSlice *acting = palloc(sizeof(ApmSlice) * n);
	ApmSlice *login = palloc(sizeof(ApmSlice) * n);
	Datum args[3];

	for (int i = 0; i < n; i++)
	{
		pseudonyms[i] = APM_SLICE(queries[i].request.staff, APM_STAFF_LEN);
		acting[i] = queries[i].request.acting;
		login[i] = queries[i].request.login;
	}
	args[0] = apm_bytea_array(pseudonyms, n);
	args[1] = apm_text_array(acting, n);
	args[2] = apm_text_array(login, n);
	apm_run(&note, args);
}

/* Writes the queries, flushed; raises. */
static void
write_queries(const ApmQuery *queries, int n)
{
	ApmUuid *tids;
	ApmSlice *qts;

	apm_turn_begin("writing queries");
	tids = palloc(sizeof(ApmUuid) * n);
	qts = palloc(sizeof(ApmSlice) * n);
	for (int i = 0; i < n; i++)
	{
		tids[i] = queries[i].opened.tid;
		qts[i] = apm_template_seal(queries[i].request.query);
	}
	write_staff(queries, n);
	apm_pool_put(tids, qts, n);
	apm_turn_commit();
}

static void
let_wait(const ApmQuery *queries, int n)
{
	for (int i = 0; i < n; i++)
	{
		bool there;
		ApmWaiting *entry = hash_search(waiting, queries[i].opened.tid.bytes, HASH_ENTER, &there);

		if (there) /* the same query twice in one batch */
		{
			apm_mailbox_fail(&queries[i].letter, ERRCODE_PROTOCOL_VIOLATION,
							 "the network server does not understand the query", "");
			continue;
		}
		entry->letter = queries[i].letter;
		entry->letter.request = NULL;
		entry->apid = apm_slice_copy(gate_context, queries[i].opened.tx.u.query.apid);
		entry->since = GetCurrentTimestamp();
	}
}

/* Writes the queries and lets their letters wait.  If it fails together, each is tried alone. */
static void
accept_queries(const ApmQuery *queries, int n)
{
	MemoryContext turn = CurrentMemoryContext;
	volatile int sqlstate = 0;

	PG_TRY();
	{
		write_queries(queries, n);
	}
	PG_CATCH();
	{
		sqlstate = apm_rows_fault(turn);
	}
	PG_END_TRY();

	if (sqlstate == 0)
		let_wait(queries, n);
	else if (n == 1)
		apm_mailbox_fail(&queries[0].letter, sqlstate, "the network server cannot write the query",
						 "Nothing was read. The server's log has the reason.");
	else
	{
		for (int i = 0; i < n; i++)
			accept_queries(&queries[i], 1);
	}
}

/* The waiting letters, palloc'd: those that have waited since before then. */
static int
list_waiting(TimestampTz before, ApmWaiting ***out)
{
	HASH_SEQ_STATUS scan;
	ApmWaiting *entry;
	int n = 0;

	*out = palloc(sizeof(ApmWaiting *) * Max(hash_get_num_entries(waiting), 1));
	hash_seq_init(&scan, waiting);
	while ((entry = hash_seq_search(&scan)) != NULL)
	{
		if (entry->since <= before)
			(*out)[n++] = entry;
	}
	return n;
}

static void
fail_waiting(int sqlstate, const char *message, const char *hint)
{
	ApmWaiting **entries;
	int n = list_waiting(DT_NOEND, &entries);

	for (int i = 0; i < n; i++)
	{
		apm_mailbox_fail(&entries[i]->letter, sqlstate, message, hint);
		forget(entries[i]);
	}
}

/* The waiting letters whose query is nowhere any more; palloc'd. */
static int
list_lost(ApmUuid **out)
{
	/* one snapshot: no FT is on its way, so the one that would answer was handled or never comes */
	static ApmStatement lost = {
		"SELECT u.tid FROM unnest($1) AS u (tid)"
		" WHERE NOT EXISTS (SELECT FROM ONLY apm.final_queue)"
		" AND NOT EXISTS (SELECT FROM ONLY apm.pool AS p WHERE p.tid = u.tid)",
		1,
		{UUIDARRAYOID},
		NULL,
	};
	MemoryContext turn = CurrentMemoryContext;
	ApmWaiting **entries;
	ApmUuid *tids;
	Datum args[1];
	int n = list_waiting(TimestampTzPlusMilliseconds(GetCurrentTimestamp(), -LOST_AFTER_MS), &entries);

	*out = tids = MemoryContextAlloc(turn, sizeof(ApmUuid) * Max(n, 1));
	for (int i = 0; i < n; i++)
		tids[i] = entries[i]->tid;
	if (n == 0)
		return 0;

	apm_turn_begin("looking after queries");
	args[0] = apm_uuid_array(tids, n);
	n = (int) apm_run(&lost, args);
	for (int i = 0; i < n; i++)
		apm_row_uuid(i, 1, &tids[i]);
	apm_turn_commit_async();
	return n;
}

/* Now and then: fails letters that nobody will answer. */
static void
look_after_waiting(void)
{
	static TimestampTz miner_seen = 0;
	TimestampTz now = GetCurrentTimestamp();
	ApmUuid *lost;
	int n;

	if (miner_seen == 0 || apm_worker_runs(APM_WORKER_MINER))
		miner_seen = now;
	if (hash_get_num_entries(waiting) == 0 || !TimestampDifferenceExceeds(looked_at, now, LOOK_MS))
		return;
	looked_at = now;
	if (TimestampDifferenceExceeds(miner_seen, now, MINER_AWAY_MS))
	{
		fail_waiting(ERRCODE_APM_WORKER_DOWN, "the chain's worker does not run", "See apm.status.");
		return;
	}
	n = list_lost(&lost);
	for (int i = 0; i < n; i++)
	{
		ApmWaiting *entry = hash_search(waiting, lost[i].bytes, HASH_FIND, NULL);

		apm_mailbox_fail(&entry->letter, ERRCODE_APM_WORKER_DOWN, "the chain has lost the query",
						 "Nothing was read. Ask again; apm.quarantine may have the reason.");
		forget(entry);
	}
}

void
apm_gate_discard(void)
{
	start();
	prepared = NIL;
	MemoryContextReset(prepared_context);
}

void
apm_gate_prepare(const ApmEntry *entry, uint64 height)
{
	ApmWaiting *letter = hash_search(waiting, entry->tid.bytes, HASH_FIND, NULL);
	ApmGateAnswer answer = {.tid = entry->tid, .height = height};
	ApmPrepared *ready;
	MemoryContext old;

	if (letter == NULL || !apm_mailbox_wanted(&letter->letter))
		return;
	if (entry->rule == APM_RULE_NONE)
	{
		(void) apm_ledger_patient(letter->apid, height, &answer.patient);
		answer.nrecords = apm_ledger_records(letter->apid, height, &answer.records);
	}

	old = MemoryContextSwitchTo(prepared_context);
	ready = palloc0(sizeof(ApmPrepared));
	ready->tid = entry->tid;
	ready->rule = entry->rule;
	apm_gate_encode_answer(&answer, &ready->answer);
	apm_check(apm_buf_status(&ready->answer), "answer a query");
	prepared = lappend(prepared, ready);
	MemoryContextSwitchTo(old);
}

void
apm_gate_send(void)
{
	ListCell *cell;

	foreach(cell, prepared)
	{
		ApmPrepared *ready = lfirst(cell);
		ApmWaiting *entry = hash_search(waiting, ready->tid.bytes, HASH_FIND, NULL);
		const char *name = apm_rule_name(ready->rule);
		const char *text = apm_rule_text(ready->rule);

		if (entry == NULL)
			continue;
		if (ready->rule == APM_RULE_NONE)
			apm_mailbox_answer(&entry->letter, APM_ANSWER_OK, ready->answer.data, ready->answer.len);
		else
			apm_mailbox_fail(
				&entry->letter, ERRCODE_APM_REFUSED_BY_CONTRACT,
				psprintf("query refused by the contract: rule \"%s\"", name != NULL ? name : "?"),
				text != NULL ? text : "");
		forget(entry);
	}
	apm_gate_discard();
}

/*
 * Takes the letters that wait; apm_gate_turn writes their queries.  Between the two the
 * server moves the queue on, so that what a reader has committed before he asks is in the
 * pool before his query, unless the queue holds more than a batch.
 */
void
apm_gate_take(void)
{
	ApmRefusal refusal = apm_refusal_get();

	start();
	ntaken = 0;
	if (refusal == APM_REFUSAL_UNKNOWN &&
		!TimestampDifferenceExceeds(started_at, GetCurrentTimestamp(), STARTING_MS))
		return;
	ntaken = apm_mailbox_take(APM_WORKER_NETWORK, taken, LETTERS);
}

/* Opens the letters that were taken; those that nobody wants any more are left. */
static int
open_letters(ApmQuery *queries)
{
	int n = 0;

	for (int i = 0; i < ntaken; i++)
	{
		if (apm_mailbox_wanted(&taken[i]) && open_letter(&taken[i], &queries[n]))
			n++;
	}
	return n;
}

/* Every letter there is gets the same error. */
static void
fail_all(int sqlstate, const char *hint)
{
	fail_waiting(sqlstate, no_reads, hint);
	for (int i = 0; i < ntaken; i++)
		apm_mailbox_fail(&taken[i], sqlstate, no_reads, hint);
}

/* Writes the queries that were taken. */
static void
accept_taken(void)
{
	ApmQuery *queries = palloc(sizeof(ApmQuery) * Max(ntaken, 1));
	int n = open_letters(queries);

	if (n > 0)
		accept_queries(queries, n);
}

int
apm_gate_turn(bool have_keys)
{
	ApmRefusal refusal = apm_refusal_get();

	if (refusal == APM_REFUSAL_UNKNOWN && ntaken == 0 &&
		!TimestampDifferenceExceeds(started_at, GetCurrentTimestamp(), STARTING_MS))
	{
		apm_wake(APM_WORKER_MINER); /* it looks when it turns */
		return STARTING_POLL_MS;
	}
	if (refusal != APM_REFUSAL_NONE)
		fail_all(refusal_sqlstate(refusal), apm_refusal_text(refusal));
	else if (!have_keys)
		fail_all(ERRCODE_APM_KEY_MISSING, APM_NETWORK_KEYS_HINT);
	else
		accept_taken();
	look_after_waiting();
	if (ntaken == LETTERS)
		return APM_TURN_AGAIN;
	return hash_get_num_entries(waiting) > 0 ? LOOK_MS : APM_TURN_IDLE;
}
