/*
 * wake.c
 *	  Wake-ups: at commit, and when a database or the extension comes or goes.
 *
 * A worker that is woken before the rows are visible finds nothing, so wake-ups are
 * given after the commit, by one transaction callback that a backend registers the first
 * time it needs it.  A wake-up that gets lost, as by PREPARE TRANSACTION, costs no more than the
 * worker's deadline.
 *
 * A worker's connection would hold up DROP DATABASE for five seconds and then fail it, so
 * whoever drops a database ends its workers, and the launcher leaves it alone for a while.
 */
#include "postgres.h"

#include <signal.h>

#include "access/xact.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_database.h"
#include "catalog/pg_extension.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/timestamp.h"

#include "worker/state.h"
#include "worker/wake.h"

/* How long the launcher starts nothing in a database that somebody drops, in milliseconds. */
#define DROP_HOLD 10000

static object_access_hook_type previous_access = NULL;

/* what to do at commit */
static bool callback_registered = false;
static uint32 pending_kinds = 0;	   /* bits of kinds to wake */
static uint32 pending_hurry = 0;	   /* bits of those that somebody waits for */
static bool pending_extension = false; /* the extension may have come */
static bool pending_launcher = false;

static void
wake(ApmWorkerKind kind, bool hurry)
{
	ApmDatabaseEntry *entry;

	if (apm_shared == NULL)
		return;
	LWLockAcquire(apm_shared->lock, LW_SHARED);
	entry = apm_state_find(MyDatabaseId);
	if (entry != NULL)
	{
		entry->workers[kind].woken = true;
		if (hurry)
			entry->workers[kind].hurried = true;
		apm_state_set_latch(entry->workers[kind].pid, entry->workers[kind].procno);
	}
	LWLockRelease(apm_shared->lock);
}

void
apm_wake(ApmWorkerKind kind)
{
	wake(kind, false);
}

static void
wake_launcher(void)
{
	LWLockAcquire(apm_shared->lock, LW_SHARED);
	apm_state_set_latch(apm_shared->launcher_pid, apm_shared->launcher_procno);
	LWLockRelease(apm_shared->lock);
}

/* Workers that found no extension may look again. */
static void
rouse_dormant(void)
{
	ApmDatabaseEntry *entry;

	LWLockAcquire(apm_shared->lock, LW_EXCLUSIVE);
	entry = apm_state_find(MyDatabaseId);
	for (int kind = 0; entry != NULL && kind < APM_WORKER_KINDS; kind++)
	{
		if (entry->workers[kind].state == APM_WORKER_DORMANT)
			apm_state_step(&entry->workers[kind], APM_WORKER_OFF);
	}
	LWLockRelease(apm_shared->lock);
}

static void
forget(void)
{
	pending_kinds = 0;
	pending_hurry = 0;
	pending_extension = false;
	pending_launcher = false;
}

static void
at_transaction_end(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_COMMIT:
			for (int kind = 0; kind < APM_WORKER_KINDS; kind++)
			{
				if (pending_kinds & (1 << kind))
					wake(kind, (pending_hurry & (1 << kind)) != 0);
			}
			if (pending_extension)
				rouse_dormant();
			if (pending_extension || pending_launcher)
				wake_launcher();
			forget();
			break;
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			forget();
			break;
		default:
			break;
	}
}

static void
register_callback(void)
{
	if (!callback_registered)
		RegisterXactCallback(at_transaction_end, NULL);
	callback_registered = true;
}

void
apm_wake_at_commit(ApmWorkerKind kind)
{
	if (apm_shared == NULL)
		return;
	register_callback();
	pending_kinds |= 1 << kind;
}

void
apm_hurry_at_commit(ApmWorkerKind kind)
{
	apm_wake_at_commit(kind);
	pending_hurry |= 1 << kind;
}

/* Ends the workers of a database that is about to be dropped. */
static void
clear_database(Oid database)
{
	ApmDatabaseEntry *entry;

	LWLockAcquire(apm_shared->lock, LW_EXCLUSIVE);
	entry = apm_state_find(database);
	if (entry != NULL)
	{
		entry->hold_until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), DROP_HOLD);
		for (int kind = 0; kind < APM_WORKER_KINDS; kind++)
		{
			if (entry->workers[kind].pid != 0)
				(void) kill(entry->workers[kind].pid, SIGTERM);
		}
	}
	LWLockRelease(apm_shared->lock);
}

/*
 * The hook tells of no names, so every extension that comes or goes makes ours look whether
 * it was meant: one lookup each.
 */
static void
on_access(ObjectAccessType access, Oid class, Oid object, int sub, void *arg)
{
	if (previous_access)
		previous_access(access, class, object, sub, arg);
	if (apm_shared == NULL || !IsUnderPostmaster)
		return;

	if (class == DatabaseRelationId && access == OAT_DROP)
		clear_database(object);
	else if (class == DatabaseRelationId && access == OAT_POST_CREATE)
	{
		register_callback();
		pending_launcher = true;
	}
	else if (class == ExtensionRelationId && access == OAT_DROP)
	{
		for (int kind = 0; kind < APM_WORKER_KINDS; kind++)
			apm_wake_at_commit(kind);
	}
	else if (class == ExtensionRelationId && access == OAT_POST_CREATE)
	{
		register_callback();
		pending_extension = true;
	}
}

void
apm_wake_init(void)
{
	previous_access = object_access_hook;
	object_access_hook = on_access;
}
