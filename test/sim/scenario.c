/*
 * scenario.c
 *	  What happens in a run: everything of it is drawn from its seed.
 *
 * A run has a time of troubles, with partitions and crashes, and a calm after it, in which the network still delays and
 * loses, clocks are still wrong and cheats still cheat, but no more than the quorum bears.  In the calm all
 * that was submitted must become final everywhere.
 */
#include "sim.h"

#include <string.h>

static uint64_t
between(World *w, uint64_t least, uint64_t most)
{
	return least + chance_below(w, most - least + 1);
}

/* Mostly few nodes, as there will be; sometimes many. */
static uint32_t
draw_nodes(World *w)
{
	uint64_t kind = chance_below(w, 1000);

	if (kind < 800)
		return (uint32_t) between(w, 3, 9);
	if (kind < 975)
		return (uint32_t) between(w, 10, 24);
	if (kind < 998)
		return (uint32_t) between(w, 25, 60);
	return (uint32_t) between(w, 100, 200);
}

Scenario
scenario_of(uint64_t seed, Fault fault)
{
	World dice = {.chance = seed ^ UINT64_C(0x5eed)};
	World *w = &dice;
	Scenario s = {.seed = seed, .fault = fault};

	s.nodes = draw_nodes(w);
	s.quorum = chance_below(w, 2) == 0 ? APM_QUORUM_MAJORITY : APM_QUORUM_TWO_THIRDS;
	/* each quorum bears so many; one who votes twice is more than a majority can bear */
	s.malice = EQUIVOCATES | WITHHOLDS | LIES_IN_TIME | GREEDY;
	if (s.quorum == APM_QUORUM_TWO_THIRDS)
		s.malice |= VOTES_TWICE;
	if (chance_below(w, 2) == 0)
		s.malicious =
			(uint32_t) between(w, 0, s.quorum == APM_QUORUM_MAJORITY ? (s.nodes - 1) / 2 : (s.nodes - 1) / 3);
	s.delay_us = (uint64_t) 1000 << chance_below(w, 10);
	s.jitter = chance_share(w);
	s.loss = chance_below(w, 2) == 0 ? 0 : 0.2 * chance_share(w);
	s.mine_us = (uint64_t) 1000 << chance_below(w, 7);
	s.step_us = chance_below(w, 3) == 0 ? between(w, 20000, SECOND) : 3 * (s.delay_us + s.mine_us);
	s.sync_us = between(w, SECOND / 4, SECOND);
	s.drift_us = chance_below(w, 2) == 0 ? 0 : between(w, 1, 30 * SECOND);
	s.trouble_us = between(w, 5 * SECOND, 40 * SECOND);
	s.partitions = (uint32_t) chance_below(w, 4);
	s.crashes = (uint32_t) (chance_below(w, 3) * s.nodes / 2);
	s.difficulty = chance_below(w, 2) == 0;
	s.txs = (uint32_t) between(w, 5, 60);
	s.submit_us = s.trouble_us / s.txs;
	s.block_max = (uint32_t) between(w, 1, 20);
	s.limit_us = 3600 * SECOND;
	return s;
}

/* Nothing but the nodes and the network between them, with more to write than fits. */
Scenario
scenario_of_curve(uint64_t seed, uint32_t nodes, uint64_t delay_us)
{
	return (Scenario){.seed = seed,
					  .nodes = nodes,
					  .quorum = APM_QUORUM_MAJORITY,
					  .delay_us = delay_us,
					  .jitter = 0.2,
					  .mine_us = 10000,
					  .step_us = 200000 > 3 * delay_us ? 200000 : 3 * delay_us,
					  .sync_us = SECOND,
					  .submit_us = 20000,
					  .txs = 1500,
					  .block_max = 4096,
					  .limit_us = 600 * SECOND};
}

static void
begin_troubles(World *w)
{
	const Scenario *s = &w->scenario;

	for (uint32_t i = 0; i < s->nodes; i++)
		world_at(w, chance_below(w, s->sync_us), (Event){.type = EVENT_SYNC, .to = i});
	world_at(w, chance_wait(w, s->submit_us), (Event){.type = EVENT_SUBMIT});
	for (uint32_t i = 0; i < s->partitions; i++)
	{
		uint64_t at = chance_below(w, s->trouble_us);

		world_at(w, at, (Event){.type = EVENT_SPLIT, .a = 2 + (chance_below(w, 4) == 0)});
		world_at(w, at + chance_below(w, s->trouble_us / 2 + 1), (Event){.type = EVENT_SPLIT, .a = 1});
	}
	for (uint32_t i = 0; i < s->crashes; i++)
		world_at(w, chance_below(w, s->trouble_us),
				 (Event){.type = EVENT_CRASH, .to = (uint32_t) chance_below(w, s->nodes - s->malicious)});
	world_at(w, s->trouble_us, (Event){.type = EVENT_CALM});
}

/* Half against half, as nearly as can be, or by chance. */
static void
split(World *w, uint32_t sides)
{
	uint32_t n = w->scenario.nodes;
	bool even = chance_below(w, 2) == 0;

	for (uint32_t i = 0; i < n; i++)
		w->nodes[i].side = even ? i * sides / n : (uint32_t) chance_below(w, sides);
}

/* Somebody has something to write, and gets his answer where the server is up. */
static void
submit(World *w)
{
	Node *node = &w->nodes[chance_below(w, w->scenario.nodes)];
	uint32_t tx = w->ntxs;

	if (node->up)
	{
		w->txs[tx] = (Tx){.node = node->number, .submitted = w->now, .block = NOTHING};
		if (w->scenario.difficulty && chance_below(w, 4) == 0)
			w->txs[tx].bits = BASE_BITS - 2 + (uint32_t) chance_below(w, 5);
		w->ntxs++;
		node_submit(w, node, tx);
	}
	if (w->ntxs < w->scenario.txs)
		world_at(w, w->now + chance_wait(w, w->scenario.submit_us), (Event){.type = EVENT_SUBMIT});
}

static void
calm(World *w)
{
	w->calm = true;
	for (uint32_t i = 0; i < w->scenario.nodes; i++)
	{
		w->nodes[i].side = 0;
		if (!w->nodes[i].up)
			node_start(w, &w->nodes[i]);
	}
}

/* What comes to a node that is up, from another on its side of a partition. */
static void
deliver(World *w, Node *node, const Event *event)
{
	if (!node->up || node->side != w->nodes[event->from].side)
		return;
	if (event->type == EVENT_BLOCK)
		node_take_block(w, node, event->a, event->from);
	else if (event->type == EVENT_VOTE)
		node_take_vote(w, node, event->a, event->from);
	else if (event->type == EVENT_TX)
		node_take_tx(w, node, event->a);
	else if (event->type == EVENT_ASK)
		node_answer(w, node, event->a, event->from);
	else
		node_compare(w, node, event);
}

static void
happen(World *w, const Event *event)
{
	Node *node = &w->nodes[event->to];

	switch (event->type)
	{
		case EVENT_BLOCK:
		case EVENT_VOTE:
		case EVENT_TX:
		case EVENT_ASK:
		case EVENT_STATUS:
			deliver(w, node, event);
			break;
		case EVENT_MINE:
			if (node->up)
				node_mine(w, node, event->a);
			break;
		case EVENT_SYNC:
			if (node->up)
				node_sync(w, node);
			world_at(w, w->now + w->scenario.sync_us / 2 + chance_below(w, w->scenario.sync_us), *event);
			break;
		case EVENT_SUBMIT:
			submit(w);
			break;
		case EVENT_CRASH:
			if (!w->calm)
			{
				node_crash(w, node);
				world_at(w, w->now + chance_below(w, w->scenario.trouble_us / 4),
						 (Event){.type = EVENT_RESTART, .to = event->to});
			}
			break;
		case EVENT_RESTART:
			if (!node->up)
				node_start(w, node);
			break;
		case EVENT_SPLIT:
			if (!w->calm || event->a == 1)
				split(w, event->a);
			break;
		case EVENT_CALM:
			calm(w);
			break;
	}
}

void
scenario_run(const Scenario *scenario, Figures *out)
{
	World w;
	Event event;
	uint64_t look = 0;

	world_begin(&w, scenario);
	begin_troubles(&w);
	while (w.violation[0] == '\0' && world_next(&w, &event) &&
		   w.now < scenario->trouble_us + scenario->limit_us)
	{
		happen(&w, &event);
		if (w.now < look)
			continue;
		look = w.now + SECOND / 2;
		if (w.calm && w.ntxs >= scenario->txs && oracle_settled(&w))
			break;
	}
	if (w.violation[0] == '\0')
		oracle_end(&w);
	oracle_figures(&w, out);
	world_end(&w);
}
