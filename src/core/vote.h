/*
 * vote.h
 *	  A node's vote (co-signature) for a block: its bytes, which votes a node may give, and which two
 *	  votes of one node prove that it broke its word.
 *
 * Casper FFG (Buterin and Griffith, "Casper the Friendly Finality Gadget", 2017), with every block a checkpoint.
 * A vote leads from a justified block, its source, to a later block that grew out of it, its target.  Of one node
 * no two different votes
 *
 *	  I.  have one target height,
 *	  II. lie one within the other: source below source and target above target.
 *
 * From these two alone follows that two final blocks, neither of which grew out of the other, take at least
 * 2 * quorum - nodes nodes that broke one of them, and their votes prove it of each by name.
 *
 * Bytes (tag 'V', version 1): chain, node, u64 source height, source hash, u64 target height, target hash.  Signed is
 * SHA-256("apm vote\0" || these bytes), so that no signature for anything else is one for a vote.
 */
#ifndef APM_CORE_VOTE_H
#define APM_CORE_VOTE_H

#include "signature.h"

#define APM_VOTE_LEN 146

/* A block as votes name it. */
typedef struct ApmCheckpoint
{
	uint64_t height;
	ApmDigest hash;
} ApmCheckpoint;

typedef struct ApmVote
{
	ApmDigest chain;
	ApmDigest node; /* id of the key that signs */
	ApmCheckpoint source;
	ApmCheckpoint target;
} ApmVote;

extern bool apm_checkpoints_equal(const ApmCheckpoint *a, const ApmCheckpoint *b);

extern void apm_vote_encode(const ApmVote *vote, uint8_t out[APM_VOTE_LEN]);
/* APM_ERR_FORMAT: not the bytes of a vote; its target is above its source, and below 2^63. */
extern ApmStatus apm_vote_decode(ApmSlice in, ApmVote *out);
extern ApmStatus apm_vote_sign(const ApmEcKey *node, const ApmVote *vote, ApmSignature *out);
/* That the key is the one that the vote names is for the caller to see to. */
extern ApmStatus apm_vote_verify(const ApmEcKey *node, const ApmVote *vote, const ApmSignature *sig);

/*
 * What a node has to remember of its own votes: the last one.  It is written down, durably, before the vote
 * leaves the node.  Starts as zeros.
 */
typedef struct ApmVoteRecord
{
	bool voted;
	ApmCheckpoint source;
	ApmCheckpoint target;
} ApmVoteRecord;

/*
 * May a node with this record give that vote?  The last one may be given again (a crash may have come between the
 * writing and the sending); a new one has a higher target and no lower source.
 */
extern bool apm_vote_allowed(const ApmVoteRecord *last, const ApmCheckpoint *source,
							 const ApmCheckpoint *target);

typedef enum ApmVoteConflict
{
	APM_VOTE_NO_CONFLICT = 0,
	APM_VOTE_DOUBLE,  /* two votes with one target height */
	APM_VOTE_SURROUND /* one lies within the other */
} ApmVoteConflict;

/* Of two votes of one node in one chain; the order does not matter. */
extern ApmVoteConflict apm_vote_conflict(const ApmCheckpoint *source_a, const ApmCheckpoint *target_a,
										 const ApmCheckpoint *source_b, const ApmCheckpoint *target_b);

/* How many of the nodes a quorum takes. */
typedef enum ApmQuorum
{
	APM_QUORUM_MAJORITY, /* more than half: final while a minority is down; one node that breaks its word can end it */
	APM_QUORUM_TWO_THIRDS /* more than two thirds: safe while less than a third break their word */
} ApmQuorum;

extern uint32_t apm_quorum(ApmQuorum quorum, uint32_t nodes);

#endif /* APM_CORE_VOTE_H */
