/*
 * launcher.c
 *	  Keeps the workers of every database in apm.databases alive.
 *
 * The launcher is the one worker that the postmaster restarts.  It is connected to no
 * database, sees shared catalogs only, and asks for the others as dynamic workers that
 * nobody restarts: after a crash of the server the postmaster has forgotten them, and
 * there are never two of a kind.  A launcher that finds workers of an earlier one leaves
 * them alone; they are known by their entries in shared memory.
 *
 * A worker that ends is started again after a pause, which doubles until the worker has
 * lived for a while.  Whoever could tell the launcher that something changed sets its
 * latch; it looks once a minute all the same.
 */
#include "postgres.h"

#include <signal.h>

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/procsignal.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"

#include "apm_compat.h"
#include "apm_guc.h"
#include "worker/launcher.h"
#include "worker/start.h"
#include "worker/state.h"

/* milliseconds */
#define FIRST_PAUSE 200
#define LONGEST_PAUSE 30000
#define GOOD_WHILE 60000
#define NET_DEADLINE 60000

/* what the launcher alone knows of a worker */
typedef struct Child
{
	BackgroundWorkerHandle *handle; /* NULL: none, or an earlier launcher's */
	TimestampTz started;
	TimestampTz not_before; /* of the next start */
	int pause;				/* before the start after the next, in milliseconds */
} Child;

/* beside apm_shared->databases[i].workers[kind] */
static Child children[APM_MAX_DATABASES][APM_WORKER_KINDS];

static MemoryContext handle_context = NULL; /* handles live here */
static MemoryContext round_context = NULL;	/* what one round needs */
static bool said_no_slot = false;
static bool said_bad_list = false;
static bool said_too_many = false;

PGDLLEXPORT void apm_launcher_main(Datum arg);

void
apm_launcher_register(void)
{
	BackgroundWorker worker = {0};

	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = 5;
	strlcpy(worker.bgw_name, "apm launcher", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "apm launcher", BGW_MAXLEN);
	strlcpy(worker.bgw_library_name, "apm", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "apm_launcher_main", BGW_MAXLEN);
	RegisterBackgroundWorker(&worker);
}

/* The names in apm.databases; says once if it is not a list. */
static List *
listed_names(bool *good)
{
	List *names;

	*good = SplitIdentifierString(pstrdup(apm_databases), ',', &names);
	if (!*good && !said_bad_list)
		ereport(WARNING, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						  errmsg("\"apm.databases\" is not a list of names")));
	said_bad_list = !*good;
	return names;
}

static bool
is_listed(List *names, const char *name)
{
	ListCell *cell;

	foreach(cell, names)
	{
		if (strcmp(lfirst(cell), name) == 0)
			return true;
	}
	return false;
}

/* What pg_database and apm.databases say of each entry. */
typedef struct Census
{
	bool exists[APM_MAX_DATABASES];
	bool listed[APM_MAX_DATABASES];
	bool too_many;
} Census;

/* Counts one database, making its entry if it is to have workers. */
static void
count_database(Census *census, Form_pg_database form, List *names)
{
	bool wanted =
		form->datallowconn && !database_is_invalid_form(form) && is_listed(names, NameStr(form->datname));
	ApmDatabaseEntry *entry;

	LWLockAcquire(apm_shared->lock, LW_EXCLUSIVE);
	entry = wanted ? apm_state_make(form->oid) : apm_state_find(form->oid);
	LWLockRelease(apm_shared->lock);
	if (entry != NULL)
	{
		census->exists[entry - apm_shared->databases] = true;
		census->listed[entry - apm_shared->databases] = wanted;
	}
	else if (wanted)
		census->too_many = true;
}

/* Reads the shared catalogs; answers the workers' role, if there is one. */
static Oid
take_census(Census *census, List *names)
{
	Relation relation;
	TableScanDesc scan;
	HeapTuple tuple;
	Oid role;

	memset(census, 0, sizeof(*census));
	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	relation = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(relation, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
		count_database(census, (Form_pg_database) GETSTRUCT(tuple), names);
	table_endscan(scan);
	table_close(relation, AccessShareLock);
	role = get_role_oid(APM_WORKER_ROLE, true);
	CommitTransactionCommand();
	return role;
}

/*
 * Brings the entries up to what the catalogs and apm.databases say now: makes those that are
 * new, frees those whose databases are gone.  A list that cannot be read changes nothing.
 * Answers the workers' role.
 */
static Oid
refresh_entries(void)
{
	static Oid role = InvalidOid;
	bool good;
	List *names = listed_names(&good);
	Census census;

	if (!good)
		return role;
	role = take_census(&census, names);
	LWLockAcquire(apm_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < APM_MAX_DATABASES; i++)
	{
		apm_shared->databases[i].listed = census.listed[i];
		if (!census.exists[i] && OidIsValid(apm_shared->databases[i].database))
		{
			apm_shared->databases[i].database = InvalidOid;
			memset(children[i], 0, sizeof(children[i]));
		}
	}
	LWLockRelease(apm_shared->lock);

	if (census.too_many && !said_too_many)
		ereport(WARNING, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
						  errmsg("\"apm.databases\" names more than %d databases", APM_MAX_DATABASES)));
	said_too_many = census.too_many;
	return role;
}

static void
set_state(ApmDatabaseEntry *entry, ApmWorkerKind kind, ApmWorkerState state)
{
	LWLockAcquire(apm_shared->lock, LW_EXCLUSIVE);
	apm_state_step(&entry->workers[kind], state);
	LWLockRelease(apm_shared->lock);
}

/* Is the process that we asked for there or on its way?  Notes its end. */
static bool
handle_alive(ApmDatabaseEntry *entry, ApmWorkerKind kind, Child *child, TimestampTz now)
{
	int pid;

	if (child->handle == NULL)
		return false;
	if (GetBackgroundWorkerPid(child->handle, &pid) != BGWH_STOPPED)
		return true;

	pfree(child->handle);
	child->handle = NULL;
	if (TimestampDifferenceExceeds(child->started, now, GOOD_WHILE) || child->pause == 0)
		child->pause = FIRST_PAUSE;
	child->not_before = TimestampTzPlusMilliseconds(now, child->pause);
	child->pause = Min(child->pause * 2, LONGEST_PAUSE);

	LWLockAcquire(apm_shared->lock, LW_EXCLUSIVE);
	if (entry->workers[kind].state == APM_WORKER_STARTING && entry->workers[kind].pid == 0)
		apm_state_step(&entry->workers[kind], APM_WORKER_BACKING_OFF);
	LWLockRelease(apm_shared->lock);
	return false;
}

/* Asks for the worker; if there is no slot, says so once and tries again later. */
static void
start_child(ApmDatabaseEntry *entry, ApmWorkerKind kind, Child *child, Oid role, TimestampTz now)
{
	ApmWorkerStart start = {.role = role};
	MemoryContext old;

	LWLockAcquire(apm_shared->lock, LW_EXCLUSIVE);
	apm_state_step(&entry->workers[kind], APM_WORKER_STARTING);
	entry->workers[kind].kept = true;
	LWLockRelease(apm_shared->lock);
	old = MemoryContextSwitchTo(handle_context);
	child->handle = apm_worker_start(kind, entry->database, &start, MyProcPid);
	MemoryContextSwitchTo(old);
	child->started = now;
	if (child->handle != NULL)
	{
		said_no_slot = false;
		return;
	}

	child->not_before = TimestampTzPlusMilliseconds(now, LONGEST_PAUSE);
	set_state(entry, kind, APM_WORKER_BACKING_OFF);
	if (!said_no_slot)
		ereport(WARNING, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
						  errmsg("no slot is free for the workers of apm"),
						  errhint("Raise max_worker_processes: a launcher, and four for each database.")));
	said_no_slot = true;
}

static void
stop_child(const ApmWorkerEntry *seen, Child *child)
{
	if (child->handle != NULL)
		TerminateBackgroundWorker(child->handle);
	else if (seen->pid != 0)
		(void) kill(seen->pid, SIGTERM);
}

/* Does for one worker what is due; answers when to look again. */
static TimestampTz
tend(ApmDatabaseEntry *entry, ApmWorkerKind kind, Child *child, Oid role, TimestampTz now)
{
	TimestampTz later = TimestampTzPlusMilliseconds(now, NET_DEADLINE);
	TimestampTz due;
	ApmWorkerEntry seen;
	bool wanted;
	bool alive;

	alive = handle_alive(entry, kind, child, now);
	LWLockAcquire(apm_shared->lock, LW_SHARED);
	seen = entry->workers[kind];
	due = Max(child->not_before, entry->hold_until);
	wanted = entry->listed && OidIsValid(role);
	LWLockRelease(apm_shared->lock);
	alive = alive || seen.pid != 0;

	if (!wanted)
	{
		if (alive && seen.kept)
			stop_child(&seen, child);
		else if (!alive && seen.state != APM_WORKER_OFF)
			set_state(entry, kind, APM_WORKER_OFF);
		return later;
	}
	if (alive)
		return later;
	if (seen.state == APM_WORKER_DORMANT)
	{
		child->pause = FIRST_PAUSE;
		due = Max(due, TimestampTzPlusMilliseconds(child->started, NET_DEADLINE));
	}
	if (due > now)
		return due;
	start_child(entry, kind, child, role, now);
	return child->handle != NULL ? later : child->not_before;
}

/* Looks after all; answers for how many milliseconds there is nothing to do. */
static long
make_round(void)
{
	Oid role = refresh_entries();
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz next = TimestampTzPlusMilliseconds(now, NET_DEADLINE);

	for (int i = 0; i < APM_MAX_DATABASES; i++)
	{
		ApmDatabaseEntry *entry = &apm_shared->databases[i];

		if (!OidIsValid(entry->database))
			continue;
		for (int kind = 0; kind < APM_WORKER_KINDS; kind++)
		{
			TimestampTz due = tend(entry, kind, &children[i][kind], role, now);

			next = Min(next, due);
		}
	}
	return Max(TimestampDifferenceMilliseconds(GetCurrentTimestamp(), next), 1);
}

static void
leave(int code, Datum arg)
{
	LWLockAcquire(apm_shared->lock, LW_EXCLUSIVE);
	if (apm_shared->launcher_pid == MyProcPid)
		apm_shared->launcher_pid = 0;
	LWLockRelease(apm_shared->lock);
}

static void
enter(void)
{
	LWLockAcquire(apm_shared->lock, LW_EXCLUSIVE);
	apm_shared->launcher_pid = MyProcPid;
	apm_shared->launcher_procno = apm_my_procno();
	LWLockRelease(apm_shared->lock);
	before_shmem_exit(leave, (Datum) 0);
}

void
apm_launcher_main(Datum arg)
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	SetConfigOption("default_transaction_isolation", "read committed", PGC_SUSET, PGC_S_OVERRIDE);
	enter();
	handle_context = AllocSetContextCreate(TopMemoryContext, "apm launcher handles", ALLOCSET_SMALL_SIZES);
	round_context = AllocSetContextCreate(TopMemoryContext, "apm launcher round", ALLOCSET_DEFAULT_SIZES);

	/* An exit with 0 would be taken for "not wanted any more", also after pg_terminate_backend. */
	while (!ShutdownRequestPending)
	{
		long delay;

		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		MemoryContextSwitchTo(round_context);
		MemoryContextReset(round_context);
		delay = make_round();
		pgstat_report_activity(STATE_IDLE, "watching the workers");
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, delay, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
	proc_exit(1);
}
