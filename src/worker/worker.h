/*
 * worker.h
 *	  One scaffold for all background workers: start, one turn, wake-up, refusal, status.
 */
#ifndef APM_WORKER_H
#define APM_WORKER_H

#include "postgres.h"

#include "datatype/timestamp.h"

typedef enum ApmWorkerKind
{
	APM_WORKER_NETWORK,	  /* the network server */
	APM_WORKER_MINER,	  /* the chain */
	APM_WORKER_CLOUD,	  /* outbox to cloud, and reading from it */
	APM_WORKER_RECEPTION, /* the APM's: what sensors submitted, to the queue */
	APM_WORKER_KINDS
} ApmWorkerKind;

/* "apm network server", "apm miner", "apm cloud", "apm reception": what pg_stat_activity.backend_type says. */
extern const char *apm_worker_name(ApmWorkerKind kind);

/* What a turn answers: when the next one is wanted, in milliseconds. */
#define APM_TURN_AGAIN 0   /* there is more work now */
#define APM_TURN_IDLE (-1) /* when woken, or at the net's deadline */

/* The earlier of two such answers. */
static inline int
apm_turn_sooner(int a, int b)
{
	if (a == APM_TURN_IDLE || b == APM_TURN_IDLE)
		return a == APM_TURN_IDLE ? b : a;
	return Min(a, b);
}

typedef struct ApmWorkerDesc
{
	ApmWorkerKind kind;
	void (*start)(void); /* once, inside no transaction; may be NULL */
	/*
	 * One bounded batch, in transactions of its own (apm_turn_begin, apm_turn_commit).
	 * An error that escapes ends the worker; the launcher restarts it and backs off.
	 * Between and after the transactions the current memory context lives until the turn ends.
	 */
	int (*turn)(void);
} ApmWorkerDesc;

/*
 * The whole life of a worker: connects as apm_worker to the database in main_arg, pins its
 * settings, checks that the extension is there, then turns until told to stop.  A one-shot
 * worker turns until a turn answers something else than APM_TURN_AGAIN, and exits.  A turn
 * holds a session lock on its kind, so that two of a kind never turn at once.  Ends when
 * the extension is dropped, and starts anew when it is created again: what a room caches
 * in the process belongs to one life of the extension.
 */
extern void apm_worker_run(const ApmWorkerDesc *desc, Datum main_arg) pg_attribute_noreturn();

/*
 * Transaction of a turn: starts it, pushes a snapshot, connects SPI, enters
 * apm_privileged; and back.  The activity is a constant text for pg_stat_activity and
 * apm.status ("claiming from the queue").
 */
extern void apm_turn_begin(const char *activity);
extern void apm_turn_commit(void);		 /* synchronous whatever the settings say */
extern void apm_turn_commit_async(void); /* for what a crash may take back */

/*
 * After an error that the turn handles itself, in its PG_CATCH; the caller has copied
 * (in a context of its own) and flushed the error state before.
 */
extern void apm_turn_abort(void);

/*
 * Shows in apm.status an error that the turn handles itself.  The message is shown if the
 * SQLSTATE is ours, else the class of the error.
 */
extern void apm_turn_failed(int sqlstate, const char *message);

/*
 * A start for workers whose tables fill and empty: these have no statistics worth the name, and the
 * planner then sorts a long queue to take its first rows.  Whatever is asked goes by an index, in its order.
 */
extern void apm_worker_by_index(void);

/*
 * Are the keys of a stage here?  Says once when they are not, in the log and in apm.status,
 * and looks again now and then: nobody tells a worker when keys are made.  A turn that lacks them
 * wants the next one after APM_KEYS_POLL_MS.
 */
typedef struct ApmStageKeys
{
	bool (*here)(void);
	const char *missing; /* the message: what is not done for lack of them */
	const char *hint;
	bool told;
	TimestampTz looked_at;
} ApmStageKeys;

#define APM_KEYS_POLL_MS 1000

extern bool apm_stage_has_keys(ApmStageKeys *stage);

/* Can an error with this SQLSTATE be what one row caused?  Any other is no reason to blame a row. */
extern bool apm_blames_row(int sqlstate);

/*
 * In the PG_CATCH of a turn: the SQLSTATE of an error that blames a row, with the transaction
 * undone and the turn's memory context back.  Any other error goes on.
 */
extern int apm_turn_blame(MemoryContext turn, bool (*blames)(int sqlstate));

/*
 * Waits until no worker of that kind is in a turn in this database, and lets none begin one
 * until the current transaction ends.  For a backend that must see what a turn has done as a whole.
 */
extern void apm_turn_hold(ApmWorkerKind kind);

/* Shows what the turn does outside its transactions: mining, waiting for the cloud. */
extern void apm_turn_activity(const char *activity);

/* Is this a worker that turns for one caller, and serves no letters? */
extern bool apm_turn_once(void);

/*
 * SELECT apm_run_...(): starts a one-shot worker of this kind in this database, waits for its
 * end, answers nothing; it sees committed rows only.  Errors: 53000 when no worker slot is free,
 * 55000 when the worker failed, 25006 on a standby.
 */
extern void apm_worker_run_once(ApmWorkerKind kind);

/*
 * Wake this database's worker now, or when the current transaction commits (not if it
 * aborts; a subtransaction that aborts alone leaves the wake-up standing, which costs one
 * empty turn).  Nothing happens without preload or worker.
 */
extern void apm_wake(ApmWorkerKind kind);
extern void apm_wake_at_commit(ApmWorkerKind kind);

/* The same, and lets it know that somebody waits: a worker that lets work gather does not then. */
extern void apm_hurry_at_commit(ApmWorkerKind kind);
/* Has this worker been hurried since it was asked last? */
extern bool apm_is_hurried(void);

/* Does this database's worker of that kind run now? */
extern bool apm_worker_runs(ApmWorkerKind kind);

/* Is apm in shared_preload_libraries, so that there is shared memory? */
extern bool apm_shared_available(void);

/* Is this one of apm.databases, as the launcher saw it last?  Takes no lock. */
extern bool apm_database_listed(Oid database);

/*
 * Why this database's node does not mine and serves no reads.  Set by the chain's worker, read by
 * everybody (status, query gate).  Kept in shared memory, per database; unknown until the chain's
 * worker ran.  Without preload it is known in the process that set it only.
 */
typedef enum ApmRefusal
{
	APM_REFUSAL_UNKNOWN = 0,	 /* no worker has looked yet */
	APM_REFUSAL_NONE,			 /* mines and serves */
	APM_REFUSAL_NO_CHAIN,		 /* apm_setup was not called */
	APM_REFUSAL_NO_KEY,			 /* node or chain key missing */
	APM_REFUSAL_GUARD,			 /* a guard trigger is not ENABLE ALWAYS */
	APM_REFUSAL_LOADED,			 /* a table was written past our code */
	APM_REFUSAL_ELSEWHERE,		 /* sign-state belongs to another database, server or timeline */
	APM_REFUSAL_ROLLED_BACK,	 /* sign-state is ahead of the ledger */
	APM_REFUSAL_NO_SIGN_STATE,	 /* the ledger has blocks, the sign-state is missing or unreadable */
	APM_REFUSAL_SIGN_STATE_BUSY, /* another server holds the sign-state's lock */
	APM_REFUSAL_STANDBY			 /* in recovery */
} ApmRefusal;

extern void apm_refusal_set(ApmRefusal why);
extern ApmRefusal apm_refusal_get(void);
extern const char *apm_refusal_text(ApmRefusal why); /* a sentence for hint and status */

/* At load: shared memory, hooks and the launcher, if the library is being preloaded. */
extern void apm_worker_init(void);

#endif /* APM_WORKER_H */
