/*
 * fuzz_powscan.c
 *	  The ways of trying nonces: all find the same, whatever the header.
 *
 * Input: the midstate, the last block, u8 bits, u8 tries, u64 start.
 */
#include <stdlib.h>

#include "core/powscan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	ApmPowScan lanes = apm_pow_scan_lanes();
	ApmPowTask task;
	ApmReader r;
	uint64_t start;
	uint64_t tries;

	apm_reader_init(&r, APM_SLICE(data, size));
	apm_get_raw(&r, task.midstate, sizeof(task.midstate));
	apm_get_raw(&r, task.tail, sizeof(task.tail));
	task.bits = apm_get_u8(&r) % 63 + 1;
	tries = apm_get_u8(&r);
	start = apm_get_u64(&r);
	if (!apm_reader_done(&r) || lanes == NULL)
		return 0;
	if (lanes(&task, start, tries) != apm_pow_scan_plain(&task, start, tries))
		abort();
	return 0;
}
