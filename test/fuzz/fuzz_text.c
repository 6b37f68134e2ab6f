/*
 * fuzz_text.c
 *	  The text decoders: whatever decodes is the one text for its bytes.
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "core/paper.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
decode_base64url(const char *text, size_t len)
{
	ApmBuf bytes = {0};
	char *again;
	size_t again_len;

	if (apm_base64url_decode(text, len, &bytes) == APM_OK)
	{
		again = malloc(apm_base64_len(bytes.len) + 1);
		apm_base64url_encode(bytes.data, bytes.len, again, &again_len);
		if (again_len != len || memcmp(again, text, len) != 0)
			abort();
		free(again);
	}
	else if (bytes.len != 0)
		abort();
	apm_buf_reset(&bytes);
}

static void
decode_base64(const char *text, size_t len)
{
	ApmBuf bytes = {0};
	char *again;

	if (apm_base64_decode(text, len, &bytes) == APM_OK)
	{
		again = malloc(apm_base64_len(bytes.len) + 1);
		apm_base64_encode(bytes.data, bytes.len, again);
		if (strlen(again) != len || memcmp(again, text, len) != 0)
			abort();
		free(again);
	}
	else if (bytes.len != 0)
		abort();
	apm_buf_reset(&bytes);
}

static void
decode_hex(const char *text, size_t len)
{
	uint8_t *bytes = malloc(len / 2 + 1);
	char *again = malloc(len + 1);

	if (apm_hex_decode(text, len, bytes) == APM_OK)
	{
		apm_hex_encode(bytes, len / 2, again);
		for (size_t i = 0; i < len; i++)
			if (again[i] != tolower((unsigned char) text[i]))
				abort();
	}
	free(bytes);
	free(again);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	decode_base64url((const char *) data, size);
	decode_base64((const char *) data, size);
	decode_hex((const char *) data, size);
	return 0;
}
