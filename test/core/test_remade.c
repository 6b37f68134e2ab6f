/*
 * test_remade.c
 *	  A chain that a node itself makes anew: headers that say something else, mined and signed again; blocks given to
 *	  other parents; a tail cut off, or told in another way.
 *
 * Against who has the node's key, hash, work and signature are no help.  What contradicts the blocks before it or its
 * own transactions is still found; what does not is a good chain of its own, and another one than the one that a
 * digest was kept of.
 */
#include "core/replay_state.h"

#include "lines.h"
#include "proofs.h"

#define TOLD_FROM 72 /* a block with a query, behind everything that counts queries */

static Story story;
static ApmReplay *replay; /* as of before the block in hand */
static size_t height;	  /* of the block in hand */

static const ApmEcKey *
node_of(size_t at)
{
	return story.nodes[at > STORY_NODE_SUCCESSION];
}

/* A copy of a block to be changed; its rows stay those of the chain. */
static void
copy_block(size_t at, ChainBlock *out)
{
	const ChainBlock *b = &story.chain.blocks[at];

	memset(out, 0, sizeof(*out));
	out->header = b->header;
	out->stored.count = b->stored.count;
	memcpy(out->entries, b->entries, sizeof(b->entries));
}

/* Mined only if its bits can be met. */
static void
sign_again(ChainBlock *b, const ApmEcKey *node)
{
	if (b->header.bits == CHAIN_BITS)
		chain_sign(b, node);
	else
		chain_store(b, node);
}

/* What is asked of the block's header and rows, before anything is judged. */
static ApmFault
look(const ChainBlock *b)
{
	ApmFault fault = {.rule = APM_FAULT_NONE, .height = -1, .position = -1};
	ApmSight sight = {0};

	CHECK_OK(apm_replay_header(replay, &b->stored, &sight, &fault));
	if (fault.rule == APM_FAULT_NONE)
		CHECK_OK(apm_replay_entries(replay, &b->stored, &sight, &fault));
	apm_sight_free(&sight);
	return fault;
}

/* What finds a header whose field begins there.  Times that do not go back and contracts show in the verdicts, or behind them. */
static ApmFaultRule
fault_of_field(size_t at, const ApmHeader *h)
{
	static const struct
	{
		size_t from;
		ApmFaultRule rule;
	} fields[] = {{0, APM_FAULT_FORMAT},	   {2, APM_FAULT_CHAIN},   {34, APM_FAULT_HEIGHT},
				  {42, APM_FAULT_LINK},		   {74, APM_FAULT_ROOT},   {106, APM_FAULT_COUNT},
				  {110, APM_FAULT_HISTORY},	   {142, APM_FAULT_NONE},  {174, APM_FAULT_TIME},
				  {182, APM_FAULT_DIFFICULTY}, {186, APM_FAULT_SIGNER}};
	size_t i = sizeof(fields) / sizeof(fields[0]) - 1;

	while (fields[i].from > at)
		i--;
	if (fields[i].rule == APM_FAULT_TIME && h->time_us >= story.chain.blocks[height - 1].header.time_us)
		return APM_FAULT_NONE;
	return fields[i].rule;
}

/* Every bit of the header but the nonce, mined and signed again; the stored height is the one that is due. */
static void
flip_header(void)
{
	ChainBlock b;

	for (size_t bit = 8 * 2; bit < 8 * APM_HEADER_NONCE_AT; bit++)
	{
		ApmFault found;
		ApmFaultRule rule;

		copy_block(height, &b);
		apm_header_encode(&b.header, b.encoded);
		b.encoded[bit / 8] ^= (uint8_t) (1 << bit % 8);
		if (apm_header_decode(APM_SLICE(b.encoded, APM_HEADER_LEN), &b.header) != APM_OK)
			continue;
		sign_again(&b, node_of(height));
		b.stored.height = height;
		rule = fault_of_field(bit / 8, &b.header);
		found = look(&b);
		if (rule == APM_FAULT_NONE)
			CHECK(found.rule == APM_FAULT_NONE);
		else
			CHECK(is_fault(found, rule, height, -1));
	}
}

/* Signed by who may not: another node's key, the one that was replaced, the one that is to come. */
static void
sign_wrongly(void)
{
	const ApmEcKey *others[] = {story.nodes[height <= STORY_NODE_SUCCESSION], story.origins[0]};
	ChainBlock b;

	for (int i = 0; i < 2; i++)
	{
		copy_block(height, &b);
		sign_again(&b, others[i]);
		CHECK(is_fault(look(&b), APM_FAULT_SIGNATURE, height, -1));
		apm_ec_id(others[i], &b.header.node);
		sign_again(&b, others[i]);
		CHECK(is_fault(look(&b), APM_FAULT_SIGNER, height, -1));
	}
	copy_block(height, &b);
	b.header.bits = 0;
	sign_again(&b, node_of(height));
	CHECK(is_fault(look(&b), APM_FAULT_DIFFICULTY, height, -1));
}

/* Without work, though signed. */
static void
sign_unmined(void)
{
	ChainBlock b;

	copy_block(height, &b);
	do
	{
		b.header.nonce++;
		chain_store(&b, node_of(height));
	} while (apm_hash_meets(&b.stored.hash, CHAIN_BITS));
	CHECK(is_fault(look(&b), APM_FAULT_WORK, height, -1));
}

/* The block as the child of every other one before it. */
static void
give_parents(void)
{
	ChainBlock b;

	for (size_t other = 0; other + 1 < height; other++)
	{
		copy_block(height, &b);
		b.header.previous = story.chain.blocks[other].stored.hash;
		sign_again(&b, node_of(height));
		CHECK(is_fault(look(&b), APM_FAULT_LINK, height, -1));
		b.header.height = other + 1;
		b.header.history = story.chain.blocks[other + 1].header.history;
		sign_again(&b, node_of(height));
		CHECK(is_fault(look(&b), APM_FAULT_HEIGHT, other + 1, -1));
		b.stored.height = height;
		CHECK(is_fault(look(&b), APM_FAULT_HEIGHT, height, -1));
	}
}

/* Takes the block as it is, asking at its end for every bit of the contract that its header names. */
static void
pass_block(void)
{
	const ApmStoredBlock *block = &story.chain.blocks[height].stored;
	ApmFault fault = {.rule = APM_FAULT_NONE};
	ApmSight sight = {0};

	CHECK_OK(apm_replay_header(replay, block, &sight, &fault));
	CHECK_OK(apm_replay_entries(replay, block, &sight, &fault));
	for (size_t i = 0; i < block->count; i++)
		CHECK_OK(apm_replay_entry(replay, block, &sight, i, &fault));
	CHECK(fault.rule == APM_FAULT_NONE);
	for (size_t bit = 0; bit < 8 * APM_DIGEST_LEN; bit++)
	{
		sight.header.contract.bytes[bit / 8] ^= (uint8_t) (1 << bit % 8);
		CHECK_OK(apm_replay_end(replay, block, &sight, &fault));
		CHECK(is_fault(fault, APM_FAULT_CONTRACT, height, -1));
		sight.header.contract.bytes[bit / 8] ^= (uint8_t) (1 << bit % 8);
		fault.rule = APM_FAULT_NONE;
	}
	CHECK_OK(apm_replay_end(replay, block, &sight, &fault));
	CHECK(fault.rule == APM_FAULT_NONE);
	apm_sight_free(&sight);
}

/* An erasure of what did not come before it, or is another's: no chain that its verdicts let through can have one. */
static void
test_void(void)
{
	const ChainBlock *b = &story.chain.blocks[height];
	ApmFault fault = {.rule = APM_FAULT_NONE};
	ApmSight sight = {0};
	ApmForeseen *foreseen;
	ApmVoid voided;

	apm_erasure_void(&b->opened[0].tx.u.erasure, 3, &voided);
	foreseen = apm_map_find(&replay->foresight.voids, &voided.leaf);
	CHECK_OK(apm_replay_header(replay, &b->stored, &sight, &fault));
	CHECK_OK(apm_replay_entries(replay, &b->stored, &sight, &fault));
	if (CHECK(foreseen != NULL && foreseen->met && fault.rule == APM_FAULT_NONE))
	{
		foreseen->met = false;
		CHECK_OK(apm_replay_entry(replay, &b->stored, &sight, 0, &fault));
		CHECK(is_fault(fault, APM_FAULT_VOID, height, 0));
		foreseen->met = true;
		foreseen->erasing ^= 1;
		CHECK_OK(apm_replay_entry(replay, &b->stored, &sight, 0, &fault));
		CHECK(is_fault(fault, APM_FAULT_VOID, height, 0));
		foreseen->erasing ^= 1;
	}
	apm_sight_free(&sight);
}

static void
test_headers(void)
{
	ApmFault fault;

	CHECK_OK(apm_replay_new(&replay));
	for (size_t i = 0; i < STORY_BLOCKS; i++)
		CHECK_OK(apm_replay_foresee(replay, &story.chain.blocks[i].stored));
	CHECK_OK(apm_replay_block(replay, &story.chain.blocks[0].stored, &fault));
	CHECK(fault.rule == APM_FAULT_NONE);
	for (height = 1; height < STORY_BLOCKS; height++)
	{
		if (height % 9 == 1)
			flip_header();
		sign_wrongly();
		sign_unmined();
		give_parents();
		if (height == STORY_FIRST_ERASURE)
			test_void();
		pass_block();
	}
	apm_replay_free(replay);
}

/* A chain made of other blocks from one on; the blocks before it are the same. */
static ChainBlock told[STORY_BLOCKS];

/* The tail without the query that ended the block it is told from. */
static void
tell_again(void)
{
	ApmFrontier frontier = {0};

	memcpy(told, story.chain.blocks, sizeof(told));
	for (size_t i = 0; i < STORY_BLOCKS; i++)
	{
		ChainBlock *b = &told[i];
		ApmDigest leaf;

		if (i >= TOLD_FROM)
		{
			copy_block(i, b);
			b->header.previous = told[i - 1].stored.hash;
			CHECK_OK(apm_frontier_root(&frontier, &b->header.history));
		}
		if (i == TOLD_FROM)
		{
			CHECK(b->entries[b->stored.count - 1].kind == APM_KIND_QUERY);
			b->stored.count--;
			chain_root(b);
		}
		if (i >= TOLD_FROM)
			chain_sign(b, node_of(i));
		CHECK_OK(apm_merkle_leaf(&APM_SLICE(b->stored.hash.bytes, APM_DIGEST_LEN), 1, &leaf));
		CHECK_OK(apm_frontier_append(&frontier, &leaf));
	}
}

/* The tail told again is a good chain, and found by every digest of what it replaces and by no other. */
static void
test_remined(void)
{
	Lines lines = lines_of(&story);
	ApmHead tip;

	tell_again();
	for (size_t i = TOLD_FROM; i < STORY_BLOCKS; i++)
		lines.v[i] = &told[i].stored;
	CHECK(lines_read(&lines, NULL).rule == APM_FAULT_NONE);
	memcpy(tip.encoded, told[STORY_BLOCKS - 1].encoded, APM_HEADER_LEN);
	tip.signature = told[STORY_BLOCKS - 1].signature;
	apm_ec_spki(story.nodes[1], tip.node);
	CHECK_OK(apm_head_check(&tip));
	for (size_t at = STORY_NODE_SUCCESSION + 1; at < STORY_BLOCKS; at++)
	{
		ApmHead digest = story_head(&story, at);
		ApmConsistency proof = consistency_of(told, at, STORY_BLOCKS - 1);
		bool kept = at < TOLD_FROM;

		CHECK_STATUS(apm_consistency_verify(&proof, &digest, &tip), kept ? APM_OK : APM_ERR_VERIFY);
		if (at % 9 == 0 || at == TOLD_FROM || at == TOLD_FROM - 1)
			CHECK(kept ? lines_read(&lines, &digest).rule == APM_FAULT_NONE
					   : is_fault(lines_read(&lines, &digest), APM_FAULT_DIGEST, at, -1));
	}
}

/* A moment later: nothing in the block need contradict it, but the next one follows another. */
static void
test_later(void)
{
	Lines lines = lines_of(&story);
	static ChainBlock b;

	for (size_t at = 9; at + 1 < STORY_BLOCKS; at += 9)
	{
		copy_block(at, &b);
		b.header.time_us++;
		sign_again(&b, node_of(at));
		lines.v[at] = &b.stored;
		CHECK(is_fault(lines_read(&lines, NULL), APM_FAULT_LINK, at + 1, -1));
		lines.v[at] = &story.chain.blocks[at].stored;
	}
}

/*
 * Cut behind any block.  Before the last erasure, what that one voided has no body and no erasure any more; with the bodies put
 * back, as an old copy would have them, only the digest finds it.
 */
static void
test_cut(void)
{
	Lines lines = lines_of(&story);
	ApmHead tip = story_head(&story, STORY_BLOCKS - 1);

	CHECK(lines_read(&lines, &tip).rule == APM_FAULT_NONE);
	while (--lines.count > STORY_SECOND_ERASURE)
	{
		CHECK(lines_read(&lines, NULL).rule == APM_FAULT_NONE);
		CHECK(is_fault(lines_read(&lines, &tip), APM_FAULT_DIGEST, STORY_BLOCKS - 1, -1));
	}
	CHECK(is_fault(lines_read(&lines, NULL), APM_FAULT_MISSING, 1, 4));
	lines.count = STORY_FIRST_ERASURE;
	CHECK(is_fault(lines_read(&lines, NULL), APM_FAULT_MISSING, 1, 0));
	for (size_t i = 0; i < STORY_FIRST_ERASURE; i++)
	{
		for (size_t n = 0; n < story.chain.blocks[i].stored.count; n++)
		{
			ApmStoredEntry *e = &story.chain.blocks[i].entries[n];

			e->kept = e->kept || e->rule == APM_RULE_NONE;
		}
	}
	for (; lines.count > 0; lines.count -= lines.count > 9 ? 9 : lines.count)
	{
		CHECK(lines_read(&lines, NULL).rule == APM_FAULT_NONE);
		CHECK(is_fault(lines_read(&lines, &tip), APM_FAULT_DIGEST, STORY_BLOCKS - 1, -1));
	}
}

int
main(void)
{
	story_open(&story);
	test_headers();
	test_later();
	test_remined();
	test_cut();
	story_close(&story);
	return check_summary();
}
