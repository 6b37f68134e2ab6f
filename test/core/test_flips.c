/*
 * test_flips.c
 *	  Every single bit of a chain of a hundred blocks is flipped, and the check that is there to find it
 *	  finds it, at its place: in headers, hashes and signatures, in the rows of entries and in their bodies.
 *
 * A flip that is found before any verdict leaves the replay as it was, so those of a block are tried on one replay, as of before
 * the block; what only a verdict finds is tried when that replay comes to the entry.  Bits that the first pass over a
 * chain looks at, of erasures, are tried from the second block on, where the first voids stand.  A sample of all is
 * tried from the genesis block on, as a verifier does.
 */
#include "core/replay_state.h"

#include "story.h"

#define SAMPLE_EVERY 9973

static Story story;
static ApmReplay *replay; /* as of before the block in hand */
static ApmReplay *second; /* as of before the second block, for another first pass each time */
static size_t height;	  /* of the block in hand */
static uint64_t tried;
static uint64_t found_by[APM_FAULT_DIGEST + 1];

static ApmStoredBlock *
stored(size_t at)
{
	return &story.chain.blocks[at].stored;
}

static void
expect(ApmFault found, ApmFaultRule rule, size_t at, int64_t position, const char *what)
{
	bool good = found.rule == rule && found.height == (int64_t) at && found.position == position;

	tried++;
	found_by[found.rule]++;
	check_passed += good;
	check_failed += !good;
	if (!good && check_failed < 20)
		fprintf(stderr, "%s of block %zu: found %s at %ld, %ld and not %s at %zu, %ld\n", what, height,
				apm_fault_name(found.rule), (long) found.height, (long) found.position, apm_fault_name(rule),
				at, (long) position);
}

static void
foresee(ApmForesight *f)
{
	CHECK_OK(apm_foresight_init(f));
	for (size_t h = 0; h < STORY_BLOCKS; h++)
		CHECK_OK(apm_foresight_block(f, stored(h)));
}

static ApmReplay *
begin(void)
{
	ApmReplay *r;

	CHECK_OK(apm_replay_new(&r));
	apm_foresight_free(&r->foresight);
	foresee(&r->foresight);
	return r;
}

/* What a verifier finds who begins at the beginning. */
static ApmFault
ask_all(void)
{
	ApmReplay *r = begin();
	ApmFault fault = {.rule = APM_FAULT_NONE};

	for (size_t h = 0; h < STORY_BLOCKS && fault.rule == APM_FAULT_NONE; h++)
		CHECK_OK(apm_replay_block(r, stored(h), &fault));
	apm_replay_free(r);
	return fault;
}

static ApmFault
ask_block(void)
{
	ApmFault fault;

	CHECK_OK(apm_replay_block(replay, stored(height), &fault));
	return fault;
}

/* The entries alone: the header is what it was. */
static ApmFault
ask_entries(void)
{
	ApmFault fault = {.rule = APM_FAULT_NONE, .height = -1, .position = -1};
	ApmSight sight = {.header = story.chain.blocks[height].header};

	if (height == 0)
		return ask_block();
	CHECK_OK(apm_replay_entries(replay, stored(height), &sight, &fault));
	apm_sight_free(&sight);
	return fault;
}

/* The first pass, and the second block. */
static ApmFault
ask_second(void)
{
	ApmFault fault;

	apm_foresight_free(&second->foresight);
	foresee(&second->foresight);
	CHECK_OK(apm_replay_block(second, stored(1), &fault));
	return fault;
}

static void
flip(void *data, size_t bit)
{
	((uint8_t *) data)[bit / 8] ^= (uint8_t) (1 << bit % 8);
}

static bool
is_header(ApmSlice header)
{
	ApmHeader decoded;

	return apm_header_decode(header, &decoded) == APM_OK;
}

/* Every bit of something of the block. */
static void
flip_each(void *data, size_t len, ApmFaultRule wanted, const char *what)
{
	for (size_t bit = 0; bit < 8 * len; bit++)
	{
		ApmFaultRule rule = wanted;

		flip(data, bit);
		if (!is_header(stored(height)->header))
			rule = APM_FAULT_FORMAT;
		expect(ask_block(), rule, height, -1, what);
		if (tried % SAMPLE_EVERY == 0)
			expect(ask_all(), rule, height, -1, what);
		flip(data, bit);
	}
}

static void
flip_block(ChainBlock *b)
{
	flip_each(b->encoded, APM_HEADER_LEN, APM_FAULT_HASH, "header");
	flip_each(&b->stored.hash, APM_DIGEST_LEN, APM_FAULT_HASH, "hash");
	flip_each(&b->signature, APM_SIGNATURE_LEN, APM_FAULT_SIGNATURE, "signature");
	for (size_t bit = 0; bit < 64; bit++)
	{
		flip(&b->stored.height, bit);
		expect(ask_block(), APM_FAULT_HEIGHT, b->stored.height < height ? b->stored.height : height, -1,
			   "stored height");
		flip(&b->stored.height, bit);
	}
}

/* What is to be found of a row that was another before. */
typedef ApmFaultRule (*Expectation)(const ApmStoredEntry *was, const ApmStoredEntry *is);

static bool
is_void(const ApmStoredEntry *e)
{
	return e->rule == APM_RULE_NONE && !e->kept;
}

/* What was refused without a body is proved by the root alone. */
static ApmFaultRule
expect_tid(const ApmStoredEntry *was, const ApmStoredEntry *is)
{
	(void) is;
	return was->kept || is_void(was) ? APM_FAULT_TID : APM_FAULT_ROOT;
}

static ApmFaultRule
expect_position(const ApmStoredEntry *was, const ApmStoredEntry *is)
{
	(void) was;
	(void) is;
	return APM_FAULT_POSITION;
}

static ApmFaultRule
expect_leaf(const ApmStoredEntry *was, const ApmStoredEntry *is)
{
	(void) is;
	if (is_void(was))
		return APM_FAULT_MISSING;
	return was->kept ? APM_FAULT_LEAF : APM_FAULT_ROOT;
}

static ApmFaultRule
expect_kind(const ApmStoredEntry *was, const ApmStoredEntry *is)
{
	if (is->kind > UINT8_MAX || was->rule == APM_RULE_NONE)
		return APM_FAULT_KIND;
	if (was->kept)
		return APM_FAULT_UNWANTED;
	return is->kind == APM_KIND_QUERY ? APM_FAULT_MISSING : APM_FAULT_ROOT;
}

static bool
is_rule(uint16_t rule)
{
	return (height > 0 ? apm_contract_rule_name(replay->state, rule) : apm_rule_name(rule)) != NULL;
}

static ApmFaultRule
expect_rule(const ApmStoredEntry *was, const ApmStoredEntry *is)
{
	if (is->rule == APM_RULE_NONE)
		return was->kept ? APM_FAULT_ROOT : APM_FAULT_MISSING;
	if (!is_rule(is->rule))
		return APM_FAULT_RULE;
	return was->kept && was->kind != APM_KIND_QUERY ? APM_FAULT_UNWANTED : APM_FAULT_ROOT;
}

static ApmFaultRule
expect_body(const ApmStoredEntry *was, const ApmStoredEntry *is)
{
	(void) was;
	(void) is;
	return APM_FAULT_LEAF;
}

static bool
reads(ApmSlice proof)
{
	ApmOriginProof decoded;

	return apm_origin_proof_decode(proof, &decoded) == APM_OK;
}

/* One that can be read is for the contract to judge. */
static ApmFaultRule
expect_proof(const ApmStoredEntry *was, const ApmStoredEntry *is)
{
	(void) was;
	if (!reads(is->proof))
		return APM_FAULT_KIND;
	return height > 0 ? APM_FAULT_NONE : APM_FAULT_VERDICT;
}

/* The first void of an erasure: what misses its body when the erasure is not found. */
static ApmFault
first_void(const ApmOpened *erasure)
{
	uint32_t at;

	for (size_t h = 0; h < STORY_BLOCKS; h++)
	{
		for (size_t i = 0; i < stored(h)->count; i++)
		{
			if (apm_erasure_find(&erasure->tx.u.erasure, &stored(h)->entries[i].leaf, &at))
				return (ApmFault){APM_FAULT_MISSING, (int64_t) h, (int64_t) i};
		}
	}
	return (ApmFault){.rule = APM_FAULT_NONE};
}

static bool
is_of_block(ApmFaultRule rule)
{
	return rule == APM_FAULT_ROOT || rule == APM_FAULT_NONE;
}

/* Every bit of a part of a row.  foreseen: the first pass looks at it if it is an erasure's. */
static void
flip_part(size_t i, void *data, size_t len, Expectation expectation, bool foreseen, const char *what)
{
	ApmStoredEntry *e = &stored(height)->entries[i];
	ApmStoredEntry was = *e;
	const ApmOpened *opened = &story.chain.blocks[height].opened[i];
	bool erasure = foreseen && was.kind == APM_KIND_ERASURE && was.rule == APM_RULE_NONE;
	ApmFault missing = {0};

	if (erasure)
		missing = first_void(opened);
	for (size_t bit = 0; bit < 8 * len; bit++)
	{
		ApmFaultRule rule;

		flip(data, bit);
		rule = expectation(&was, e);
		if (erasure)
			expect(ask_second(), missing.rule, (size_t) missing.height, missing.position, what);
		else if (rule == APM_FAULT_NONE)
			CHECK(ask_entries().rule == APM_FAULT_NONE);
		else
			expect(ask_entries(), rule, height, is_of_block(rule) ? -1 : (int64_t) i, what);
		if (tried % SAMPLE_EVERY == 0 && !erasure && rule != APM_FAULT_NONE)
			expect(ask_all(), rule, height, is_of_block(rule) ? -1 : (int64_t) i, what);
		flip(data, bit);
	}
}

/* A body taken from its row, and one given to a row that must have none. */
static void
flip_kept(size_t i)
{
	ApmStoredEntry *e = &stored(height)->entries[i];
	bool erasure = e->kind == APM_KIND_ERASURE && e->rule == APM_RULE_NONE;
	ApmFaultRule rule = e->kept ? APM_FAULT_MISSING : APM_FAULT_UNWANTED;

	if (erasure)
		return;
	e->kept = !e->kept;
	expect(ask_entries(), rule, height, (int64_t) i, "kept");
	if (e->kept)
	{
		ApmSlice nonce = e->nonce;

		e->nonce.len--;
		expect(ask_entries(), APM_FAULT_BODY, height, (int64_t) i, "nonce's length");
		e->nonce = nonce;
	}
	e->kept = !e->kept;
}

static void
flip_entry(size_t i)
{
	ApmStoredEntry *e = &stored(height)->entries[i];

	flip_part(i, &e->position, sizeof(e->position), expect_position, false, "position");
	flip_part(i, &e->tid, sizeof(e->tid), expect_tid, false, "tid");
	flip_part(i, &e->kind, sizeof(e->kind), expect_kind, true, "kind");
	flip_part(i, &e->rule, sizeof(e->rule), expect_rule, true, "rule");
	flip_part(i, &e->leaf, sizeof(e->leaf), expect_leaf, true, "leaf");
	flip_kept(i);
	if (!e->kept)
		return;
	flip_part(i, (void *) e->nonce.data, e->nonce.len, expect_body, true, "nonce");
	flip_part(i, (void *) e->transaction.data, e->transaction.len, expect_body, true, "transaction");
	flip_part(i, (void *) e->proof.data, e->proof.len, expect_proof, false, "proof");
}

/* What the verdict finds of the entry, when it is the next to be judged. */
static void
flip_judged(size_t i, ApmSight *sight)
{
	const ChainBlock *b = &story.chain.blocks[height];
	const ApmStoredEntry *e = &b->entries[i];
	ApmOpened good = sight->opened[i];

	for (size_t bit = 0; e->kept && bit < 8 * e->proof.len; bit++)
	{
		ApmFault fault = {.rule = APM_FAULT_NONE};

		flip((void *) e->proof.data, bit);
		if (reads(e->proof))
		{
			CHECK_OK(apm_open_signed(APM_SLICE(b->bodies[i].data, b->bodies[i].len), &sight->opened[i]));
			CHECK_OK(apm_replay_entry(replay, &b->stored, sight, i, &fault));
			expect(fault, APM_FAULT_VERDICT, height, (int64_t) i, "proof");
			if (tried % SAMPLE_EVERY == 0)
				expect(ask_all(), APM_FAULT_VERDICT, height, (int64_t) i, "proof");
		}
		flip((void *) e->proof.data, bit);
	}
	sight->opened[i] = good;
}

/* Takes the block as it is, stopping at each entry. */
static void
pass_block(void)
{
	const ApmStoredBlock *block = stored(height);
	ApmFault fault = {.rule = APM_FAULT_NONE};
	ApmSight sight = {0};

	if (height == 0)
	{
		CHECK(ask_block().rule == APM_FAULT_NONE);
		return;
	}
	CHECK_OK(apm_replay_header(replay, block, &sight, &fault));
	CHECK_OK(apm_replay_entries(replay, block, &sight, &fault));
	for (size_t i = 0; i < block->count; i++)
	{
		flip_judged(i, &sight);
		CHECK_OK(apm_replay_entry(replay, block, &sight, i, &fault));
	}
	CHECK_OK(apm_replay_end(replay, block, &sight, &fault));
	CHECK(fault.rule == APM_FAULT_NONE);
	apm_sight_free(&sight);
}

int
main(void)
{
	ApmFault fault;

	story_open(&story);
	CHECK(ask_all().rule == APM_FAULT_NONE);
	replay = begin();
	second = begin();
	CHECK_OK(apm_replay_block(second, stored(0), &fault));
	for (height = 0; height < STORY_BLOCKS; height++)
	{
		flip_block(&story.chain.blocks[height]);
		for (size_t i = 0; i < stored(height)->count; i++)
			flip_entry(i);
		pass_block();
	}
	for (int rule = 0; rule <= APM_FAULT_DIGEST; rule++)
	{
		if (found_by[rule] > 0)
			printf("%-10s %8llu\n", apm_fault_name((ApmFaultRule) rule), (unsigned long long) found_by[rule]);
	}
	apm_replay_free(replay);
	apm_replay_free(second);
	story_close(&story);
	return check_summary();
}
