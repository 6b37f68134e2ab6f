/*
 * worker.c
 *	  The life of a worker, the same for every kind.
 *
 * A worker is a process that turns: it does one bounded batch in short transactions,
 * then waits on its latch.  Between turns it holds no lock, no snapshot and no
 * transaction, so that it delays neither vacuum nor DDL.
 *
 * It recovers from nothing by itself.  An error that a turn does not handle ends the
 * process, and the launcher starts another one later, and later still if that one fails
 * too.  Two ends are not failures: SIGTERM between turns, and a database in which the
 * extension is not, or no longer, created.
 *
 * Whoever owns the database or the role can attach settings to them, which reach a worker
 * like any session.  Those that would change what it does are pinned.
 */
#include "postgres.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "access/xact.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lock.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "worker/start.h"
#include "worker/state.h"
#include "worker/turn.h"

/* A worker that nobody wakes turns this often all the same, in milliseconds. */
#define NET_DEADLINE 10000

/* Freed memory up to this stays with the process. */
#define KEPT_BYTES (64 * 1024 * 1024)

/* Our session locks: advisory locks of a form that SQL cannot take. */
#define LOCK_KEY 0x61706d
#define LOCK_FORM 7

static const ApmWorkerDesc *desc = NULL;
static ApmWorkerReport *report = NULL; /* one-shot only */
static Oid extension = InvalidOid;

static const struct
{
	const char *name;
	const char *value;
} pinned[] = {
	{"search_path", "pg_catalog, pg_temp"},
	{"role", "none"},
	{"exit_on_error", "off"}, /* a row that raises an error must not end the worker */
	{"row_security", "off"},
	{"session_replication_role", "origin"},
	{"synchronous_commit", "on"},
	{"default_transaction_isolation", "read committed"},
	{"default_transaction_read_only", "off"},
	{"default_transaction_deferrable", "off"},
	{"lock_timeout", "0"},
	{"statement_timeout", "0"},
	{"idle_in_transaction_session_timeout", "0"},
	{"idle_session_timeout", "0"},
	{"standard_conforming_strings", "on"},
	{"transform_null_equals", "off"},
	{"default_tablespace", ""},
	{"temp_tablespaces", ""},
	{"jit", "off"},
	/* for arrays of a few elements the planner thinks itself cheaper than a kept plan, each time anew */
	{"plan_cache_mode", "force_generic_plan"},
	/*
	 * Every statement of a worker has its index.  Its plan is kept, and would be made for the
	 * empty table that a queue is most of the time.
	 */
	{"enable_seqscan", "off"},
	{"enable_hashjoin", "off"},
	{"enable_mergejoin", "off"},
	{"application_name", "apm"},
};

static void
pin_settings(void)
{
	for (size_t i = 0; i < lengthof(pinned); i++)
		SetConfigOption(pinned[i].name, pinned[i].value, PGC_SUSET, PGC_S_OVERRIDE);
}

static Oid
find_extension(void)
{
	Oid found;

	StartTransactionCommand();
	found = get_extension_oid("apm", true);
	CommitTransactionCommand();
	return found;
}

/*
 * Ends the process without a word when the extension that it was started for is not there:
 * the launcher lets it lie until the extension is created, or, if another one has taken its
 * place, starts it anew.
 */
static void
check_extension(void)
{
	Oid found = find_extension();

	if (OidIsValid(found) && found == extension)
		return;
	if (!OidIsValid(found))
	{
		if (report != NULL)
			report->missing = true;
		apm_state_leave(APM_WORKER_DORMANT);
	}
	proc_exit(0);
}

/*
 * In the PG_CATCH of whatever a room does.  Does not return: goes quietly when the
 * extension was dropped under us, which shows as all kinds of errors, else takes note and
 * lets the error end the process.
 */
static void
fail(void)
{
	ErrorData *error;

	MemoryContextSwitchTo(TopMemoryContext);
	error = CopyErrorData();
	FlushErrorState();
	AbortOutOfAnyTransaction();
	check_extension();

	apm_state_failed(error->sqlerrcode, apm_error_text(error->sqlerrcode, error->message));
	if (report != NULL)
	{
		report->code = error->sqlerrcode;
		strlcpy(report->text, apm_error_text(error->sqlerrcode, error->message), APM_ERROR_TEXT_LEN);
		report->failed = true;
	}
	ReThrowError(error);
}

static void
run_start(void)
{
	if (desc->start == NULL)
		return;
	apm_turn_reset();
	PG_TRY();
	{
		desc->start();
	}
	PG_CATCH();
	{
		fail();
	}
	PG_END_TRY();
}

static LOCKTAG
turn_lock(ApmWorkerKind kind)
{
	LOCKTAG tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, LOCK_KEY, kind, LOCK_FORM);
	return tag;
}

void
apm_turn_hold(ApmWorkerKind kind)
{
	LOCKTAG tag = turn_lock(kind);

	(void) LockAcquire(&tag, ExclusiveLock, false, false);
}

/* One turn under the lock of its kind; answers what the turn answers. */
static int
run_turn(void)
{
	LOCKTAG tag = turn_lock(desc->kind);
	volatile int delay = APM_TURN_IDLE;

	apm_state_turn_started();
	apm_turn_reset();
	PG_TRY();
	{
		(void) LockAcquire(&tag, ExclusiveLock, true, false);
		delay = desc->turn();
		Assert(!IsTransactionState());
		(void) LockRelease(&tag, ExclusiveLock, true);
	}
	PG_CATCH();
	{
		fail();
	}
	PG_END_TRY();
	apm_turn_reset();
	apm_state_turn_ended();
	return delay;
}

/* Told to stop, between turns: there is nothing to say about it. */
static void
check_interrupts(void)
{
	if (ProcDiePending)
		proc_exit(0);
	CHECK_FOR_INTERRUPTS();
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
}

/* Waits until woken or for so many milliseconds. */
static void
wait_for_work(int delay)
{
	if (delay == APM_TURN_IDLE || delay > NET_DEADLINE)
		delay = NET_DEADLINE;
	pgstat_report_stat(true);
	pgstat_report_activity(STATE_IDLE, "waiting for work");
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, delay, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
}

/*
 * Turns until told to stop.  Another life of the extension gets another process.
 *
 * The latch alone would lose wake-ups: whatever waits inside a turn, for a lock or for
 * another server, resets it.
 */
static void
turn_on(void)
{
	for (;;)
	{
		int delay;

		check_interrupts();
		check_extension();
		delay = run_turn();
		if (delay == APM_TURN_AGAIN || apm_state_woken())
			(void) pgstat_report_stat(false);
		else
			wait_for_work(delay);
	}
}

static void
turn_once(void)
{
	do
		check_interrupts();
	while (run_turn() == APM_TURN_AGAIN);
	pgstat_report_stat(true);
	report->done = true;
}

/* The starter's report; the mapping is kept until the process ends. */
static void
attach_report(dsm_handle handle)
{
	dsm_segment *segment = dsm_attach(handle);

	if (segment == NULL)
		proc_exit(0); /* the starter has gone already */
	dsm_pin_mapping(segment);
	report = dsm_segment_address(segment);
}

/*
 * A turn takes some megabytes and gives them back at its end.  The next one takes as many, so they stay with
 * the process: else the kernel clears every page anew, which is a fifth of a busy worker's time.
 */
static void
keep_freed_memory(void)
{
#ifdef __GLIBC__
	mallopt(M_MMAP_THRESHOLD, KEPT_BYTES);
	mallopt(M_TRIM_THRESHOLD, KEPT_BYTES);
#endif
}

void
apm_worker_run(const ApmWorkerDesc *the_desc, Datum main_arg)
{
	ApmWorkerStart start;

	keep_freed_memory();
	desc = the_desc;
	memcpy(&start, MyBgworkerEntry->bgw_extra, sizeof(start));
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();

	if (start.once)
		attach_report(start.report);
	BackgroundWorkerInitializeConnectionByOid(DatumGetObjectId(main_arg), start.role, 0);
	pin_settings();
	if (!start.once && !apm_state_claim(desc->kind))
		proc_exit(0);

	apm_turn_init(start.once);
	extension = find_extension();
	check_extension();
	run_start();
	if (start.once)
		turn_once();
	else
		turn_on();
	proc_exit(0);
}
