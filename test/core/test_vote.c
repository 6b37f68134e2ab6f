/*
 * test_vote.c
 *	  Bytes of a vote, its signature, and the two rules: the last vote is enough to remember, and neither half of
 *	  what is held against it can be left out.
 */
#include "core/vote.h"

#include "sample.h"

#define ROUNDS 2000
#define VOTES 12
#define HEIGHTS 10

static ApmVote
sample_vote(void)
{
	return (ApmVote){.chain = sample_digest(0xc0),
					 .node = sample_digest(0x11),
					 .source = {7, sample_digest(0x22)},
					 .target = {9, sample_digest(0x33)}};
}

/* As doc/format.md has them. */
static void
test_bytes(void)
{
	ApmVote vote = sample_vote();
	ApmVote back;
	uint8_t bytes[APM_VOTE_LEN + 1] = {0};

	apm_vote_encode(&vote, bytes);
	CHECK_HEX(bytes, 2, "5601");
	CHECK_HEX(bytes + 2, 32, "c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0");
	CHECK_HEX(bytes + 34, 32, "1111111111111111111111111111111111111111111111111111111111111111");
	CHECK_HEX(bytes + 66, 40,
			  "0000000000000007 2222222222222222222222222222222222222222222222222222222222222222");
	CHECK_HEX(bytes + 106, 40,
			  "0000000000000009 3333333333333333333333333333333333333333333333333333333333333333");
	CHECK_OK(apm_vote_decode(APM_SLICE(bytes, APM_VOTE_LEN), &back));
	CHECK(memcmp(&back.chain, &vote.chain, 32) == 0 && memcmp(&back.node, &vote.node, 32) == 0 &&
		  apm_checkpoints_equal(&back.source, &vote.source) &&
		  apm_checkpoints_equal(&back.target, &vote.target));

	CHECK_STATUS(apm_vote_decode(APM_SLICE(bytes, APM_VOTE_LEN - 1), &back), APM_ERR_FORMAT);
	CHECK_STATUS(apm_vote_decode(APM_SLICE(bytes, APM_VOTE_LEN + 1), &back), APM_ERR_FORMAT);
	for (size_t at = 0; at < 2; at++)
	{
		bytes[at] ^= 1;
		CHECK_STATUS(apm_vote_decode(APM_SLICE(bytes, APM_VOTE_LEN), &back), APM_ERR_FORMAT);
		bytes[at] ^= 1;
	}
	/* a target that is not above its source, or beyond what a ledger counts to */
	bytes[113] = 7;
	CHECK_STATUS(apm_vote_decode(APM_SLICE(bytes, APM_VOTE_LEN), &back), APM_ERR_FORMAT);
	bytes[106] = 0x80;
	CHECK_STATUS(apm_vote_decode(APM_SLICE(bytes, APM_VOTE_LEN), &back), APM_ERR_FORMAT);
}

/* A signature covers every byte, and is none for a block. */
static void
test_signature(void)
{
	ApmEcKey *key = sample_key();
	ApmVote vote = sample_vote();
	ApmSignature signature;
	uint8_t bytes[APM_VOTE_LEN];

	CHECK_OK(apm_vote_sign(key, &vote, &signature));
	CHECK_OK(apm_vote_verify(key, &vote, &signature));
	apm_vote_encode(&vote, bytes);
	for (size_t at = 2; at < APM_VOTE_LEN; at++)
	{
		ApmVote other;

		bytes[at] ^= 1;
		if (apm_vote_decode(APM_SLICE(bytes, APM_VOTE_LEN), &other) == APM_OK)
			CHECK_STATUS(apm_vote_verify(key, &other, &signature), APM_ERR_VERIFY);
		bytes[at] ^= 1;
	}
	apm_ec_free(key);
}

static void
test_conflict(void)
{
	/* heights of source and target, and the variant of the target's hash */
	static const struct
	{
		uint64_t s1, t1, s2, t2;
		uint8_t h1, h2;
		ApmVoteConflict want;
	} cases[] = {
		{1, 2, 1, 2, 0, 0, APM_VOTE_NO_CONFLICT}, /* the same */
		{1, 2, 1, 2, 0, 1, APM_VOTE_DOUBLE},	  {0, 2, 1, 2, 0, 0, APM_VOTE_DOUBLE},
		{1, 2, 2, 3, 0, 0, APM_VOTE_NO_CONFLICT}, {1, 2, 1, 3, 0, 0, APM_VOTE_NO_CONFLICT},
		{1, 4, 2, 3, 0, 0, APM_VOTE_SURROUND},	  {1, 3, 2, 4, 0, 0, APM_VOTE_NO_CONFLICT},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		ApmCheckpoint s1 = {cases[i].s1, sample_digest(1)};
		ApmCheckpoint t1 = {cases[i].t1, sample_digest(cases[i].h1)};
		ApmCheckpoint s2 = {cases[i].s2, sample_digest(1)};
		ApmCheckpoint t2 = {cases[i].t2, sample_digest(cases[i].h2)};

		CHECK(apm_vote_conflict(&s1, &t1, &s2, &t2) == cases[i].want);
		CHECK(apm_vote_conflict(&s2, &t2, &s1, &t1) == cases[i].want);
	}
}

/* What a node holds a new vote against, with one half of it left out on purpose. */
typedef enum Half
{
	WHOLE,
	NO_TARGET, /* targets need not ascend */
	NO_SOURCE  /* sources may descend */
} Half;

static bool
allowed(const ApmVoteRecord *last, const ApmVote *vote, Half half)
{
	if (!last->voted || half == WHOLE)
		return apm_vote_allowed(last, &vote->source, &vote->target);
	if (half == NO_TARGET)
		return vote->source.height >= last->source.height;
	return vote->target.height > last->target.height;
}

/* Votes by chance, of which a node gives those that it may; how many pairs of them are in conflict? */
static long
conflicts(Half half)
{
	long found = 0;

	for (int round = 0; round < ROUNDS; round++)
	{
		ApmVoteRecord last = {0};
		ApmVote given[VOTES];
		size_t n = 0;

		for (int i = 0; i < VOTES; i++)
		{
			uint64_t from = (uint64_t) (random() % HEIGHTS);
			ApmVote vote = {
				.source = {from, sample_digest((uint8_t) (random() % 2))},
				.target = {from + 1 + (uint64_t) (random() % 3), sample_digest((uint8_t) (random() % 2))}};

			if (!allowed(&last, &vote, half))
				continue;
			for (size_t j = 0; j < n; j++)
				found += apm_vote_conflict(&given[j].source, &given[j].target, &vote.source, &vote.target) !=
						 APM_VOTE_NO_CONFLICT;
			given[n++] = vote;
			last = (ApmVoteRecord){true, vote.source, vote.target};
		}
	}
	return found;
}

static void
test_record(void)
{
	ApmVoteRecord last = {0};
	ApmVote vote = sample_vote();
	ApmCheckpoint high = {10, sample_digest(0x44)};
	ApmCheckpoint low = {6, sample_digest(0x55)};

	CHECK(apm_vote_allowed(&last, &vote.source, &vote.target));
	CHECK(!apm_vote_allowed(&last, &vote.target, &vote.target));
	last = (ApmVoteRecord){true, vote.source, vote.target};
	CHECK(apm_vote_allowed(&last, &vote.source, &vote.target)); /* once more */
	CHECK(apm_vote_allowed(&last, &vote.source, &high));
	CHECK(apm_vote_allowed(&last, &vote.target, &high));
	CHECK(!apm_vote_allowed(&last, &low, &high));
	CHECK(!apm_vote_allowed(&last, &low, &vote.target));
	vote.target.hash = sample_digest(0x66);
	CHECK(!apm_vote_allowed(&last, &vote.source, &vote.target));

	srandom(1);
	CHECK(conflicts(WHOLE) == 0);
	CHECK(conflicts(NO_TARGET) > 0);
	CHECK(conflicts(NO_SOURCE) > 0);
}

/* Two quorums share a node, or more than a third of them. */
static void
test_quorum(void)
{
	long wrong = 0;

	for (uint32_t n = 1; n <= 1024; n++)
	{
		uint32_t majority = apm_quorum(APM_QUORUM_MAJORITY, n);
		uint32_t thirds = apm_quorum(APM_QUORUM_TWO_THIRDS, n);

		wrong += majority > n || thirds > n || 2 * majority < n + 1 || 2 * (majority - 1) > n;
		wrong += 3 * (2 * thirds - n) <= n || n - (n - 1) / 3 < thirds || n - (n - 1) / 2 < majority;
	}
	CHECK(wrong == 0);
	CHECK(apm_quorum(APM_QUORUM_MAJORITY, 3) == 2 && apm_quorum(APM_QUORUM_TWO_THIRDS, 4) == 3);
}

int
main(void)
{
	test_bytes();
	test_signature();
	test_conflict();
	test_record();
	test_quorum();
	return check_summary();
}
