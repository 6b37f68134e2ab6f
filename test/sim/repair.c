/*
 * repair.c
 *	  How a node gets what it missed, and what it is after a crash.
 *
 * A node asks whoever mentions a block that it does not have, and now and then tells another one where it stands; who is
 * further, or stands elsewhere, sends its branch and the votes for it, a bounded piece at a time.
 *
 * A crash takes the tree and all that was planned, and some of the blocks and votes of others that are not final.  What
 * stays is what a server has flushed: final blocks, its own blocks, votes and transactions, and its record of the last vote.
 */
#include "sim.h"

#include <string.h>

#define PIECE 32

/* The line after the last final block, from the chain alone. */
static void
line_of(const World *w, const Node *node, ApmLine *line)
{
	if (apm_line_init(line, w->scenario.nodes) != APM_OK)
		exit(2);
	for (uint32_t height = 1; height <= node->final; height++)
		apm_line_step(line, w->blocks[node->chain[height]].node, height);
}

/* Offers what is durable and not final; what does not fit any more is let go. */
static void
offer_again(World *w, Node *node)
{
	uint32_t n = node->nopen;

	node->nopen = 0;
	for (uint32_t i = 0; i < n; i++)
	{
		uint32_t block = node->open[i];

		node->known[block] = 0;
		node_offer_block(w, node, block);
	}
	for (uint32_t i = 0; i < node->nopen; i++)
	{
		VoteList *list = &node->votes[node->open[i]];

		for (uint32_t j = 0; j < list->count; j++)
			node_offer_vote(w, node, list->votes[j]);
	}
}

void
node_start(World *w, Node *node)
{
	const Scenario *s = &w->scenario;
	const Block *root = &w->blocks[node->chain[node->final]];
	ApmLine line;
	ApmForksSetup setup = {.chain = w->chain,
						   .nodes = w->ids,
						   .count = s->nodes,
						   .quorum = apm_quorum(s->quorum, s->nodes),
						   .capacity = APM_FORKS_CAPACITY,
						   .root = {node->final, root->hash},
						   .root_us = root->header.time_us,
						   .line = &line};

	if (s->fault == FAULT_QUORUM)
		setup.quorum = s->nodes / 2;
	line_of(w, node, &line);
	if (apm_forks_new(&setup, &node->forks) != APM_OK)
		exit(2);
	apm_line_free(&line);
	node->up = true;
	node->head = node->justified = node->chain[node->final];
	node->since = w->now;
	node->nwaiting = 0;
	node->planned = false;
	node->generation++;
	memset(node->asked, 0, MAX_BLOCKS * sizeof(node->asked[0]));
	for (uint32_t tx = 0; tx < w->ntxs; tx++)
	{
		if ((node->txs[tx] & TX_STATE) == TX_BRANCH)
			node_pool_tx(node, tx);
	}
	offer_again(w, node);
	/* it may have died between writing its vote down and giving it */
	if (node->last_vote != NOTHING)
	{
		node_offer_vote(w, node, node->last_vote);
		world_send_all(w, node->number, (Event){.type = EVENT_VOTE, .a = node->last_vote});
	}
	node_follow(w, node);
}

/* Is the block its own, or one that its own were made on?  Those were flushed before. */
static bool
own_work(const World *w, const Node *node, uint32_t block)
{
	for (uint32_t i = 0; i < node->nopen; i++)
	{
		if (w->blocks[node->open[i]].node == node->number && world_grew(w, node->open[i], block))
			return true;
	}
	return false;
}

static void
forget_votes(World *w, const Node *node, VoteList *list)
{
	for (uint32_t i = 0; i < list->count;)
	{
		if (w->votes[list->votes[i]].node != node->number && chance_below(w, 4) == 0)
			list->votes[i] = list->votes[--list->count];
		else
			i++;
	}
}

void
node_crash(World *w, Node *node)
{
	if (!node->up)
		return;
	node->up = false;
	apm_forks_free(node->forks);
	node->forks = NULL;
	for (uint32_t i = node->nopen; i > 0; i--)
	{
		uint32_t block = node->open[i - 1];

		forget_votes(w, node, &node->votes[block]);
		if (chance_below(w, 2) == 0 || own_work(w, node, block))
			continue;
		node->known[block] = 0;
		memmove(&node->open[i - 1], &node->open[i], (node->nopen - i) * sizeof(uint32_t));
		node->nopen--;
	}
}

void
node_ask(World *w, Node *node, uint32_t block, uint32_t from)
{
	/* once in a while, or hundreds of votes would ask for the same */
	if (node->asked[block] != 0 && w->now < node->asked[block] + 4 * w->scenario.delay_us + SECOND / 100)
		return;
	node->asked[block] = w->now;
	world_send(w, node->number, from, (Event){.type = EVENT_ASK, .a = block});
}

/* The votes for a block, after the block itself if it is not there yet. */
static void
send_block(World *w, const Node *node, uint32_t block, uint32_t to, bool itself)
{
	const VoteList *list = &node->votes[block];

	if (itself)
		world_send(w, node->number, to, (Event){.type = EVENT_BLOCK, .a = block});
	for (uint32_t i = 0; i < list->count; i++)
		world_send(w, node->number, to, (Event){.type = EVENT_VOTE, .a = list->votes[i]});
}

void
node_answer(World *w, Node *node, uint32_t block, uint32_t to)
{
	if (node_has(w, node, block))
		send_block(w, node, block, to, true);
}

static void
send_status(World *w, const Node *node, uint32_t to, bool reply)
{
	Event status = {
		.type = EVENT_STATUS, .a = node->head, .b = node->final, .c = reply, .d = node->justified};

	world_send(w, node->number, to, status);
}

void
node_sync(World *w, Node *node)
{
	uint32_t peer = (uint32_t) chance_below(w, w->scenario.nodes);

	if (peer == node->number)
		return;
	if (node->malice & WITHHOLDS)
		return;
	send_status(w, node, peer, false);
	for (uint32_t i = 0; i < 4 && node->npool > 0; i++)
	{
		uint32_t tx = node->pool[chance_below(w, node->npool)];

		world_send(w, node->number, peer, (Event){.type = EVENT_TX, .a = tx});
	}
	/* a clock may have gone on, a wait may be over */
	node_follow(w, node);
}

/* The height up to which the sender of a status is on the branch that this node is on. */
static uint64_t
shared_height(const World *w, const Node *node, const Event *status)
{
	uint64_t height = status->b;

	while (world_parent_at(w, status->a, height + 1) != NOTHING &&
		   world_parent_at(w, status->a, height + 1) == world_parent_at(w, node->head, height + 1))
		height++;
	return height;
}

/*
 * A block can be final by votes for a child that is not on the best branch any more.  To who has not heard of that, all
 * blocks that are not final are sent.
 */
static void
send_open(World *w, const Node *node, const Event *status)
{
	if (status->b >= node->final)
		return;
	for (uint32_t i = 0; i < node->nopen; i++)
	{
		if (!world_grew(w, node->head, node->open[i]))
			send_block(w, node, node->open[i], status->from, true);
	}
}

/*
 * Sends the branch from where the other's ends, and the votes from behind what is final for it (which of them it has
 * and which it has not, nobody knows): a piece of what is final here, and all that is not.
 */
static void
send_branch(World *w, Node *node, const Event *status)
{
	uint64_t head = w->blocks[node->head].header.height;
	uint64_t shared = shared_height(w, node, status);
	uint64_t from = status->b + 1;

	for (uint64_t height = from; height <= head; height++)
	{
		if (height > shared + PIECE && height <= node->final)
			break;
		send_block(w, node, world_parent_at(w, node->head, height), status->from, height > shared);
	}
}

void
node_compare(World *w, Node *node, const Event *status)
{
	bool differs = status->a != node->head || status->a != status->d || node->justified != node->head;

	if (node->malice & WITHHOLDS)
		return;
	if (status->b < node->final || differs)
	{
		send_branch(w, node, status);
		send_open(w, node, status);
	}
	if (!status->c && (status->b > node->final || differs))
		send_status(w, node, status->from, true);
}
