/*
 * forks.c
 *	  The tree of blocks that are not final: taking one, choosing the best branch, letting go, whose turn it is.
 *
 * Votes and what follows from them are in forks_votes.c.
 */
#include "forks_state.h"

#include "blocktime.h"
#include "room.h"

#define LEAST_CAPACITY 8

static const char *const result_names[] = {
	[APM_FORK_TAKEN] = "taken",			[APM_FORK_KNOWN] = "known", [APM_FORK_MEMORY] = "memory",
	[APM_FORK_UNKNOWN] = "unknown",		[APM_FORK_AHEAD] = "ahead", [APM_FORK_FULL] = "full",
	[APM_FORK_STALE] = "stale",			[APM_FORK_CHAIN] = "chain", [APM_FORK_STRANGER] = "stranger",
	[APM_FORK_HEIGHT] = "height",		[APM_FORK_TIME] = "time",	[APM_FORK_DIFFICULTY] = "difficulty",
	[APM_FORK_DIVERSITY] = "diversity", [APM_FORK_LINK] = "link"};

/* NULL if unknown */
const char *
apm_fork_result_name(ApmForkResult result)
{
	if ((size_t) result >= sizeof(result_names) / sizeof(result_names[0]))
		return NULL;
	return result_names[result];
}

static int
compare(const ApmDigest *a, const ApmDigest *b)
{
	return memcmp(a, b, sizeof(*a));
}

static bool
setup_fits(const ApmForksSetup *setup)
{
	if (setup->count == 0 || setup->count > APM_NODES_MAX || setup->quorum == 0 ||
		setup->quorum > setup->count || setup->capacity < LEAST_CAPACITY ||
		setup->capacity > APM_FORKS_CAPACITY_MAX ||
		(setup->line != NULL && setup->line->nodes != setup->count))
		return false;
	for (uint32_t i = 1; i < setup->count; i++)
	{
		if (compare(&setup->nodes[i - 1], &setup->nodes[i]) >= 0)
			return false;
	}
	return true;
}

/* Room for a block more; the array may move. */
static bool
make_room(ApmForks *forks)
{
	ForkBlock *blocks = apm_room(forks->blocks, &forks->capacity, forks->count + 1, sizeof(ForkBlock));

	if (blocks == NULL)
		return false;
	forks->blocks = blocks;
	return true;
}

ApmStatus
apm_forks_new(const ApmForksSetup *setup, ApmForks **out)
{
	ApmForks *forks;

	if (!setup_fits(setup))
		return APM_ERR_RANGE;
	forks = apm_core_alloc(sizeof(ApmForks), false);
	if (forks == NULL)
		return APM_ERR_MEMORY;
	forks->chain = setup->chain;
	forks->quorum = setup->quorum;
	forks->limit = setup->capacity;
	forks->nodes = apm_core_alloc(setup->count * sizeof(ApmDigest), false);
	forks->voters = apm_core_alloc(setup->count * sizeof(ForkVoter), false);
	if (forks->nodes == NULL || forks->voters == NULL || !make_room(forks) ||
		apm_line_init(&forks->line, setup->count) != APM_OK ||
		apm_line_init(&forks->scratch, setup->count) != APM_OK)
	{
		apm_forks_free(forks);
		return APM_ERR_MEMORY;
	}
	memcpy(forks->nodes, setup->nodes, setup->count * sizeof(ApmDigest));
	if (setup->line != NULL)
		apm_line_copy(&forks->line, setup->line);
	forks->blocks[0] = (ForkBlock){.at = setup->root,
								   .parent = FORK_NONE,
								   .signer = FORK_NONE,
								   .time_us = setup->root_us,
								   .justified = true};
	forks->count = 1;
	*out = forks;
	return APM_OK;
}

void
apm_forks_free(ApmForks *forks)
{
	if (forks == NULL)
		return;
	for (uint32_t i = 0; forks->voters != NULL && i < forks->line.nodes; i++)
		apm_core_free(forks->voters[i].votes);
	apm_core_free(forks->voters);
	apm_core_free(forks->nodes);
	apm_core_free(forks->blocks);
	apm_core_free(forks->links);
	apm_core_free(forks->evidence);
	apm_line_free(&forks->line);
	apm_line_free(&forks->scratch);
	apm_core_free(forks);
}

uint32_t
apm_forks_node(const ApmForks *forks, const ApmDigest *id)
{
	uint32_t low = 0;
	uint32_t high = forks->line.nodes;

	while (low < high)
	{
		uint32_t middle = (low + high) / 2;
		int order = compare(&forks->nodes[middle], id);

		if (order == 0)
			return middle;
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return FORK_NONE;
}

/* From the end: what is asked for is mostly new. */
uint32_t
apm_forks_find(const ApmForks *forks, const ApmDigest *hash)
{
	for (size_t i = forks->count; i > 0; i--)
	{
		if (compare(&forks->blocks[i - 1].at.hash, hash) == 0)
			return (uint32_t) (i - 1);
	}
	return FORK_NONE;
}

bool
apm_forks_grew(const ApmForks *forks, uint32_t block, uint32_t from)
{
	while (block != from && block != FORK_NONE && block > from)
		block = forks->blocks[block].parent;
	return block == from;
}

/* Is a branch that ends with that much work and this hash better than the other? */
static bool
better(uint64_t work, const ApmDigest *hash, uint64_t than_work, const ApmDigest *than_hash)
{
	return work != than_work ? work > than_work : compare(hash, than_hash) < 0;
}

void
apm_forks_choose(ApmForks *forks)
{
	ForkBlock *blocks = forks->blocks;
	uint32_t justified = 0;
	uint32_t head;

	for (uint32_t i = 1; i < forks->count; i++)
	{
		if (blocks[i].justified && better(blocks[i].at.height, &blocks[i].at.hash,
										  blocks[justified].at.height, &blocks[justified].at.hash))
			justified = i;
	}
	head = justified;
	for (uint32_t i = 0; i < forks->count; i++)
	{
		blocks[i].marked = i == justified || (i > justified && blocks[blocks[i].parent].marked);
		if (blocks[i].marked &&
			better(blocks[i].work, &blocks[i].at.hash, blocks[head].work, &blocks[head].at.hash))
			head = i;
	}
	forks->justified = justified;
	forks->head = head;
}

/* Only marked blocks stay; a block's parent is marked if it is, but for the first's.  The order stays. */
static void
keep_marked(ApmForks *forks)
{
	ForkBlock *blocks = forks->blocks;
	uint32_t kept = 0;

	for (uint32_t i = 0; i < forks->count; i++)
		blocks[i].place = blocks[i].marked ? kept++ : FORK_NONE;
	apm_forks_move_votes(forks);
	for (uint32_t i = 0; i < forks->count; i++)
	{
		if (blocks[i].parent != FORK_NONE)
			blocks[i].parent = blocks[blocks[i].parent].place;
	}
	forks->justified = blocks[forks->justified].place;
	forks->head = blocks[forks->head].place;
	kept = 0;
	for (uint32_t i = 0; i < forks->count; i++)
	{
		if (blocks[i].marked)
			blocks[kept++] = blocks[i];
	}
	forks->count = kept;
}

/* The line moves on along the branch from behind block 0 up to this one. */
static void
step_along(const ApmForks *forks, uint32_t block, ApmLine *line)
{
	ForkBlock *blocks = forks->blocks;

	for (uint32_t i = 1; i < forks->count; i++)
		blocks[i].marked = false;
	for (uint32_t at = block; at != 0; at = blocks[at].parent)
		blocks[at].marked = true;
	for (uint32_t i = 1; i <= block; i++)
	{
		if (blocks[i].marked)
			apm_line_step(line, blocks[i].signer, blocks[i].at.height);
	}
}

void
apm_forks_finalize(ApmForks *forks, uint32_t final)
{
	ForkBlock *blocks = forks->blocks;
	uint64_t work = blocks[final].work;

	step_along(forks, final, &forks->line);
	for (uint32_t i = 0; i < forks->count; i++)
		blocks[i].marked = i == final || (i > final && blocks[blocks[i].parent].marked);
	/* the last justified block and the head are chosen anew */
	forks->justified = final;
	forks->head = final;
	keep_marked(forks);
	blocks[0].signer = FORK_NONE;
	for (uint32_t i = 0; i < forks->count; i++)
		blocks[i].work -= work;
	apm_forks_choose(forks);
}

static size_t
blocks_of(const ApmForks *forks, uint32_t node)
{
	size_t n = 0;

	for (uint32_t i = 1; i < forks->count; i++)
		n += forks->blocks[i].signer == node;
	return n;
}

/*
 * The worst block of a node, or of all (FORK_NONE), that may go for one on that parent: a leaf, not justified, not
 * the head.  FORK_NONE if there is none.
 */
static uint32_t
worst_leaf(const ApmForks *forks, uint32_t node, uint32_t parent)
{
	ForkBlock *blocks = forks->blocks;
	uint32_t worst = FORK_NONE;

	for (uint32_t i = 0; i < forks->count; i++)
		blocks[i].marked = i == parent || i == forks->head || blocks[i].justified;
	for (uint32_t i = 1; i < forks->count; i++)
		blocks[blocks[i].parent].marked = true;
	for (uint32_t i = 1; i < forks->count; i++)
	{
		if (blocks[i].marked || (node != FORK_NONE && blocks[i].signer != node))
			continue;
		if (worst == FORK_NONE ||
			better(blocks[worst].work, &blocks[worst].at.hash, blocks[i].work, &blocks[i].at.hash))
			worst = i;
	}
	return worst;
}

/* In a full tree: makes room for a block on that parent.  False: no. */
static bool
make_way(ApmForks *forks, uint32_t signer, uint32_t parent)
{
	size_t most = blocks_of(forks, signer);
	uint32_t victim = FORK_NONE;
	uint32_t leaf = FORK_NONE;

	for (uint32_t node = 0; node < forks->line.nodes; node++)
	{
		size_t n = blocks_of(forks, node);

		if (n > most)
		{
			most = n;
			victim = node;
		}
	}
	if (victim != FORK_NONE)
		leaf = worst_leaf(forks, victim, parent);
	if (leaf == FORK_NONE && parent == forks->head)
		leaf = worst_leaf(forks, FORK_NONE, parent);
	if (leaf == FORK_NONE)
		return false;
	for (uint32_t i = 0; i < forks->count; i++)
		forks->blocks[i].marked = i != leaf;
	keep_marked(forks);
	return true;
}

static uint64_t
last_signed(const ApmForks *forks, uint32_t block, uint32_t signer)
{
	for (; block != 0; block = forks->blocks[block].parent)
	{
		if (forks->blocks[block].signer == signer)
			return forks->blocks[block].at.height;
	}
	return forks->line.last_signed[signer];
}

/* May this block stand on that parent? */
static ApmForkResult
judge(const ApmForks *forks, const ApmHeader *header, uint32_t parent, uint32_t signer, uint64_t now_us)
{
	const ForkBlock *on = &forks->blocks[parent];

	if (header->height != on->at.height + 1)
		return APM_FORK_HEIGHT;
	if (header->bits > APM_MAX_DIFFICULTY)
		return APM_FORK_DIFFICULTY;
	if (!apm_diverse(forks->line.nodes, last_signed(forks, parent, signer), header->height))
		return APM_FORK_DIVERSITY;
	switch (apm_blocktime_check(header->time_us, on->time_us, now_us))
	{
		case APM_TIME_BEFORE_PARENT:
			return APM_FORK_TIME;
		case APM_TIME_AHEAD:
			return APM_FORK_AHEAD;
		case APM_TIME_OK:
			break;
	}
	return APM_FORK_TAKEN;
}

/* Holds a new block against all that are here of its node and height. */
static bool
accuse_twin(ApmForks *forks, uint32_t signer, const ApmCheckpoint *at, uint32_t parent)
{
	ApmEvidence evidence = {.node = forks->nodes[signer]};

	for (uint32_t i = 1; i < forks->count; i++)
	{
		const ForkBlock *other = &forks->blocks[i];

		if (other->signer != signer || other->at.height != at->height)
			continue;
		evidence.kind = other->parent == parent ? APM_EVIDENCE_TWINS : APM_EVIDENCE_HEIGHT;
		evidence.target[0] = other->at;
		evidence.target[1] = *at;
		if (!apm_forks_accuse(forks, &evidence))
			return false;
	}
	return true;
}

ApmForkResult
apm_forks_block(ApmForks *forks, const ApmHeader *header, const ApmDigest *hash, uint64_t now_us)
{
	uint32_t signer = apm_forks_node(forks, &header->node);
	ForkBlock block = {.at = {header->height, *hash}, .signer = signer, .time_us = header->time_us};
	uint32_t parent;
	ApmForkResult result;

	if (compare(&header->chain, &forks->chain) != 0)
		return APM_FORK_CHAIN;
	if (signer == FORK_NONE)
		return APM_FORK_STRANGER;
	if (apm_forks_find(forks, hash) != FORK_NONE)
		return APM_FORK_KNOWN;
	if (header->height <= forks->blocks[0].at.height)
		return APM_FORK_STALE;
	parent = apm_forks_find(forks, &header->previous);
	if (parent == FORK_NONE)
		/* on another block of the last final one's height, so it can never grow out of that */
		return header->height == forks->blocks[0].at.height + 1 ? APM_FORK_STALE : APM_FORK_UNKNOWN;
	result = judge(forks, header, parent, signer, now_us);
	if (result != APM_FORK_TAKEN)
		return result;
	if (!accuse_twin(forks, signer, &block.at, parent) || (forks->count < forks->limit && !make_room(forks)))
		return APM_FORK_MEMORY;
	if (forks->count >= forks->limit && !make_way(forks, signer, parent))
		return APM_FORK_FULL;

	/* others may have gone, so it is looked for once more */
	block.parent = apm_forks_find(forks, &header->previous);
	block.work = forks->blocks[block.parent].work + (UINT64_C(1) << header->bits);
	forks->blocks[forks->count++] = block;
	apm_forks_choose(forks);
	return APM_FORK_TAKEN;
}

const ApmCheckpoint *
apm_forks_final(const ApmForks *forks)
{
	return &forks->blocks[0].at;
}

const ApmCheckpoint *
apm_forks_justified(const ApmForks *forks)
{
	return &forks->blocks[forks->justified].at;
}

const ApmCheckpoint *
apm_forks_head(const ApmForks *forks)
{
	return &forks->blocks[forks->head].at;
}

bool
apm_forks_has(const ApmForks *forks, const ApmDigest *hash)
{
	return apm_forks_find(forks, hash) != FORK_NONE;
}

size_t
apm_forks_size(const ApmForks *forks)
{
	return forks->count;
}

const ApmLine *
apm_forks_line(const ApmForks *forks)
{
	return &forks->line;
}

/*
 * May a node that mined that last sign one on the head?  If its block is no higher than the head the next one is higher.  Else
 * the best branch is a shorter one than its block's, and then it must only not be the same parent once more.
 */
static bool
may_sign(const ApmForks *forks, const ApmMineRecord *last)
{
	const ApmCheckpoint *head = apm_forks_head(forks);

	return !last->mined || last->block.height <= head->height || compare(&last->parent, &head->hash) != 0;
}

bool
apm_forks_turn(const ApmForks *forks, const ApmDigest *node, const ApmMineRecord *last, uint64_t step_us,
			   uint64_t *wait_us)
{
	uint32_t number = apm_forks_node(forks, node);
	uint64_t height = forks->blocks[forks->head].at.height + 1;
	uint64_t unjustified = height - 1 - forks->blocks[forks->justified].at.height;
	uint64_t unfinal = height - 1 - forks->blocks[0].at.height;
	ApmLine line = forks->scratch;
	uint32_t rank;

	if (number == FORK_NONE || unjustified >= forks->limit / 4 || !may_sign(forks, last))
		return false;
	apm_line_copy(&line, &forks->line);
	step_along(forks, forks->head, &line);
	rank = apm_line_rank(&line, number, height);
	if (rank == APM_NODES_MAX)
		return false;
	/* one is not final in the best of times; more are if blocks come faster than votes, and then must come slower */
	*wait_us = apm_turn_wait(rank, unfinal > unjustified + 1 ? unfinal - 1 : unjustified, step_us);
	return true;
}
