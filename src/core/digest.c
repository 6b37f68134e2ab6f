/*
 * digest.c
 *	  SHA-256, and HMAC and HKDF built on it.
 *
 * OpenSSL 3.0 looks an algorithm up by name on each one-shot call, which costs more than
 * hashing a short message.  So the algorithm is fetched once, and one context of the
 * process is started anew for each digest.  Both are plain memory: a forked child has
 * its own copies.  HMAC is two runs of the same context, and the context is started once
 * more at the end, because its state would otherwise keep the last secret result.
 */
#include "digest.h"

#include <string.h>

#include <openssl/err.h>
#include <openssl/evp.h>

#define BLOCK_LEN 64

static EVP_MD *sha256 = NULL;
static EVP_MD_CTX *context = NULL;

static ApmStatus
begin(void)
{
	if (context == NULL)
	{
		if (sha256 == NULL)
			sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
		if (sha256 != NULL)
			context = EVP_MD_CTX_new();
	}
	if (context == NULL || EVP_DigestInit_ex2(context, sha256, NULL) != 1)
	{
		ERR_clear_error();
		return APM_ERR_CRYPTO;
	}
	return APM_OK;
}

static ApmStatus
update(const void *data, size_t len)
{
	if (len > 0 && EVP_DigestUpdate(context, data, len) != 1)
	{
		ERR_clear_error();
		return APM_ERR_CRYPTO;
	}
	return APM_OK;
}

static ApmStatus
update_parts(const ApmSlice *parts, size_t n)
{
	ApmStatus status = APM_OK;

	for (size_t i = 0; i < n && status == APM_OK; i++)
		status = update(parts[i].data, parts[i].len);
	return status;
}

static ApmStatus
finish(ApmDigest *out)
{
	unsigned int len = 0;

	if (EVP_DigestFinal_ex(context, out->bytes, &len) != 1 || len != APM_DIGEST_LEN)
	{
		ERR_clear_error();
		return APM_ERR_CRYPTO;
	}
	return APM_OK;
}

ApmStatus
apm_sha256(const void *data, size_t len, ApmDigest *out)
{
	ApmStatus status = begin();

	if (status == APM_OK)
		status = update(data, len);
	if (status == APM_OK)
		status = finish(out);
	return status;
}

/* The digest of the parts one after the other. */
ApmStatus
apm_sha256_parts(const ApmSlice *parts, size_t n, ApmDigest *out)
{
	ApmStatus status = begin();

	if (status == APM_OK)
		status = update_parts(parts, n);
	if (status == APM_OK)
		status = finish(out);
	return status;
}

ApmStatus
apm_sha256_prefixed(uint8_t prefix, const ApmSlice *parts, size_t n, ApmDigest *out)
{
	ApmStatus status = begin();

	if (status == APM_OK)
		status = update(&prefix, 1);
	if (status == APM_OK)
		status = update_parts(parts, n);
	if (status == APM_OK)
		status = finish(out);
	return status;
}

/* One of HMAC's two runs: H(block with every byte xored with pad || parts). */
static ApmStatus
padded_run(const uint8_t block[BLOCK_LEN], uint8_t pad, const ApmSlice *parts, size_t n, ApmDigest *out)
{
	uint8_t padded[BLOCK_LEN];
	ApmStatus status;

	for (size_t i = 0; i < BLOCK_LEN; i++)
		padded[i] = block[i] ^ pad;
	status = begin();
	if (status == APM_OK)
		status = update(padded, sizeof(padded));
	if (status == APM_OK)
		status = update_parts(parts, n);
	if (status == APM_OK)
		status = finish(out);
	apm_wipe(padded, sizeof(padded));
	return status;
}

/* HMAC over the parts one after the other.  A key may have any length. */
ApmStatus
apm_hmac_sha256(const void *key, size_t keylen, const ApmSlice *parts, size_t n, ApmDigest *out)
{
	uint8_t block[BLOCK_LEN] = {0};
	ApmDigest inner;
	ApmStatus status = APM_OK;

	if (keylen > BLOCK_LEN)
	{
		status = apm_sha256(key, keylen, &inner);
		if (status == APM_OK)
			memcpy(block, inner.bytes, APM_DIGEST_LEN);
	}
	else if (keylen > 0)
		memcpy(block, key, keylen);

	if (status == APM_OK)
		status = padded_run(block, 0x36, parts, n, &inner);
	if (status == APM_OK)
	{
		ApmSlice result = {inner.bytes, APM_DIGEST_LEN};

		status = padded_run(block, 0x5c, &result, 1, out);
	}
	apm_wipe(block, sizeof(block));
	apm_wipe(&inner, sizeof(inner));
	if (status == APM_OK)
	{
		status = begin();
		if (status != APM_OK)
			apm_wipe(out, sizeof(*out));
	}
	return status;
}

/* Extract and expand in one step. */
ApmStatus
apm_hkdf_sha256(const void *ikm, size_t ikmlen, const void *salt, size_t saltlen, const void *info,
				size_t infolen, void *out, size_t outlen)
{
	ApmSlice input = {ikm, ikmlen};
	ApmDigest prk;
	ApmDigest t;
	size_t done = 0;
	ApmStatus status;

	if (outlen > 255 * APM_DIGEST_LEN)
		return APM_ERR_RANGE;
	/* HMAC fills a short key with zeros: no salt is the RFC's string of zeros */
	status = apm_hmac_sha256(salt, saltlen, &input, 1, &prk);
	for (uint8_t round = 1; status == APM_OK && done < outlen; round++)
	{
		ApmSlice parts[3] = {{t.bytes, round == 1 ? 0 : APM_DIGEST_LEN}, {info, infolen}, {&round, 1}};
		size_t step = outlen - done < APM_DIGEST_LEN ? outlen - done : APM_DIGEST_LEN;

		status = apm_hmac_sha256(prk.bytes, APM_DIGEST_LEN, parts, 3, &t);
		if (status == APM_OK)
			memcpy((uint8_t *) out + done, t.bytes, step);
		done += step;
	}
	if (status != APM_OK)
		apm_wipe(out, outlen);
	apm_wipe(&prk, sizeof(prk));
	apm_wipe(&t, sizeof(t));
	return status;
}
