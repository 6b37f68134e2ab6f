/*
 * fuzz_inclusion.c
 *	  Whatever text is taken for the proof of a transaction is written again as the same, and can be
 *	  asked against any head.
 */
#include <stdlib.h>
#include <string.h>

#include "core/proof.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	ApmProof proof;
	ApmProof again;
	ApmBuf first = {0};
	ApmBuf second = {0};
	ApmHead head = {.header = {.height = 0}};

	if (apm_proof_read(APM_SLICE(data, size), &proof) == APM_OK)
	{
		apm_proof_write(&proof, &first);
		if (apm_proof_read(APM_SLICE(first.data, first.len), &again) != APM_OK)
			abort();
		apm_proof_write(&again, &second);
		if (first.len != second.len || memcmp(first.data, second.data, first.len) != 0)
			abort();
		apm_proof_free(&again);
		head.header.height = proof.head;
		/* no head has this history root */
		if (apm_proof_verify(&proof, &head) == APM_OK)
			abort();
	}
	apm_proof_free(&proof);
	apm_buf_reset(&first);
	apm_buf_reset(&second);
	return 0;
}
