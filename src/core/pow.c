/*
 * pow.c
 *	  The search for a nonce.
 *
 * A header is 226 bytes: three whole SHA-256 blocks that do not change while the search
 * runs, and a fourth that holds the last 34 bytes, nonce at their end, and SHA-256's
 * padding.  The state after the first three is worked out once, and a scan (powscan.h)
 * tries nonces from there.
 */

/*
 * OpenSSL 3.0 marks its low-level SHA-256 functions as deprecated and offers nothing in
 * their place that gives access to a midstate.
 */
#define OPENSSL_SUPPRESS_DEPRECATED

#include "pow.h"

#include <openssl/sha.h>
#include <string.h>

#include "powscan.h"

#define MIDSTATE_LEN (APM_HEADER_LEN / APM_POW_BLOCK_LEN * APM_POW_BLOCK_LEN)
#define TAIL_LEN (APM_HEADER_LEN - MIDSTATE_LEN)

/* the tail, 0x80 and the length must share one block, and the nonce must be where the scans put it */
_Static_assert(TAIL_LEN + 1 + 8 <= APM_POW_BLOCK_LEN, "the header's tail does not fit one SHA-256 block");
_Static_assert(APM_HEADER_NONCE_AT - MIDSTATE_LEN == APM_POW_NONCE_AT, "the nonce is somewhere else");
/* scans look at the first 64 bits of a hash only */
_Static_assert(APM_MAX_DIFFICULTY < 64, "difficulty beyond the first 64 bits");

/* The tail is padded as FIPS 180-4, 5.1.1 says. */
static void
prepare(ApmPowTask *task, const uint8_t header[APM_HEADER_LEN], uint32_t bits)
{
	SHA256_CTX ctx;

	SHA256_Init(&ctx);
	for (size_t at = 0; at < MIDSTATE_LEN; at += APM_POW_BLOCK_LEN)
		SHA256_Transform(&ctx, header + at);
	memcpy(task->midstate, ctx.h, sizeof(task->midstate));
	memset(task->tail, 0, sizeof(task->tail));
	memcpy(task->tail, header + MIDSTATE_LEN, TAIL_LEN);
	task->tail[TAIL_LEN] = 0x80;
	apm_pow_put_u64(task->tail + APM_POW_BLOCK_LEN - 8, 8 * APM_HEADER_LEN);
	task->bits = bits;
}

/* The fastest that this processor can. */
static uint64_t
scan(const ApmPowTask *task, uint64_t start, uint64_t tries)
{
	static ApmPowScan fastest = NULL;

	if (fastest == NULL)
		fastest = apm_pow_scan_lanes();
	if (fastest == NULL)
		fastest = apm_pow_scan_plain;
	return fastest(task, start, tries);
}

/*
 * Nonces wrap around at 2^64.  APM_ERR_RANGE for bits over APM_MAX_DIFFICULTY.  A nonce
 * that was found is hashed again the plain way, so a fault of the fast way ends as
 * APM_ERR_CRYPTO here and not as a block that nobody accepts.
 */
ApmStatus
apm_pow_search(const uint8_t header[APM_HEADER_LEN], uint32_t bits, uint64_t start, uint64_t max_tries,
			   uint64_t *nonce, ApmDigest *hash)
{
	ApmPowTask task;
	uint8_t complete[APM_HEADER_LEN];
	uint64_t tries = 0;
	ApmDigest digest;
	ApmStatus status;

	if (bits > APM_MAX_DIFFICULTY)
		return APM_ERR_RANGE;
	if (bits > 0)
	{
		prepare(&task, header, bits);
		tries = scan(&task, start, max_tries);
	}
	if (tries == max_tries)
		return APM_ERR_MORE;

	memcpy(complete, header, APM_HEADER_NONCE_AT);
	apm_pow_put_u64(complete + APM_HEADER_NONCE_AT, start + tries);
	status = apm_header_hash(complete, &digest);
	if (status != APM_OK)
		return status;
	if (!apm_hash_meets(&digest, bits))
		return APM_ERR_CRYPTO;
	*nonce = start + tries;
	*hash = digest;
	return APM_OK;
}
