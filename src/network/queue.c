/*
 * queue.c
 *	  apm.queue: where the APM leaves sealed aPRs, in its client's transaction, and the network
 *	  server finds them.
 *
 * This file is the client's side; intake.c is the network server's.
 *
 * A put must be cheap, and must not be lost: it wakes the network server when its
 * transaction commits.  PREPARE TRANSACTION would commit it later, in another process,
 * which knows nothing of the wake-up; so it is refused.
 */
#include "postgres.h"

#include "access/xact.h"

#include "apm_depth.h"
#include "apm_guc.h"
#include "cloud/cloud.h"
#include "network/network.h"
#include "worker/worker.h"

#define PUT_BYTES (64 * 1024 * 1024)

/* The outermost transaction level that has put something which is not rolled back; 0: none. */
static int put_level = 0;

static void
at_transaction_event(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_PRE_PREPARE && put_level > 0)
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("cannot prepare a transaction that has submitted records"),
						errhint("Commit it in one step.")));
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT)
		put_level = 0;
}

static void
at_subtransaction_event(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg)
{
	int level = GetCurrentTransactionNestLevel();

	if (put_level < level)
		return;
	if (event == SUBXACT_EVENT_ABORT_SUB)
		put_level = 0;
	else if (event == SUBXACT_EVENT_COMMIT_SUB)
		put_level = level - 1;
}

static void
note_put(void)
{
	static bool registered = false;
	int level = GetCurrentTransactionNestLevel();

	if (!registered)
	{
		RegisterXactCallback(at_transaction_event, NULL);
		RegisterSubXactCallback(at_subtransaction_event, NULL);
		registered = true;
	}
	put_level = put_level == 0 ? level : Min(put_level, level);
}

static void
check_room(int n)
{
	static ApmDepth depth = {
		.newest = {"SELECT last_value FROM apm.queue_id_seq", 0, {0}, NULL},
		.count = {"SELECT pg_catalog.count(*) FROM (SELECT FROM ONLY apm.queue LIMIT $1) AS bounded",
				  1,
				  {INT8OID},
				  NULL},
	};

	if (apm_depth_beyond(&depth, apm_max_queue, n))
		ereport(
			ERROR,
			(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED), errmsg("the queue of the network server is full"),
			 errhint("Submit again later. apm.max_queue is %d; apm.status tells why nobody takes from it.",
					 apm_max_queue)));
	if (apm_outbox_full(n))
		ereport(
			ERROR,
			(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED), errmsg("the outbox to the cloud is full"),
			 errhint(
				 "Submit again later. apm.max_outbox is %d; apm.status tells why the cloud does not take from it.",
				 apm_max_outbox)));
}

/* How many of the first of n fit into one statement. */
static int
fitting(const ApmSlice *sealed, int n)
{
	size_t bytes = 0;
	int fit = 0;

	while (fit < n && (fit == 0 || bytes + sealed[fit].len <= PUT_BYTES))
		bytes += sealed[fit++].len;
	return fit;
}

void
apm_queue_put(const ApmUuid *tids, const ApmSlice *sealed, int n)
{
	static ApmStatement put = {
		"INSERT INTO apm.queue (tid, sealed, queued_at)"
		" SELECT u.*, pg_catalog.clock_timestamp() FROM unnest($1, $2) AS u",
		2,
		{UUIDARRAYOID, BYTEAARRAYOID},
		NULL,
	};

	if (n == 0)
		return;
	check_room(n);
	note_put();
	for (int at = 0; at < n;)
	{
		int count = fitting(sealed + at, n - at);
		Datum args[2] = {apm_uuid_array(tids + at, count), apm_bytea_array(sealed + at, count)};

		apm_run_whole(&put, args, (uint64) count);
		pfree(DatumGetPointer(args[0]));
		pfree(DatumGetPointer(args[1]));
		at += count;
	}
	apm_wake_at_commit(APM_WORKER_NETWORK);
}
