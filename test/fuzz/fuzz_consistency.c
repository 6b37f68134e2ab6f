/*
 * fuzz_consistency.c
 *	  Whatever text is taken for a proof of consistency is written again as the same, and can be asked
 *	  against any heads.
 */
#include <stdlib.h>
#include <string.h>

#include "core/proof.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	ApmConsistency proof;
	ApmConsistency again;
	ApmBuf first = {0};
	ApmBuf second = {0};
	ApmHead old_head = {.hash = {{1}}};
	ApmHead new_head = {.hash = {{2}}};

	if (apm_consistency_read(APM_SLICE(data, size), &proof) != APM_OK)
		return 0;
	apm_consistency_write(&proof, &first);
	if (apm_consistency_read(APM_SLICE(first.data, first.len), &again) != APM_OK)
		abort();
	apm_consistency_write(&again, &second);
	if (first.len != second.len || memcmp(first.data, second.data, first.len) != 0)
		abort();
	old_head.header.height = proof.old_height;
	new_head.header.height = proof.new_height;
	/* no heads have these roots */
	if (apm_consistency_verify(&proof, &old_head, &new_head) == APM_OK)
		abort();
	apm_buf_reset(&first);
	apm_buf_reset(&second);
	return 0;
}
