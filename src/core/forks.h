/*
 * forks.h
 *	  The blocks that are not final yet, and the votes for them: which branch is the best, what is justified, what is
 *	  final, what this node votes for next and when it may mine.
 *
 * Finality is that of Casper FFG (vote.h), made for blocks with proof of work:
 *
 *	  - The last final block is justified.  A block is justified when a quorum of nodes gave the same vote for it, from a
 *		justified block that it grew out of.
 *	  - A justified block is final when one of its children is justified from it.
 *	  - Only branches through the last justified block (the highest; of two the one with the lower hash) are in question.
 *		The best one has most work, then the lower hash of its last block.
 *
 * What is final never leaves the chain, and with it goes everything that did not grow out of it.  All this follows from
 * the set of blocks and votes, not from the order in which they came, so nodes that have seen the same agree.
 *
 * Memory is bounded.  Of blocks there are at most capacity: when that is reached, a new one takes the place of the worst
 * leaf of the node that has most blocks here, which is who mines several a height; if that is its own, only one that makes the
 * best branch longer is taken, for the worst leaf of all, and others are refused as APM_FORK_FULL.  Of each node at most capacity votes are kept; an honest one gives one a height.  And the
 * chain does not grow more than a quarter of the capacity above the last justified block.
 *
 * Who offers blocks and votes has checked what can be checked of them alone: signature, proof of work, link to the parent's
 * header, entries (contract.h, vote.h).  Nothing is asked of a clock: the time is given.
 */
#ifndef APM_CORE_FORKS_H
#define APM_CORE_FORKS_H

#include "block.h"
#include "turn.h"
#include "vote.h"

typedef struct ApmForks ApmForks;

#define APM_FORKS_CAPACITY 1024		 /* a good one */
#define APM_FORKS_CAPACITY_MAX 16384 /* with which the sum of work stays below 2^63 */

/* From where it starts: a final block, genesis or what a node has in its ledger. */
typedef struct ApmForksSetup
{
	ApmDigest chain;
	const ApmDigest *nodes; /* ids, ascending; copied */
	uint32_t count;
	uint32_t quorum;	 /* apm_quorum() */
	uint32_t capacity;	 /* 8 or more */
	ApmCheckpoint root;	 /* the final block */
	uint64_t root_us;	 /* its time */
	const ApmLine *line; /* after that block; NULL: nobody has signed yet */
} ApmForksSetup;

/* APM_ERR_RANGE: number of nodes, their order, quorum or capacity. */
extern ApmStatus apm_forks_new(const ApmForksSetup *setup, ApmForks **out);
extern void apm_forks_free(ApmForks *forks);

typedef enum ApmForkResult
{
	APM_FORK_TAKEN = 0,
	APM_FORK_KNOWN,	 /* was there already */
	APM_FORK_MEMORY, /* no verdict; nothing has changed */

	/* Not now: offer it again */
	APM_FORK_UNKNOWN, /* when its parent, source or target, which is not here, has come */
	APM_FORK_AHEAD,	  /* when the clock is further */
	APM_FORK_FULL,	  /* when something has become final */

	/* Never */
	APM_FORK_STALE,		 /* not above the last final block */
	APM_FORK_CHAIN,		 /* of another chain */
	APM_FORK_STRANGER,	 /* not of a node of this chain */
	APM_FORK_HEIGHT,	 /* does not follow its parent; a vote that has another height for its block */
	APM_FORK_TIME,		 /* before its parent */
	APM_FORK_DIFFICULTY, /* more bits than there can be */
	APM_FORK_DIVERSITY,	 /* too soon after the node's last block on this branch */
	APM_FORK_LINK		 /* a vote whose target did not grow out of its source */
} ApmForkResult;

extern const char *apm_fork_result_name(ApmForkResult result);

extern ApmForkResult apm_forks_block(ApmForks *forks, const ApmHeader *header, const ApmDigest *hash,
									 uint64_t now_us);
extern ApmForkResult apm_forks_vote(ApmForks *forks, const ApmVote *vote);

/* Borrowed; they hold until the next block or vote is offered. */
extern const ApmCheckpoint *apm_forks_final(const ApmForks *forks);
extern const ApmCheckpoint *apm_forks_justified(const ApmForks *forks); /* the last one */
extern const ApmCheckpoint *apm_forks_head(const ApmForks *forks);		/* of the best branch */
extern bool apm_forks_has(const ApmForks *forks, const ApmDigest *hash);
extern size_t apm_forks_size(const ApmForks *forks); /* blocks, the last final one among them */
/* After the last final block: what a node starts from again, ApmForksSetup.line. */
extern const ApmLine *apm_forks_line(const ApmForks *forks);

/*
 * What the node should vote for now: from the last justified block to the head.  False if there is nothing to vote
 * for, or its record does not allow it.  The node first makes the vote its record, durably, and then gives it, to this
 * too.
 */
extern bool apm_forks_next_vote(const ApmForks *forks, const ApmDigest *node, const ApmVoteRecord *last,
								ApmVote *out);

/* What a node has to remember of its own blocks: the last one.  Written down before it is published.  Starts as zeros. */
typedef struct ApmMineRecord
{
	bool mined;
	ApmCheckpoint block;
	ApmDigest parent;
} ApmMineRecord;

/*
 * When may the node mine on the head?  False: not on this one.  Else wait_us after the head became the head, or
 * after it was justified if that came later.
 *
 * A node signs no two blocks on one parent, and blocks of ascending heights; but when the best branch has become a
 * shorter one than that of its last block (another block was justified, or fewer blocks have more work), it may sign a
 * height again.  Else a chain could stop: all who may mine by their distance might have signed that height before.
 */
extern bool apm_forks_turn(const ApmForks *forks, const ApmDigest *node, const ApmMineRecord *last,
						   uint64_t step_us, uint64_t *wait_us);

/* Two blocks, or two votes, of one node.  All but APM_EVIDENCE_HEIGHT prove that it broke its word. */
typedef enum ApmEvidenceKind
{
	APM_EVIDENCE_TWINS = 1, /* two blocks on one parent: targets */
	APM_EVIDENCE_HEIGHT,  /* two blocks of one height: targets; one may be on a branch that it rightly left */
	APM_EVIDENCE_DOUBLE,  /* two votes with one target height */
	APM_EVIDENCE_SURROUND /* a vote within another */
} ApmEvidenceKind;

typedef struct ApmEvidence
{
	ApmEvidenceKind kind;
	ApmDigest node;
	ApmCheckpoint source[2]; /* of the votes */
	ApmCheckpoint target[2];
} ApmEvidence;

/* The first evidence of each kind against each node, in the order in which it came; borrowed likewise. */
extern size_t apm_forks_evidence(const ApmForks *forks, const ApmEvidence **out);

#endif /* APM_CORE_FORKS_H */
