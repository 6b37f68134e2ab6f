/*
 * state.h
 *	  What this room keeps in shared memory.  Private to src/worker.
 *
 * One entry a database, with one place for each kind of worker.  An entry is made by
 * whoever needs it first and freed by the launcher alone, when its database is gone.
 * Everything here is read and written under apm_shared->lock, except where said.
 * Nothing is raised while the lock is held.
 */
#ifndef APM_WORKER_STATE_H
#define APM_WORKER_STATE_H

#include "storage/lwlock.h"
#include "storage/proc.h"

#include "worker/worker.h"

#define APM_MAX_DATABASES 64
#define APM_ACTIVITY_LEN 64
#define APM_ERROR_TEXT_LEN 160

/* The role that workers connect as. */
#define APM_WORKER_ROLE "apm_worker"

/* What becomes of a worker; README.md has the picture. */
typedef enum ApmWorkerState
{
	APM_WORKER_OFF = 0,		/* no process, and none is wanted or allowed */
	APM_WORKER_STARTING,	/* asked for, not at its first turn yet */
	APM_WORKER_TURNING,		/* in a turn */
	APM_WORKER_IDLE,		/* between turns, holds nothing */
	APM_WORKER_BACKING_OFF, /* ended; the launcher starts it again */
	APM_WORKER_DORMANT		/* its database does not have the extension */
} ApmWorkerState;

typedef struct ApmWorkerEntry
{
	ApmWorkerState state;
	int pid;	/* 0: no process, or not connected yet */
	int procno; /* of its PGPROC, whose latch wakes it; valid with pid */
	bool kept;	/* a launcher asked for it, so a launcher ends it */
	bool
		woken; /* since its last turn began; only that sets it false, so setting it needs the shared lock only */
	bool hurried; /* since it asked last; likewise */
	char activity[APM_ACTIVITY_LEN];
	TimestampTz turn_started;
	TimestampTz turn_ended;
	int64 turns;
	int64 errors;
	TimestampTz error_at; /* 0: none */
	int error_code;		  /* SQLSTATE */
	char error[APM_ERROR_TEXT_LEN];
} ApmWorkerEntry;

typedef struct ApmDatabaseEntry
{
	Oid database; /* InvalidOid: free; single reads need no lock */
	bool listed;  /* in apm.databases, as the launcher saw it last; single reads need no lock */
	ApmRefusal refusal;
	TimestampTz hold_until; /* somebody drops the database: start nothing before */
	ApmWorkerEntry workers[APM_WORKER_KINDS];
} ApmDatabaseEntry;

typedef struct ApmShared
{
	LWLock *lock;
	LWLock *mailbox_lock;
	int launcher_pid;
	int launcher_procno;
	ApmDatabaseEntry databases[APM_MAX_DATABASES];
} ApmShared;

extern ApmShared *apm_shared; /* NULL without preload */

/* Installs the hooks that request and set up shared memory; at preload. */
extern void apm_state_init(void);

/* The entry of a database; lock held.  NULL: none, or no room for one more. */
extern ApmDatabaseEntry *apm_state_find(Oid database);
extern ApmDatabaseEntry *apm_state_make(Oid database);

/* Sets a worker's state, asserting that the step is legal; lock held exclusively. */
extern void apm_state_step(ApmWorkerEntry *worker, ApmWorkerState to);
extern const char *apm_state_name(ApmWorkerState state);

/* The latch of a living process of ours; lock held. */
extern void apm_state_set_latch(int pid, int procno);

/*
 * A worker's own side; each does nothing in a one-shot worker.  Claim: false when another
 * worker of this kind serves the database, or somebody drops it.  Leave is also called at exit.
 */
extern bool apm_state_claim(ApmWorkerKind kind);
extern void apm_state_turn_started(void);
extern void apm_state_turn_ended(void);
extern bool apm_state_woken(void);
extern void apm_state_activity(const char *activity);
extern void apm_state_failed(int code, const char *text);
extern void apm_state_leave(ApmWorkerState why);

/* Is there, or will there soon be, a worker of that kind in this database? */
typedef enum ApmPresence
{
	APM_PRESENCE_NONE,
	APM_PRESENCE_COMING,
	APM_PRESENCE_HERE
} ApmPresence;

extern ApmPresence apm_state_presence(ApmWorkerKind kind);

/*
 * The text under which an error may be shown to others than the server's operator:
 * our own message if the SQLSTATE is ours, else only what class of error it is.
 */
extern const char *apm_error_text(int code, const char *message);

#endif /* APM_WORKER_STATE_H */
