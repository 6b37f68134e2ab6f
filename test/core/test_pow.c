/*
 * test_pow.c
 *	  The fast search finds the nonce that a slow one finds, and so does each way of scanning.
 *
 * The slow one hashes whole headers with OpenSSL's EVP_Digest and counts zero bits by
 * itself; it shares no line with pow.c or block.c.  What the scans find is compared with each other, on tasks
 * made by chance.
 */
#include "core/pow.h"
#include "core/powscan.h"

#include <openssl/evp.h>

#include "sample.h"

static void
make_header(uint8_t seed, uint8_t header[APM_HEADER_LEN])
{
	for (int i = 0; i < APM_HEADER_LEN; i++)
		header[i] = (uint8_t) (seed * 31 + i * 7);
}

/* Zero bits at the start of SHA-256(SHA-256(header with this nonce)). */
static uint32_t
slow_zero_bits(const uint8_t header[APM_HEADER_LEN], uint64_t nonce, uint8_t digest[32])
{
	uint8_t bytes[APM_HEADER_LEN];
	uint32_t zeros = 0;

	memcpy(bytes, header, APM_HEADER_LEN - 8);
	for (int i = 0; i < 8; i++)
		bytes[APM_HEADER_LEN - 8 + i] = (uint8_t) (nonce >> (56 - 8 * i));
	if (EVP_Digest(bytes, sizeof(bytes), digest, NULL, EVP_sha256(), NULL) != 1 ||
		EVP_Digest(digest, 32, digest, NULL, EVP_sha256(), NULL) != 1)
		exit(2);
	while (zeros < 256 && (digest[zeros / 8] & (0x80 >> zeros % 8)) == 0)
		zeros++;
	return zeros;
}

/* For each difficulty the first nonce from the start that meets it, and its hash. */
static void
test_finds_the_first(void)
{
	for (uint8_t seed = 0; seed < 6; seed++)
	{
		uint8_t header[APM_HEADER_LEN];
		uint64_t start = (uint64_t) seed << 40 | seed;

		make_header(seed, header);
		for (uint32_t bits = 0; bits <= 12; bits++)
		{
			uint8_t digest[32];
			uint64_t expected = start;
			uint64_t nonce = 0;
			ApmDigest hash;

			while (slow_zero_bits(header, expected, digest) < bits)
				expected++;
			CHECK_OK(apm_pow_search(header, bits, start, UINT64_C(1) << 24, &nonce, &hash));
			CHECK(nonce == expected);
			CHECK(memcmp(hash.bytes, digest, sizeof(digest)) == 0);
		}
	}
}

/* The default difficulty of a chain. */
static void
test_sixteen_bits(void)
{
	uint8_t header[APM_HEADER_LEN];
	uint8_t digest[32];
	uint64_t nonce = 0;
	ApmDigest hash;

	make_header(77, header);
	CHECK_OK(apm_pow_search(header, 16, 0, UINT64_C(1) << 24, &nonce, &hash));
	CHECK(slow_zero_bits(header, nonce, digest) >= 16);
	CHECK(memcmp(hash.bytes, digest, sizeof(digest)) == 0);
	CHECK(apm_hash_meets(&hash, 16));
}

/* In slices the search ends where it ends in one piece. */
static void
test_slices(void)
{
	uint8_t header[APM_HEADER_LEN];
	uint64_t whole = 0;
	uint64_t nonce = 0;
	uint64_t start = 0;
	ApmDigest hash;
	ApmStatus status;

	make_header(3, header);
	CHECK_OK(apm_pow_search(header, 10, 0, UINT64_C(1) << 24, &whole, &hash));
	while ((status = apm_pow_search(header, 10, start, 7, &nonce, &hash)) == APM_ERR_MORE)
		start += 7;
	CHECK_OK(status);
	CHECK(nonce == whole);
	CHECK_STATUS(apm_pow_search(header, 10, 0, whole, &nonce, &hash), APM_ERR_MORE);
	CHECK_OK(apm_pow_search(header, 10, 0, whole + 1, &nonce, &hash));
	CHECK_STATUS(apm_pow_search(header, 0, 5, 0, &nonce, &hash), APM_ERR_MORE);
}

/* Past the last nonce comes the first; more bits than are allowed are refused. */
static void
test_ends(void)
{
	uint8_t header[APM_HEADER_LEN];
	uint8_t digest[32];
	uint64_t nonce = 0;
	ApmDigest hash;

	make_header(4, header);
	CHECK_OK(apm_pow_search(header, 12, UINT64_MAX - 2, UINT64_C(1) << 24, &nonce, &hash));
	CHECK(slow_zero_bits(header, nonce, digest) >= 12);
	CHECK(nonce < UINT64_C(1) << 24);
	CHECK_STATUS(apm_pow_search(header, APM_MAX_DIFFICULTY, 0, 10, &nonce, &hash), APM_ERR_MORE);
	CHECK_STATUS(apm_pow_search(header, APM_MAX_DIFFICULTY + 1, 0, 10, &nonce, &hash), APM_ERR_RANGE);
	CHECK_STATUS(apm_pow_search(header, UINT32_MAX, 0, 10, &nonce, &hash), APM_ERR_RANGE);
}

/* A task that is no header's: any midstate and any block. */
static void
make_task(uint32_t bits, ApmPowTask *task)
{
	for (int i = 0; i < 8; i++)
		task->midstate[i] = (uint32_t) mrand48();
	for (int i = 0; i < APM_POW_BLOCK_LEN; i++)
		task->tail[i] = (uint8_t) mrand48();
	task->bits = bits;
}

/* Starts close to where the last 16 bits, the last 32, or all of a nonce begin again, or anywhere. */
static uint64_t
make_start(int i)
{
	static const uint64_t turns[] = {0, UINT64_C(1) << 16, UINT64_C(1) << 32, UINT64_C(1) << 48};
	uint64_t near = (uint64_t) (lrand48() % 40) - 20;

	if (i % 5 == 4)
		return (uint64_t) mrand48() << 32 ^ (uint64_t) mrand48();
	return turns[i % 5] + near;
}

/* All scans find the same, and nothing where nothing is: odd and even numbers of tries, from odd and even starts. */
static void
test_scans_agree(void)
{
	ApmPowScan lanes = apm_pow_scan_lanes();

	if (lanes == NULL)
	{
		printf("this processor has no instructions for SHA-256\n");
		return;
	}
	srand48(20);
	for (int i = 0; i < 3000; i++)
	{
		ApmPowTask task;
		uint64_t start = make_start(i);
		uint64_t tries = (uint64_t) (lrand48() % 60);
		uint64_t plain;

		make_task((uint32_t) (i % 8) + 1, &task);
		plain = apm_pow_scan_plain(&task, start, tries);
		CHECK(lanes(&task, start, tries) == plain);
		/* up to the one that was found, and no further */
		CHECK(lanes(&task, start, plain) == plain);
		if (plain < tries)
			CHECK(lanes(&task, start, plain + 1) == plain);
	}
	for (uint32_t bits = 14; bits <= 17; bits++)
	{
		ApmPowTask task;

		make_task(bits, &task);
		CHECK(lanes(&task, 65000, 300000) == apm_pow_scan_plain(&task, 65000, 300000));
	}
}

int
main(void)
{
	test_scans_agree();
	test_finds_the_first();
	test_sixteen_bits();
	test_slices();
	test_ends();
	return check_summary();
}
