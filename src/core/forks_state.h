/*
 * forks_state.h
 *	  What is behind forks.h.  Private to src/core.
 *
 * Blocks stand in an array, parents before children, block 0 is the last final one.  In normal times there are two or
 * three, so they are looked for one by one.
 */
#ifndef APM_CORE_FORKS_STATE_H
#define APM_CORE_FORKS_STATE_H

#include "forks.h"

#define FORK_NONE UINT32_MAX

typedef struct ForkBlock
{
	ApmCheckpoint at;
	uint32_t parent; /* FORK_NONE: of block 0 */
	uint32_t signer; /* FORK_NONE: of block 0, where it does not matter any more */
	uint64_t work;	 /* from block 0, which has none, up to here */
	uint64_t time_us;
	bool justified;
	bool marked;	/* for who walks through them at the moment */
	uint32_t place; /* where it will stand when others have gone, for apm_forks_move_votes() */
} ForkBlock;

typedef struct ForkVote
{
	uint32_t source; /* blocks */
	uint32_t target;
} ForkVote;

/* What one node voted. */
typedef struct ForkVoter
{
	ForkVote *votes;
	size_t count;
	size_t capacity;
} ForkVoter;

/* Votes with the same source and target, counted. */
typedef struct ForkLink
{
	uint32_t source;
	uint32_t target;
	uint32_t votes;
} ForkLink;

struct ApmForks
{
	ApmDigest chain;
	ApmDigest *nodes;
	uint32_t quorum;
	size_t limit; /* of blocks, and of one node's votes */

	ForkBlock *blocks;
	size_t count;
	size_t capacity;
	uint32_t justified;
	uint32_t head;

	ForkVoter *voters; /* by node */
	ForkLink *links;
	size_t nlinks;
	size_t links_capacity;

	ApmLine line; /* after block 0 */
	ApmLine scratch;

	ApmEvidence *evidence;
	size_t nevidence;
	size_t evidence_capacity;
};

/* The number of a node, or FORK_NONE. */
extern uint32_t apm_forks_node(const ApmForks *forks, const ApmDigest *id);
/* The block with this hash, or FORK_NONE. */
extern uint32_t apm_forks_find(const ApmForks *forks, const ApmDigest *hash);
/* Did the block grow out of that one, or is it that one? */
extern bool apm_forks_grew(const ApmForks *forks, uint32_t block, uint32_t from);
/* Makes this block the last final one and lets go what did not grow out of it. */
extern void apm_forks_finalize(ApmForks *forks, uint32_t final);
/* Chooses the last justified block and the head. */
extern void apm_forks_choose(ApmForks *forks);
/* Blocks are about to stand at their new places: votes from and to those that have none (FORK_NONE) go. */
extern void apm_forks_move_votes(ApmForks *forks);
/* Keeps it, unless there is evidence of that kind against the node already.  False: no memory. */
extern bool apm_forks_accuse(ApmForks *forks, const ApmEvidence *evidence);

#endif /* APM_CORE_FORKS_STATE_H */
