/*
 * world.c
 *	  Time, chance and the network of a simulated chain, and what its parts know by number.
 *
 * A message between two nodes takes the pair's own delay and a part that is drawn anew, so that messages overtake one
 * another.  It is lost by chance, and always when it arrives on the other side of a partition or at a node that is
 * down.
 */
#include "sim.h"

#include <math.h>
#include <string.h>

#define BUCKETS 16384 /* a power of two above twice MAX_BLOCKS */

/* splitmix64 (Steele, Lea, Flood 2014): any seed is a good one */
static uint64_t
chance(World *w)
{
	uint64_t z = (w->chance += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

uint64_t
chance_below(World *w, uint64_t n)
{
	return chance(w) % n;
}

double
chance_share(World *w)
{
	return (double) (chance(w) >> 11) / (double) (UINT64_C(1) << 53);
}

uint64_t
chance_wait(World *w, uint64_t mean)
{
	return (uint64_t) (-log(1.0 - chance_share(w)) * (double) mean);
}

static void *
room(size_t n, size_t size)
{
	void *p = calloc(n, size);

	if (p == NULL)
	{
		fprintf(stderr, "no memory\n");
		exit(2);
	}
	return p;
}

static void
begin_node(World *w, uint32_t number)
{
	Node *node = &w->nodes[number];
	const Scenario *s = &w->scenario;

	node->number = number;
	node->id = w->ids[number];
	node->clock_us = (int64_t) chance_below(w, 2 * s->drift_us + 1) - (int64_t) s->drift_us;
	if (number >= s->nodes - s->malicious)
	{
		/* at least one of what there is */
		while ((node->malice = (uint32_t) chance_below(w, 32) & s->malice) == 0)
			;
	}
	node->chain = room(MAX_BLOCKS, sizeof(uint32_t));
	node->known = room(MAX_BLOCKS, 1);
	node->known[0] = 1;
	node->open = room(MAX_BLOCKS, sizeof(uint32_t));
	node->votes = room(MAX_BLOCKS, sizeof(VoteList));
	node->txs = room(MAX_TXS, 1);
	node->pool = room(MAX_TXS, sizeof(uint32_t));
	node->asked = room(MAX_BLOCKS, sizeof(uint64_t));
	node->last_vote = NOTHING;
}

void
world_begin(World *w, const Scenario *scenario)
{
	ApmHeader genesis = {.time_us = EPOCH, .bits = BASE_BITS};

	memset(w, 0, sizeof(*w));
	w->scenario = *scenario;
	w->chance = scenario->seed;
	w->blocks = room(MAX_BLOCKS, sizeof(Block));
	w->by_hash = room(BUCKETS, sizeof(uint32_t));
	w->txs = room(MAX_TXS, sizeof(Tx));
	w->ids = room(scenario->nodes, sizeof(ApmDigest));
	w->nodes = room(scenario->nodes, sizeof(Node));
	w->final_at = room(MAX_BLOCKS, sizeof(uint32_t));
	memset(w->by_hash, 0xff, BUCKETS * sizeof(uint32_t));
	memset(w->final_at, 0xff, MAX_BLOCKS * sizeof(uint32_t));
	w->final_at[0] = 0;
	memset(&w->chain, 0xc0, sizeof(w->chain));
	genesis.chain = w->chain;
	for (uint32_t i = 0; i < scenario->nodes; i++)
		w->ids[i].bytes[31] = (uint8_t) i;
	world_block(w, &genesis, NOTHING, NULL, 0);
	for (uint32_t i = 0; i < scenario->nodes; i++)
	{
		begin_node(w, i);
		node_start(w, &w->nodes[i]);
	}
}

void
world_end(World *w)
{
	for (uint32_t i = 0; i < w->scenario.nodes; i++)
	{
		Node *node = &w->nodes[i];

		for (uint32_t b = 0; b < w->nblocks; b++)
			free(node->votes[b].votes);
		free(node->chain);
		free(node->known);
		free(node->open);
		free(node->votes);
		free(node->txs);
		free(node->pool);
		free(node->asked);
		apm_forks_free(node->forks);
	}
	for (uint32_t b = 0; b < w->nblocks; b++)
		free(w->blocks[b].txs);
	free(w->blocks);
	free(w->by_hash);
	free(w->txs);
	free(w->ids);
	free(w->nodes);
	free(w->final_at);
	free(w->votes);
	free(w->events);
}

static bool
before(const Event *a, const Event *b)
{
	return a->at != b->at ? a->at < b->at : a->order < b->order;
}

void
world_at(World *w, uint64_t at, Event event)
{
	size_t i = w->nevents++;

	if (w->nevents > w->events_capacity)
	{
		w->events_capacity = w->events_capacity == 0 ? 1024 : 2 * w->events_capacity;
		w->events = realloc(w->events, w->events_capacity * sizeof(Event));
		if (w->events == NULL)
			exit(2);
	}
	event.at = at;
	event.order = w->order++;
	for (; i > 0 && before(&event, &w->events[(i - 1) / 2]); i = (i - 1) / 2)
		w->events[i] = w->events[(i - 1) / 2];
	w->events[i] = event;
}

/* Takes the next event out and sets the time; false when there is none. */
bool
world_next(World *w, Event *out)
{
	Event last;
	size_t i = 0;

	if (w->nevents == 0)
		return false;
	*out = w->events[0];
	last = w->events[--w->nevents];
	for (;;)
	{
		size_t child = 2 * i + 1;

		if (child >= w->nevents)
			break;
		if (child + 1 < w->nevents && before(&w->events[child + 1], &w->events[child]))
			child++;
		if (!before(&w->events[child], &last))
			break;
		w->events[i] = w->events[child];
		i = child;
	}
	w->events[i] = last;
	w->now = out->at;
	return true;
}

/* The part of the delay that belongs to a pair: between half and one and a half of the mean, the same both ways. */
static uint64_t
distance(const World *w, uint32_t a, uint32_t b)
{
	uint64_t pair = (uint64_t) (a < b ? a : b) << 32 | (a < b ? b : a);
	World fixed = {.chance = pair ^ w->scenario.seed};

	return (uint64_t) ((0.5 + chance_share(&fixed)) * (double) w->scenario.delay_us);
}

void
world_send(World *w, uint32_t from, uint32_t to, Event event)
{
	const Scenario *s = &w->scenario;
	double fixed = (1.0 - s->jitter) * (double) distance(w, from, to);
	uint64_t drawn = chance_wait(w, (uint64_t) (s->jitter * (double) s->delay_us));

	w->messages++;
	if (from == to || chance_share(w) < s->loss)
		return;
	event.from = from;
	event.to = to;
	world_at(w, w->now + (uint64_t) fixed + drawn + 1, event);
}

void
world_send_all(World *w, uint32_t from, Event event)
{
	for (uint32_t to = 0; to < w->scenario.nodes; to++)
	{
		if (to != from)
			world_send(w, from, to, event);
	}
}

static size_t
bucket_of(const ApmDigest *hash)
{
	uint32_t word;

	memcpy(&word, hash, sizeof(word));
	return word % BUCKETS;
}

uint32_t
world_find(const World *w, const ApmDigest *hash)
{
	for (size_t at = bucket_of(hash); w->by_hash[at] != NOTHING; at = (at + 1) % BUCKETS)
	{
		if (memcmp(&w->blocks[w->by_hash[at]].hash, hash, sizeof(*hash)) == 0)
			return w->by_hash[at];
	}
	return NOTHING;
}

/* A block by its header; one that is there already is the same block. */
uint32_t
world_block(World *w, const ApmHeader *header, uint32_t parent, const uint32_t *txs, uint32_t ntxs)
{
	Block *block = &w->blocks[w->nblocks];
	uint8_t bytes[APM_HEADER_LEN];
	size_t at;

	if (w->nblocks == MAX_BLOCKS - 1)
	{
		violation(w, "more than %d blocks", MAX_BLOCKS);
		return w->nblocks - 1;
	}
	*block = (Block){.header = *header, .parent = parent, .ntxs = ntxs, .next_bits = header->bits};
	/* what stands in the block decides its hash; the simulator has no trees to make a root of */
	for (uint32_t i = 0; i < ntxs; i++)
		block->header.nonce = block->header.nonce * 1000003 + txs[i] + 1;
	apm_header_encode(&block->header, bytes);
	if (apm_header_hash(bytes, &block->hash) != APM_OK)
		exit(2);
	if (parent != NOTHING && world_find(w, &block->hash) != NOTHING)
		return world_find(w, &block->hash);
	block->node = NOTHING;
	block->work = UINT64_C(1) << header->bits;
	if (parent != NOTHING)
	{
		block->node = header->node.bytes[31];
		block->work += w->blocks[parent].work;
	}
	block->txs = room(ntxs + 1, sizeof(uint32_t));
	for (uint32_t i = 0; i < ntxs; i++)
	{
		block->txs[i] = txs[i];
		if (w->txs[txs[i]].bits != 0)
			block->next_bits = w->txs[txs[i]].bits;
	}
	for (at = bucket_of(&block->hash); w->by_hash[at] != NOTHING;)
		at = (at + 1) % BUCKETS;
	w->by_hash[at] = w->nblocks;
	return w->nblocks++;
}

uint32_t
world_vote(World *w, uint32_t node, uint32_t source, uint32_t target)
{
	if (w->nvotes == w->votes_capacity)
	{
		w->votes_capacity = w->votes_capacity == 0 ? 1024 : 2 * w->votes_capacity;
		w->votes = realloc(w->votes, w->votes_capacity * sizeof(Vote));
		if (w->votes == NULL)
			exit(2);
	}
	w->votes[w->nvotes] = (Vote){node, source, target};
	return (uint32_t) w->nvotes++;
}

/* The ancestor of a block at this height, itself at its own; NOTHING above it. */
uint32_t
world_parent_at(const World *w, uint32_t block, uint64_t height)
{
	while (block != NOTHING && w->blocks[block].header.height > height)
		block = w->blocks[block].parent;
	return block != NOTHING && w->blocks[block].header.height == height ? block : NOTHING;
}

bool
world_grew(const World *w, uint32_t block, uint32_t from)
{
	return world_parent_at(w, block, w->blocks[from].header.height) == from;
}
