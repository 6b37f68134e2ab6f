/*
 * fuzz_item.c
 *	  Whatever bytes are taken for items of the contract are exactly those that encode them.
 */
#include <stdlib.h>
#include <string.h>

#include "core/item.h"
#include "core/transaction.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
inside(ApmSlice slice, const uint8_t *data, size_t size)
{
	if (slice.len > 0 && (slice.data < data || slice.data + slice.len > data + size))
		abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	ApmReader r;

	apm_reader_init(&r, APM_SLICE(data, size));
	for (;;)
	{
		const uint8_t *start = r.pos;
		ApmItem item;
		ApmBuf again = {0};

		apm_item_get(&r, &item);
		if (r.failed)
			break;
		inside(item.name, data, size);
		inside(item.body, data, size);
		inside(item.attribute, data, size);
		if ((item.name.len > 0) != apm_item_name_ok(item.name))
			abort();
		if (apm_item_put(&item, &again) != APM_OK || again.len != (size_t) (r.pos - start) ||
			memcmp(again.data, start, again.len) != 0)
			abort();
		apm_buf_reset(&again);
	}
	return 0;
}
