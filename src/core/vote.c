/*
 * vote.c
 *	  Votes: bytes, signatures, and the two rules.
 *
 * Why the last vote is enough to remember.  Say that each vote of a node has a higher target and no lower source than
 * the one before.  Then targets ascend strictly, so no two are of one height (rule I).  Of two votes the later one has
 * the higher target, so if one lies within the other it is the earlier within the later; but then the later one's
 * source would be lower, and sources never descend (rule II).  Both follow by induction from
 * comparing with the last vote alone.  A node that keeps to this gives up some votes that the rules would allow, never
 * the one that it needs: its last justified block only ever ascends, and branches grow.
 */
#include "vote.h"

#include "digest.h"

#define VOTE_TAG 'V'
#define ENCODING_VERSION 1

bool
apm_checkpoints_equal(const ApmCheckpoint *a, const ApmCheckpoint *b)
{
	return a->height == b->height && memcmp(&a->hash, &b->hash, sizeof(a->hash)) == 0;
}

static uint8_t *
write_digest(uint8_t *at, const ApmDigest *digest)
{
	memcpy(at, digest->bytes, APM_DIGEST_LEN);
	return at + APM_DIGEST_LEN;
}

static uint8_t *
write_checkpoint(uint8_t *at, const ApmCheckpoint *checkpoint)
{
	for (int shift = 56; shift >= 0; shift -= 8)
		*at++ = (uint8_t) (checkpoint->height >> shift);
	return write_digest(at, &checkpoint->hash);
}

void
apm_vote_encode(const ApmVote *vote, uint8_t out[APM_VOTE_LEN])
{
	uint8_t *at = out;

	*at++ = VOTE_TAG;
	*at++ = ENCODING_VERSION;
	at = write_digest(at, &vote->chain);
	at = write_digest(at, &vote->node);
	at = write_checkpoint(at, &vote->source);
	write_checkpoint(at, &vote->target);
}

static void
read_checkpoint(ApmReader *r, ApmCheckpoint *out)
{
	out->height = apm_get_u64(r);
	apm_get_raw(r, out->hash.bytes, APM_DIGEST_LEN);
}

ApmStatus
apm_vote_decode(ApmSlice in, ApmVote *out)
{
	ApmVote vote;
	ApmReader r;

	apm_reader_init(&r, in);
	apm_expect_u8(&r, VOTE_TAG);
	apm_expect_u8(&r, ENCODING_VERSION);
	apm_get_raw(&r, vote.chain.bytes, APM_DIGEST_LEN);
	apm_get_raw(&r, vote.node.bytes, APM_DIGEST_LEN);
	read_checkpoint(&r, &vote.source);
	read_checkpoint(&r, &vote.target);
	if (!apm_reader_done(&r) || vote.target.height > INT64_MAX || vote.target.height <= vote.source.height)
		return APM_ERR_FORMAT;
	*out = vote;
	return APM_OK;
}

static ApmStatus
vote_message(const ApmVote *vote, ApmDigest *out)
{
	static const char label[] = "apm vote";
	uint8_t bytes[APM_VOTE_LEN];
	ApmSlice parts[] = {APM_SLICE(label, sizeof(label)), APM_SLICE(bytes, sizeof(bytes))};

	apm_vote_encode(vote, bytes);
	return apm_sha256_parts(parts, 2, out);
}

ApmStatus
apm_vote_sign(const ApmEcKey *node, const ApmVote *vote, ApmSignature *out)
{
	ApmDigest message;
	ApmStatus status = vote_message(vote, &message);

	return status == APM_OK ? apm_sign(node, &message, out) : status;
}

ApmStatus
apm_vote_verify(const ApmEcKey *node, const ApmVote *vote, const ApmSignature *sig)
{
	ApmDigest message;
	ApmStatus status = vote_message(vote, &message);

	return status == APM_OK ? apm_verify_signature(node, &message, sig) : status;
}

bool
apm_vote_allowed(const ApmVoteRecord *last, const ApmCheckpoint *source, const ApmCheckpoint *target)
{
	if (target->height <= source->height)
		return false;
	if (!last->voted)
		return true;
	if (apm_checkpoints_equal(&last->source, source) && apm_checkpoints_equal(&last->target, target))
		return true;
	return target->height > last->target.height && source->height >= last->source.height;
}

/* Does the first lie within the second? */
static bool
within(uint64_t source, uint64_t target, uint64_t outer_source, uint64_t outer_target)
{
	return outer_source < source && target < outer_target;
}

ApmVoteConflict
apm_vote_conflict(const ApmCheckpoint *source_a, const ApmCheckpoint *target_a, const ApmCheckpoint *source_b,
				  const ApmCheckpoint *target_b)
{
	if (target_a->height == target_b->height)
		return apm_checkpoints_equal(source_a, source_b) && apm_checkpoints_equal(target_a, target_b)
				   ? APM_VOTE_NO_CONFLICT
				   : APM_VOTE_DOUBLE;
	if (within(source_a->height, target_a->height, source_b->height, target_b->height) ||
		within(source_b->height, target_b->height, source_a->height, target_a->height))
		return APM_VOTE_SURROUND;
	return APM_VOTE_NO_CONFLICT;
}

uint32_t
apm_quorum(ApmQuorum quorum, uint32_t nodes)
{
	if (quorum == APM_QUORUM_TWO_THIRDS)
		return (uint32_t) ((uint64_t) nodes * 2 / 3) + 1;
	return nodes / 2 + 1;
}
