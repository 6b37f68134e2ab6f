/*
 * turn.h
 *	  Whose turn it is to mine, how long the others wait, and who may not mine yet.
 *
 * Proof of work alone would have all nodes race for every block, and where the network is slower than the mining most
 * of their blocks would be left behind.  So nodes take turns.  They stand in a line; who mines goes to its end, and so
 * does whoever stood before him and let his turn pass: while all take their turns that is the order of least recent
 * signers, and a node that is down costs the others its place once a round and not with every block.  The first in
 * line mines at once, each other waits a step longer than the one before him.
 *
 * The line is politeness: nothing refuses a block that came out of turn, so nodes need not agree on it, and one that
 * starts again may build it from the last few blocks.  Diversity is law: after a node's block come at least
 * apm_diversity() blocks of others before its next, on every branch.  The distance is the longest at
 * which the chain still grows while floor((nodes - 1) / 2) nodes are down, and it ends a minority's branch: m nodes
 * alone make m blocks and no more, if m is no majority.
 */
#ifndef APM_CORE_TURN_H
#define APM_CORE_TURN_H

#include "bytes.h"

#define APM_NODES_MAX 1024
#define APM_NEVER UINT64_MAX /* no height, no time */

/* How many blocks of others must lie between two of one node: floor(nodes / 2). */
extern uint32_t apm_diversity(uint32_t nodes);
/* May a node mine the block of this height whose last block before it had that height (APM_NEVER: none)? */
extern bool apm_diverse(uint32_t nodes, uint64_t last_signed, uint64_t height);

/* The line of nodes 0 .. nodes - 1, and the height of each one's last block on the branch. */
typedef struct ApmLine
{
	uint32_t nodes;
	uint16_t *order;	   /* who stands where, the first first */
	uint64_t *last_signed; /* by node */
} ApmLine;

/* All in order of their numbers, nobody has signed. */
extern ApmStatus apm_line_init(ApmLine *line, uint32_t nodes);
extern void apm_line_free(ApmLine *line);
extern void apm_line_copy(ApmLine *to, const ApmLine *from); /* of as many nodes */
/* The node's block of this height follows. */
extern void apm_line_step(ApmLine *line, uint32_t node, uint64_t height);
/* How many who may mine the block of this height stand before the node; APM_NODES_MAX: itself may not. */
extern uint32_t apm_line_rank(const ApmLine *line, uint32_t node, uint64_t height);

/*
 * How long a node of this rank waits before it mines on a block, counted from when that block became its best one, or
 * from when it was justified if that came later.  step_us should be twice the time that a block takes to the other
 * nodes, or more.  unsettled is how many blocks wait for votes.  While any does everybody waits a step; and the more they
 * are, the longer a step becomes (up to APM_PATIENCE times), so that it outgrows a network that is slower than was
 * thought, where else every node would mine every block, the votes would split, and no block be followed by its
 * child's votes.
 */
#define APM_PATIENCE 256
extern uint64_t apm_turn_wait(uint32_t rank, uint64_t unsettled, uint64_t step_us);

#endif /* APM_CORE_TURN_H */
