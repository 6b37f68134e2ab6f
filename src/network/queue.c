/*
 * queue.c
 *	  apm.queue: where the APM leaves sealed aPRs, in its client's transaction, and the network
 *	  server finds them.
 *
 * This file is the client's side; intake.c is the network server's.
 *
 * A put must be cheap, and must not be lost: it wakes the network server when its
 * transaction commits.
 */
#include "postgres.h"

#include "apm_depth.h"
#include "apm_guc.h"
#include "apm_prepare.h"
#include "cloud/cloud.h"
#include "network/network.h"
#include "worker/worker.h"

#define PUT_BYTES (64 * 1024 * 1024)

/* Would the queue hold more than it may with that many more? */
static bool
beyond(int n)
{
	static ApmDepth depth = {
		.sequence = "queue_id_seq",
		.count = {"SELECT pg_catalog.count(*) FROM (SELECT FROM ONLY apm.queue LIMIT $1) AS bounded",
				  1,
				  {INT8OID},
				  NULL},
	};

	return apm_depth_beyond(&depth, apm_max_queue, n);
}

bool
apm_queue_full(int n)
{
	return beyond(n) || apm_outbox_full(n);
}

static void
check_room(int n)
{
	if (beyond(n))
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
	apm_prepare_forbid();
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
