/*
 * digest.h
 *	  SHA-256 (FIPS 180-4), HMAC-SHA-256 (RFC 2104, vectors RFC 4231) and
 *	  HKDF-SHA-256 (RFC 5869).
 */
#ifndef APM_CORE_DIGEST_H
#define APM_CORE_DIGEST_H

#include "bytes.h"

/* All throw away nothing on failure but answer APM_ERR_CRYPTO. */
extern ApmStatus apm_sha256(const void *data, size_t len, ApmDigest *out);
extern ApmStatus apm_sha256_parts(const ApmSlice *parts, size_t n, ApmDigest *out);
/* H(prefix || parts...): what the leaves and nodes of trees are hashed with */
extern ApmStatus apm_sha256_prefixed(uint8_t prefix, const ApmSlice *parts, size_t n, ApmDigest *out);
extern ApmStatus apm_hmac_sha256(const void *key, size_t keylen, const ApmSlice *parts, size_t n,
								 ApmDigest *out);
/* outlen at most 255 * 32; a NULL/0 salt is the RFC's string of zeros */
extern ApmStatus apm_hkdf_sha256(const void *ikm, size_t ikmlen, const void *salt, size_t saltlen,
								 const void *info, size_t infolen, void *out, size_t outlen);

#endif /* APM_CORE_DIGEST_H */
