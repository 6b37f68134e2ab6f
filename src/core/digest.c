/*
 * digest.c
 *	  SHA-256, and HMAC and HKDF built on it.
 *
 * Most of what is hashed here is short: two hashes in a tree, a transaction, a key.  For those OpenSSL's EVP interface costs
 * as much again as the hashing itself, even with an algorithm that is fetched once and a context that is used again.
 * So the functions under it are called, on a context on the stack, which reach the same accelerated code.  HMAC is
 * two runs; a context that a key went through is wiped.
 */

/* OpenSSL 3.0 marks them as deprecated; what it offers in their place is EVP. */
#define OPENSSL_SUPPRESS_DEPRECATED

#include "digest.h"

#include <string.h>

#include <openssl/sha.h>

#define BLOCK_LEN SHA256_CBLOCK

static bool
update_parts(SHA256_CTX *context, const ApmSlice *parts, size_t n)
{
	for (size_t i = 0; i < n; i++)
	{
		if (SHA256_Update(context, parts[i].data, parts[i].len) != 1)
			return false;
	}
	return true;
}

/* H(prefix || parts...); the prefix may have no bytes. */
static ApmStatus
hash(ApmSlice prefix, const ApmSlice *parts, size_t n, ApmDigest *out)
{
	SHA256_CTX context;

	if (SHA256_Init(&context) != 1 || SHA256_Update(&context, prefix.data, prefix.len) != 1 ||
		!update_parts(&context, parts, n) || SHA256_Final(out->bytes, &context) != 1)
		return APM_ERR_CRYPTO;
	return APM_OK;
}

ApmStatus
apm_sha256(const void *data, size_t len, ApmDigest *out)
{
	return hash(APM_SLICE(data, len), NULL, 0, out);
}

/* The digest of the parts one after the other. */
ApmStatus
apm_sha256_parts(const ApmSlice *parts, size_t n, ApmDigest *out)
{
	return hash(APM_SLICE(NULL, 0), parts, n, out);
}

ApmStatus
apm_sha256_prefixed(uint8_t prefix, const ApmSlice *parts, size_t n, ApmDigest *out)
{
	return hash(APM_SLICE(&prefix, 1), parts, n, out);
}

/* One of HMAC's two runs: H(block with every byte xored with pad || parts). */
static ApmStatus
padded_run(const uint8_t block[BLOCK_LEN], uint8_t pad, const ApmSlice *parts, size_t n, ApmDigest *out)
{
	SHA256_CTX context;
	uint8_t padded[BLOCK_LEN];
	bool good;

	for (size_t i = 0; i < BLOCK_LEN; i++)
		padded[i] = block[i] ^ pad;
	good = SHA256_Init(&context) == 1 && SHA256_Update(&context, padded, BLOCK_LEN) == 1 &&
		   update_parts(&context, parts, n) && SHA256_Final(out->bytes, &context) == 1;
	apm_wipe(padded, sizeof(padded));
	apm_wipe(&context, sizeof(context));
	return good ? APM_OK : APM_ERR_CRYPTO;
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
