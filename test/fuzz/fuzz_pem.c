/*
 * fuzz_pem.c
 *	  Key files of both kinds: a key that is taken can be written and read again, and stays
 *	  the key that it was.
 */
#include <stdlib.h>
#include <string.h>

#include "core/envelope.h"
#include "core/signature.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
read_ec(ApmSlice pem)
{
	ApmEcKey *key;
	ApmEcKey *again;
	ApmBuf text = {0};
	ApmDigest id;
	ApmDigest id_again;

	if (apm_ec_from_pem(pem, &key) != APM_OK)
		return;
	if ((apm_ec_is_private(key) ? apm_ec_private_pem(key, &text) : apm_ec_public_pem(key, &text)) != APM_OK ||
		apm_ec_from_pem(APM_SLICE(text.data, text.len), &again) != APM_OK)
		abort();
	apm_ec_id(key, &id);
	apm_ec_id(again, &id_again);
	if (memcmp(&id, &id_again, sizeof(id)) != 0 || apm_ec_is_private(key) != apm_ec_is_private(again))
		abort();
	apm_ec_free(key);
	apm_ec_free(again);
	apm_buf_reset(&text);
}

static void
read_rsa(ApmSlice pem)
{
	ApmRsa *key;
	ApmRsa *again;
	ApmBuf text = {0};
	ApmKeyId id;
	ApmKeyId id_again;

	if (apm_rsa_from_pem(pem, &key) != APM_OK)
		return;
	if ((apm_rsa_is_private(key) ? apm_rsa_private_pem(key, &text) : apm_rsa_public_pem(key, &text)) !=
			APM_OK ||
		apm_rsa_from_pem(APM_SLICE(text.data, text.len), &again) != APM_OK)
		abort();
	apm_rsa_key_id(key, &id);
	apm_rsa_key_id(again, &id_again);
	if (memcmp(&id, &id_again, sizeof(id)) != 0 || apm_rsa_is_private(key) != apm_rsa_is_private(again))
		abort();
	apm_rsa_free(key);
	apm_rsa_free(again);
	apm_buf_reset(&text);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	read_ec(APM_SLICE(data, size));
	read_rsa(APM_SLICE(data, size));
	return 0;
}
