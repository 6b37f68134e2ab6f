/*
 * fuzz_padded.c
 *	  The opener of padded seals, twice: given the input as a seal, which no input can
 *	  forge, and given a true seal around the input as its plaintext, of which only the
 *	  one padded form may pass.
 */
#include <stdlib.h>
#include <string.h>

#include "core/cipher.h"
#include "core/digest.h"

#define NONCE_AT (2 + APM_KEY_ID_LEN + 32)
#define BODY_AT (NONCE_AT + APM_GCM_NONCE_LEN)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t key[32] = "a key of thirty-two known bytes";
static const ApmKeyId key_id = {{1, 2, 3, 4, 5, 6, 7, 8}};

static void
open_forgery(const uint8_t *data, size_t size)
{
	ApmBuf text = {.secret = true};

	if (apm_padded_open(key, &key_id, APM_SLICE("salt", 4), APM_SLICE("context", 7), APM_SLICE(data, size),
						&text) != APM_ERR_OPEN ||
		text.len != 0)
		abort();
	apm_buf_reset(&text);
}

static void
open_sealed(const uint8_t *data, size_t size)
{
	ApmBuf seal = {0};
	ApmBuf aad = {0};
	ApmBuf text = {.secret = true};
	ApmBuf again = {0};
	uint8_t derived[64];

	if (apm_padded_seal(key, &key_id, APM_SLICE("salt", 4), APM_SLICE("context", 7), (ApmSlice){NULL, 0},
						&seal) != APM_OK ||
		apm_hkdf_sha256(key, 32, "salt", 4, "apm padded seal", 15, derived, sizeof(derived)) != APM_OK)
		abort();
	apm_put_raw(&aad, seal.data, 2 + APM_KEY_ID_LEN);
	apm_put_raw(&aad, "context", 7);
	seal.len = BODY_AT;
	if (!apm_buf_reserve(&seal, size + APM_GCM_TAG_LEN) ||
		apm_gcm_seal(derived, seal.data + NONCE_AT, APM_SLICE(aad.data, aad.len), APM_SLICE(data, size),
					 seal.data + BODY_AT) != APM_OK)
		abort();
	seal.len = BODY_AT + size + APM_GCM_TAG_LEN;

	if (apm_padded_open(key, &key_id, APM_SLICE("salt", 4), APM_SLICE("context", 7),
						APM_SLICE(seal.data, seal.len), &text) == APM_OK)
	{
		/* what passed is what this text is padded to */
		if (apm_padded_seal(key, &key_id, APM_SLICE("salt", 4), APM_SLICE("context", 7),
							APM_SLICE(text.data, text.len), &again) != APM_OK ||
			again.len != seal.len || memcmp(text.data, data + 4, text.len) != 0)
			abort();
		for (size_t i = 4 + text.len; i < size; i++)
			if (data[i] != 0)
				abort();
	}
	else if (text.len != 0)
		abort();
	apm_buf_reset(&seal);
	apm_buf_reset(&aad);
	apm_buf_reset(&text);
	apm_buf_reset(&again);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	open_forgery(data, size);
	open_sealed(data, size);
	return 0;
}
