/*
 * remove.c
 *	  Patients who are erased leave the cloud.
 *
 * The network server names them in apm.cloud_removal when the final transaction of the erasure comes.  As with a push
 * there are three short transactions: claim looks up whom, act deletes their rows in the store, record takes them out of
 * the outbox, the quarantine and apm.cloud_removal.  A store that is down only delays it.
 *
 * No push brings a row back: this worker is the only one who stores, one thing after the other, and a push leaves out whom
 * the ledger calls erased, which it does before anybody is named here.
 *
 * When a batch fails, it is halved, until one patient is left.  If the store refuses to lose his rows, he waits, longer each
 * time but for ever: nobody may give this up.  Pushing goes on meanwhile.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "apm_sql.h"
#include "chain/chain.h"
#include "cloud/cloud.h"
#include "cloud/store.h"
#include "worker/worker.h"

#define BATCH_PATIENTS 100
#define BATCH_ROWS 10000

static struct
{
	int patients; /* of the next batch */
	ApmBackoff backoff;
} removal = {.patients = BATCH_PATIENTS};

typedef struct ApmRemoval
{
	ApmSlice apids[BATCH_PATIENTS];
	int n;
	bool done; /* the store has nothing of them any more */
} ApmRemoval;

void
apm_cloud_forget(ApmSlice apid)
{
	static ApmStatement put = {
		"INSERT INTO apm.cloud_removal (apid, queued_at) VALUES ($1, pg_catalog.clock_timestamp())"
		" ON CONFLICT (apid) DO NOTHING",
		1,
		{TEXTOID},
		NULL,
	};
	Datum args[1] = {apm_text_datum(apid)};

	(void) apm_run(&put, args);
	apm_wake_at_commit(APM_WORKER_CLOUD);
}

/*
 * Who has waited longest.  A turn of its own.  Sets *wait to when the next one who must wait is due, as a turn answers
 * it.  A row of somebody whom the ledger does not call erased is nobody's order.
 */
static void
claim(ApmRemoval *out, int *wait)
{
	static ApmStatement oldest = {
		"SELECT r.apid FROM ONLY apm.cloud_removal AS r JOIN ONLY apm.ledger_patient AS p ON p.apid = r.apid"
		" WHERE p.erased_height IS NOT NULL AND (r.not_before IS NULL OR r.not_before <= pg_catalog.now())"
		" ORDER BY r.queued_at, r.apid LIMIT $1",
		1,
		{INT8OID},
		NULL,
	};
	static ApmStatement due = {
		"SELECT pg_catalog.min(not_before) FROM ONLY apm.cloud_removal WHERE not_before IS NOT NULL",
		0,
		{0},
		NULL,
	};
	MemoryContext turn = CurrentMemoryContext;
	Datum args[1] = {Int64GetDatum(removal.patients)};
	int found;

	out->n = 0;
	*wait = APM_TURN_IDLE;
	apm_turn_begin("claiming removals");
	found = (int) apm_run(&oldest, args);
	for (int i = 0; i < found; i++)
		out->apids[i] = apm_slice_copy(turn, apm_row_text(i, 1));
	if (found > 0 && !apm_chain_loaded()) /* else it may not be known yet which store is attached */
		out->n = found;
	else if (found == 0)
	{
		apm_run(&due, NULL);
		if (!apm_row_null(0, 1))
			*wait = (int) TimestampDifferenceMilliseconds(GetCurrentTimestamp(), apm_row_time(0, 1)) + 1;
	}
	apm_turn_commit_async();
}

/* A step: deletes rows of theirs in the store. */
static void
act(void *closure)
{
	ApmRemoval *batch = closure;

	apm_turn_begin("removing from the cloud");
	batch->done = apm_store_forget(apm_store_target(), batch->apids, batch->n, BATCH_ROWS);
	apm_turn_commit_async();
}

/* What the quarantine says of a record of theirs stays, without the record. */
static void
record(const ApmRemoval *batch)
{
	static ApmStatement outbox = {
		"DELETE FROM ONLY apm.outbox WHERE apid = ANY ($1)", 1, {TEXTARRAYOID}, NULL};
	static ApmStatement quarantine = {
		"UPDATE ONLY apm.quarantine SET content = '' WHERE tid IN"
		" (SELECT v.tid FROM ONLY apm.ledger_void AS v WHERE v.apid = ANY ($1))",
		1,
		{TEXTARRAYOID},
		NULL,
	};
	static ApmStatement done = {
		"DELETE FROM ONLY apm.cloud_removal WHERE apid = ANY ($1)", 1, {TEXTARRAYOID}, NULL};
	Datum args[1];

	apm_turn_begin("recording what is removed");
	args[0] = apm_text_array(batch->apids, batch->n);
	apm_run(&outbox, args);
	apm_run(&quarantine, args);
	apm_run(&done, args);
	apm_turn_commit();
}

/* The store refuses to lose the rows of this patient: he waits, up to an hour, and others go on. */
static void
blame(ApmSlice apid)
{
	static ApmStatement tried = {
		"UPDATE ONLY apm.cloud_removal SET tries = tries + 1, not_before = pg_catalog.now()"
		" + pg_catalog.make_interval(secs => LEAST(pg_catalog.power(4, LEAST(tries, 6)), 3600))"
		" WHERE apid = $1",
		1,
		{TEXTOID},
		NULL,
	};
	Datum args[1];

	apm_turn_begin("noting a removal that failed");
	args[0] = apm_text_datum(apid);
	apm_run(&tried, args);
	apm_turn_commit();
}

static int
failed(const ApmRemoval *batch, int sqlstate)
{
	ApmStoreFault fault = apm_store_fault(sqlstate);

	removal.patients = Max(batch->n / 2, 1);
	if (fault == APM_STORE_AWAY || (fault == APM_STORE_UNFIT && batch->n == 1))
		return apm_backoff_failed(&removal.backoff, sqlstate,
								  "the cloud store does not lose the rows of erased patients; that waits");
	if (batch->n == 1)
		blame(batch->apids[0]);
	return APM_TURN_AGAIN;
}

void
apm_removal_soon(void)
{
	removal.backoff.until = 0;
}

int
apm_removal_turn(void)
{
	int wait = apm_backoff_wait(&removal.backoff);
	ApmRemoval *batch;
	int sqlstate;

	if (wait > 0)
		return wait;

	batch = palloc(sizeof(ApmRemoval));
	claim(batch, &wait);
	if (batch->n == 0)
		return wait;
	sqlstate = apm_store_step(act, batch);
	if (sqlstate != 0)
		return failed(batch, sqlstate);
	if (batch->done)
		record(batch);
	apm_backoff_over(&removal.backoff, "the cloud store loses the rows of erased patients again");
	removal.patients = Min(removal.patients * 2, BATCH_PATIENTS);
	return APM_TURN_AGAIN;
}
