/*
 * test_proof.c
 *	  Digests and proofs: those of a chain are good, each that says anything else is not.
 */
#include "proofs.h"

static Story story;

/* Microseconds since 1970 as people write them. */
static void
test_times(void)
{
	static const struct
	{
		uint64_t time_us;
		const char *text;
	} times[] = {
		{0, "1970-01-01T00:00:00.000000Z"},
		{UINT64_C(951782399999999), "2000-02-28T23:59:59.999999Z"},
		{UINT64_C(951782400000000), "2000-02-29T00:00:00.000000Z"},
		{UINT64_C(1700000000123456), "2023-11-14T22:13:20.123456Z"},
		{UINT64_C(4107542400000000), "2100-03-01T00:00:00.000000Z"},
		{UINT64_C(4107542399000001), "2100-02-28T23:59:59.000001Z"},
		{UINT64_C(253402300799999999), "9999-12-31T23:59:59.999999Z"},
	};
	char text[APM_TIME_TEXT_LEN + 1];

	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++)
	{
		CHECK_OK(apm_time_write(times[i].time_us, text));
		CHECK(strcmp(text, times[i].text) == 0);
	}
	CHECK_STATUS(apm_time_write(UINT64_C(253402300800000000), text), APM_ERR_RANGE);
	CHECK_STATUS(apm_time_write(UINT64_MAX, text), APM_ERR_RANGE);
}

/* Every digest of the chain can be read again; with one character other, none is. */
static void
test_heads(void)
{
	ApmBuf text = {0};
	ApmHead head;
	ApmHead got;

	for (size_t height = 0; height < STORY_BLOCKS; height += 9)
	{
		head = story_head(&story, height);
		apm_buf_reset(&text);
		apm_head_write(&head, &text);
		CHECK_OK(apm_buf_status(&text));
		CHECK(text.len < APM_HEAD_TEXT_MAX);
		CHECK_OK(apm_head_read(slice_of(&text), &got));
		CHECK(memcmp(head.encoded, got.encoded, APM_HEADER_LEN) == 0 && got.header.height == height &&
			  memcmp(&head.hash, &got.hash, sizeof(ApmDigest)) == 0);
	}
	for (size_t i = 0; i < text.len; i++)
	{
		uint8_t was = text.data[i];

		if (was == ' ')
			continue;
		text.data[i] = was == '1' ? '2' : '1';
		CHECK(apm_head_read(slice_of(&text), &got) != APM_OK);
		text.data[i] = was;
	}
	CHECK_OK(apm_head_read(slice_of(&text), &got));
	CHECK_STATUS(apm_head_read(APM_SLICE(text.data, text.len - 1), &got), APM_ERR_FORMAT);
	apm_buf_reset(&text);
}

/* A head of another key, one that is not mined, one that is not signed. */
static void
test_bad_heads(void)
{
	ApmHead head = story_head(&story, 5);
	ApmHead other = story_head(&story, 6);

	CHECK_OK(apm_head_check(&head));
	apm_ec_spki(story.nodes[1], head.node);
	CHECK_STATUS(apm_head_check(&head), APM_ERR_VERIFY);
	memset(head.node, 0, APM_SPKI_LEN);
	CHECK_STATUS(apm_head_check(&head), APM_ERR_FORMAT);
	head = story_head(&story, 5);
	head.signature = other.signature;
	CHECK_STATUS(apm_head_check(&head), APM_ERR_VERIFY);
	head = story_head(&story, 5);
	do
	{
		head.header.nonce++;
		apm_header_encode(&head.header, head.encoded);
		CHECK_OK(apm_header_hash(head.encoded, &head.hash));
	} while (apm_hash_meets(&head.hash, CHAIN_BITS));
	CHECK_OK(apm_block_sign(story.nodes[0], &head.hash, &head.signature));
	CHECK_STATUS(apm_head_check(&head), APM_ERR_VERIFY);
	/* well signed, but by a key that the header does not name */
	head = story_head(&story, 5);
	CHECK_OK(apm_block_sign(story.other, &head.hash, &head.signature));
	apm_ec_spki(story.other, head.node);
	CHECK_STATUS(apm_head_check(&head), APM_ERR_VERIFY);
}

static bool
is_proved(ApmProof *proof, const ApmHead *head)
{
	ApmBuf text = {0};
	ApmProof got;
	ApmStatus status;

	apm_proof_write(proof, &text);
	CHECK_OK(apm_proof_read(slice_of(&text), &got));
	status = apm_proof_verify(&got, head);
	if (status == APM_OK)
		CHECK(memcmp(&got.opened.leaf, &proof->opened.leaf, 0) == 0 &&
			  got.header.height <= head->header.height);
	apm_proof_free(&got);
	apm_buf_reset(&text);
	return status == APM_OK;
}

/* All transactions of the chain that have a body, to heads at and behind their block. */
static void
test_proofs(void)
{
	size_t proved = 0;

	for (size_t height = 0; height < STORY_BLOCKS; height++)
	{
		for (size_t i = 0; i < story.chain.blocks[height].stored.count; i++)
		{
			const ApmStoredEntry *e = &story.chain.blocks[height].entries[i];
			size_t to = height + (height * 7 + i) % (STORY_BLOCKS - height);
			ApmHead head = story_head(&story, to);
			ApmProof proof = proof_of(story.chain.blocks, height, i, to);

			CHECK(is_proved(&proof, &head) == (e->rule == APM_RULE_NONE || e->kind == APM_KIND_QUERY));
			proved++;
			apm_proof_free(&proof);
		}
	}
	CHECK(proved > 100);
}

/* A transaction of the head's own block: the head is that block and no other of its height, and has no history to go through. */
static void
test_own_block(void)
{
	static ChainBlock other;
	ApmProof proof = proof_of(story.chain.blocks, 90, 0, 90);
	ApmHead head = story_head(&story, 90);

	CHECK(is_proved(&proof, &head));
	proof.history.count = 1;
	CHECK(!is_proved(&proof, &head));
	proof.history.count = 0;
	other.header = story.chain.blocks[90].header;
	other.header.time_us++;
	chain_sign(&other, story.nodes[1]);
	memcpy(head.encoded, other.encoded, APM_HEADER_LEN);
	head.signature = other.signature;
	CHECK_OK(apm_head_check(&head));
	CHECK(!is_proved(&proof, &head));
	apm_proof_free(&proof);
}

/* One proof, in which everything is changed. */
static void
test_bad_proofs(size_t height, size_t position, size_t to)
{
	ApmProof proof = proof_of(story.chain.blocks, height, position, to);
	ApmHead head = story_head(&story, to);
	ApmHead other = story_head(&story, to - 1);

	CHECK(is_proved(&proof, &head));
	CHECK_STATUS(apm_proof_verify(&proof, &other), APM_ERR_RANGE);
	proof.head--;
	CHECK_STATUS(apm_proof_verify(&proof, &other), APM_ERR_VERIFY);
	proof.head++;
	for (size_t bit = 0; bit < 8 * APM_HEADER_LEN; bit++)
	{
		proof.encoded[bit / 8] ^= (uint8_t) (1 << bit % 8);
		CHECK(!is_proved(&proof, &head));
		proof.encoded[bit / 8] ^= (uint8_t) (1 << bit % 8);
	}
	/* not the proof of the origin, which the leaf does not cover */
	for (size_t bit = 0; bit < 8 * (proof.transaction.len - proof.opened.envelope.proof.len); bit++)
	{
		proof.transaction.data[bit / 8] ^= (uint8_t) (1 << bit % 8);
		CHECK(!is_proved(&proof, &head));
		proof.transaction.data[bit / 8] ^= (uint8_t) (1 << bit % 8);
	}
	proof.position++;
	CHECK(!is_proved(&proof, &head));
	proof.position--;
	proof.rule ^= 1;
	CHECK(!is_proved(&proof, &head));
	proof.rule ^= 1;
	proof.history.nodes[0].bytes[0] ^= 1;
	CHECK(!is_proved(&proof, &head));
	proof.history.nodes[0].bytes[0] ^= 1;
	proof.history.count--;
	CHECK(!is_proved(&proof, &head));
	proof.history.count++;
	proof.path.nodes[0].bytes[0] ^= 1;
	CHECK(!is_proved(&proof, &head));
	proof.path.nodes[0].bytes[0] ^= 1;
	CHECK(is_proved(&proof, &head));
	apm_proof_free(&proof);
}

/* Between all pairs of heads; none that is changed, or of other heads. */
static void
test_consistency(void)
{
	ApmHead old_head;
	ApmHead new_head;

	for (size_t from = 0; from < STORY_BLOCKS; from += 3)
	{
		old_head = story_head(&story, from);
		for (size_t to = from; to < STORY_BLOCKS; to += 7)
		{
			ApmConsistency proof = consistency_of(story.chain.blocks, from, to);
			ApmConsistency got;
			ApmBuf text = {0};

			new_head = story_head(&story, to);
			apm_consistency_write(&proof, &text);
			CHECK_OK(apm_consistency_read(slice_of(&text), &got));
			CHECK_OK(apm_consistency_verify(&got, &old_head, &new_head));
			got.inclusion.nodes[got.inclusion.count++] = sample_digest(1);
			CHECK_STATUS(apm_consistency_verify(&got, &old_head, &new_head), APM_ERR_VERIFY);
			got.inclusion.count--;
			got.history.nodes[got.history.count++] = sample_digest(1);
			CHECK_STATUS(apm_consistency_verify(&got, &old_head, &new_head), APM_ERR_VERIFY);
			got.history.count--;
			if (got.inclusion.count > 0)
				got.inclusion.nodes[0].bytes[5] ^= 4;
			CHECK_STATUS(apm_consistency_verify(&got, &old_head, &new_head),
						 got.inclusion.count > 0 ? APM_ERR_VERIFY : APM_OK);
			got.new_height++;
			CHECK_STATUS(apm_consistency_verify(&got, &old_head, &new_head), APM_ERR_RANGE);
			apm_buf_reset(&text);
		}
	}
}

static const char bad_proof[] =
	"{\"type\": \"apm consistency\", \"version\": 1, \"old\": 2, \"new\": 1, \"history\": [], \"inclusion\": []}";

static void
test_refused_texts(void)
{
	ApmConsistency growth;
	ApmProof proof;

	CHECK_STATUS(apm_consistency_read(APM_SLICE(bad_proof, sizeof(bad_proof) - 1), &growth), APM_ERR_FORMAT);
	CHECK_STATUS(apm_proof_read(APM_SLICE(bad_proof, sizeof(bad_proof) - 1), &proof), APM_ERR_FORMAT);
	apm_proof_free(&proof);
}

int
main(void)
{
	story_open(&story);
	test_times();
	test_heads();
	test_bad_heads();
	test_proofs();
	test_own_block();
	test_bad_proofs(20, 1, 60);
	test_bad_proofs(57, 0, 99);
	test_consistency();
	test_refused_texts();
	story_close(&story);
	return check_summary();
}
