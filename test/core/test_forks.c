/*
 * test_forks.c
 *	  The tree of blocks that are not final: each rule once, each answer once, its bounds, and memory that runs out.
 *
 * That it agrees with a model of the definition is in test_finality.c.
 */
#include "core/blocktime.h"
#include "core/forks.h"

#include "branches.h"

static const ApmMineRecord nothing;

/* Genesis, and a tree on it for n nodes. */
static ApmForks *
tree_of(uint32_t n, uint32_t quorum, uint32_t capacity)
{
	ApmForks *forks = NULL;
	ApmForksSetup setup = branches_setup(n, quorum, capacity);

	CHECK_OK(apm_forks_new(&setup, &forks));
	return forks;
}

static ApmForkResult
offer(ApmForks *forks, const Branch *block)
{
	return apm_forks_block(forks, &block->header, &block->at.hash, BRANCHES_NOW);
}

static ApmForkResult
vote(ApmForks *forks, uint32_t node, const Branch *source, const Branch *target)
{
	ApmVote v = branches_vote(node, source, target);

	return apm_forks_vote(forks, &v);
}

static bool
is(const ApmCheckpoint *at, const Branch *block)
{
	return apm_checkpoints_equal(at, &block->at);
}

/* A quorum's vote justifies, the child's makes final, and final blocks take their rivals with them. */
static void
test_finality(void)
{
	ApmForks *forks = tree_of(5, 3, 64);
	Branch genesis = branches_genesis();
	Branch a = branches_child(&genesis, 0, 0);
	Branch b = branches_child(&genesis, 1, 0);
	Branch a2 = branches_child(&a, 1, 0);
	Branch a3 = branches_child(&a2, 2, 0);
	Branch b2 = branches_child(&b, 0, 0);

	CHECK(offer(forks, &a2) == APM_FORK_UNKNOWN);
	CHECK(offer(forks, &a) == APM_FORK_TAKEN && offer(forks, &a) == APM_FORK_KNOWN);
	CHECK(offer(forks, &b) == APM_FORK_TAKEN && offer(forks, &a2) == APM_FORK_TAKEN);
	CHECK(is(apm_forks_head(forks), &a2) && is(apm_forks_final(forks), &genesis));

	CHECK(vote(forks, 0, &genesis, &b) == APM_FORK_TAKEN && vote(forks, 0, &genesis, &b) == APM_FORK_KNOWN);
	CHECK(vote(forks, 1, &genesis, &b) == APM_FORK_TAKEN);
	CHECK(is(apm_forks_justified(forks), &genesis) && is(apm_forks_head(forks), &a2));
	CHECK(vote(forks, 2, &genesis, &b) == APM_FORK_TAKEN);
	/* the shorter branch is the best one now: only those through the last justified block are in question */
	CHECK(is(apm_forks_justified(forks), &b) && is(apm_forks_head(forks), &b));
	CHECK(is(apm_forks_final(forks), &genesis) && apm_forks_has(forks, &a2.at.hash));

	CHECK(offer(forks, &b2) == APM_FORK_TAKEN && is(apm_forks_head(forks), &b2));
	for (uint32_t node = 2; node < 5; node++)
		CHECK(vote(forks, node, &b, &b2) == APM_FORK_TAKEN);
	CHECK(is(apm_forks_final(forks), &b) && is(apm_forks_justified(forks), &b2) &&
		  apm_forks_size(forks) == 2);
	CHECK(offer(forks, &a) == APM_FORK_STALE && offer(forks, &a2) == APM_FORK_STALE);
	CHECK(offer(forks, &a3) == APM_FORK_UNKNOWN);
	CHECK(vote(forks, 4, &genesis, &b2) == APM_FORK_STALE && vote(forks, 4, &a, &b2) == APM_FORK_STALE);
	CHECK(vote(forks, 4, &genesis, &b) == APM_FORK_STALE);
	apm_forks_free(forks);
}

/* Votes that do not add up: other sources, an unjustified source, a grandchild. */
static void
test_links(void)
{
	ApmForks *forks = tree_of(3, 2, 64);
	Branch genesis = branches_genesis();
	Branch a = branches_child(&genesis, 0, 0);
	Branch b = branches_child(&a, 1, 0);
	Branch c = branches_child(&b, 2, 0);
	Branch wrong = b;

	CHECK(offer(forks, &a) == APM_FORK_TAKEN && offer(forks, &b) == APM_FORK_TAKEN);
	CHECK(vote(forks, 0, &a, &b) == APM_FORK_TAKEN && vote(forks, 1, &a, &b) == APM_FORK_TAKEN);
	CHECK(is(apm_forks_justified(forks), &genesis)); /* a is not justified */
	CHECK(vote(forks, 2, &genesis, &b) == APM_FORK_TAKEN);
	CHECK(is(apm_forks_justified(forks), &genesis)); /* one from here, two from there */
	CHECK(vote(forks, 0, &genesis, &a) == APM_FORK_TAKEN && vote(forks, 1, &genesis, &a) == APM_FORK_TAKEN);
	/* now that a is justified, the votes from it count: a is final by its child */
	CHECK(is(apm_forks_final(forks), &a) && is(apm_forks_justified(forks), &b));

	CHECK(vote(forks, 0, &b, &c) == APM_FORK_UNKNOWN && offer(forks, &c) == APM_FORK_TAKEN);
	CHECK(vote(forks, 0, &a, &c) == APM_FORK_TAKEN && vote(forks, 1, &a, &c) == APM_FORK_TAKEN);
	/* a grandchild justified from a final block finalizes nothing */
	CHECK(is(apm_forks_final(forks), &a) && is(apm_forks_justified(forks), &c));
	CHECK(vote(forks, 2, &c, &b) == APM_FORK_LINK && vote(forks, 2, &c, &c) == APM_FORK_LINK);
	wrong.at.height = 5;
	CHECK(vote(forks, 2, &a, &wrong) == APM_FORK_HEIGHT);
	apm_forks_free(forks);
}

/* More work, not more blocks; then the lower hash. */
static void
test_choice(void)
{
	ApmForks *forks = tree_of(5, 3, 64);
	Branch genesis = branches_genesis();
	Branch a = branches_child(&genesis, 0, 2);
	Branch a2 = branches_child(&a, 1, 2);
	Branch b = branches_child(&genesis, 2, 4);
	Branch c = branches_child(&genesis, 3, 4);

	CHECK(offer(forks, &a) == APM_FORK_TAKEN && offer(forks, &a2) == APM_FORK_TAKEN);
	CHECK(is(apm_forks_head(forks), &a2));
	CHECK(offer(forks, &b) == APM_FORK_TAKEN && is(apm_forks_head(forks), &b));
	CHECK(offer(forks, &c) == APM_FORK_TAKEN);
	CHECK(is(apm_forks_head(forks), memcmp(&b.at.hash, &c.at.hash, 32) < 0 ? &b : &c));
	apm_forks_free(forks);
}

static void
test_refused(void)
{
	ApmForks *forks = tree_of(5, 3, 64);
	Branch genesis = branches_genesis();
	Branch a = branches_child(&genesis, 0, 0);
	Branch bad = a;

	bad.header.chain = sample_digest(1);
	CHECK(offer(forks, &bad) == APM_FORK_CHAIN);
	bad = a;
	bad.header.node = sample_digest(1);
	CHECK(offer(forks, &bad) == APM_FORK_STRANGER);
	bad = a;
	bad.header.height = 2;
	CHECK(offer(forks, &bad) == APM_FORK_HEIGHT);
	bad.header.height = 0;
	CHECK(offer(forks, &bad) == APM_FORK_STALE);
	bad = a;
	bad.header.bits = APM_MAX_DIFFICULTY + 1;
	CHECK(offer(forks, &bad) == APM_FORK_DIFFICULTY);
	bad = a;
	bad.header.time_us = genesis.header.time_us - 1;
	CHECK(offer(forks, &bad) == APM_FORK_TIME);
	bad.header.time_us = BRANCHES_NOW + APM_AHEAD_MAX_US + 1;
	CHECK(offer(forks, &bad) == APM_FORK_AHEAD);
	CHECK(apm_forks_block(forks, &bad.header, &bad.at.hash, BRANCHES_NOW + 1) == APM_FORK_TAKEN);

	/* a node's next block comes after two of others */
	CHECK(offer(forks, &a) == APM_FORK_KNOWN || offer(forks, &a) == APM_FORK_TAKEN);
	a = branches_child(&genesis, 1, 0);
	CHECK(offer(forks, &a) == APM_FORK_TAKEN);
	bad = branches_child(&a, 1, 0);
	CHECK(offer(forks, &bad) == APM_FORK_DIVERSITY);
	a = branches_child(&a, 2, 0);
	CHECK(offer(forks, &a) == APM_FORK_TAKEN);
	bad = branches_child(&a, 1, 0);
	CHECK(offer(forks, &bad) == APM_FORK_DIVERSITY);
	a = branches_child(&a, 3, 0);
	CHECK(offer(forks, &a) == APM_FORK_TAKEN);
	a = branches_child(&a, 1, 0);
	CHECK(offer(forks, &a) == APM_FORK_TAKEN);
	apm_forks_free(forks);

	for (int result = 0; result <= APM_FORK_LINK; result++)
		CHECK(apm_fork_result_name((ApmForkResult) result) != NULL);
	CHECK(apm_fork_result_name((ApmForkResult) (APM_FORK_LINK + 1)) == NULL);
}

/* Two blocks, two votes, a vote around another: the first of each kind is kept, and both count all the same. */
static void
test_evidence(void)
{
	ApmForks *forks = tree_of(5, 3, 64);
	Branch genesis = branches_genesis();
	Branch a = branches_child(&genesis, 0, 0);
	Branch twin = branches_child(&genesis, 0, 1);
	Branch b = branches_child(&a, 1, 0);
	Branch c = branches_child(&b, 2, 0);
	const ApmEvidence *evidence;

	CHECK(offer(forks, &a) == APM_FORK_TAKEN && apm_forks_evidence(forks, &evidence) == 0);
	CHECK(offer(forks, &twin) == APM_FORK_TAKEN && apm_forks_evidence(forks, &evidence) == 1);
	CHECK(evidence[0].kind == APM_EVIDENCE_TWINS && is(&evidence[0].target[0], &a) &&
		  is(&evidence[0].target[1], &twin));
	CHECK(memcmp(&evidence[0].node, &a.header.node, 32) == 0);

	CHECK(offer(forks, &b) == APM_FORK_TAKEN && offer(forks, &c) == APM_FORK_TAKEN);
	CHECK(vote(forks, 3, &genesis, &a) == APM_FORK_TAKEN &&
		  vote(forks, 3, &genesis, &twin) == APM_FORK_TAKEN);
	CHECK(apm_forks_evidence(forks, &evidence) == 2 && evidence[1].kind == APM_EVIDENCE_DOUBLE);
	CHECK(is(&evidence[1].target[0], &a) && is(&evidence[1].target[1], &twin));
	CHECK(vote(forks, 4, &a, &b) == APM_FORK_TAKEN && vote(forks, 4, &genesis, &c) == APM_FORK_TAKEN);
	CHECK(apm_forks_evidence(forks, &evidence) == 3 && evidence[2].kind == APM_EVIDENCE_SURROUND);
	CHECK(is(&evidence[2].source[0], &a) && is(&evidence[2].source[1], &genesis));
	/* once more of the same kind adds nothing */
	CHECK(vote(forks, 4, &genesis, &b) == APM_FORK_TAKEN && apm_forks_evidence(forks, &evidence) == 4);
	CHECK(vote(forks, 4, &b, &c) == APM_FORK_TAKEN && apm_forks_evidence(forks, &evidence) == 4);
	apm_forks_free(forks);
}

/* What a node votes for, and when it mines. */
static void
test_next(void)
{
	ApmForks *forks = tree_of(3, 2, 64);
	Branch genesis = branches_genesis();
	Branch a = branches_child(&genesis, 0, 0);
	Branch b = branches_child(&a, 1, 0);
	ApmDigest stranger = sample_digest(0x77);
	ApmVoteRecord last = {0};
	ApmMineRecord mined = {true, a.at, genesis.at.hash};
	ApmVote next;
	uint64_t wait;

	CHECK(!apm_forks_next_vote(forks, branches_node(0), &last, &next)); /* nothing to vote for */
	CHECK(apm_forks_turn(forks, branches_node(0), &nothing, 100, &wait) && wait == 0);
	CHECK(apm_forks_turn(forks, branches_node(2), &nothing, 100, &wait) && wait == 200);
	CHECK(!apm_forks_turn(forks, branches_node(0), &mined, 100, &wait)); /* it signed one on this */

	CHECK(offer(forks, &a) == APM_FORK_TAKEN);
	CHECK(apm_forks_next_vote(forks, branches_node(2), &last, &next));
	CHECK(is(&next.source, &genesis) && is(&next.target, &a) &&
		  memcmp(&next.node, branches_node(2), 32) == 0);
	CHECK(!apm_forks_next_vote(forks, &stranger, &last, &next));
	CHECK(!apm_forks_turn(forks, &stranger, &nothing, 100, &wait));
	CHECK(!apm_forks_turn(forks, branches_node(0), &mined, 100, &wait)); /* diversity */
	CHECK(apm_forks_turn(forks, branches_node(1), &nothing, 100, &wait) &&
		  wait == 200); /* not justified yet */
	CHECK(vote(forks, 0, &genesis, &a) == APM_FORK_TAKEN && vote(forks, 2, &genesis, &a) == APM_FORK_TAKEN);
	CHECK(apm_forks_turn(forks, branches_node(1), &nothing, 100, &wait) && wait == 0);
	CHECK(apm_forks_turn(forks, branches_node(2), &nothing, 100, &wait) && wait == 100);

	CHECK(offer(forks, &b) == APM_FORK_TAKEN);
	last = (ApmVoteRecord){true, genesis.at, b.at};
	CHECK(!apm_forks_next_vote(forks, branches_node(2), &last, &next)); /* two with one target height */
	last = (ApmVoteRecord){true, genesis.at, a.at};
	CHECK(apm_forks_next_vote(forks, branches_node(2), &last, &next) && is(&next.source, &a) &&
		  is(&next.target, &b));
	apm_forks_free(forks);
}

/* Who signed a block signs no other on its parent, and none of its height until a shorter branch is the best one. */
static void
test_sign_once(void)
{
	ApmForks *forks = tree_of(7, 4, 64);
	Branch genesis = branches_genesis();
	Branch a = branches_child(&genesis, 0, 0);
	Branch b = branches_child(&genesis, 1, 0);
	Branch a2 = branches_child(&a, 2, 0);
	Branch a3 = branches_child(&a2, 3, 0);
	Branch b2 = branches_child(&b, 2, 4);
	ApmMineRecord mined = {true, a2.at, a.at.hash};
	const ApmEvidence *evidence;
	uint64_t wait;

	CHECK(offer(forks, &a) == APM_FORK_TAKEN && offer(forks, &b) == APM_FORK_TAKEN);
	CHECK(offer(forks, &a2) == APM_FORK_TAKEN && is(apm_forks_head(forks), &a2));
	mined = (ApmMineRecord){true, a3.at, a2.at.hash};
	CHECK(!apm_forks_turn(forks, branches_node(3), &mined, 100,
						  &wait)); /* its block is not here, but on the head */
	CHECK(offer(forks, &a3) == APM_FORK_TAKEN);
	mined = (ApmMineRecord){true, a2.at, a.at.hash};
	for (uint32_t node = 3; node < 6; node++)
		CHECK(vote(forks, node, &genesis, &b) == APM_FORK_TAKEN);
	CHECK(is(apm_forks_head(forks), &a3));
	CHECK(vote(forks, 6, &genesis, &b) == APM_FORK_TAKEN && is(apm_forks_head(forks), &b));
	/* b is justified and shorter: who mined on a may mine that height again */
	CHECK(apm_forks_turn(forks, branches_node(2), &mined, 100, &wait));
	CHECK(offer(forks, &b2) == APM_FORK_TAKEN && apm_forks_evidence(forks, &evidence) == 1);
	CHECK(evidence[0].kind == APM_EVIDENCE_HEIGHT && is(&evidence[0].target[0], &a2));
	mined = (ApmMineRecord){true, b2.at, b.at.hash};
	CHECK(!apm_forks_turn(forks, branches_node(2), &mined, 100, &wait));
	apm_forks_free(forks);
}

/* A longer branch of less work holds nobody back who mined on it. */
static void
test_sign_again(void)
{
	ApmForks *forks = tree_of(3, 2, 64);
	Branch genesis = branches_genesis();
	Branch a = branches_child(&genesis, 0, 0);
	Branch a2 = branches_child(&a, 1, 0);
	Branch b = branches_child(&genesis, 2, 6);
	ApmMineRecord mined = {true, a2.at, a.at.hash};
	uint64_t wait;

	CHECK(offer(forks, &a) == APM_FORK_TAKEN && offer(forks, &a2) == APM_FORK_TAKEN);
	CHECK(offer(forks, &b) == APM_FORK_TAKEN && is(apm_forks_head(forks), &b));
	CHECK(apm_forks_turn(forks, branches_node(1), &mined, 100, &wait));
	mined = (ApmMineRecord){true, {2, sample_digest(9)}, b.at.hash};
	CHECK(!apm_forks_turn(forks, branches_node(1), &mined, 100, &wait));
	apm_forks_free(forks);
}

/* One node floods a small tree with blocks: the others' blocks and the best branch find room all the same. */
static void
test_flood(void)
{
	ApmForks *forks = tree_of(5, 3, 16);
	Branch genesis = branches_genesis();
	Branch tip = genesis;
	Branch junk;
	long taken = 0;
	long full = 0;

	for (uint64_t i = 0; i < 1000; i++)
	{
		ApmForkResult result;

		junk = branches_child(&genesis, 4, 0);
		junk.at.hash.bytes[0] = 0xff;
		memcpy(junk.at.hash.bytes + 8, &i, sizeof(i));
		result = offer(forks, &junk);
		taken += result == APM_FORK_TAKEN;
		full += result == APM_FORK_FULL;
	}
	CHECK(taken == 15 && full == 985 && apm_forks_size(forks) == 16);
	for (uint32_t i = 0; i < 4; i++)
	{
		tip = branches_child(&tip, i % 3, 0);
		CHECK(offer(forks, &tip) == APM_FORK_TAKEN && is(apm_forks_head(forks), &tip));
		CHECK(apm_forks_size(forks) == 16);
	}
	/* a quarter of the capacity stands on the last justified block: nobody mines further */
	CHECK(!apm_forks_turn(forks, branches_node(3), &nothing, 100, &(uint64_t){0}));
	for (uint32_t node = 0; node < 3; node++)
		CHECK(vote(forks, node, &genesis, &tip) == APM_FORK_TAKEN);
	CHECK(apm_forks_turn(forks, branches_node(3), &nothing, 100, &(uint64_t){0}));
	/* and when it is final, the flood is gone */
	junk = branches_child(&tip, 3, 0);
	CHECK(offer(forks, &junk) == APM_FORK_TAKEN);
	for (uint32_t node = 0; node < 3; node++)
		CHECK(vote(forks, node, &tip, &junk) == APM_FORK_TAKEN);
	CHECK(apm_forks_size(forks) == 2 && is(apm_forks_final(forks), &tip));
	apm_forks_free(forks);
}

/* A node that votes from everywhere to everywhere fills its own room and nobody else's. */
static void
test_votes_bounded(void)
{
	ApmForks *forks = tree_of(7, 4, 9);
	Branch chain[9];
	long taken = 0;
	long full = 0;

	chain[0] = branches_genesis();
	for (uint32_t i = 1; i < 9; i++)
	{
		chain[i] = branches_child(&chain[i - 1], i % 7, 0);
		CHECK(offer(forks, &chain[i]) == APM_FORK_TAKEN);
	}
	for (uint32_t s = 0; s < 8; s++)
	{
		for (uint32_t t = s + 1; t < 9; t++)
		{
			ApmForkResult result = vote(forks, 6, &chain[s], &chain[t]);

			taken += result == APM_FORK_TAKEN;
			full += result == APM_FORK_FULL;
		}
	}
	CHECK(taken == 9 && full == 36 - 9);
	CHECK(vote(forks, 5, &chain[0], &chain[8]) == APM_FORK_TAKEN);
	apm_forks_free(forks);
}

static void
test_setup(void)
{
	ApmForksSetup good = branches_setup(3, 2, 64);
	ApmForksSetup bad;
	ApmForks *forks;
	ApmDigest unsorted[] = {*branches_node(1), *branches_node(0), *branches_node(2)};

	bad = good;
	bad.count = 0;
	CHECK_STATUS(apm_forks_new(&bad, &forks), APM_ERR_RANGE);
	bad = good;
	bad.quorum = 0;
	CHECK_STATUS(apm_forks_new(&bad, &forks), APM_ERR_RANGE);
	bad.quorum = 4;
	CHECK_STATUS(apm_forks_new(&bad, &forks), APM_ERR_RANGE);
	bad = good;
	bad.capacity = 7;
	CHECK_STATUS(apm_forks_new(&bad, &forks), APM_ERR_RANGE);
	bad.capacity = APM_FORKS_CAPACITY_MAX + 1;
	CHECK_STATUS(apm_forks_new(&bad, &forks), APM_ERR_RANGE);
	bad = good;
	bad.nodes = unsorted;
	CHECK_STATUS(apm_forks_new(&bad, &forks), APM_ERR_RANGE);
}

/* Started again from its last final block and line, a tree says what the other one says. */
static void
test_restart(void)
{
	ApmForks *forks = tree_of(3, 2, 64);
	ApmForks *again;
	ApmForksSetup setup = branches_setup(3, 2, 64);
	Branch genesis = branches_genesis();
	Branch a = branches_child(&genesis, 1, 0);
	Branch b = branches_child(&a, 0, 0);
	Branch late = branches_child(&a, 1, 0);
	uint64_t wait;
	uint64_t wait_again;

	CHECK(offer(forks, &a) == APM_FORK_TAKEN && offer(forks, &b) == APM_FORK_TAKEN);
	for (uint32_t node = 0; node < 2; node++)
		CHECK(vote(forks, node, &genesis, &a) == APM_FORK_TAKEN &&
			  vote(forks, node, &a, &b) == APM_FORK_TAKEN);
	CHECK(is(apm_forks_final(forks), &a));
	setup.root = *apm_forks_final(forks);
	setup.root_us = a.header.time_us;
	setup.line = apm_forks_line(forks);
	CHECK_OK(apm_forks_new(&setup, &again));
	/* who signed the last final block may not sign the next one */
	CHECK(offer(again, &late) == APM_FORK_DIVERSITY && offer(forks, &late) == APM_FORK_DIVERSITY);
	CHECK(offer(again, &b) == APM_FORK_TAKEN);
	for (uint32_t node = 0; node < 2; node++)
		CHECK(vote(again, node, &a, &b) == APM_FORK_TAKEN);
	CHECK(is(apm_forks_head(again), &b) && is(apm_forks_justified(again), &b));
	for (uint32_t node = 0; node < 3; node++)
	{
		bool may = apm_forks_turn(forks, branches_node(node), &nothing, 100, &wait);

		CHECK(apm_forks_turn(again, branches_node(node), &nothing, 100, &wait_again) == may);
		CHECK(!may || wait == wait_again);
	}
	apm_forks_free(again);
	apm_forks_free(forks);
}

/* Each answer APM_FORK_MEMORY, and the same once more when there is memory. */
static ApmStatus
walk(void)
{
	Branch genesis = branches_genesis();
	Branch a = branches_child(&genesis, 0, 0);
	Branch twin = branches_child(&genesis, 0, 1);
	Branch b = branches_child(&a, 1, 0);
	ApmForksSetup setup = branches_setup(3, 2, 64);
	ApmForks *forks = NULL;
	ApmStatus status = apm_forks_new(&setup, &forks);
	ApmForkResult result = APM_FORK_TAKEN;

	if (status != APM_OK)
		return status;
	if (result == APM_FORK_TAKEN)
		result = offer(forks, &a);
	if (result == APM_FORK_TAKEN)
		result = offer(forks, &twin);
	if (result == APM_FORK_TAKEN)
		result = offer(forks, &b);
	if (result == APM_FORK_TAKEN)
		result = vote(forks, 0, &genesis, &a);
	if (result == APM_FORK_TAKEN)
		result = vote(forks, 0, &genesis, &twin);
	apm_forks_free(forks);
	return result == APM_FORK_TAKEN ? APM_OK : APM_ERR_MEMORY;
}

int
main(void)
{
	test_setup();
	test_finality();
	test_links();
	test_choice();
	test_refused();
	test_evidence();
	test_next();
	test_sign_once();
	test_sign_again();
	test_flood();
	test_votes_bounded();
	test_restart();
	CHECK_EACH_ALLOCATION(walk);
	return check_summary();
}
