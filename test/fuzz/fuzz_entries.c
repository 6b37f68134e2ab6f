/*
 * fuzz_entries.c
 *	  Whatever bytes are taken for a block's entries are exactly those that encode them.
 */
#include <stdlib.h>
#include <string.h>

#include "core/block.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	ApmEntry *entries;
	size_t n;
	ApmDigest root;
	ApmBuf again = {0};

	if (apm_entries_decode(APM_SLICE(data, size), &entries, &n) != APM_OK)
		return 0;
	apm_entries_encode(entries, n, &again);
	if (apm_buf_status(&again) != APM_OK || again.len != size || memcmp(again.data, data, size) != 0)
		abort();
	if (apm_entries_root(entries, n, &root) != APM_OK)
		abort();
	apm_buf_reset(&again);
	apm_core_free(entries);
	return 0;
}
