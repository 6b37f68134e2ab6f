/*
 * malice.c
 *	  What a member that cheats does where an honest one mines and votes.  Blocks that are not valid in themselves are not
 *	  among it: they are refused before anything here is asked.
 */
#include "sim.h"

#include "core/blocktime.h"

/* What it writes for the time. */
static uint64_t
told_time(World *w, const Node *node)
{
	uint64_t now = node_clock(w, node);
	uint64_t parent = w->blocks[node->head].header.time_us;
	uint64_t time_us = apm_blocktime_propose(parent, 0, now);

	if (node->malice & LIES_IN_TIME)
		time_us = chance_below(w, 2) == 0 ? parent
										  : now + APM_AHEAD_MAX_US - 3 * SECOND + chance_below(w, 6 * SECOND);
	return time_us < parent ? parent : time_us;
}

/* Gives a block to every second node, or to all. */
static void
give(World *w, const Node *node, uint32_t block, uint32_t parity, bool all, uint64_t later)
{
	for (uint32_t to = 0; to < w->scenario.nodes; to++)
	{
		if (to != node->number && (all || to % 2 == parity))
			world_at(w, w->now + later + w->scenario.delay_us,
					 (Event){.type = EVENT_BLOCK, .from = node->number, .to = to, .a = block});
	}
}

void
malice_publish(World *w, Node *node)
{
	uint64_t time_us = told_time(w, node);
	uint32_t first = node_candidate(w, node, time_us, 0);
	uint64_t later = 0;

	if (node->malice & WITHHOLDS)
	{
		if (chance_below(w, 2) == 0)
			return;
		later = chance_below(w, 5 * SECOND);
	}
	if (node->malice & EQUIVOCATES)
	{
		uint32_t second = node_candidate(w, node, time_us + 1, 1);

		give(w, node, first, 0, false, later);
		give(w, node, second, 1, false, later);
	}
	else
		give(w, node, first, 0, true, later);
	if (node_offer_block(w, node, first) == APM_FORK_TAKEN)
		node_follow(w, node);
}

/* Votes for this block as well, whatever it voted for before, and tells some of the others. */
void
malice_vote(World *w, Node *node, uint32_t block)
{
	uint32_t source = world_find(w, &apm_forks_justified(node->forks)->hash);
	uint32_t vote;

	if (!(node->malice & VOTES_TWICE) || source == block || !world_grew(w, block, source))
		return;
	vote = world_vote(w, node->number, source, block);
	for (uint32_t to = 0; to < w->scenario.nodes; to++)
	{
		if (chance_below(w, 2) == 0)
			world_send(w, node->number, to, (Event){.type = EVENT_VOTE, .a = vote});
	}
}
