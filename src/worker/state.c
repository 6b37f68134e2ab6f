/*
 * state.c
 *	  Shared memory of the workers: who runs where, how it goes, who refuses what.
 *
 * A fixed number of databases, so that everything is one array under one lightweight
 * lock; a server that keeps health records in more than 64 databases is not one that we
 * expect.  After a crash of any process the postmaster sets shared memory up anew, so
 * that an entry never speaks of a process that died without leaving.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"

#include "apm_compat.h"
#include "worker/mail.h"
#include "worker/state.h"

ApmShared *apm_shared = NULL;

static shmem_request_hook_type previous_request = NULL;
static shmem_startup_hook_type previous_startup = NULL;

/* this process, if it claimed a place */
static ApmWorkerKind my_kind = APM_WORKER_KINDS;

/* what it answers where there is no shared memory, or no room in it */
static ApmRefusal local_refusal = APM_REFUSAL_UNKNOWN;

static const struct
{
	const char *name;
	uint8 next; /* bits of the states that may follow */
} states[] = {
#define TO(state) (1 << APM_WORKER_##state)
	[APM_WORKER_OFF] = {"off", TO(STARTING)},
	[APM_WORKER_STARTING] = {"starting", TO(TURNING) | TO(BACKING_OFF) | TO(DORMANT) | TO(OFF)},
	[APM_WORKER_TURNING] = {"turning", TO(IDLE) | TO(BACKING_OFF) | TO(DORMANT) | TO(OFF)},
	[APM_WORKER_IDLE] = {"idle", TO(TURNING) | TO(BACKING_OFF) | TO(DORMANT) | TO(OFF)},
	[APM_WORKER_BACKING_OFF] = {"backing off", TO(STARTING) | TO(OFF)},
	[APM_WORKER_DORMANT] = {"dormant", TO(STARTING) | TO(OFF)},
#undef TO
};

bool
apm_shared_available(void)
{
	return apm_shared != NULL;
}

/* A log hook asks, which may run under any lock: the array's fields are read one by one. */
bool
apm_database_listed(Oid database)
{
	for (int i = 0; apm_shared != NULL && i < APM_MAX_DATABASES; i++)
	{
		if (apm_shared->databases[i].database == database)
			return apm_shared->databases[i].listed;
	}
	return false;
}

static void
request(void)
{
	if (previous_request)
		previous_request();
	RequestAddinShmemSpace(MAXALIGN(sizeof(ApmShared)) + apm_mail_shmem_size());
	RequestNamedLWLockTranche("apm", 2);
}

static void
startup(void)
{
	bool found;

	if (previous_startup)
		previous_startup();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	apm_shared = ShmemInitStruct("apm workers", sizeof(ApmShared), &found);
	if (!found)
	{
		LWLockPadded *locks = GetNamedLWLockTranche("apm");

		memset(apm_shared, 0, sizeof(ApmShared));
		apm_shared->lock = &locks[0].lock;
		apm_shared->mailbox_lock = &locks[1].lock;
	}
	apm_mail_shmem_startup();
	LWLockRelease(AddinShmemInitLock);
}

void
apm_state_init(void)
{
	previous_request = shmem_request_hook;
	shmem_request_hook = request;
	previous_startup = shmem_startup_hook;
	shmem_startup_hook = startup;
}

ApmDatabaseEntry *
apm_state_find(Oid database)
{
	for (int i = 0; i < APM_MAX_DATABASES; i++)
	{
		if (apm_shared->databases[i].database == database)
			return &apm_shared->databases[i];
	}
	return NULL;
}

ApmDatabaseEntry *
apm_state_make(Oid database)
{
	ApmDatabaseEntry *entry = apm_state_find(database);

	if (entry != NULL)
		return entry;
	entry = apm_state_find(InvalidOid);
	if (entry != NULL)
	{
		memset(entry, 0, sizeof(ApmDatabaseEntry));
		entry->database = database;
	}
	return entry;
}

void
apm_state_step(ApmWorkerEntry *worker, ApmWorkerState to)
{
	Assert(LWLockHeldByMeInMode(apm_shared->lock, LW_EXCLUSIVE));
	Assert(worker->state == to || (states[worker->state].next & (1 << to)) != 0);
	worker->state = to;
}

const char *
apm_state_name(ApmWorkerState state)
{
	return states[state].name;
}

void
apm_state_set_latch(int pid, int procno)
{
	if (pid != 0)
		SetLatch(&ProcGlobal->allProcs[procno].procLatch);
}

/* This process's place; lock held; NULL if it claimed none. */
static ApmWorkerEntry *
my_entry(void)
{
	ApmDatabaseEntry *entry;

	if (my_kind == APM_WORKER_KINDS)
		return NULL;
	entry = apm_state_find(MyDatabaseId);
	if (entry == NULL || entry->workers[my_kind].pid != MyProcPid)
		return NULL;
	return &entry->workers[my_kind];
}

static void
leave_at_exit(int code, Datum arg)
{
	apm_state_leave(APM_WORKER_BACKING_OFF);
}

bool
apm_state_claim(ApmWorkerKind kind)
{
	ApmDatabaseEntry *entry;
	bool claimed = false;

	if (apm_shared == NULL)
		return false;
	before_shmem_exit(leave_at_exit, (Datum) 0);
	LWLockAcquire(apm_shared->lock, LW_EXCLUSIVE);
	entry = apm_state_make(MyDatabaseId);
	if (entry != NULL && entry->workers[kind].pid == 0 && entry->hold_until <= GetCurrentTimestamp())
	{
		ApmWorkerEntry *worker = &entry->workers[kind];

		apm_state_step(worker, APM_WORKER_STARTING);
		worker->pid = MyProcPid;
		worker->procno = apm_my_procno();
		my_kind = kind;
		claimed = true;
	}
	LWLockRelease(apm_shared->lock);
	return claimed;
}

void
apm_state_leave(ApmWorkerState why)
{
	ApmWorkerEntry *worker;

	if (my_kind == APM_WORKER_KINDS)
		return;
	LWLockAcquire(apm_shared->lock, LW_EXCLUSIVE);
	worker = my_entry();
	if (worker != NULL)
	{
		apm_state_step(worker, why);
		worker->pid = 0;
		worker->activity[0] = '\0';
	}
	apm_state_set_latch(apm_shared->launcher_pid, apm_shared->launcher_procno);
	LWLockRelease(apm_shared->lock);
	my_kind = APM_WORKER_KINDS;
}

/* This worker's entry with the lock held; NULL, and no lock, where there is none. */
static ApmWorkerEntry *
lock_my_entry(LWLockMode mode)
{
	ApmWorkerEntry *worker;

	if (my_kind == APM_WORKER_KINDS)
		return NULL;
	LWLockAcquire(apm_shared->lock, mode);
	worker = my_entry();
	if (worker == NULL)
		LWLockRelease(apm_shared->lock);
	return worker;
}

void
apm_state_turn_started(void)
{
	ApmWorkerEntry *worker = lock_my_entry(LW_EXCLUSIVE);

	if (worker == NULL)
		return;
	apm_state_step(worker, APM_WORKER_TURNING);
	worker->turn_started = GetCurrentTimestamp();
	worker->woken = false;
	LWLockRelease(apm_shared->lock);
}

bool
apm_is_hurried(void)
{
	ApmWorkerEntry *worker = lock_my_entry(LW_EXCLUSIVE);
	bool hurried;

	if (worker == NULL)
		return false;
	hurried = worker->hurried;
	worker->hurried = false;
	LWLockRelease(apm_shared->lock);
	return hurried;
}

/* Was this worker woken since its turn began? */
bool
apm_state_woken(void)
{
	ApmWorkerEntry *worker = lock_my_entry(LW_SHARED);
	bool woken;

	if (worker == NULL)
		return false;
	woken = worker->woken;
	LWLockRelease(apm_shared->lock);
	return woken;
}

void
apm_state_turn_ended(void)
{
	ApmWorkerEntry *worker = lock_my_entry(LW_EXCLUSIVE);

	if (worker == NULL)
		return;
	apm_state_step(worker, APM_WORKER_IDLE);
	worker->turn_ended = GetCurrentTimestamp();
	worker->turns++;
	worker->activity[0] = '\0';
	LWLockRelease(apm_shared->lock);
}

void
apm_state_activity(const char *activity)
{
	ApmWorkerEntry *worker = lock_my_entry(LW_EXCLUSIVE);

	if (worker == NULL)
		return;
	strlcpy(worker->activity, activity, APM_ACTIVITY_LEN);
	LWLockRelease(apm_shared->lock);
}

void
apm_state_failed(int code, const char *text)
{
	ApmWorkerEntry *worker = lock_my_entry(LW_EXCLUSIVE);

	if (worker == NULL)
		return;
	worker->errors++;
	worker->error_at = GetCurrentTimestamp();
	worker->error_code = code;
	strlcpy(worker->error, text, APM_ERROR_TEXT_LEN);
	LWLockRelease(apm_shared->lock);
}

ApmPresence
apm_state_presence(ApmWorkerKind kind)
{
	ApmPresence presence = APM_PRESENCE_NONE;
	ApmDatabaseEntry *entry;

	LWLockAcquire(apm_shared->lock, LW_SHARED);
	entry = apm_state_find(MyDatabaseId);
	if (entry != NULL && entry->workers[kind].pid != 0)
		presence = APM_PRESENCE_HERE;
	else if (entry != NULL && entry->listed && entry->workers[kind].state != APM_WORKER_DORMANT)
		presence = APM_PRESENCE_COMING;
	else if (apm_shared->launcher_pid == 0)
		presence = APM_PRESENCE_COMING; /* the server has just started */
	LWLockRelease(apm_shared->lock);
	return presence;
}

void
apm_refusal_set(ApmRefusal why)
{
	ApmDatabaseEntry *entry = NULL;

	local_refusal = why;
	if (apm_shared == NULL)
		return;
	LWLockAcquire(apm_shared->lock, LW_EXCLUSIVE);
	entry = apm_state_make(MyDatabaseId);
	if (entry != NULL)
		entry->refusal = why;
	LWLockRelease(apm_shared->lock);
}

ApmRefusal
apm_refusal_get(void)
{
	ApmDatabaseEntry *entry;
	ApmRefusal why = local_refusal;

	if (RecoveryInProgress())
		return APM_REFUSAL_STANDBY;
	if (apm_shared == NULL)
		return why;
	LWLockAcquire(apm_shared->lock, LW_SHARED);
	entry = apm_state_find(MyDatabaseId);
	if (entry != NULL)
		why = entry->refusal;
	LWLockRelease(apm_shared->lock);
	return why;
}
