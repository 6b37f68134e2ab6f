/*
 * turn.c
 *	  The transactions of a turn.
 *
 * A turn claims, acts and records in transactions of its own, none of which is open
 * while it waits for anybody.  What has been acknowledged or signed must be on disk
 * when the next stage learns of it, so commits are synchronous; a turn says so where a
 * crash may take a commit back, because the turn would be done again.
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "pgstat.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "apm_user.h"
#include "worker/state.h"
#include "worker/turn.h"

static MemoryContext turn_context = NULL;
static bool turn_once = false;
static ApmPrivileged privileged;

void
apm_turn_init(bool once)
{
	turn_once = once;
	turn_context = AllocSetContextCreate(TopMemoryContext, "apm turn", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(turn_context);
}

void
apm_turn_reset(void)
{
	MemoryContextSwitchTo(turn_context);
	MemoryContextReset(turn_context);
}

bool
apm_turn_once(void)
{
	return turn_once;
}

void
apm_turn_activity(const char *activity)
{
	pgstat_report_activity(STATE_RUNNING, activity);
	apm_state_activity(activity);
}

void
apm_turn_begin(const char *activity)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	apm_turn_activity(activity);
	PushActiveSnapshot(GetTransactionSnapshot());
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	apm_privileged_begin(&privileged);
}

static void
commit(bool async)
{
	apm_privileged_end(&privileged);
	if (SPI_finish() != SPI_OK_FINISH)
		elog(ERROR, "SPI_finish failed");
	PopActiveSnapshot();
	if (async)
		(void) set_config_option("synchronous_commit", "off", PGC_SUSET, PGC_S_SESSION, GUC_ACTION_LOCAL,
								 true, 0, false);
	else
		ForceSyncCommit();
	CommitTransactionCommand();
	MemoryContextSwitchTo(turn_context);
	pgstat_report_activity(STATE_IDLE, NULL);
}

void
apm_turn_commit(void)
{
	commit(false);
}

void
apm_turn_commit_async(void)
{
	commit(true);
}

void
apm_turn_failed(int sqlstate, const char *message)
{
	apm_state_failed(sqlstate, apm_error_text(sqlstate, message));
}

bool
apm_worker_runs(ApmWorkerKind kind)
{
	return apm_shared != NULL && apm_state_presence(kind) == APM_PRESENCE_HERE;
}

void
apm_turn_abort(void)
{
	AbortOutOfAnyTransaction();
	MemoryContextSwitchTo(turn_context);
	pgstat_report_activity(STATE_IDLE, NULL);
}
