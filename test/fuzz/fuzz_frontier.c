/*
 * fuzz_frontier.c
 *	  The frontier's decoder: what it takes is what is written again, and every frontier
 *	  that it gives can be asked for its root and grow.
 */
#include <stdlib.h>
#include <string.h>

#include "core/merkle.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	ApmFrontier frontier;
	ApmDigest root;
	ApmBuf again = {0};
	uint64_t before;

	if (apm_frontier_decode(APM_SLICE(data, size), &frontier) != APM_OK)
		return 0;
	apm_frontier_encode(&frontier, &again);
	if (again.len != size || memcmp(again.data, data, size) != 0)
		abort();
	apm_buf_reset(&again);
	before = frontier.size;
	if (apm_frontier_root(&frontier, &root) != APM_OK)
		abort();
	if (apm_frontier_append(&frontier, &root) != (before == UINT64_MAX ? APM_ERR_RANGE : APM_OK))
		abort();
	if (apm_frontier_root(&frontier, &root) != APM_OK)
		abort();
	return 0;
}
