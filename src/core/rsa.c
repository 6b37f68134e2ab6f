/*
 * rsa.c
 *	  RSA keys, and RSA-OAEP-SHA-256 (RFC 8017, 7.1) around a content key.
 *
 * Manger's attack asks a receiver whether OAEP decoding failed, a bit at a time, until the
 * message is known.  So a wrapped key that does not decode gives random bytes here, and
 * what was sealed then fails to open as if it had been altered.
 */
#include "rsa.h"

#include <string.h>

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include "digest.h"
#include "pem.h"

#define BITS_MIN 2048
#define BITS_MAX 8192

struct ApmRsa
{
	EVP_PKEY *pkey;
	bool is_private;
	ApmKeyId id;
};

static ApmStatus
give_up(ApmStatus failed)
{
	ERR_clear_error();
	return failed;
}

void
apm_rsa_free(ApmRsa *key)
{
	if (key == NULL)
		return;
	EVP_PKEY_free(key->pkey);
	apm_core_free(key);
}

/* An odd exponent from 3 to 64 bits: others are no keys, and long ones cost a sealer his time. */
static bool
exponent_is_usual(EVP_PKEY *pkey)
{
	BIGNUM *e = NULL;
	bool usual;

	usual = EVP_PKEY_get_bn_param(pkey, OSSL_PKEY_PARAM_RSA_E, &e) == 1 && BN_is_odd(e) && !BN_is_one(e) &&
			BN_num_bits(e) <= 64;
	BN_free(e);
	return usual;
}

static ApmStatus
key_id(EVP_PKEY *pkey, ApmKeyId *out)
{
	unsigned char *der = NULL;
	int len = i2d_PUBKEY(pkey, &der);
	ApmDigest digest;
	ApmStatus status;

	if (len <= 0)
		return give_up(APM_ERR_CRYPTO);
	status = apm_sha256(der, (size_t) len, &digest);
	OPENSSL_free(der);
	if (status == APM_OK)
		memcpy(out->bytes, digest.bytes, APM_KEY_ID_LEN);
	return status;
}

/* Takes over pkey, also on failure. */
static ApmStatus
adopt(EVP_PKEY *pkey, bool is_private, ApmRsa **out)
{
	ApmRsa *key;
	ApmStatus status;
	int bits = EVP_PKEY_get_bits(pkey);

	if (bits < BITS_MIN || bits > BITS_MAX)
		status = APM_ERR_RANGE;
	else
		status = exponent_is_usual(pkey) ? APM_OK : give_up(APM_ERR_KEY);
	if (status != APM_OK)
	{
		EVP_PKEY_free(pkey);
		return status;
	}
	key = apm_core_alloc(sizeof(ApmRsa), false);
	if (key == NULL)
	{
		EVP_PKEY_free(pkey);
		return APM_ERR_MEMORY;
	}
	key->pkey = pkey;
	key->is_private = is_private;
	status = key_id(pkey, &key->id);
	if (status != APM_OK)
	{
		apm_rsa_free(key);
		return status;
	}
	*out = key;
	return APM_OK;
}

ApmStatus
apm_rsa_generate(int bits, ApmRsa **out)
{
	EVP_PKEY *pkey;

	if (bits < BITS_MIN || bits > BITS_MAX)
		return APM_ERR_RANGE;
	pkey = EVP_RSA_gen((unsigned int) bits);
	if (pkey == NULL)
		return give_up(APM_ERR_CRYPTO);
	return adopt(pkey, true, out);
}

ApmStatus
apm_rsa_from_pem(ApmSlice pem, ApmRsa **out)
{
	EVP_PKEY *pkey;
	bool is_private;
	ApmStatus status = apm_pem_read(pem, EVP_PKEY_RSA, &pkey, &is_private);

	if (status != APM_OK)
		return status;
	return adopt(pkey, is_private, out);
}

/* APM_ERR_KEY for a public key. */
ApmStatus
apm_rsa_private_pem(const ApmRsa *key, ApmBuf *out)
{
	return key->is_private ? apm_pem_write_private(key->pkey, out) : APM_ERR_KEY;
}

ApmStatus
apm_rsa_public_pem(const ApmRsa *key, ApmBuf *out)
{
	return apm_pem_write_public(key->pkey, out);
}

bool
apm_rsa_is_private(const ApmRsa *key)
{
	return key->is_private;
}

void
apm_rsa_key_id(const ApmRsa *key, ApmKeyId *out)
{
	*out = key->id;
}

struct evp_pkey_st *
apm_rsa_pkey(const ApmRsa *key)
{
	return key->pkey;
}

ApmStatus
apm_rsa_share(const ApmRsa *key, ApmRsa **out)
{
	ApmRsa *copy = apm_core_alloc(sizeof(ApmRsa), false);

	if (copy == NULL)
		return APM_ERR_MEMORY;
	if (EVP_PKEY_up_ref(key->pkey) != 1)
	{
		apm_core_free(copy);
		return give_up(APM_ERR_CRYPTO);
	}
	*copy = *key;
	*out = copy;
	return APM_OK;
}

/* SHA-256 is OpenSSL's OAEP default for neither digest: both are named. */
static bool
set_oaep(EVP_PKEY_CTX *ctx)
{
	return EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_OAEP_PADDING) == 1 &&
		   EVP_PKEY_CTX_set_rsa_oaep_md_name(ctx, "SHA256", NULL) == 1 &&
		   EVP_PKEY_CTX_set_rsa_mgf1_md_name(ctx, "SHA256", NULL) == 1;
}

ApmStatus
apm_rsa_wrap(const ApmRsa *key, const uint8_t content_key[APM_CONTENT_KEY_LEN], ApmBuf *out)
{
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, key->pkey, NULL);
	uint8_t wrapped[APM_WRAPPED_MAX];
	size_t len = sizeof(wrapped);
	bool good;

	good = ctx != NULL && EVP_PKEY_encrypt_init(ctx) == 1 && set_oaep(ctx) &&
		   EVP_PKEY_encrypt(ctx, wrapped, &len, content_key, APM_CONTENT_KEY_LEN) == 1;
	EVP_PKEY_CTX_free(ctx);
	if (!good)
		return give_up(APM_ERR_CRYPTO);
	apm_put_raw(out, wrapped, len);
	return apm_buf_status(out);
}

ApmStatus
apm_rsa_unwrap(const ApmRsa *key, ApmSlice wrapped, uint8_t content_key[APM_CONTENT_KEY_LEN])
{
	EVP_PKEY_CTX *ctx;
	uint8_t plain[APM_WRAPPED_MAX] = {0};
	size_t len = sizeof(plain);
	int decoded;
	uint8_t keep;
	ApmStatus status = APM_ERR_CRYPTO;

	if (!key->is_private)
		return APM_ERR_KEY;
	ctx = EVP_PKEY_CTX_new_from_pkey(NULL, key->pkey, NULL);
	if (ctx != NULL && EVP_PKEY_decrypt_init(ctx) == 1 && set_oaep(ctx))
		status = apm_random(content_key, APM_CONTENT_KEY_LEN);
	if (status == APM_OK)
	{
		decoded = EVP_PKEY_decrypt(ctx, plain, &len, wrapped.data, wrapped.len);
		keep = (uint8_t) - (uint8_t) (decoded == 1 && len == APM_CONTENT_KEY_LEN);
		for (size_t i = 0; i < APM_CONTENT_KEY_LEN; i++)
			content_key[i] = (uint8_t) ((plain[i] & keep) | (content_key[i] & ~keep));
		apm_wipe(plain, sizeof(plain));
	}
	EVP_PKEY_CTX_free(ctx);
	/* always, not only after a failure: the queue's state is no oracle either */
	ERR_clear_error();
	return status;
}
