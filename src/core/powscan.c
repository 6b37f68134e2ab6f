/*
 * powscan.c
 *	  Nonces tried one after the other, on any processor.
 *
 * A try costs two compressions: the header's last block, and the one block that hashes the inner digest
 * again.  The EVP interface cannot be asked for a single compression and costs more than twice as much a
 * try; SHA256_Transform() is the same code without the way there.
 */

/*
 * OpenSSL 3.0 marks its low-level SHA-256 functions as deprecated and offers nothing in
 * their place that gives access to a midstate.
 */
#define OPENSSL_SUPPRESS_DEPRECATED

#include "powscan.h"

#include <openssl/sha.h>

typedef struct Search
{
	SHA256_CTX initial; /* before any input */
	SHA256_CTX midstate;
	uint8_t tail[APM_POW_BLOCK_LEN];
	uint8_t inner[APM_POW_BLOCK_LEN]; /* the inner digest, padded */
} Search;

static void
prepare(Search *s, const ApmPowTask *task)
{
	memset(s, 0, sizeof(*s));
	SHA256_Init(&s->initial);
	memcpy(s->midstate.h, task->midstate, sizeof(s->midstate.h));
	memcpy(s->tail, task->tail, APM_POW_BLOCK_LEN);
	s->inner[APM_DIGEST_LEN] = 0x80;
	apm_pow_put_u64(s->inner + APM_POW_BLOCK_LEN - 8, 8 * APM_DIGEST_LEN);
}

static inline bool
meets(Search *s, uint64_t nonce, uint32_t bits)
{
	SHA256_CTX ctx = s->midstate;
	uint64_t top;

	apm_pow_put_u64(s->tail + APM_POW_NONCE_AT, nonce);
	SHA256_Transform(&ctx, s->tail);
	for (int i = 0; i < 4; i++)
		apm_pow_put_u64(s->inner + 8 * i, (uint64_t) ctx.h[2 * i] << 32 | ctx.h[2 * i + 1]);
	memcpy(ctx.h, s->initial.h, sizeof(ctx.h));
	SHA256_Transform(&ctx, s->inner);
	top = (uint64_t) ctx.h[0] << 32 | ctx.h[1];
	return top >> (64 - bits) == 0;
}

uint64_t
apm_pow_scan_plain(const ApmPowTask *task, uint64_t start, uint64_t tries)
{
	Search search;
	uint64_t tried = 0;

	prepare(&search, task);
	while (tried < tries && !meets(&search, start + tried, task->bits))
		tried++;
	return tried;
}
