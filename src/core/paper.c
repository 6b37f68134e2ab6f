/*
 * paper.c
 *	  The ciphers of the paper's Chapter III as published, for study and comparison.
 *
 * PKCS#1 v1.5 decryption tells a good padding from a bad one by its answer, which is
 * Bleichenbacher's oracle.  That is part of what is studied; the answer here is one status
 * for everything, and who may ask is somebody who may read the value anyway.
 */
#include "paper.h"

#include <limits.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>

#include "rsa.h"

static ApmStatus
give_up(ApmStatus failed)
{
	ERR_clear_error();
	return failed;
}

static ApmStatus
cfb8(const uint8_t key[32], const uint8_t iv[APM_PAPER_IV_LEN], ApmSlice in, uint8_t *out, int encrypt)
{
	EVP_CIPHER_CTX *ctx;
	int len = 0;
	bool good;

	if (in.len > INT_MAX)
		return APM_ERR_RANGE;
	ctx = EVP_CIPHER_CTX_new();
	good = ctx != NULL && EVP_CipherInit_ex(ctx, EVP_aes_256_cfb8(), NULL, key, iv, encrypt) == 1 &&
		   (in.len == 0 || EVP_CipherUpdate(ctx, out, &len, in.data, (int) in.len) == 1) &&
		   (size_t) len == in.len;
	EVP_CIPHER_CTX_free(ctx);
	return good ? APM_OK : give_up(APM_ERR_CRYPTO);
}

ApmStatus
apm_cfb8_encrypt(const uint8_t key[32], const uint8_t iv[APM_PAPER_IV_LEN], ApmSlice in, uint8_t *out)
{
	return cfb8(key, iv, in, out, 1);
}

ApmStatus
apm_cfb8_decrypt(const uint8_t key[32], const uint8_t iv[APM_PAPER_IV_LEN], ApmSlice in, uint8_t *out)
{
	return cfb8(key, iv, in, out, 0);
}

/* The context of one RSA operation with PKCS#1 v1.5 padding; NULL if there is none. */
static EVP_PKEY_CTX *
rsa_context(const ApmRsa *rsa, int (*init)(EVP_PKEY_CTX *))
{
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, apm_rsa_pkey(rsa), NULL);

	if (ctx != NULL && (init(ctx) != 1 || EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PADDING) != 1))
	{
		EVP_PKEY_CTX_free(ctx);
		ctx = NULL;
	}
	return ctx;
}

static bool
is_2048(const ApmRsa *rsa)
{
	return EVP_PKEY_get_bits(apm_rsa_pkey(rsa)) == 8 * APM_PAPER_RSA_LEN;
}

ApmStatus
apm_paper_seal(const uint8_t key[32], const ApmRsa *rsa, ApmSlice value, uint8_t iv[APM_PAPER_IV_LEN],
			   ApmBuf *out)
{
	uint8_t hidden[APM_PAPER_VALUE_MAX];
	char text[APM_PAPER_RSA_LEN];
	uint8_t sealed[APM_PAPER_RSA_LEN];
	size_t len = sizeof(sealed);
	EVP_PKEY_CTX *ctx;
	ApmStatus status;

	if (value.len > APM_PAPER_VALUE_MAX)
		return APM_ERR_RANGE;
	if (!is_2048(rsa))
		return APM_ERR_KEY;
	status = apm_random(iv, APM_PAPER_IV_LEN);
	if (status == APM_OK)
		status = apm_cfb8_encrypt(key, iv, value, hidden);
	if (status != APM_OK)
		return status;
	apm_base64_encode(hidden, value.len, text);

	ctx = rsa_context(rsa, EVP_PKEY_encrypt_init);
	if (ctx == NULL || EVP_PKEY_encrypt(ctx, sealed, &len, (uint8_t *) text, strlen(text)) != 1)
		status = give_up(APM_ERR_CRYPTO);
	EVP_PKEY_CTX_free(ctx);
	if (status == APM_OK)
		apm_put_raw(out, sealed, len);
	return status == APM_OK ? apm_buf_status(out) : status;
}

ApmStatus
apm_paper_open(const uint8_t key[32], const ApmRsa *rsa, const uint8_t iv[APM_PAPER_IV_LEN], ApmSlice sealed,
			   ApmBuf *out)
{
	char text[APM_PAPER_RSA_LEN];
	size_t len = sizeof(text);
	ApmBuf hidden = {0};
	EVP_PKEY_CTX *ctx;
	ApmStatus status = APM_OK;

	if (!is_2048(rsa) || !apm_rsa_is_private(rsa))
		return APM_ERR_KEY;
	ctx = rsa_context(rsa, EVP_PKEY_decrypt_init);
	if (ctx == NULL || EVP_PKEY_decrypt(ctx, (uint8_t *) text, &len, sealed.data, sealed.len) != 1 ||
		apm_base64_decode(text, len, &hidden) != APM_OK)
		status = give_up(APM_ERR_OPEN);
	EVP_PKEY_CTX_free(ctx);

	if (status == APM_OK && !apm_buf_reserve(out, hidden.len))
		status = APM_ERR_MEMORY;
	if (status == APM_OK)
		status = apm_cfb8_decrypt(key, iv, APM_SLICE(hidden.data, hidden.len), out->data + out->len);
	if (status == APM_OK)
		out->len += hidden.len;
	apm_buf_reset(&hidden);
	return status;
}
