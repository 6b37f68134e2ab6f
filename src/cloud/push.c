/*
 * push.c
 *	  From the outbox to the cloud, a batch at a time.
 *
 * Three short transactions: claim looks up the oldest rows, act stores them in the cloud,
 * record takes them out of the outbox.  The cloud commits in act.  A crash before that leaves
 * everything in the outbox; a crash after it leaves rows in both, which is harmless: act
 * leaves out what the cloud has already.  No transaction that holds anything of ours is open
 * while the cloud is waited for, and the outbox has one taker only, so nothing needs to
 * be locked in between.
 *
 * When a batch fails, it is halved, until it goes through or one row is left.  A row that
 * fails alone because the store refuses it is tried three times and goes to quarantine; the others go
 * on.  When the store does not answer or is not fit, no row is blamed: the worker backs
 * off and tries again, for as long as it takes.
 */
#include "postgres.h"

#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "apm_sql.h"
#include "chain/chain.h"
#include "cloud/store.h"
#include "worker/front.h"
#include "worker/worker.h"

#define BATCH_ROWS 1000
#define BATCH_BYTES (16 * 1024 * 1024)
#define ROW_TRIES 3
#define LOOK_FOR_DUE_MS 500

static struct
{
	int rows;	/* of the next batch */
	bool doubt; /* rows of the outbox may be in the store already */
	ApmBackoff backoff;
} push = {.rows = BATCH_ROWS, .doubt = true};

static ApmFront front;

/* When the next row is due that was put off; 0: none is. */
static TimestampTz
next_due(void)
{
	static ApmStatement due = {
		"SELECT pg_catalog.min(not_before) FROM ONLY apm.outbox WHERE not_before IS NOT NULL"
		" AND pg_catalog.isfinite(not_before)",
		0,
		{0},
		NULL,
	};

	apm_run(&due, NULL);
	return apm_row_null(0, 1) ? 0 : apm_row_time(0, 1);
}

/* Rows that were put off are behind the front; now and then it is asked whether one is due. */
static void
look_for_due(void)
{
	static TimestampTz looked_at = 0;
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz due;

	if (looked_at != 0 && !TimestampDifferenceExceeds(looked_at, now, LOOK_FOR_DUE_MS))
		return;
	looked_at = now;
	due = next_due();
	if (due != 0 && due <= now)
		apm_front_reset(&front);
}

/*
 * The oldest rows, as many as fit.  A turn of its own; the result lives until the turn
 * ends.  Sets *wait to when the next row that must wait is due, as a turn answers it.
 */
static int
claim(ApmStoreRow *out, int *wait)
{
	static ApmStatement oldest = {
		"SELECT o.id, o.rid, o.tid, coalesce(pg_catalog.octet_length(o.apr),"
		" (SELECT pg_catalog.octet_length(b.transaction) FROM ONLY apm.body AS b WHERE b.tid = o.tid), 0),"
		" o.replaces, o.apr IS NOT NULL FROM ONLY apm.outbox AS o"
		" WHERE (o.not_before IS NULL OR o.not_before <= pg_catalog.now()) AND o.id >= $2"
		" ORDER BY o.id LIMIT $1",
		2,
		{INT8OID, INT8OID},
		NULL,
	};
	Datum args[2] = {Int64GetDatum(push.rows)};
	int64 bytes = 0;
	int found;
	int n = 0;

	apm_turn_begin("claiming from the outbox");
	*wait = APM_TURN_IDLE;
	look_for_due();
	args[1] = Int64GetDatum(apm_front_begin(&front));
	found = (int) apm_run(&oldest, args);
	apm_front_end(&front, found > 0, found > 0 ? apm_row_int8(0, 1) : 0);
	for (int i = 0; i < found; i++)
	{
		bytes += apm_row_int4(i, 4);
		if (n > 0 && bytes > BATCH_BYTES)
			break;
		out[n].id = apm_row_int8(i, 1);
		apm_row_uuid(i, 2, &out[n].rid);
		apm_row_uuid(i, 3, &out[n].tid);
		out[n].replaces = apm_row_bool(i, 5);
		out[n].has_apr = apm_row_bool(i, 6);
		n++;
	}
	if (n > 0 && apm_chain_loaded())
		n = 0; /* which store is attached may not be known yet */
	else if (n == 0)
	{
		TimestampTz due = next_due();

		if (due != 0 && due <= GetCurrentTimestamp())
			apm_front_reset(&front);
		if (due != 0)
			*wait = (int) TimestampDifferenceMilliseconds(GetCurrentTimestamp(), due) + 1;
	}
	apm_turn_commit_async();
	return n;
}

typedef struct ApmPush
{
	const ApmStoreRow *rows;
	int n;
} ApmPush;

/* A step: stores the rows. */
static void
act(void *closure)
{
	const ApmPush *rows = closure;

	apm_turn_begin("storing in the cloud");
	apm_store_insert(apm_store_target(), rows->rows, rows->n, push.doubt);
	apm_turn_commit_async();
}

/* Takes the rows out of the outbox.  One whose patient is erased was not stored. */
static void
record(const ApmStoreRow *rows, int n)
{
	static ApmStatement stored = {
		"WITH gone AS (DELETE FROM ONLY apm.outbox WHERE id = ANY ($1) RETURNING tid, apid)"
		" UPDATE ONLY apm.final_transaction AS f SET stored_at = pg_catalog.clock_timestamp()"
		" FROM gone WHERE f.tid = gone.tid AND NOT EXISTS (SELECT FROM ONLY apm.ledger_patient AS p"
		" WHERE p.apid = gone.apid AND p.erased_height IS NOT NULL)",
		1,
		{INT8ARRAYOID},
		NULL,
	};
	int64 *ids = palloc(sizeof(int64) * n);
	Datum args[1];

	for (int i = 0; i < n; i++)
		ids[i] = rows[i].id;
	apm_turn_begin("recording what is stored");
	args[0] = apm_int8_array(ids, n);
	apm_run(&stored, args);
	apm_turn_commit_async();
	pfree(ids);
}

/* Can the bytes of this row be read here?  If not, it is not the store that failed. */
static bool
readable(const ApmStoreRow *row)
{
	static ApmStatement read = {
		"SELECT pg_catalog.sha256(apr) FROM ONLY apm.outbox WHERE id = $1",
		1,
		{INT8OID},
		NULL,
	};
	MemoryContext turn = CurrentMemoryContext;
	volatile bool good = true;

	PG_TRY();
	{
		Datum args[1] = {Int64GetDatum(row->id)};
		ApmSlice apr;

		apm_turn_begin("reading a row of the outbox");
		if (row->has_apr)
			apm_run(&read, args);
		else
			apm_content_make(&row->tid, 1, &apr);
		apm_turn_commit_async();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(turn);
		FlushErrorState();
		apm_turn_abort();
		good = false;
	}
	PG_END_TRY();
	return good;
}

/*
 * This row failed by itself: it waits a little, then longer, and after the last try goes to
 * quarantine.  One that cannot be read cannot be moved either: it stays where it is for
 * good, and the quarantine only tells of it.
 */
static void
blame(const ApmStoreRow *row, int sqlstate, bool movable)
{
	static ApmStatement tried = {
		"UPDATE ONLY apm.outbox SET tries = tries + 1, not_before = pg_catalog.now()"
		" + pg_catalog.make_interval(secs => pg_catalog.power(4, tries))"
		" WHERE id = $1 RETURNING tries",
		1,
		{INT8OID},
		NULL,
	};
	static ApmStatement move = {
		"WITH gone AS (DELETE FROM ONLY apm.outbox WHERE id = $1 RETURNING tid, apr)"
		" INSERT INTO apm.quarantine (stage, tid, reason, content)"
		" SELECT 'outbox', tid, $2, coalesce(apr, $3, '') FROM gone",
		3,
		{INT8OID, TEXTOID, BYTEAOID},
		NULL,
	};
	static ApmStatement leave = {
		"WITH kept AS (UPDATE ONLY apm.outbox SET not_before = 'infinity'"
		" WHERE id = $1 RETURNING tid)"
		" INSERT INTO apm.quarantine (stage, tid, reason, content)"
		" SELECT 'outbox', tid, $2, ''::pg_catalog.bytea FROM kept",
		2,
		{INT8OID, TEXTOID},
		NULL,
	};
	Datum args[3];
	char *reason = psprintf(movable ? "the cloud store refuses it (SQLSTATE %s)"
									: "cannot be read and stays in the outbox (SQLSTATE %s)",
							unpack_sql_state(sqlstate));

	apm_turn_begin("noting a row that failed");
	args[0] = Int64GetDatum(row->id);
	args[1] = apm_text_datum(APM_SLICE(reason, strlen(reason)));
	if (apm_run(&tried, args) > 0 && apm_row_int4(0, 1) >= ROW_TRIES)
	{
		ApmSlice apr = APM_SLICE(NULL, 0);

		if (movable && !row->has_apr)
			apm_content_make(&row->tid, 1, &apr);
		args[2] = apm_bytea_datum(apr);
		apm_run(movable ? &move : &leave, args);
	}
	apm_turn_commit();
}

/* No row is to blame: all wait. */
static int
back_off(int sqlstate)
{
	return apm_backoff_failed(&push.backoff, sqlstate,
							  "the cloud store does not take records; they wait in the outbox");
}

static int
failed(const ApmStoreRow *rows, int n, int sqlstate)
{
	ApmStoreFault fault = apm_store_fault(sqlstate);

	push.doubt = true;
	push.rows = Max(n / 2, 1);
	if (fault == APM_STORE_AWAY)
		return back_off(sqlstate);
	if (n > 1)
		return APM_TURN_AGAIN;

	if (fault == APM_STORE_ROW)
		blame(&rows[0], sqlstate, true);
	else if (!readable(&rows[0]))
		blame(&rows[0], sqlstate, false);
	else
		return back_off(sqlstate);
	return APM_TURN_AGAIN;
}

static void
succeeded(void)
{
	apm_backoff_over(&push.backoff, "the cloud store takes records again");
	push.doubt = false;
	push.rows = Min(push.rows * 2, BATCH_ROWS);
}

void
apm_push_soon(void)
{
	push.backoff.until = 0;
}

int
apm_push_turn(void)
{
	int wait = apm_backoff_wait(&push.backoff);
	ApmStoreRow *rows;
	ApmPush batch;
	int n;
	int sqlstate;

	if (wait > 0)
		return wait;

	rows = palloc(sizeof(ApmStoreRow) * BATCH_ROWS);
	n = claim(rows, &wait);
	if (n == 0)
		return wait;
	batch = (ApmPush){rows, n};
	sqlstate = apm_store_step(act, &batch);
	if (sqlstate != 0)
		return failed(rows, n, sqlstate);
	record(rows, n);
	succeeded();
	return APM_TURN_AGAIN;
}
