/*
 * fuzz_stored.c
 *	  Whatever bytes are taken for a line of an exported ledger are exactly those that encode it, and a
 *	  verifier can be asked about it: as the first block of a chain, and as one that erases or adds keys.
 */
#include <stdlib.h>
#include <string.h>

#include "core/replay.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
replay(const ApmStoredBlock *block)
{
	ApmReplay *r;
	ApmFault fault;
	ApmReplayCounts counts;

	if (apm_replay_new(&r) != APM_OK)
		abort();
	if (apm_replay_foresee(r, block) != APM_OK || apm_replay_block(r, block, &fault) != APM_OK)
		abort();
	apm_replay_counts(r, &counts);
	if (counts.blocks != (fault.rule == APM_FAULT_NONE) || apm_fault_name(fault.rule) == NULL)
		abort();
	apm_replay_free(r);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	ApmStoredBlock block;
	ApmBuf again = {0};

	if (apm_stored_decode(APM_SLICE(data, size), &block) != APM_OK)
		return 0;
	apm_stored_encode(&block, &again);
	if (apm_buf_status(&again) != APM_OK || again.len != size || memcmp(again.data, data, size) != 0)
		abort();
	replay(&block);
	apm_stored_free(&block);
	apm_buf_reset(&again);
	return 0;
}
