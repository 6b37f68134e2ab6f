/*
 * origin.c
 *	  The origin's proof, and a transaction signed with it: their bytes.
 *
 * Each transaction of a statement carries its place and its path in the tree over the statement's
 * leaves (statement.c).  The number of nodes of the path is not written: it follows from index and size.
 *
 * Origin proof: u8 'O', u8 version, signature, u32 index, u32 size, path.
 */
#include "transaction.h"

#include <string.h>

#define PROOF_TAG 'O'
#define SIGNED_TAG 'A'
#define ENCODING_VERSION 1

/*
 * How many nodes a path for this index in a tree of this size has (RFC 9162, 2.1.3):
 * one for each level up to where the leaf's way and the last leaf's way join, and above
 * that one for each left sibling.
 */
static uint32_t
path_length(uint32_t index, uint32_t size)
{
	uint32_t differing = index ^ (size - 1);
	uint32_t inner = 0;

	while (inner < 32 && (differing >> inner) != 0)
		inner++;
	if (inner == 32)
		return inner;
	return inner + (uint32_t) __builtin_popcount(index >> inner);
}

/* A proof whose path does not fit its index and size makes the buffer fail. */
void
apm_origin_proof_encode(const ApmOriginProof *proof, ApmBuf *out)
{
	if (proof->index >= proof->size || proof->path.count != path_length(proof->index, proof->size))
	{
		out->failed = true;
		return;
	}
	apm_put_u8(out, PROOF_TAG);
	apm_put_u8(out, ENCODING_VERSION);
	apm_put_raw(out, proof->signature.bytes, APM_SIGNATURE_LEN);
	apm_put_u32(out, proof->index);
	apm_put_u32(out, proof->size);
	apm_put_raw(out, proof->path.nodes, proof->path.count * sizeof(ApmDigest));
}

/* Most of a proof is room for a longer path, which is not cleared: what stands behind path.count means nothing. */
ApmStatus
apm_origin_proof_decode(ApmSlice in, ApmOriginProof *out)
{
	ApmReader r;

	apm_reader_init(&r, in);
	apm_expect_u8(&r, PROOF_TAG);
	apm_expect_u8(&r, ENCODING_VERSION);
	apm_get_raw(&r, out->signature.bytes, APM_SIGNATURE_LEN);
	out->index = apm_get_u32(&r);
	out->size = apm_get_u32(&r);
	if (r.failed || out->index >= out->size)
		return APM_ERR_FORMAT;
	out->path.count = path_length(out->index, out->size);
	apm_get_raw(&r, out->path.nodes, out->path.count * sizeof(ApmDigest));
	return apm_reader_done(&r) ? APM_OK : APM_ERR_FORMAT;
}

void
apm_signed_encode(const ApmSigned *s, ApmBuf *out)
{
	apm_put_u8(out, SIGNED_TAG);
	apm_put_u8(out, ENCODING_VERSION);
	apm_put_raw(out, s->nonce, APM_NONCE_LEN);
	apm_put_bytes(out, s->transaction.data, s->transaction.len);
	apm_put_bytes(out, s->proof.data, s->proof.len);
}

/* Slices in the result point into the input, and are not looked into. */
ApmStatus
apm_signed_decode(ApmSlice in, ApmSigned *out)
{
	ApmSigned s;
	ApmReader r;

	apm_reader_init(&r, in);
	apm_expect_u8(&r, SIGNED_TAG);
	apm_expect_u8(&r, ENCODING_VERSION);
	apm_get_raw(&r, s.nonce, APM_NONCE_LEN);
	s.transaction = apm_get_bytes(&r, APM_TRANSACTION_MAX);
	s.proof = apm_get_bytes(&r, APM_ORIGIN_PROOF_MAX);
	if (!apm_reader_done(&r))
		return APM_ERR_FORMAT;

	*out = s;
	return APM_OK;
}
