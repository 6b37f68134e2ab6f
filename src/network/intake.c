/*
 * intake.c
 *	  From the queue to the pool, a batch at a time.
 *
 * A row of apm.queue is ready (not_before is null), or waits until not_before:
 *
 *	- its patient is not on the chain yet.  The registration is ahead of it, in the pool or in a
 *	  block in making, and the contract would refuse it too early.  It waits without
 *	  limit; the final transaction of a registration makes all such rows ready again, in their order.
 *	- it failed: a few times, with growing pauses, before it goes to quarantine.
 *
 * Records and consents wait, if a registered origin has signed them.  Anybody who has the
 * network server's public key can seal something; what carries no good signature goes to the contract at
 * once, which refuses it and so leaves a trace.
 *
 * Of a base that was loaded, or is being loaded, nothing is taken: what the rows need may
 * not be there yet, and what they become would stand in the way of what comes.
 *
 * A batch costs as much as some twenty rows, whatever it has.  So when many commit one after the other, and the next ones
 * come within milliseconds of a batch, they gather for as long, unless a reader asks, who must find them.
 *
 * All of a batch is one transaction: taken from the queue, put into the pool.  The worker is the
 * only one who takes, so nothing is locked.  What fails by itself is known by its
 * status; what raises an error that a row can cause makes the turns go on row by row, until the one is
 * found.  Any other error is not a row's fault and ends the worker.
 */
#include "postgres.h"

#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "apm_errors.h"
#include "apm_memory.h"
#include "apm_sql.h"
#include "chain/chain.h"
#include "keys/keyring.h"
#include "worker/front.h"
#include "worker/worker.h"
#include "network/network_server.h"

#define BATCH_ROWS 1000
#define BATCH_BYTES (32 * 1024 * 1024)
#define ROW_TRIES 3
#define GATHER_MS 4
#define FIRST_PAUSE_MS 1000 /* then four times as long each time; blame() says it in SQL */

typedef struct ApmQueued
{
	int64 id;
	ApmTemplate tt;
	const char *fault; /* NULL: it is a signed transaction */
	bool waits;
} ApmQueued;

typedef struct ApmIntake
{
	ApmQueued *rows;
	int n;
	int64 oldest; /* of the rows looked at, also if that one cannot be read */
	bool more;	  /* there may be more than these */
} ApmIntake;

static ApmFront front;

/* Until then no row that was put off becomes due, as far as is known; only this process puts rows off. */
static TimestampTz none_due_until = 0;
#define LOOK_FOR_DUE_MS 1000

/* When a batch was taken that was all there was; 0: when none was, or more was left. */
static TimestampTz emptied_at = 0;

/* How many of the next rows go one by one, since a batch with them failed. */
static int singly = 0;

/* Rows whose time has come are ready again. */
static void
release_due(void)
{
	static ApmStatement release = {
		"UPDATE ONLY apm.queue SET not_before = NULL WHERE not_before <= pg_catalog.now()", 0, {0}, NULL};

	if (GetCurrentTimestamp() < none_due_until)
		return;
	none_due_until = 0;
	if (apm_run(&release, NULL) > 0)
		apm_front_reset(&front);
}

/* Reads and opens the oldest ready rows, as many as make a batch. */
static void
claim(ApmIntake *intake)
{
	/* the limits are constants: with a parameter the planner guesses, and may sort the whole queue */
	static ApmStatement oldest = {
		"SELECT id, sealed FROM ONLY apm.queue WHERE not_before IS NULL AND id >= $1 ORDER BY id LIMIT 1000",
		1,
		{INT8OID},
		NULL};
	static ApmStatement one = {
		"SELECT id, sealed FROM ONLY apm.queue WHERE not_before IS NULL AND id >= $1 ORDER BY id LIMIT 1",
		1,
		{INT8OID},
		NULL};
	Datum args[] = {Int64GetDatum(apm_front_begin(&front))};
	int found = (int) apm_run(singly > 0 ? &one : &oldest, args);
	size_t bytes = 0;

	intake->n = 0;
	intake->oldest = found > 0 ? apm_row_int8(0, 1) : 0;
	apm_front_end(&front, found > 0, intake->oldest);
	intake->rows = palloc0(sizeof(ApmQueued) * Max(found, 1));
	while (intake->n < found && bytes < BATCH_BYTES)
	{
		ApmQueued *row = &intake->rows[intake->n];
		ApmSlice sealed;

		row->id = apm_row_int8(intake->n, 1);
		sealed = apm_row_bytea(intake->n, 2);
		row->fault = apm_template_open(sealed, &row->tt);
		bytes += sealed.len;
		intake->n++;
	}
	intake->more = intake->n < found || found == BATCH_ROWS || singly > 0;
}

/* The key of a registered origin; NULL if there is none of that id.  Remembers the last. */
static const ApmEcKey *
origin_key(const ApmDigest *origin)
{
	static ApmStatement member = {
		"SELECT spki FROM ONLY apm.member WHERE id = $1 AND member = 2", 1, {BYTEAOID}, NULL};
	static ApmEcKey *key = NULL;
	static ApmDigest key_of;
	Datum args[1] = {apm_digest_datum(origin)};
	MemoryContext old;

	if (key != NULL && memcmp(&key_of, origin, sizeof(ApmDigest)) == 0)
		return key;
	if (apm_run(&member, args) == 0)
		return NULL;

	apm_ec_free(key);
	key = NULL;
	old = MemoryContextSwitchTo(apm_process_context());
	apm_check(apm_ec_from_spki(apm_row_bytea(0, 1), &key), "read the key of an origin");
	MemoryContextSwitchTo(old);
	key_of = *origin;
	return key;
}

/* Is it something that needs its patient's registration, and is worth waiting for it? */
static bool
needs_patient(const ApmQueued *row)
{
	const ApmOpened *opened = &row->tt.opened;

	return row->fault == NULL && opened->wellformed &&
		   (opened->tx.kind == APM_KIND_PRIMARY || opened->tx.kind == APM_KIND_CONSENT);
}

/* Marks the records and consents that wait for their patient. */
static void
find_waiting(ApmIntake *intake)
{
	ApmSlice *apids = palloc(sizeof(ApmSlice) * Max(intake->n, 1));
	bool *known = palloc(sizeof(bool) * Max(intake->n, 1));
	int n = 0;

	for (int i = 0; i < intake->n; i++)
	{
		if (needs_patient(&intake->rows[i]))
			apids[n++] = apm_transaction_apid(&intake->rows[i].tt.opened.tx);
	}
	if (n == 0)
		return;
	apm_ledger_known_patients(apids, n, known);
	n = 0;
	for (int i = 0; i < intake->n; i++)
	{
		ApmOpened *opened = &intake->rows[i].tt.opened;
		const ApmEcKey *key;

		if (!needs_patient(&intake->rows[i]) || known[n++])
			continue;
		key = origin_key(&opened->tx.origin);
		intake->rows[i].waits =
			key != NULL && apm_origin_verify(key, &opened->leaf, &opened->proof) == APM_OK;
	}
}

/*
 * Must final transactions be looked at first?  A record that waits becomes ready with the FT of
 * its patient's registration.  If that one is there and not handled, a younger record of
 * the same patient would pass an older one here, and an amendment what it amends.
 */
static bool
must_stand_back(void)
{
	static ApmStatement ahead = {
		"SELECT EXISTS (SELECT FROM ONLY apm.queue WHERE not_before IS NOT NULL AND tries = 0)"
		" AND EXISTS (SELECT FROM ONLY apm.final_queue WHERE tries = 0)",
		0,
		{0},
		NULL,
	};

	apm_run(&ahead, NULL);
	return apm_row_bool(0, 1);
}

/* Moves the transactions that neither failed nor wait into the pool. */
static void
pass_on(const ApmIntake *intake)
{
	static ApmStatement take = {"DELETE FROM ONLY apm.queue WHERE id = ANY ($1)", 1, {INT8ARRAYOID}, NULL};
	int64 *ids = palloc(sizeof(int64) * Max(intake->n, 1));
	ApmUuid *tids = palloc(sizeof(ApmUuid) * Max(intake->n, 1));
	ApmSlice *pts = palloc(sizeof(ApmSlice) * Max(intake->n, 1));
	Datum args[1];
	int n = 0;

	for (int i = 0; i < intake->n; i++)
	{
		ApmQueued *row = &intake->rows[i];

		if (row->fault != NULL || row->waits)
			continue;
		ids[n] = row->id;
		tids[n] = row->tt.opened.tid;
		pts[n] = apm_template_seal(row->tt.plain);
		n++;
	}
	if (n == 0)
		return;
	args[0] = apm_int8_array(ids, n);
	apm_run(&take, args);
	apm_pool_put(tids, pts, n);
}

/* Lets records wait for their patient; the minute is a net, should no FT ever tell. */
static void
put_off(const ApmIntake *intake)
{
	static ApmStatement put = {
		"UPDATE ONLY apm.queue SET not_before = pg_catalog.now() + pg_catalog.make_interval(mins => 1)"
		" WHERE id = ANY ($1)",
		1,
		{INT8ARRAYOID},
		NULL,
	};
	int64 *ids = palloc(sizeof(int64) * Max(intake->n, 1));
	Datum args[1];
	int n = 0;

	for (int i = 0; i < intake->n; i++)
	{
		if (intake->rows[i].waits)
			ids[n++] = intake->rows[i].id;
	}
	if (n == 0)
		return;
	args[0] = apm_int8_array(ids, n);
	apm_run(&put, args);
	none_due_until = 0;
}

void
apm_queue_release_waiting(void)
{
	static ApmStatement release = {
		"UPDATE ONLY apm.queue SET not_before = NULL WHERE not_before IS NOT NULL AND tries = 0",
		0,
		{0},
		NULL};

	if (apm_run(&release, NULL) > 0)
		apm_front_reset(&front);
}

/*
 * Counts a failure of these rows, in a transaction of its own.  After the last try a row goes to
 * quarantine; one that cannot be read cannot be moved either: it stays for good where
 * it is, and the quarantine only tells of it.
 */
static void
blame(const int64 *ids, const ApmSlice *reasons, int n, bool movable)
{
	static ApmStatement tried = {
		"UPDATE ONLY apm.queue SET tries = tries + 1,"
		" not_before = pg_catalog.now() + pg_catalog.make_interval(secs => pg_catalog.power(4, tries))"
		" WHERE id = ANY ($1)",
		1,
		{INT8ARRAYOID},
		NULL,
	};
	static ApmStatement move = {
		"WITH gone AS (DELETE FROM ONLY apm.queue WHERE id = ANY ($1) AND tries >= $3 RETURNING id, tid, sealed)"
		" INSERT INTO apm.quarantine (stage, tid, reason, content)"
		" SELECT 'queue', g.tid, u.reason, g.sealed FROM gone AS g"
		" JOIN unnest($1, $2) AS u (id, reason) ON u.id = g.id",
		3,
		{INT8ARRAYOID, TEXTARRAYOID, INT4OID},
		NULL,
	};
	static ApmStatement leave = {
		"WITH kept AS (UPDATE ONLY apm.queue SET not_before = 'infinity'"
		" WHERE id = ANY ($1) AND tries >= $3 RETURNING id, tid)"
		" INSERT INTO apm.quarantine (stage, tid, reason, content)"
		" SELECT 'queue', k.tid, u.reason, ''::pg_catalog.bytea FROM kept AS k"
		" JOIN unnest($1, $2) AS u (id, reason) ON u.id = k.id",
		3,
		{INT8ARRAYOID, TEXTARRAYOID, INT4OID},
		NULL,
	};
	Datum args[3];

	apm_turn_begin("noting rows that failed");
	args[0] = apm_int8_array(ids, n);
	args[1] = apm_text_array(reasons, n);
	args[2] = Int32GetDatum(ROW_TRIES);
	apm_run(&tried, args);
	none_due_until = 0;
	apm_run(movable ? &move : &leave, args);
	apm_turn_commit();
}

/* Those that are not signed transactions.  Returns when to look again, as a turn answers it. */
static int
blame_faults(const ApmIntake *intake)
{
	int64 *ids = palloc(sizeof(int64) * Max(intake->n, 1));
	ApmSlice *reasons = palloc(sizeof(ApmSlice) * Max(intake->n, 1));
	int n = 0;

	for (int i = 0; i < intake->n; i++)
	{
		const char *fault = intake->rows[i].fault;

		if (fault == NULL)
			continue;
		ids[n] = intake->rows[i].id;
		reasons[n++] = APM_SLICE(fault, strlen(fault));
	}
	if (n == 0)
		return APM_TURN_IDLE;
	blame(ids, reasons, n, true);
	return FIRST_PAUSE_MS;
}

/* When the next row is due, as a turn answers it. */
static int
next_due(void)
{
	static ApmStatement due = {
		"SELECT pg_catalog.min(not_before) FROM ONLY apm.queue"
		" WHERE not_before IS NOT NULL AND not_before < 'infinity'",
		0,
		{0},
		NULL,
	};

	if (GetCurrentTimestamp() < none_due_until)
		return APM_TURN_IDLE;
	apm_run(&due, NULL);
	if (apm_row_null(0, 1))
	{
		none_due_until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), LOOK_FOR_DUE_MS);
		return APM_TURN_IDLE;
	}
	return (int) TimestampDifferenceMilliseconds(GetCurrentTimestamp(), apm_row_time(0, 1)) + 1;
}

/* One batch, in a transaction; the intake lives until the turn ends, what it borrows does not. */
static int
take_batch(ApmIntake *intake)
{
	MemoryContext turn = CurrentMemoryContext;
	bool loaded;
	int next;

	apm_turn_begin("taking from the queue");
	release_due();
	claim(intake);
	loaded = intake->n > 0 && apm_chain_loaded();
	if (loaded)
		intake->n = 0;
	find_waiting(intake);
	if (intake->n > 0 && must_stand_back())
	{
		intake->n = 0;
		intake->more = true;
	}
	pass_on(intake);
	put_off(intake);
	if (loaded)
		next = APM_TURN_IDLE;
	else
		next = intake->more ? APM_TURN_AGAIN : next_due();
	if (intake->n > 0)
	{
		size_t size = sizeof(ApmQueued) * intake->n;

		intake->rows = memcpy(MemoryContextAlloc(turn, size), intake->rows, size);
	}
	apm_turn_commit_async();
	return next;
}

/* A batch failed.  If it was one row, that is blamed; else the next ones go one by one. */
static int
batch_failed(const ApmIntake *intake, int sqlstate)
{
	char *reason = psprintf("cannot be handled (SQLSTATE %s)", unpack_sql_state(sqlstate));
	ApmSlice reasons[1] = {APM_SLICE(reason, strlen(reason))};
	bool readable = ERRCODE_TO_CATEGORY(sqlstate) != ERRCODE_TO_CATEGORY(ERRCODE_INTERNAL_ERROR);

	if (singly > 0)
	{
		blame(&intake->oldest, reasons, 1, readable);
		singly--;
	}
	else
		singly = BATCH_ROWS;
	return APM_TURN_AGAIN;
}

int
apm_queue_held(void)
{
	TimestampTz now = GetCurrentTimestamp();

	if (apm_turn_once() || now < emptied_at || TimestampDifferenceExceeds(emptied_at, now, GATHER_MS))
		return 0;
	return Max(GATHER_MS - (int) TimestampDifferenceMilliseconds(emptied_at, now), 1);
}

int
apm_queue_turn(void)
{
	MemoryContext turn = CurrentMemoryContext;
	ApmIntake *intake = palloc0(sizeof(ApmIntake));
	volatile int sqlstate = 0;
	volatile int next = APM_TURN_IDLE;

	PG_TRY();
	{
		next = take_batch(intake);
	}
	PG_CATCH();
	{
		sqlstate = apm_turn_blame(turn, apm_blames_row);
	}
	PG_END_TRY();
	if (sqlstate != 0)
		return batch_failed(intake, sqlstate);

	if (singly > 0)
		singly = intake->n > 0 ? singly - 1 : 0;
	emptied_at = intake->n > 0 && !intake->more ? GetCurrentTimestamp() : 0;
	return apm_turn_sooner(next, blame_faults(intake));
}
