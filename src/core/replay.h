/*
 * replay.h
 *	  A whole chain verified from its blocks alone: links, work, roots, signatures, times, and every
 *	  verdict given once more by the contract as of then.
 *
 * The state is everything that the contract may ever ask for, so memory grows with the chain: 300 to 500 bytes a
 * record.
 * Whoever has a database asks it instead (apm_verify()).
 *
 * An erasure stands behind what it voids.  A verifier therefore looks through all blocks for erasures first
 * (apm_replay_foresee), and then replays them (apm_replay_block).  A voided transaction is entered into the state by what the
 * erasure says of it and counted as not re-run.
 */
#ifndef APM_CORE_REPLAY_H
#define APM_CORE_REPLAY_H

#include "fault.h"
#include "head.h"
#include "stored.h"

typedef struct ApmReplay ApmReplay;

extern ApmStatus apm_replay_new(ApmReplay **out);
extern void apm_replay_free(ApmReplay *r);

/*
 * First pass, all blocks in their order: remembers what erasures void.  Judges nothing: what cannot be read is
 * left for the second pass to find.
 */
extern ApmStatus apm_replay_foresee(ApmReplay *r, const ApmStoredBlock *block);

/*
 * Second pass, all blocks in their order.  APM_OK with fault->rule APM_FAULT_NONE: the block follows; else what is wrong with it.  The
 * first fault ends the replay, but for one that is found before any verdict (all but verdict, void and contract) or in the
 * genesis block, which leaves the replay as it was.  Any other status is no finding: memory or OpenSSL failed.
 */
extern ApmStatus apm_replay_block(ApmReplay *r, const ApmStoredBlock *block, ApmFault *fault);

/* Is the chain so far, with the block just taken, that of this digest?  Asked when the block of its height was taken. */
extern bool apm_replay_is_head(const ApmReplay *r, const ApmHead *head);

typedef struct ApmReplayCounts
{
	uint64_t blocks;
	uint64_t transactions;
	uint64_t refused; /* refused without a body: not re-run */
	uint64_t erased;  /* voided by an erasure: not re-run */
} ApmReplayCounts;

extern void apm_replay_counts(const ApmReplay *r, ApmReplayCounts *out);
/* Chain id of the genesis block; false before it was taken. */
extern bool apm_replay_chain(const ApmReplay *r, ApmDigest *out);

#endif /* APM_CORE_REPLAY_H */
