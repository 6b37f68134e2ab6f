/*
 * start.c
 *	  How worker processes come to be: the kinds there are, and the one-shot worker.
 *
 * A one-shot worker does from SQL what a resident one does by itself, for servers
 * without preload and for tests.  It is a process of its own because a turn consists of
 * several transactions, runs as another role and under pinned settings, none of which
 * the caller's transaction can give it.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"

#include "apm_user.h"
#include "worker/launcher.h"
#include "worker/start.h"
#include "worker/wake.h"

static const struct
{
	const char *name;
	const char *function;
} kinds[APM_WORKER_KINDS] = {
	[APM_WORKER_NETWORK] = {"apm network server", "apm_network_server_main"},
	[APM_WORKER_MINER] = {"apm miner", "apm_miner_main"},
	[APM_WORKER_CLOUD] = {"apm cloud", "apm_cloud_main"},
	[APM_WORKER_RECEPTION] = {"apm reception", "apm_reception_main"},
};

void
apm_worker_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		return;
	apm_state_init();
	apm_wake_init();
	apm_launcher_register();
}

const char *
apm_worker_name(ApmWorkerKind kind)
{
	return kinds[kind].name;
}

BackgroundWorkerHandle *
apm_worker_start(ApmWorkerKind kind, Oid database, const ApmWorkerStart *start, int notify_pid)
{
	BackgroundWorker worker = {0};
	BackgroundWorkerHandle *handle;

	StaticAssertStmt(sizeof(ApmWorkerStart) <= BGW_EXTRALEN, "start information must fit");
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	snprintf(worker.bgw_name, BGW_MAXLEN, "%s for database %u", kinds[kind].name, database);
	strlcpy(worker.bgw_type, kinds[kind].name, BGW_MAXLEN);
	strlcpy(worker.bgw_library_name, "apm", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, kinds[kind].function, BGW_MAXLEN);
	worker.bgw_main_arg = ObjectIdGetDatum(database);
	worker.bgw_notify_pid = notify_pid;
	memcpy(worker.bgw_extra, start, sizeof(*start));
	return RegisterDynamicBackgroundWorker(&worker, &handle) ? handle : NULL;
}

/* Waits for the worker's end; a caller who is cancelled takes it along. */
static void
wait_for_end(BackgroundWorkerHandle *handle)
{
	BgwHandleStatus status = BGWH_STOPPED;

	PG_TRY();
	{
		status = WaitForBackgroundWorkerShutdown(handle);
	}
	PG_CATCH();
	{
		TerminateBackgroundWorker(handle);
		PG_RE_THROW();
	}
	PG_END_TRY();
	if (status == BGWH_POSTMASTER_DIED)
		ereport(FATAL, (errcode(ERRCODE_ADMIN_SHUTDOWN), errmsg("the postmaster has died")));
}

static void
check_report(ApmWorkerKind kind, const ApmWorkerReport *report)
{
	if (report->missing)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("worker \"%s\" does not see the extension apm", kinds[kind].name),
						errhint("A worker sees committed changes only.")));
	if (report->failed)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("worker \"%s\" failed: %s", kinds[kind].name, report->text),
						errdetail("Its SQLSTATE was %s.", unpack_sql_state(report->code)),
						errhint("The server's log says more.")));
	if (!report->done)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("worker \"%s\" ended before it was done", kinds[kind].name),
						errhint("The server's log says why.")));
}

void
apm_worker_run_once(ApmWorkerKind kind)
{
	ApmWorkerStart start = {.once = true};
	BackgroundWorkerHandle *handle;
	dsm_segment *segment;
	ApmWorkerReport report;

	apm_require_admin("run a worker");
	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION), errmsg("no worker of apm runs on a standby")));

	segment = dsm_create(sizeof(ApmWorkerReport), 0);
	memset(dsm_segment_address(segment), 0, sizeof(ApmWorkerReport));
	start.report = dsm_segment_handle(segment);
	start.role = get_role_oid(APM_WORKER_ROLE, false);
	handle = apm_worker_start(kind, MyDatabaseId, &start, MyProcPid);
	if (handle == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES), errmsg("no slot is free for a background worker"),
				 errhint("Raise max_worker_processes.")));
	wait_for_end(handle);
	memcpy(&report, dsm_segment_address(segment), sizeof(report));
	dsm_detach(segment);
	check_report(kind, &report);
}

PG_FUNCTION_INFO_V1(apm_run_network_server);
Datum
apm_run_network_server(PG_FUNCTION_ARGS)
{
	apm_worker_run_once(APM_WORKER_NETWORK);
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(apm_run_miner);
Datum
apm_run_miner(PG_FUNCTION_ARGS)
{
	apm_worker_run_once(APM_WORKER_MINER);
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(apm_run_cloud_sync);
Datum
apm_run_cloud_sync(PG_FUNCTION_ARGS)
{
	apm_worker_run_once(APM_WORKER_CLOUD);
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(apm_run_reception);
Datum
apm_run_reception(PG_FUNCTION_ARGS)
{
	apm_worker_run_once(APM_WORKER_RECEPTION);
	PG_RETURN_VOID();
}
