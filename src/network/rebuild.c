/*
 * rebuild.c
 *	  apm_rebuild_cloud(): the cloud is made what the ledger says, from what the ledger keeps.
 *
 * The ledger has every record's signed transaction.  So a cloud that is lost, or is not what it should be, is no loss: what is
 * missing or altered there is sealed anew and sent through the outbox, like a record that has just become final, and
 * takes the place of what stands under its Rid; what no record accounts for is deleted.  A record that is sealed for an older PK_APM is
 * sent again as well, and then that key has nothing more to open there.
 *
 * Records may be many, so it goes in batches in the order of their Rids, each a transaction of its own that notes where
 * it ended: whatever ends it, the next call goes on there.  Records of blocks after its beginning go their usual way and
 * are none of its business.  While the outbox has no room it waits.  It holds apm.cloud_rebuild while it is in a
 * batch, so two of it take turns.
 *
 * What it puts into the outbox may be of a patient who is erased before it commits; the push leaves that out.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "apm_errors.h"
#include "apm_guc.h"
#include "apm_sql.h"
#include "apm_user.h"
#include "chain/chain.h"
#include "cloud/cloud.h"
#include "network/dispatch.h"
#include "network/survey.h"
#include "worker/worker.h"

PG_FUNCTION_INFO_V1(apm_rebuild_cloud);

#define BATCH_MAX 100000
#define PORTION 256
#define STRAYS 4096
#define WAIT_MS 200

typedef enum BatchEnd
{
	BATCH_DONE,
	BATCH_NO_ROOM, /* in the outbox */
	BATCH_LAST
} BatchEnd;

/* What a batch finds; reset with each portion of it. */
typedef struct Faults
{
	ApmUuid again[PORTION]; /* Tids of records that the cloud must get */
	int nagain;
	ApmUuid strays[STRAYS];
	int nstrays;
	bool nameless;
	int64 removed;
} Faults;

/* A transaction of a batch. */
typedef struct Batch
{
	ApmPrivileged user;
} Batch;

static void
begin(Batch *batch)
{
	/* before the snapshot, which then sees what the other one that we waited for has done */
	LockRelationOid(get_relname_relid("cloud_rebuild", get_namespace_oid("apm", false)),
					ShareRowExclusiveLock);
	PushActiveSnapshot(GetTransactionSnapshot());
	SPI_connect();
	apm_privileged_begin(&batch->user);
}

static void
end(const Batch *batch)
{
	apm_privileged_end(&batch->user);
	SPI_finish();
	PopActiveSnapshot();
	SPI_commit();
}

/* Begins anew, unless there is a rebuild to go on with. */
static void
start(void)
{
	static ApmStatement begin_anew = {
		"INSERT INTO apm.cloud_rebuild AS b (started_at, height, records_total)"
		" SELECT pg_catalog.clock_timestamp(), t.height,"
		" (SELECT pg_catalog.count(*) FROM ONLY apm.ledger_record) FROM ONLY apm.tip AS t"
		" ON CONFLICT (one) DO UPDATE SET started_at = EXCLUDED.started_at, height = EXCLUDED.height,"
		" records_total = EXCLUDED.records_total, last_rid = NULL, records_done = 0, records_queued = 0,"
		" rows_removed = 0, finished_at = NULL WHERE b.finished_at IS NOT NULL",
		0,
		{0},
		NULL,
	};
	ApmDigest chain;
	ApmDigest origin;
	Batch batch;

	begin(&batch);
	if (!apm_chain_identity(&chain, &origin))
		ereport(ERROR, (errcode(ERRCODE_APM_NOT_SET_UP), errmsg("this database takes part in no chain"),
						errhint("Call apm_setup().")));
	(void) apm_run(&begin_anew, NULL);
	end(&batch);
}

static void
remove_strays(Faults *faults)
{
	if (faults->nstrays > 0 || faults->nameless)
		faults->removed += apm_cloud_remove_strays(faults->strays, faults->nstrays, faults->nameless);
	faults->nstrays = 0;
	faults->nameless = false;
}

static void
collect(ApmSurveyFinding finding, const ApmUuid *rid, const ApmUuid *tid, void *closure)
{
	Faults *faults = closure;

	switch (finding)
	{
		case APM_RECORD_GOOD:
		case APM_RECORD_PENDING:
		case APM_ROW_LEAVING:
			break;
		case APM_RECORD_OLD_KEY:
		case APM_RECORD_MISSING:
		case APM_RECORD_ALTERED:
			faults->again[faults->nagain++] = *tid;
			break;
		case APM_ROW_ERASED:
		case APM_ROW_UNKNOWN:
			if (rid == NULL)
				faults->nameless = true;
			else
				faults->strays[faults->nstrays++] = *rid;
			if (faults->nstrays == STRAYS)
				remove_strays(faults);
			break;
	}
}

/* Where the rebuild is; false if it is at its end. */
static bool
read_progress(ApmSurvey *survey)
{
	static ApmStatement read = {
		"SELECT height, last_rid FROM ONLY apm.cloud_rebuild WHERE finished_at IS NULL", 0, {0}, NULL};
	ApmUuid last;

	if (apm_run(&read, NULL) == 0)
		return false;
	survey->height = apm_row_int8(0, 1);
	if (!apm_row_null(0, 2))
	{
		apm_row_uuid(0, 2, &last);
		survey->finished = !apm_uuid_next(&last, &survey->from);
	}
	return true;
}

static void
note_progress(const ApmSurvey *survey, const ApmUuid *last, int64 done, int64 queued, int64 removed)
{
	static ApmStatement note = {
		"UPDATE ONLY apm.cloud_rebuild SET last_rid = $1, records_done = records_done + $2,"
		" records_queued = records_queued + $3, rows_removed = rows_removed + $4,"
		" finished_at = CASE WHEN $5 THEN pg_catalog.clock_timestamp() END",
		5,
		{UUIDOID, INT8OID, INT8OID, INT8OID, BOOLOID},
		NULL,
	};
	Datum args[5] = {apm_uuid_datum(last), Int64GetDatum(done), Int64GetDatum(queued), Int64GetDatum(removed),
					 BoolGetDatum(survey->finished)};

	apm_run_whole(&note, args, 1);
}

/* Surveys so many records, sends what the cloud must get, and deletes what it must not have. */
static void
rebuild_some(ApmSurvey *survey, int rows)
{
	Faults *faults = palloc0(sizeof(Faults));
	int64 queued = 0;
	int done = 0;

	survey->callback = collect;
	survey->closure = faults;
	while (done < rows && !survey->finished)
	{
		done += apm_survey_portion(survey, Min(rows - done, PORTION));
		apm_dispatch_records(faults->again, faults->nagain, true);
		queued += faults->nagain;
		faults->nagain = 0;
		remove_strays(faults);
	}
	note_progress(survey, &survey->last, done, queued, faults->removed);
}

/* One batch. */
static BatchEnd
do_batch(int rows)
{
	ApmSurvey survey = {0};
	BatchEnd result = BATCH_LAST;
	Batch batch;

	begin(&batch);
	if (read_progress(&survey))
	{
		rows = Min(rows, apm_max_outbox);
		if (apm_outbox_full(rows))
			result = BATCH_NO_ROOM;
		else
		{
			rebuild_some(&survey, rows);
			result = survey.finished ? BATCH_LAST : BATCH_DONE;
		}
	}
	end(&batch);
	return result;
}

/* Until the cloud has taken something, perhaps.  Where no worker is meant to run, nobody will. */
static void
wait_for_room(void)
{
	if (!apm_database_listed(MyDatabaseId))
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED), errmsg("the outbox to the cloud is full"),
				 errhint("Call it again when the cloud has taken from it. apm.max_outbox is %d.",
						 apm_max_outbox)));
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, WAIT_MS, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
}

static void
run(int rows)
{
	BatchEnd ended = BATCH_DONE;

	(void) apm_cloud_remove_strays(NULL, 0, false); /* may it delete anything there? */
	start();
	while (ended != BATCH_LAST)
	{
		CHECK_FOR_INTERRUPTS();
		if (ended == BATCH_NO_ROOM)
			wait_for_room();
		ended = do_batch(rows);
	}
}

/*
 * apm_rebuild_cloud(batch_rows integer DEFAULT 1000)
 */
Datum
apm_rebuild_cloud(PG_FUNCTION_ARGS)
{
	int rows = PG_ARGISNULL(0) ? 0 : PG_GETARG_INT32(0);

	apm_require_admin("rebuild the cloud");
	if (fcinfo->context == NULL || !IsA(fcinfo->context, CallContext) ||
		castNode(CallContext, fcinfo->context)->atomic)
		ereport(ERROR, (errcode(ERRCODE_INVALID_TRANSACTION_TERMINATION),
						errmsg("a rebuild commits its batches, and cannot run in a transaction block"),
						errhint("CALL it by itself.")));
	if (rows < 1 || rows > BATCH_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("a batch has 1 to %d rows", BATCH_MAX)));
	if (SPI_connect_ext(SPI_OPT_NONATOMIC) != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	run(rows);
	SPI_finish();
	PG_RETURN_VOID();
}
