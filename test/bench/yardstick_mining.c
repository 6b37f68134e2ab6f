/*
 * yardstick_mining.c
 *	  How long the proof of work of a block takes, on average.
 *
 * Latencies are given beside it, since nothing that stands in a block is done before the block's
 * nonce is found.  Headers that differ in a byte are searched one after the other, as often as is asked;
 * a search is as long as luck has it, so it takes hundreds of them to tell the mean.
 *
 *		yardstick-mining BITS SEARCHES			prints the mean in seconds
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/pow.h"

#define SLICE_TRIES 65536

static void
search(const uint8_t header[APM_HEADER_LEN], uint32_t bits)
{
	ApmStatus status = APM_ERR_MORE;
	ApmDigest hash;
	uint64_t nonce;

	for (uint64_t start = 0; status == APM_ERR_MORE; start += SLICE_TRIES)
		status = apm_pow_search(header, bits, start, SLICE_TRIES, &nonce, &hash);
	if (status != APM_OK)
	{
		fputs("the search failed\n", stderr);
		exit(1);
	}
}

int
main(int argc, char **argv)
{
	int bits = argc == 3 ? atoi(argv[1]) : -1;
	int searches = argc == 3 ? atoi(argv[2]) : 0;
	uint8_t header[APM_HEADER_LEN];
	struct timespec from;
	struct timespec to;

	if (bits < 0 || searches < 1)
	{
		fputs("usage: yardstick-mining BITS SEARCHES\n", stderr);
		return 1;
	}
	memset(header, 0, sizeof(header));
	clock_gettime(CLOCK_MONOTONIC, &from);
	for (int i = 0; i < searches; i++)
	{
		memcpy(header + 8, &i, sizeof(i));
		search(header, (uint32_t) bits);
	}
	clock_gettime(CLOCK_MONOTONIC, &to);
	printf("%.9f\n",
		   ((double) (to.tv_sec - from.tv_sec) + (double) (to.tv_nsec - from.tv_nsec) / 1e9) / searches);
	return 0;
}
