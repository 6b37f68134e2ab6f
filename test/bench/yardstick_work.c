/*
 * yardstick_work.c
 *	  Tries of the proof of work a second of one processor.
 *
 *		yardstick-work ours|transform TRIES
 *
 * ours: apm_pow_search(), in slices as the miner calls it, for a difficulty that nothing meets.  transform: what
 * anybody writes with OpenSSL who keeps the midstate, two calls of SHA256_Transform() a try.
 */
#define OPENSSL_SUPPRESS_DEPRECATED

#include <openssl/sha.h>
#include <string.h>

#include "core/pow.h"
#include "timing.h"

#define SLICE_TRIES 65536
#define TAIL_LEN (APM_HEADER_LEN % SHA256_CBLOCK)

static void
ours(const uint8_t header[APM_HEADER_LEN], uint64_t tries)
{
	for (uint64_t start = 0; start < tries; start += SLICE_TRIES)
	{
		uint64_t slice = tries - start < SLICE_TRIES ? tries - start : SLICE_TRIES;
		uint64_t nonce;
		ApmDigest hash;

		timing_need(apm_pow_search(header, APM_MAX_DIFFICULTY, start, slice, &nonce, &hash) == APM_ERR_MORE,
					"a nonce was found");
	}
}

static void
put_be(uint8_t *at, uint64_t value, int len)
{
	for (int i = 0; i < len; i++)
		at[i] = (uint8_t) (value >> (8 * (len - 1 - i)));
}

static void
transform(const uint8_t header[APM_HEADER_LEN], uint64_t tries)
{
	uint8_t tail[SHA256_CBLOCK] = {0};
	uint8_t inner[SHA256_CBLOCK] = {0};
	SHA256_CTX initial;
	SHA256_CTX midstate;

	SHA256_Init(&initial);
	midstate = initial;
	for (size_t at = 0; at < APM_HEADER_LEN - TAIL_LEN; at += SHA256_CBLOCK)
		SHA256_Transform(&midstate, header + at);
	memcpy(tail, header + APM_HEADER_LEN - TAIL_LEN, TAIL_LEN);
	tail[TAIL_LEN] = 0x80;
	put_be(tail + SHA256_CBLOCK - 8, 8 * APM_HEADER_LEN, 8);
	inner[SHA256_DIGEST_LENGTH] = 0x80;
	put_be(inner + SHA256_CBLOCK - 8, 8 * SHA256_DIGEST_LENGTH, 8);
	for (uint64_t nonce = 0; nonce < tries; nonce++)
	{
		SHA256_CTX ctx = midstate;

		put_be(tail + TAIL_LEN - 8, nonce, 8);
		SHA256_Transform(&ctx, tail);
		for (int i = 0; i < 8; i++)
			put_be(inner + 4 * i, ctx.h[i], 4);
		ctx = initial;
		SHA256_Transform(&ctx, inner);
		timing_need(((uint64_t) ctx.h[0] << 32 | ctx.h[1]) >> (64 - APM_MAX_DIFFICULTY) != 0,
					"a nonce was found");
	}
}

int
main(int argc, char **argv)
{
	uint8_t header[APM_HEADER_LEN];
	uint64_t tries;
	double started;

	timing_need(argc == 3, "usage: yardstick-work ours|transform TRIES");
	tries = timing_number(argv[2]);
	for (size_t i = 0; i < APM_HEADER_LEN; i++)
		header[i] = (uint8_t) (7 * i);
	started = timing_processor();
	if (strcmp(argv[1], "ours") == 0)
		ours(header, tries);
	else if (strcmp(argv[1], "transform") == 0)
		transform(header, tries);
	else
		timing_need(false, "usage: yardstick-work ours|transform TRIES");
	printf("%.0f\n", (double) tries / (timing_processor() - started));
	return EXIT_SUCCESS;
}
