/*
 * verify_parallel.c
 *	  A verification by several backends.
 *
 * What the rules need to know of the time before a block is in the derived tables, so blocks can be judged one
 * apart from the other.  This backend and parallel workers, which see what it sees, claim runs of blocks and look
 * at those; each passes by the others, whose headers go into its history and whose changes of the contract into its
 * state.  The runs get shorter towards the end, so that nobody waits long for the last, and what all
 * have counted is added up.  There are at most max_parallel_maintenance_workers of them, as for an index.
 *
 * Where anybody finds anything, all stop, and the answer is that of one walk from the beginning: whoever is first to
 * find something need not have the first fault of the chain.
 */
#include "postgres.h"

#include "access/parallel.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "optimizer/optimizer.h"
#include "storage/spin.h"

#include "apm_attempt.h"
#include "apm_compat.h"
#include "apm_sql.h"
#include "apm_user.h"
#include "chain/verify.h"

/* PostgreSQL finds it by its name. */
extern void apm_verify_worker(dsm_segment *segment, shm_toc *toc);

#define SHARE_KEY UINT64CONST(1)
/* Fewer transactions are verified before a worker has started. */
#define WORTH_SHARING 4000

struct ApmWalkShare
{
	int64 from; /* of the walk */
	int64 to;
	bool has_known;
	ApmKnownBlock known;
	int walks;

	slock_t lock;		  /* of what follows */
	int64 next;			  /* the first block that nobody has claimed */
	int64 done;			  /* blocks that have been verified */
	bool found;			  /* somebody found something */
	int finished;		  /* walks of workers that came to their end */
	ApmWalkCounts counts; /* of those */
};

/* An attempt, and how it ended. */
typedef struct Attempt
{
	ApmWalk *walk; /* of this backend */
	ApmVerification found;
	bool good;
} Attempt;

/* Half of what is left, shared out evenly: the first runs are long, the last are single blocks. */
static void
claim_run(ApmWalk *walk)
{
	ApmWalkShare *share = walk->share;
	int64 left;

	SpinLockAcquire(&share->lock);
	left = share->to + 1 - share->next;
	walk->run_from = left > 0 ? share->next : PG_INT64_MAX;
	if (left > 0)
		share->next += Max(left / (2 * share->walks), 1);
	walk->run_before = left > 0 ? share->next : PG_INT64_MAX;
	SpinLockRelease(&share->lock);
}

bool
apm_share_owns(ApmWalk *walk)
{
	int64 before = walk->run_before;

	if (walk->at >= before)
	{
		claim_run(walk);
		/* what others verify in between may change a patient */
		if (walk->run_from > before && walk->state != NULL)
			apm_contract_forget_patients(walk->state);
	}
	return walk->at >= walk->run_from;
}

bool
apm_share_goes_on(const ApmWalk *walk)
{
	ApmWalkShare *share = walk->share;
	bool found;

	SpinLockAcquire(&share->lock);
	found = share->found;
	SpinLockRelease(&share->lock);
	return !found && (walk->leads || walk->run_from < PG_INT64_MAX);
}

int64
apm_share_done(ApmWalk *walk, bool one_more)
{
	ApmWalkShare *share = walk->share;
	int64 done;

	SpinLockAcquire(&share->lock);
	share->done += one_more;
	done = share->done;
	SpinLockRelease(&share->lock);
	return done;
}

static void
add_counts(ApmWalkCounts *to, const ApmWalkCounts *from)
{
	int64 *sums = (int64 *) to;
	const int64 *terms = (const int64 *) from;

	StaticAssertStmt(sizeof(ApmWalkCounts) % sizeof(int64) == 0, "counts are numbers of eight bytes");
	for (size_t i = 0; i < sizeof(ApmWalkCounts) / sizeof(int64); i++)
		sums[i] += terms[i];
}

/* Goes along the chain, and looks at what is its own. */
static void
walk_share(ApmWalk *walk)
{
	ApmWalkShare *share = walk->share;
	bool good = apm_verify_blocks(walk);

	SpinLockAcquire(&share->lock);
	if (!good)
		share->found = true;
	else if (!walk->leads)
	{
		share->finished++;
		add_counts(&share->counts, &walk->counts);
	}
	SpinLockRelease(&share->lock);
}

/* One that cannot begin does not finish. */
static void
walk_of_worker(void *arg)
{
	ApmWalk *walk = arg;

	if (!apm_verify_begin(walk))
		return;
	walk->to = walk->share->to;
	walk_share(walk);
}

/* What a worker does.  What it raises its leader raises.  The search path of the leader's section does not come with it. */
void
apm_verify_worker(dsm_segment *segment, shm_toc *toc)
{
	ApmWalkShare *share = shm_toc_lookup(toc, SHARE_KEY, false);
	ApmVerification found = {.ok = true};
	ApmWalk *walk = palloc0(sizeof(ApmWalk));
	ApmPrivileged saved;

	(void) segment;
	walk->context = CurrentMemoryContext;
	walk->from = share->from;
	walk->known = share->has_known ? &share->known : NULL;
	walk->share = share;
	walk->result = &found;
	apm_privileged_begin(&saved);
	SPI_connect();
	apm_sql_frozen(walk_of_worker, walk);
	SPI_finish();
	apm_privileged_end(&saved);
}

static ApmWalkShare *
new_share(ParallelContext *parallel, const ApmWalk *walk)
{
	ApmWalkShare *share = shm_toc_allocate(parallel->toc, sizeof(ApmWalkShare));

	memset(share, 0, sizeof(*share));
	share->from = walk->from;
	share->to = walk->to;
	share->has_known = walk->known != NULL;
	if (share->has_known)
		share->known = *walk->known;
	share->walks = 1 + parallel->nworkers;
	SpinLockInit(&share->lock);
	shm_toc_insert(parallel->toc, SHARE_KEY, share);
	return share;
}

/* A worker that did not come to its end has found something, or could not begin. */
static void
verify_with_workers(void *arg)
{
	Attempt *attempt = arg;
	ApmWalk *walk = attempt->walk;
	ParallelContext *parallel;
	ApmWalkShare *share;

	MemoryContextSwitchTo(walk->context);
	EnterParallelMode();
	parallel = CreateParallelContext("apm", "apm_verify_worker", max_parallel_maintenance_workers);
	shm_toc_estimate_chunk(&parallel->estimator, sizeof(ApmWalkShare));
	shm_toc_estimate_keys(&parallel->estimator, 1);
	InitializeParallelDSM(parallel);
	share = new_share(parallel, walk);
	walk->share = share;
	walk->leads = true;
	LaunchParallelWorkers(parallel);
	if (parallel->nworkers_launched > 0)
		walk_share(walk);
	WaitForParallelWorkersToFinish(parallel);
	attempt->good =
		parallel->nworkers_launched > 0 && !share->found && share->finished == parallel->nworkers_launched;
	if (attempt->good)
		add_counts(&walk->counts, &share->counts);
	DestroyParallelContext(parallel);
	ExitParallelMode();
}

static bool
is_worth_sharing(const ApmWalk *walk)
{
	static ApmStatement count = {
		.sql = "SELECT pg_catalog.count(*) FROM (SELECT FROM ONLY apm.leaf LIMIT $1) AS few",
		.nargs = 1,
		.types = {INT8OID},
	};
	Datum args[] = {Int64GetDatum(WORTH_SHARING)};

	if (max_parallel_maintenance_workers == 0 || walk->to < 1 || IsInParallelMode())
		return false;
	if (apm_parallel_is_forced())
		return true;
	apm_run(&count, args);
	return apm_row_int8(0, 1) == WORTH_SHARING;
}

bool
apm_verify_in_parallel(ApmWalk *walk)
{
	ApmWalk mine = *walk;
	Attempt attempt = {.walk = &mine, .found = *walk->result};
	ErrorData *error;

	if (!is_worth_sharing(walk))
		return false;
	mine.result = &attempt.found;
	error = apm_attempt(verify_with_workers, &attempt);
	if (error != NULL && !apm_verify_is_damage(error->sqlerrcode))
		ReThrowError(error);
	if (error != NULL || !attempt.good)
	{
		ereport(DEBUG1, (errmsg_internal("the ledger did not verify in parallel")));
		return false;
	}
	mine.result = walk->result;
	mine.share = NULL;
	*walk = mine;
	return true;
}
