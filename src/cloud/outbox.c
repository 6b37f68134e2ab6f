/*
 * outbox.c
 *	  The way into apm.outbox, where a record waits for the cloud.
 *
 * The network server puts a record here when its final transaction says that it is valid.  The
 * cloud may be down for as long as it likes; what grows meanwhile is this table, and when it has
 * apm.max_outbox rows, new submissions are refused, at the other end of the journey.
 */
#include "postgres.h"

#include "apm_depth.h"
#include "apm_guc.h"
#include "cloud/cloud.h"
#include "core/transaction.h"
#include "worker/worker.h"

void
apm_outbox_put(const ApmCloudRow *rows, int n, bool replace)
{
	static ApmStatement put = {
		"INSERT INTO apm.outbox (rid, tid, apid, tokens, replaces, queued_at)"
		" SELECT u.rid, u.tid, u.apid,"
		" CASE WHEN pg_catalog.octet_length(u.tokens) = 0 THEN '{}' ELSE"
		" ARRAY(SELECT pg_catalog.substr(u.tokens, $5 * i + 1, $5)"
		" FROM pg_catalog.generate_series(0, pg_catalog.octet_length(u.tokens) / $5 - 1) AS i) END,"
		" $6, pg_catalog.clock_timestamp()"
		" FROM unnest($1, $2, $3, $4) AS u (rid, tid, apid, tokens)"
		" ON CONFLICT (rid) DO NOTHING",
		6,
		{UUIDARRAYOID, UUIDARRAYOID, TEXTARRAYOID, BYTEAARRAYOID, INT4OID, BOOLOID},
		NULL,
	};
	ApmUuid *rids;
	ApmUuid *tids;
	ApmSlice *apids;
	ApmSlice *tokens;
	Datum args[6];

	if (n == 0)
		return;

	rids = palloc(sizeof(ApmUuid) * n);
	tids = palloc(sizeof(ApmUuid) * n);
	apids = palloc(sizeof(ApmSlice) * n);
	tokens = palloc(sizeof(ApmSlice) * n);
	for (int i = 0; i < n; i++)
	{
		rids[i] = rows[i].rid;
		tids[i] = rows[i].tid;
		apids[i] = rows[i].apid;
		tokens[i] = rows[i].tokens.len > 0 ? rows[i].tokens : APM_SLICE("", 0);
	}
	args[0] = apm_uuid_array(rids, n);
	args[1] = apm_uuid_array(tids, n);
	args[2] = apm_text_array(apids, n);
	args[3] = apm_bytea_array(tokens, n);
	args[4] = Int32GetDatum(APM_TOKEN_LEN);
	args[5] = BoolGetDatum(replace);
	apm_run(&put, args);
	apm_wake_at_commit(APM_WORKER_CLOUD);

	for (int i = 0; i < 4; i++)
		pfree(DatumGetPointer(args[i]));
	pfree(rids);
	pfree(tids);
	pfree(apids);
	pfree(tokens);
}

bool
apm_outbox_full(int more)
{
	static ApmDepth depth = {
		.sequence = "outbox_id_seq",
		.count = {"SELECT pg_catalog.count(*) FROM (SELECT FROM ONLY apm.outbox LIMIT $1) AS bounded",
				  1,
				  {INT8OID},
				  NULL},
	};

	return apm_depth_beyond(&depth, apm_max_outbox, more);
}
