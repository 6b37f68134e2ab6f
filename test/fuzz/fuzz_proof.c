/*
 * fuzz_proof.c
 *	  Whatever bytes are taken for an origin's proof are exactly those that encode it, and
 *	  its path always fits its place.
 */
#include <stdlib.h>
#include <string.h>

#include "core/transaction.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	ApmOriginProof proof;
	ApmDigest leaf = {{0}};
	ApmDigest root;
	ApmBuf again = {0};

	if (apm_origin_proof_decode(APM_SLICE(data, size), &proof) != APM_OK)
		return 0;
	if (apm_merkle_root_from_path(&leaf, proof.index, proof.size, &proof.path, &root) != APM_OK)
		abort();
	apm_origin_proof_encode(&proof, &again);
	if (apm_buf_status(&again) != APM_OK || again.len != size || memcmp(again.data, data, size) != 0)
		abort();
	apm_buf_reset(&again);
	return 0;
}
