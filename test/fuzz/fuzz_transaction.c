/*
 * fuzz_transaction.c
 *	  Whatever bytes are taken for a transaction are exactly those that encode it.
 */
#include <stdlib.h>
#include <string.h>

#include "core/transaction.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	ApmTransaction tx;
	ApmSlice apid;
	ApmBuf again = {0};

	if (apm_transaction_decode(APM_SLICE(data, size), &tx) != APM_OK)
		return 0;
	apid = apm_transaction_apid(&tx);
	if (apm_kind_name(tx.kind) == NULL ||
		(apid.len > 0 && (apid.data < data || apid.data + apid.len > data + size)))
		abort();
	if (apm_transaction_encode(&tx, &again) != APM_OK || again.len != size ||
		memcmp(again.data, data, size) != 0)
		abort();
	apm_buf_reset(&again);
	return 0;
}
