/*
 * make_ledger.c
 *	  An exported ledger of a few blocks, with digests and proofs of it.  Its second block is the worked
 *	  example of doc/format.md.
 */
#include "vectors.h"

#define BLOCKS 6

static void
small_story(Story *s)
{
	ApmTransaction tx;

	memset(s, 0, sizeof(*s));
	for (int i = 0; i < 2; i++)
	{
		s->nodes[i] = sample_key();
		s->origins[i] = sample_key();
	}
	s->other = sample_key();
	chain_open(&s->chain, s->nodes[0], BLOCKS);
	story_genesis(s);

	/* the worked example: one registration, and a record of somebody who is not registered */
	s->chain.time_us += 60 * SECOND;
	tx = story_profile(s, 2);
	story_put(s, &tx);
	tx = story_record(s, 1);
	tx.u.primary.apid = sample_text("r.nobody");
	story_put(s, &tx);
	chain_seal(&s->chain);

	s->chain.time_us += 60 * SECOND;
	for (int n = 0; n < 2; n++)
	{
		tx = story_profile(s, n);
		story_put(s, &tx);
	}
	story_add_record(s, 0, false, 3);
	story_add_record(s, 1, false, 1);
	story_rules(s);
	story_succession(s, APM_MEMBER_NODE, (const ApmEcKey *const *) s->nodes);
	chain_seal(&s->chain);
	s->chain.node = s->nodes[1];

	s->chain.time_us += 60 * SECOND;
	tx = story_query(s, 0, APM_SCOPE_RECORDS, APM_ROLE_CLINICIAN);
	story_put(s, &tx);
	story_put(s, &tx);
	story_search(s, 1);
	story_emergency(s, 1);
	story_add_record(s, 1, true, 1);
	chain_seal(&s->chain);

	s->chain.time_us += 60 * SECOND;
	story_review(s, 1);
	story_consent(s, 1, APM_CONSENT_REVOKE);
	CHECK(chain_erase(&s->chain, story_origin(s), story_patient(0)) == APM_RULE_NONE);
	chain_seal(&s->chain);

	s->chain.time_us += 60 * SECOND;
	tx = story_query(s, 1, APM_SCOPE_RECORDS, APM_ROLE_CLINICIAN);
	story_put(s, &tx);
	chain_seal(&s->chain);
}

static ApmHead
small_head(const Story *s, size_t height)
{
	return chain_head(&s->chain, height, s->nodes[height > 2]);
}

static void
write_head(const char *directory, const Story *s, size_t height, const char *file)
{
	ApmHead head = small_head(s, height);
	ApmBuf out = {0};

	apm_head_write(&head, &out);
	write_file(directory, file, slice_of(&out));
	apm_buf_reset(&out);
}

static void
write_proof(const char *directory, const Story *s, size_t height, size_t position, const char *file)
{
	ApmProof proof = proof_of(s->chain.blocks, height, position, BLOCKS - 1);
	ApmBuf out = {0};

	apm_proof_write(&proof, &out);
	write_file(directory, file, slice_of(&out));
	apm_buf_reset(&out);
	apm_proof_free(&proof);
}

static void
write_ledger(const char *directory, const Story *s)
{
	ApmBuf out = {0};

	for (size_t i = 0; i < BLOCKS; i++)
	{
		ApmBuf line = {0};
		char *text;

		apm_stored_encode(&s->chain.blocks[i].stored, &line);
		text = malloc(apm_base64_len(line.len) + 1);
		apm_base64_encode(line.data, line.len, text);
		apm_put_raw(&out, text, apm_base64_len(line.len));
		apm_put_u8(&out, '\n');
		free(text);
		apm_buf_reset(&line);
	}
	write_file(directory, "ledger.txt", slice_of(&out));
	apm_buf_reset(&out);
}

bool
make_ledger(const char *directory)
{
	static Story s;
	ApmConsistency growth;
	ApmBuf out = {0};

	small_story(&s);
	write_ledger(directory, &s);
	write_head(directory, &s, 2, "old-digest.json");
	write_head(directory, &s, BLOCKS - 1, "digest.json");
	write_proof(directory, &s, 2, 3, "proof-record.json");
	write_proof(directory, &s, 3, 1, "proof-refused-query.json");
	growth = consistency_of(s.chain.blocks, 2, BLOCKS - 1);
	apm_consistency_write(&growth, &out);
	write_file(directory, "consistency.json", slice_of(&out));
	apm_buf_reset(&out);
	story_close(&s);
	return check_failed == 0;
}
