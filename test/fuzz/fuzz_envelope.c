/*
 * fuzz_envelope.c
 *	  The reader of envelopes as strangers send them, with a key that they may address.
 *
 * Whatever opens has a JWE text too; nothing that fails leaves bytes behind.  The opener
 * lives through all inputs, so that its cache of content keys is used.
 */
#include <stdlib.h>
#include <string.h>

#include "../core/rsa_vectors.h"
#include "core/envelope.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static ApmOpener *
fixed_opener(void)
{
	static ApmOpener *opener = NULL;
	ApmRsa *key;

	if (opener == NULL &&
		(apm_rsa_from_pem(APM_SLICE(rsa_private_pem, sizeof(rsa_private_pem) - 1), &key) != APM_OK ||
		 apm_opener_new(&opener) != APM_OK || apm_opener_add(opener, key) != APM_OK))
		abort();
	return opener;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	ApmBuf text = {.secret = true};
	ApmBuf jwe = {0};
	ApmStatus opened = apm_opener_open(fixed_opener(), APM_SLICE(data, size), &text);
	ApmStatus written = apm_envelope_jwe(APM_SLICE(data, size), &jwe);

	if (opened == APM_OK && (written != APM_OK || text.len >= size))
		abort();
	if (opened != APM_OK && (opened != APM_ERR_OPEN || text.len != 0))
		abort();
	if (written != APM_OK && (written != APM_ERR_FORMAT || jwe.len != 0))
		abort();
	apm_buf_reset(&text);
	apm_buf_reset(&jwe);
	return 0;
}
