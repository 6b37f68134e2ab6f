/*
 * fuzz_spki.c
 *	  Public signing keys as they come from peers: what is taken is written again as it
 *	  came, and can be asked to verify.
 */
#include <stdlib.h>
#include <string.h>

#include "core/signature.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	ApmEcKey *key;
	ApmDigest id;
	ApmSignature signature;
	uint8_t spki[APM_SPKI_LEN];

	if (apm_ec_from_spki(APM_SLICE(data, size), &key) != APM_OK)
		return 0;
	apm_ec_spki(key, spki);
	if (size != sizeof(spki) || memcmp(spki, data, sizeof(spki)) != 0 || apm_ec_is_private(key))
		abort();
	apm_ec_id(key, &id);
	memcpy(signature.bytes, data + 27, APM_SIGNATURE_LEN);
	if (apm_verify_signature(key, &id, &signature) == APM_OK)
		abort();
	apm_ec_free(key);
	return 0;
}
