/*
 * fuzz_head.c
 *	  Whatever text is taken for a digest of the ledger is one that its node signed, and is written again as the same.
 */
#include <stdlib.h>
#include <string.h>

#include "core/head.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	ApmHead head;
	ApmHead again;
	ApmBuf text = {0};

	if (apm_head_read(APM_SLICE(data, size), &head) != APM_OK)
		return 0;
	apm_head_write(&head, &text);
	if (apm_buf_status(&text) != APM_OK || text.len > APM_HEAD_TEXT_MAX ||
		apm_head_read(APM_SLICE(text.data, text.len), &again) != APM_OK ||
		memcmp(head.encoded, again.encoded, APM_HEADER_LEN) != 0 ||
		memcmp(&head.signature, &again.signature, APM_SIGNATURE_LEN) != 0 ||
		memcmp(head.node, again.node, APM_SPKI_LEN) != 0)
		abort();
	apm_buf_reset(&text);
	return 0;
}
