/*
 * keymake.c
 *	  Making a key: drawn, and put into its files.
 *
 * A file appears under its name only whole, and a name that is taken stays as it is: what was sealed for
 * the key in it would be lost.  The private half comes first, and is the one that counts: the public
 * one can be had from it.
 */
#include "postgres.h"

#include "apm_errors.h"
#include "core/cipher.h"
#include "keys/keyfile.h"
#include "keys/keymake.h"

#define RSA_BITS 3072

/* A new key's two halves as their files hold them, and its id. */
typedef struct ApmNewKey
{
	ApmBuf private_half;
	ApmBuf public_half; /* nothing for a secret */
	ApmKeyId id;
} ApmNewKey;

static ApmStatus
new_secret(ApmNewKey *out)
{
	uint8_t secret[APM_SECRET_LEN];
	ApmStatus status = apm_random(secret, sizeof(secret));

	if (status == APM_OK)
		status = apm_secret_key_id(secret, &out->id);
	if (status == APM_OK)
		apm_put_raw(&out->private_half, secret, sizeof(secret));
	apm_wipe(secret, sizeof(secret));
	return status != APM_OK ? status : apm_buf_status(&out->private_half);
}

static ApmStatus
new_rsa(ApmNewKey *out)
{
	ApmRsa *key;
	ApmStatus status = apm_rsa_generate(RSA_BITS, &key);

	if (status != APM_OK)
		return status;
	apm_rsa_key_id(key, &out->id);
	status = apm_rsa_private_pem(key, &out->private_half);
	if (status == APM_OK)
		status = apm_rsa_public_pem(key, &out->public_half);
	apm_rsa_free(key);
	return status;
}

static ApmStatus
new_ec(ApmNewKey *out)
{
	ApmEcKey *key;
	ApmDigest id;
	ApmStatus status = apm_ec_generate(&key);

	if (status != APM_OK)
		return status;
	apm_ec_id(key, &id);
	memcpy(out->id.bytes, id.bytes, APM_KEY_ID_LEN);
	status = apm_ec_private_pem(key, &out->private_half);
	if (status == APM_OK)
		status = apm_ec_public_pem(key, &out->public_half);
	apm_ec_free(key);
	return status;
}

bool
apm_key_make(const ApmKeyKind *kind, uint32 generation)
{
	ApmNewKey key = {.private_half = {.secret = true}};
	ApmStatus status = APM_ERR_KEY;
	bool made;

	switch (kind->form)
	{
		case APM_FORM_SECRET:
			status = new_secret(&key);
			break;
		case APM_FORM_RSA:
			status = new_rsa(&key);
			break;
		case APM_FORM_EC:
			status = new_ec(&key);
			break;
	}
	apm_check(status, "make a key");

	made = apm_keyfile_create(apm_key_file_name(kind, generation), APM_FILE_PRIVATE,
							  APM_SLICE(key.private_half.data, key.private_half.len));
	if (made && kind->form != APM_FORM_SECRET)
		(void) apm_keyfile_create(apm_key_public_name(kind, generation), APM_FILE_PUBLIC,
								  APM_SLICE(key.public_half.data, key.public_half.len));
	apm_buf_reset(&key.private_half);
	apm_buf_reset(&key.public_half);
	return made;
}
