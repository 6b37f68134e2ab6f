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
	APM_WORKER_NETWORK,			/* the network server */
	APM_WORKER_MINER,			/* the chain */
	APM_WORKER_CLOUD,			/* outbox to cloud, and reading from it */
	APM_WORKER_KINDS
} ApmWorkerKind;

/* What a turn answers: when the next one is wanted, in milliseconds. */
#define APM_TURN_AGAIN 0		/* there is more work now */
#define APM_TURN_IDLE (-1)		/* when woken, or at the net's deadline */

typedef struct ApmWorkerDesc
{
	ApmWorkerKind kind;
	const char *name;			/* "apm network server": ps, pg_stat_activity.backend_type */
	void		(*start) (void);	/* once, inside no transaction; may be NULL */
	/*
	 * One bounded batch, in transactions of its own (apm_turn_begin, apm_turn_commit).
	 * An error that escapes ends the worker; the launcher restarts it and backs off.
	 */
	int			(*turn) (void);
} ApmWorkerDesc;

/*
 * The whole life of a worker: connects as apm_worker to the database in main_arg, pins its
 * settings, checks that the extension is there, then turns until told to stop.  With the one-shot
 * flag in bgw_extra it turns until APM_TURN_IDLE and exits.  A turn holds a session lock on
 * its kind, so that two of a kind never turn at once.
 */
extern void apm_worker_run(const ApmWorkerDesc *desc, Datum main_arg) pg_attribute_noreturn();

/* Transaction of a turn: starts it, pushes a snapshot, connects SPI, enters apm_privileged; and back. */
extern void apm_turn_begin(const char *activity);
extern void apm_turn_commit(void);	/* synchronous whatever the settings say */
extern void apm_turn_commit_async(void);	/* for what a crash may take back */
extern void apm_turn_abort(void);	/* after an error that the turn handles itself: FlushErrorState is the caller's */

/*
 * SELECT apm_run_...(): starts a one-shot worker of this kind in this database, waits for its
 * end, answers nothing; it sees committed rows only.  Errors: 53000 when no worker slot is free,
 * 55000 when the worker failed.
 */
extern void apm_worker_run_once(ApmWorkerKind kind);

/* Wake this database's worker now, or when the current transaction commits (not if it aborts). */
extern void apm_wake(ApmWorkerKind kind);
extern void apm_wake_at_commit(ApmWorkerKind kind);

/* Is apm in shared_preload_libraries, so that there is shared memory? */
extern bool apm_shared_available(void);

/*
 * Why this database's node does not mine and serves no reads.  Set by the chain's worker, read by
 * everybody (status, query gate).  Kept in shared memory, per database; unknown until the chain's worker ran.
 */
typedef enum ApmRefusal
{
	APM_REFUSAL_UNKNOWN = 0,	/* no worker has looked yet */
	APM_REFUSAL_NONE,			/* mines and serves */
	APM_REFUSAL_NO_CHAIN,		/* apm_setup was not called */
	APM_REFUSAL_NO_KEY,			/* node or chain key missing */
	APM_REFUSAL_GUARD,			/* a guard trigger is not ENABLE ALWAYS */
	APM_REFUSAL_LOADED,			/* a table was written past our code */
	APM_REFUSAL_ELSEWHERE,		/* sign-state belongs to another database, server or timeline */
	APM_REFUSAL_ROLLED_BACK,	/* sign-state is ahead of the ledger */
	APM_REFUSAL_NO_SIGN_STATE,	/* the ledger has blocks, the sign-state is missing or unreadable */
	APM_REFUSAL_SIGN_STATE_BUSY,	/* another server holds the sign-state's lock */
	APM_REFUSAL_STANDBY			/* in recovery */
} ApmRefusal;

extern void apm_refusal_set(ApmRefusal why);
extern ApmRefusal apm_refusal_get(void);
extern const char *apm_refusal_text(ApmRefusal why);	/* a sentence for hint and status */

#endif							/* APM_WORKER_H */
