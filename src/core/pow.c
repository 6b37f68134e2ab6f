/*
 * pow.c
 *	  The search for a nonce.
 *
 * A header is 226 bytes: three whole SHA-256 blocks that do not change while the search
 * runs, and a fourth that holds the last 34 bytes, nonce at their end, and SHA-256's
 * padding.  The state after the first three is kept, so a try costs two compressions:
 * the fourth block, and the one block that hashes the inner digest again.  The EVP
 * interface cannot be asked for a single compression and costs more than twice as much a
 * try; SHA256_Transform() is the same accelerated code without the way there.
 */

/*
 * OpenSSL 3.0 marks its low-level SHA-256 functions as deprecated and offers nothing in
 * their place that gives access to a midstate.
 */
#define OPENSSL_SUPPRESS_DEPRECATED

#include "pow.h"

#include <openssl/sha.h>
#include <string.h>

#define BLOCK_LEN SHA256_CBLOCK
#define MIDSTATE_LEN (APM_HEADER_LEN / BLOCK_LEN * BLOCK_LEN)
#define TAIL_LEN (APM_HEADER_LEN - MIDSTATE_LEN)
#define TAIL_NONCE_AT (APM_HEADER_NONCE_AT - MIDSTATE_LEN)

/* the tail, 0x80 and the length must share one block, and the nonce must be whole in it */
_Static_assert(TAIL_LEN + 1 + 8 <= BLOCK_LEN, "the header's tail does not fit one SHA-256 block");
_Static_assert(APM_HEADER_NONCE_AT >= MIDSTATE_LEN, "the nonce begins before the last SHA-256 block");
/* found() looks at the first 64 bits of a hash only */
_Static_assert(APM_MAX_DIFFICULTY < 64, "difficulty beyond the first 64 bits");

typedef struct Search
{
	SHA256_CTX initial;		  /* before any input */
	SHA256_CTX midstate;	  /* after the header's whole blocks */
	uint8_t tail[BLOCK_LEN];  /* the header's last block, padded */
	uint8_t inner[BLOCK_LEN]; /* the inner digest, padded */
} Search;

static void
put_be(uint8_t *at, uint64_t value, int len)
{
	for (int i = 0; i < len; i++)
		at[i] = (uint8_t) (value >> (8 * (len - 1 - i)));
}

/* SHA-256's padding (FIPS 180-4, 5.1.1) of a last block that holds used bytes of message_len. */
static void
pad(uint8_t block[BLOCK_LEN], size_t used, size_t message_len)
{
	block[used] = 0x80;
	memset(block + used + 1, 0, BLOCK_LEN - used - 1);
	put_be(block + BLOCK_LEN - 8, (uint64_t) message_len * 8, 8);
}

static bool
prepare(Search *s, const uint8_t header[APM_HEADER_LEN])
{
	memset(s, 0, sizeof(*s));
	if (SHA256_Init(&s->initial) != 1)
		return false;
	s->midstate = s->initial;
	for (size_t at = 0; at < MIDSTATE_LEN; at += BLOCK_LEN)
		SHA256_Transform(&s->midstate, header + at);
	memcpy(s->tail, header + MIDSTATE_LEN, TAIL_LEN);
	pad(s->tail, TAIL_LEN, APM_HEADER_LEN);
	pad(s->inner, APM_DIGEST_LEN, APM_DIGEST_LEN);
	return true;
}

/* Does this nonce meet bits?  bits is 1 to APM_MAX_DIFFICULTY. */
static inline bool
found(Search *s, uint64_t nonce, uint32_t bits)
{
	SHA256_CTX ctx = s->midstate;
	uint64_t top;

	put_be(s->tail + TAIL_NONCE_AT, nonce, 8);
	SHA256_Transform(&ctx, s->tail);
	for (int i = 0; i < 8; i++)
		put_be(s->inner + 4 * i, ctx.h[i], 4);
	memcpy(ctx.h, s->initial.h, sizeof(ctx.h));
	SHA256_Transform(&ctx, s->inner);
	top = (uint64_t) ctx.h[0] << 32 | ctx.h[1];
	return top >> (64 - bits) == 0;
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
	Search search;
	uint8_t complete[APM_HEADER_LEN];
	uint64_t tries = 0;
	ApmDigest digest;
	ApmStatus status;

	if (bits > APM_MAX_DIFFICULTY)
		return APM_ERR_RANGE;
	if (!prepare(&search, header))
		return APM_ERR_CRYPTO;
	while (tries < max_tries && bits > 0 && !found(&search, start + tries, bits))
		tries++;
	if (tries == max_tries)
		return APM_ERR_MORE;

	memcpy(complete, header, APM_HEADER_NONCE_AT);
	put_be(complete + APM_HEADER_NONCE_AT, start + tries, 8);
	status = apm_header_hash(complete, &digest);
	if (status != APM_OK)
		return status;
	if (!apm_hash_meets(&digest, bits))
		return APM_ERR_CRYPTO;
	*nonce = start + tries;
	*hash = digest;
	return APM_OK;
}
