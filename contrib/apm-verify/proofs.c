/*
 * proofs.c
 *	  Digests, proofs of a transaction, proofs of a chain's growth.
 */
#include <inttypes.h>

#include "core/contract.h"
#include "core/proof.h"

#include "verify.h"

Verdict
read_head(const char *name, ApmHead *out)
{
	ApmBuf text = {0};
	ApmStatus status;

	if (!read_file(name, &text))
	{
		apm_buf_reset(&text);
		return VERDICT_NONE;
	}
	status = apm_head_read(APM_SLICE(text.data, text.len), out);
	apm_buf_reset(&text);
	switch (status)
	{
		case APM_OK:
			return VERDICT_GOOD;
		case APM_ERR_VERIFY:
			printf("fault: %s: the digest is not what its node signed\n", name);
			return VERDICT_FAULT;
		case APM_ERR_FORMAT:
			return cannot("%s is not a digest", name);
		default:
			return cannot("cannot check %s", name);
	}
}

Verdict
verify_head(const char *name)
{
	char time[APM_TIME_TEXT_LEN + 1];
	ApmHead head;
	Verdict verdict = read_head(name, &head);

	if (verdict != VERDICT_GOOD)
		return verdict;
	if (apm_time_write(head.header.time_us, time) != APM_OK)
		return cannot("%s has no time", name);
	printf("ok: height %" PRIu64 " of chain %s at %s, hash %s, ", head.header.height,
		   hex_of(&head.header.chain, APM_DIGEST_LEN), time, hex_of(&head.hash, APM_DIGEST_LEN));
	printf("signed by node %s\n", hex_of(&head.header.node, APM_DIGEST_LEN));
	return VERDICT_GOOD;
}

/* What the proof proves, in one line; nothing of what the transaction says but who is known to ask. */
static Verdict
print_proved(const ApmProof *proof)
{
	const ApmTransaction *tx = &proof->opened.tx;
	char time[APM_TIME_TEXT_LEN + 1];

	if (apm_time_write(proof->header.time_us, time) != APM_OK)
		return cannot("the block has no time");
	printf("ok: transaction %s, ", uuid_of(&proof->opened.tid));
	if (proof->rule == APM_RULE_NONE)
		printf("a valid %s", apm_kind_name(tx->kind));
	else if (apm_rule_name(proof->rule) != NULL)
		printf("a %s refused by rule %s", apm_kind_name(tx->kind), apm_rule_name(proof->rule));
	else
		printf("a %s refused by rule %u of its chain", apm_kind_name(tx->kind), proof->rule);
	if (tx->kind == APM_KIND_PRIMARY)
		printf(" of record %s", uuid_of(&tx->u.primary.rid));
	printf(", stands at height %" PRIu64 ", position %" PRIu32 ", recorded at %s, in chain %s\n",
		   proof->header.height, proof->position, time, hex_of(&proof->header.chain, APM_DIGEST_LEN));
	return VERDICT_GOOD;
}

static Verdict
judge_proof(const char *name, ApmProof *proof, const ApmHead *head)
{
	switch (apm_proof_verify(proof, head))
	{
		case APM_OK:
			return print_proved(proof);
		case APM_ERR_VERIFY:
			printf("fault: %s: the transaction does not stand in the chain of this digest\n", name);
			return VERDICT_FAULT;
		case APM_ERR_FORMAT:
			return cannot("%s is not a proof", name);
		case APM_ERR_RANGE:
			return cannot("%s leads to height %" PRIu64 ", the digest is of height %" PRIu64
						  ": ask for a proof that leads to this digest",
						  name, proof->head, head->header.height);
		default:
			return cannot("cannot check %s", name);
	}
}

Verdict
verify_proof(const char *name, const char *head_name)
{
	ApmBuf text = {0};
	ApmProof proof = {0};
	ApmHead head;
	Verdict verdict = read_head(head_name, &head);

	if (verdict == VERDICT_GOOD && !read_file(name, &text))
		verdict = VERDICT_NONE;
	if (verdict == VERDICT_GOOD)
	{
		ApmStatus status = apm_proof_read(APM_SLICE(text.data, text.len), &proof);

		if (status == APM_OK)
			verdict = judge_proof(name, &proof, &head);
		else
			verdict = status == APM_ERR_FORMAT ? cannot("%s is not a proof", name)
											   : cannot("cannot check %s", name);
	}
	apm_proof_free(&proof);
	apm_buf_reset(&text);
	return verdict;
}

static Verdict
judge_consistency(const char *name, ApmSlice text, const ApmHead *old_head, const ApmHead *new_head)
{
	ApmConsistency proof;

	if (apm_consistency_read(text, &proof) != APM_OK)
		return cannot("%s is not a proof of consistency", name);
	switch (apm_consistency_verify(&proof, old_head, new_head))
	{
		case APM_OK:
			printf("ok: chain %s of height %" PRIu64 " has grown out of that of height %" PRIu64 "\n",
				   hex_of(&new_head->header.chain, APM_DIGEST_LEN), new_head->header.height,
				   old_head->header.height);
			return VERDICT_GOOD;
		case APM_ERR_VERIFY:
			printf("fault: %s: the new digest's chain has not grown out of the old one's\n", name);
			return VERDICT_FAULT;
		case APM_ERR_RANGE:
			return cannot(
				"%s is of heights %" PRIu64 " and %" PRIu64 ", the digests are of %" PRIu64 " and %" PRIu64,
				name, proof.old_height, proof.new_height, old_head->header.height, new_head->header.height);
		default:
			return cannot("cannot check %s", name);
	}
}

Verdict
verify_consistency(const char *name, const char *old_name, const char *new_name)
{
	ApmBuf text = {0};
	ApmHead old_head;
	ApmHead new_head;
	Verdict verdict = read_head(old_name, &old_head);

	if (verdict == VERDICT_GOOD)
		verdict = read_head(new_name, &new_head);
	if (verdict == VERDICT_GOOD && !read_file(name, &text))
		verdict = VERDICT_NONE;
	if (verdict == VERDICT_GOOD)
		verdict = judge_consistency(name, APM_SLICE(text.data, text.len), &old_head, &new_head);
	apm_buf_reset(&text);
	return verdict;
}
