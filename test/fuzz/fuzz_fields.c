/*
 * fuzz_fields.c
 *	  Whatever bytes are taken for a transaction's or a template's public fields are exactly
 *	  those that encode them.
 */
#include <stdlib.h>
#include <string.h>

#include "core/field.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
same(const ApmBuf *again, const uint8_t *data, size_t size)
{
	if (apm_buf_status(again) != APM_OK || again->len != size || memcmp(again->data, data, size) != 0)
		abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	ApmPublicField fields[APM_FIELDS_MAX];
	ApmFieldSpec specs[APM_FIELDS_MAX];
	ApmBuf again = {0};
	int n;

	if (size > 0 && apm_fields_decode(APM_SLICE(data, size), fields, &n) == APM_OK)
	{
		if (n < 1 || apm_fields_encode(fields, n, &again) != APM_OK)
			abort();
		same(&again, data, size);
		apm_buf_reset(&again);
	}
	if (apm_specs_decode(APM_SLICE(data, size), specs, &n) == APM_OK)
	{
		if (n < 1 || apm_specs_encode(specs, n, &again) != APM_OK)
			abort();
		same(&again, data, size);
		apm_buf_reset(&again);
	}
	return 0;
}
