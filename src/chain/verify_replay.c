/*
 * verify_replay.c
 *	  Is it the ledger that is wrong, or a derived table?
 *
 * A walk judges with state from the derived tables.  One that was altered can make a good verdict look
 * wrong, before the walk comes to what would show it: a patient's row is held against the erasure that stands
 * behind what is judged by it.  So where state has led to a fault, the blocks are replayed alone (src/core), which
 * asks no derived table and names what everybody else would name who has nothing but the ledger.
 *
 * That takes memory that grows with the chain; beyond maintenance_work_mem the fault stays as it was found.
 */
#include "postgres.h"

#include "miscadmin.h"

#include "apm_errors.h"
#include "apm_sql.h"
#include "chain/stored_block.h"
#include "chain/verify.h"
#include "core/replay.h"

/* What a replay keeps of a transaction, generously. */
#define BYTES_EACH 512

static bool
depends_on_state(ApmFaultRule rule)
{
	switch (rule)
	{
		case APM_FAULT_RULE:
		case APM_FAULT_VERDICT:
		case APM_FAULT_CONTRACT:
		case APM_FAULT_DIFFICULTY:
		case APM_FAULT_SIGNER:
			return true;
		default:
			return false;
	}
}

static bool
fits_memory(void)
{
	static ApmStatement count = {.sql = "SELECT pg_catalog.count(*) FROM ONLY apm.leaf"};

	apm_run(&count, NULL);
	return apm_row_int8(0, 1) * BYTES_EACH <= maintenance_work_mem * INT64CONST(1024);
}

static void
free_replay(void *replay)
{
	apm_replay_free(replay);
}

/* One that goes with the current memory context. */
static ApmReplay *
new_replay(void)
{
	MemoryContextCallback *callback = palloc(sizeof(MemoryContextCallback));
	ApmReplay *replay;

	apm_check(apm_replay_new(&replay), "replay the ledger");
	callback->func = free_replay;
	callback->arg = replay;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, callback);
	return replay;
}

/*
 * All blocks to the replay: foreseen, or, up to that height, judged until one has a fault.  The replay's memory is
 * the caller's, a block's is SPI's.
 */
static void
feed(ApmReplay *replay, bool foresee, int64 to, ApmFault *fault)
{
	MemoryContext context = CurrentMemoryContext;
	ApmDigest hash = {{0}};
	int64 height = -1;
	bool more = true;

	while (more && fault->rule == APM_FAULT_NONE)
	{
		ApmStoredBlock block;
		MemoryContext old;

		CHECK_FOR_INTERRUPTS();
		SPI_connect();
		more = apm_stored_block(height, &hash, &block) && (foresee || (int64) block.height <= to);
		if (more)
		{
			old = MemoryContextSwitchTo(context);
			apm_check(foresee ? apm_replay_foresee(replay, &block) : apm_replay_block(replay, &block, fault),
					  "replay the ledger");
			MemoryContextSwitchTo(old);
			height = (int64) block.height;
			hash = block.hash;
		}
		SPI_finish();
	}
}

void
apm_verify_by_replay(ApmWalk *walk)
{
	ApmVerification *result = walk->result;
	ApmFault fault = {.rule = APM_FAULT_NONE};
	ApmReplay *replay;

	if (result->ok || !depends_on_state(result->rule) || !fits_memory())
		return;
	replay = new_replay();
	feed(replay, true, walk->at, &fault);
	feed(replay, false, walk->at, &fault);
	if (fault.rule == APM_FAULT_NONE)
		(void) apm_walk_fault_detail(
			walk, APM_FAULT_DERIVED, result->height, result->position,
			"a derived table says otherwise than the blocks, by which all is well here");
}
