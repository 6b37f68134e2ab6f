/*
 * node.c
 *	  A node that keeps the rules: it takes blocks and votes into its tree, follows the best branch, votes, and mines
 *	  when its turn has come.
 *
 * What it decides it asks of src/core.  What is planted as a fault (Fault) stands beside the right thing.
 */
#include "sim.h"

#include <string.h>

#include "core/blocktime.h"

uint64_t
node_clock(const World *w, const Node *node)
{
	return EPOCH + 365 * 86400 * SECOND + w->now + (uint64_t) node->clock_us;
}

bool
node_has(const World *w, const Node *node, uint32_t block)
{
	uint64_t height = w->blocks[block].header.height;

	if (height <= node->final)
		return node->chain[height] == block;
	return apm_forks_has(node->forks, &w->blocks[block].hash);
}

/* Into the pool, at its end. */
void
node_pool_tx(Node *node, uint32_t tx)
{
	uint8_t listed = node->txs[tx] & TX_LISTED;

	if (!listed)
		node->pool[node->npool++] = tx;
	node->txs[tx] = TX_POOL | TX_LISTED;
}

static void
set_tx(Node *node, uint32_t tx, TxState state)
{
	node->txs[tx] = (uint8_t) ((node->txs[tx] & TX_LISTED) | state);
}

static TxState
tx_state(const Node *node, uint32_t tx)
{
	return (TxState) (node->txs[tx] & TX_STATE);
}

/* Is there something in the pool? */
static bool
tidy_pool(Node *node)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < node->npool; i++)
	{
		uint32_t tx = node->pool[i];

		if (tx_state(node, tx) == TX_POOL)
			node->pool[kept++] = tx;
		else
			node->txs[tx] &= TX_STATE;
	}
	node->npool = kept;
	return kept > 0;
}

/* Transactions to mine, or some in a block that is not final. */
static bool
has_work(const World *w, Node *node)
{
	for (uint32_t at = node->head; w->blocks[at].header.height > node->final; at = w->blocks[at].parent)
	{
		if (w->blocks[at].ntxs > 0)
			return true;
	}
	return tidy_pool(node);
}

/* Does the block hold a transaction that its branch has already?  The contract's rule `fresh`. */
static bool
repeats(const World *w, const Node *node, const Block *block)
{
	for (uint32_t i = 0; i < block->ntxs; i++)
	{
		uint32_t at = block->parent;

		if (tx_state(node, block->txs[i]) == TX_FINAL)
			return true;
		for (; w->blocks[at].header.height > node->final; at = w->blocks[at].parent)
		{
			for (uint32_t j = 0; j < w->blocks[at].ntxs; j++)
			{
				if (w->blocks[at].txs[j] == block->txs[i])
					return true;
			}
		}
	}
	return false;
}

ApmForkResult
node_offer_block(World *w, Node *node, uint32_t block)
{
	const Block *b = &w->blocks[block];
	ApmForkResult result;

	if (node_has(w, node, block))
		return APM_FORK_KNOWN;
	if (b->header.height > node->final && node_has(w, node, b->parent) &&
		(b->header.bits != w->blocks[b->parent].next_bits || repeats(w, node, b)))
		return APM_FORK_STALE;
	result = apm_forks_block(node->forks, &b->header, &b->hash, node_clock(w, node));
	if (result == APM_FORK_TAKEN && !node->known[block])
	{
		node->known[block] = 1;
		node->open[node->nopen++] = block;
	}
	return result;
}

ApmForkResult
node_offer_vote(World *w, Node *node, uint32_t vote)
{
	const Vote *v = &w->votes[vote];
	const Block *source = &w->blocks[v->source];
	const Block *target = &w->blocks[v->target];
	ApmVote given = {w->chain,
					 w->ids[v->node],
					 {source->header.height, source->hash},
					 {target->header.height, target->hash}};
	ApmForkResult result = apm_forks_vote(node->forks, &given);
	VoteList *list = &node->votes[v->target];

	if (result != APM_FORK_TAKEN)
		return result;
	for (uint32_t i = 0; i < list->count; i++)
	{
		if (list->votes[i] == vote)
			return result;
	}
	if (list->count == list->capacity)
	{
		list->capacity = list->capacity == 0 ? 4 : 2 * list->capacity;
		list->votes = realloc(list->votes, list->capacity * sizeof(uint32_t));
		if (list->votes == NULL)
			exit(2);
	}
	list->votes[list->count++] = vote;
	return result;
}

static uint32_t
at_checkpoint(const World *w, const ApmCheckpoint *at)
{
	return world_find(w, &at->hash);
}

/* The block to follow. */
static uint32_t
choose_head(const World *w, const Node *node)
{
	uint32_t head = at_checkpoint(w, apm_forks_head(node->forks));

	if (w->scenario.fault != FAULT_HEIGHT)
		return head;
	head = node->justified;
	for (uint32_t i = 0; i < node->nopen; i++)
	{
		uint32_t b = node->open[i];

		if (world_grew(w, b, node->justified) && w->blocks[b].header.height > w->blocks[head].header.height)
			head = b;
	}
	return head;
}

/* Leaves the branch that it was on: its transactions are not in a block any more, unless the new one has them too. */
static void
switch_to(World *w, Node *node, uint32_t head)
{
	uint32_t old = node->head;
	uint32_t fork = head;

	while (!world_grew(w, old, fork))
		fork = w->blocks[fork].parent;
	for (; old != fork; old = w->blocks[old].parent)
	{
		for (uint32_t i = 0; i < w->blocks[old].ntxs; i++)
		{
			uint32_t tx = w->blocks[old].txs[i];

			if (tx_state(node, tx) == TX_BRANCH && w->scenario.fault != FAULT_FORGET_POOL)
				node_pool_tx(node, tx);
		}
	}
	for (uint32_t at = head; at != fork; at = w->blocks[at].parent)
	{
		for (uint32_t i = 0; i < w->blocks[at].ntxs; i++)
		{
			if (tx_state(node, w->blocks[at].txs[i]) != TX_FINAL)
				set_tx(node, w->blocks[at].txs[i], TX_BRANCH);
		}
	}
	node->head = head;
}

/* Writes down what has become final. */
static void
append_final(World *w, Node *node, uint32_t final)
{
	uint64_t height = w->blocks[final].header.height;
	uint32_t kept = 0;

	for (uint32_t at = final; w->blocks[at].header.height > node->final; at = w->blocks[at].parent)
		node->chain[w->blocks[at].header.height] = at;
	if (w->blocks[node->chain[node->final + 1]].parent != node->chain[node->final])
		violation(w, "what was final has changed");
	while (node->final < height)
	{
		uint32_t block = node->chain[++node->final];

		for (uint32_t i = 0; i < w->blocks[block].ntxs; i++)
		{
			uint32_t tx = w->blocks[block].txs[i];

			set_tx(node, tx, TX_FINAL);
			if (w->txs[tx].node == node->number && w->txs[tx].final == 0)
				w->txs[tx].final = w->now;
		}
		oracle_final(w, node, block);
	}
	for (uint32_t i = 0; i < node->nopen; i++)
	{
		if (apm_forks_has(node->forks, &w->blocks[node->open[i]].hash) && node->open[i] != final)
			node->open[kept++] = node->open[i];
	}
	node->nopen = kept;
}

/* What to vote for now; false: nothing. */
static bool
choose_vote(World *w, const Node *node, ApmVote *out)
{
	Fault fault = w->scenario.fault;
	const Block *head = &w->blocks[node->head];

	if (node->malice & WITHHOLDS)
		return false;
	if (node->malice != 0 || (fault != FAULT_TWO_VOTES && fault != FAULT_SURROUND && fault != FAULT_HEIGHT))
		return apm_forks_next_vote(node->forks, &node->id, &node->record, out);
	*out =
		(ApmVote){w->chain, node->id, *apm_forks_justified(node->forks), {head->header.height, head->hash}};
	if (fault == FAULT_HEIGHT)
		return apm_vote_allowed(&node->record, &out->source, &out->target);
	if (fault == FAULT_SURROUND)
	{
		if (chance_below(w, 2) == 0)
			out->source = *apm_forks_final(node->forks);
		return out->target.height > out->source.height &&
			   (!node->record.voted || out->target.height > node->record.target.height);
	}
	return out->target.height > out->source.height &&
		   !(node->record.voted && apm_checkpoints_equal(&out->target, &node->record.target));
}

/* Gives its vote, if there is one to give: written down first, then its own tree, then the others. */
static bool
vote_now(World *w, Node *node)
{
	ApmVote vote;
	uint32_t number;

	if (!choose_vote(w, node, &vote))
		return false;
	number = node->last_vote;
	if (!node->record.voted || !apm_checkpoints_equal(&vote.source, &node->record.source) ||
		!apm_checkpoints_equal(&vote.target, &node->record.target))
		number = world_vote(w, node->number, at_checkpoint(w, &vote.source), at_checkpoint(w, &vote.target));
	node->record = (ApmVoteRecord){true, vote.source, vote.target};
	node->last_vote = number;
	if (node_offer_vote(w, node, number) != APM_FORK_TAKEN)
		return false;
	world_send_all(w, node->number, (Event){.type = EVENT_VOTE, .a = number});
	return true;
}

/* Decides when to mine on the head that it has. */
static void
plan(World *w, Node *node)
{
	uint64_t wait = 0;
	uint64_t at;

	node->planned = false;
	node->generation++;
	if (!has_work(w, node) ||
		!apm_forks_turn(node->forks, &node->id, &node->mined, w->scenario.step_us, &wait))
		return;
	at = node->since + (node->malice & GREEDY ? 0 : wait);
	if (at < w->now)
		at = w->now;
	at += chance_wait(w, w->scenario.mine_us << w->blocks[node->head].next_bits >> BASE_BITS);
	node->planned = true;
	world_at(w, at, (Event){.type = EVENT_MINE, .to = node->number, .a = node->generation});
}

void
node_follow(World *w, Node *node)
{
	bool changed = false;

	do
	{
		uint32_t final = at_checkpoint(w, apm_forks_final(node->forks));
		uint32_t justified = at_checkpoint(w, apm_forks_justified(node->forks));
		uint32_t head;

		changed = changed || justified != node->justified;
		node->justified = justified;
		head = choose_head(w, node);
		if (head != node->head)
		{
			switch_to(w, node, head);
			changed = true;
		}
		if (w->blocks[final].header.height > node->final)
			append_final(w, node, final);
	} while (vote_now(w, node));
	if (changed)
	{
		node->since = w->now;
		oracle_head(w, node);
	}
	if (changed || !node->planned)
		plan(w, node);
}

void
node_take_tx(World *w, Node *node, uint32_t tx)
{
	if (tx_state(node, tx) != TX_UNKNOWN)
		return;
	node_pool_tx(node, tx);
	node_follow(w, node);
}

void
node_submit(World *w, Node *node, uint32_t tx)
{
	world_send_all(w, node->number, (Event){.type = EVENT_TX, .a = tx});
	node_take_tx(w, node, tx);
}

/* Takes again what waited for a block that has come; any more may come of it. */
static bool
take_waiting(World *w, Node *node)
{
	for (uint32_t i = 0; i < node->nwaiting; i++)
	{
		uint32_t block = node->waiting[i];

		if (!node_has(w, node, w->blocks[block].parent) && w->blocks[block].header.height > node->final)
			continue;
		node->waiting[i] = node->waiting[--node->nwaiting];
		if (node_offer_block(w, node, block) == APM_FORK_TAKEN)
			malice_vote(w, node, block);
		return true;
	}
	return false;
}

static void
let_wait(Node *node, uint32_t block)
{
	uint32_t room = sizeof(node->waiting) / sizeof(node->waiting[0]);

	for (uint32_t i = 0; i < node->nwaiting; i++)
	{
		if (node->waiting[i] == block)
			return;
	}
	if (node->nwaiting < room)
		node->waiting[node->nwaiting++] = block;
	else
		node->waiting[block % room] = block;
}

void
node_take_block(World *w, Node *node, uint32_t block, uint32_t from)
{
	ApmForkResult result = node_offer_block(w, node, block);

	if (result == APM_FORK_UNKNOWN)
	{
		let_wait(node, block);
		node_ask(w, node, w->blocks[block].parent, from);
	}
	if (result != APM_FORK_TAKEN)
		return;
	malice_vote(w, node, block);
	while (take_waiting(w, node))
		;
	node_follow(w, node);
}

void
node_take_vote(World *w, Node *node, uint32_t vote, uint32_t from)
{
	ApmForkResult result = node_offer_vote(w, node, vote);

	if (result == APM_FORK_UNKNOWN)
		node_ask(w, node, w->votes[vote].target, from);
	if (result == APM_FORK_TAKEN)
		node_follow(w, node);
}

/* A block on its head, of what is in the pool but for the first so many. */
uint32_t
node_candidate(World *w, Node *node, uint64_t time_us, uint32_t drop)
{
	const Block *parent = &w->blocks[node->head];
	ApmHeader header = {.chain = w->chain,
						.height = parent->header.height + 1,
						.previous = parent->hash,
						.time_us = time_us,
						.bits = parent->next_bits,
						.node = node->id};
	uint32_t n;

	tidy_pool(node);
	n = node->npool > drop ? node->npool - drop : 0;
	if (n > w->scenario.block_max)
		n = w->scenario.block_max;
	header.count = n;
	return world_block(w, &header, node->head, node->pool + (n > 0 ? drop : 0), n);
}

/* The plan's time has come, and the work is done. */
void
node_mine(World *w, Node *node, uint32_t generation)
{
	uint64_t now = node_clock(w, node);
	ApmForkResult result;
	uint32_t block;

	if (generation != node->generation || !node->planned)
		return;
	node->planned = false;
	if (node->malice != 0)
	{
		malice_publish(w, node);
		return;
	}
	block = node_candidate(w, node, apm_blocktime_propose(w->blocks[node->head].header.time_us, 0, now), 0);
	node->mined = (ApmMineRecord){
		true, {w->blocks[block].header.height, w->blocks[block].hash}, w->blocks[node->head].hash};
	result = node_offer_block(w, node, block);
	if (result != APM_FORK_TAKEN)
	{
		if (w->scenario.fault == FAULT_NONE)
			violation(w, "node %u refuses its own block: %s", node->number, apm_fork_result_name(result));
		return;
	}
	world_send_all(w, node->number, (Event){.type = EVENT_BLOCK, .a = block});
	node_follow(w, node);
}
