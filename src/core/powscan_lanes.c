/*
 * powscan_lanes.c
 *	  Nonces tried two at a time with the processor's SHA-256 instructions.
 *
 * sha256rnds2 does two rounds and takes four cycles, but another can begin every two: one hash keeps the
 * unit waiting for itself half of the time, two that do not depend on each other keep it busy.  So a pair
 * of nonces goes through each step together.
 *
 * Nonces that share all but their last 16 bits share more than the midstate: those bits are in word 8 of the
 * block, so that the first eight rounds and the words 16 to 19 of the message schedule are the same for 65,536 tries,
 * and are worked out once for each such stretch.
 *
 * The state is kept as the instructions want it, in two registers of four words, highest first: A B E F and C D G H.
 */
#include "powscan.h"

#if defined(__x86_64__) && defined(__GNUC__)

#include <cpuid.h>
#include <immintrin.h>

#define WITH_SHA __attribute__((target("sha,sse4.1")))
#define STEP WITH_SHA static inline __attribute__((always_inline))

#define STRETCH 65536 /* nonces that differ in their last 16 bits */

/* FIPS 180-4, 4.2.2 and 5.3.3 */
static const uint32_t constants[64] __attribute__((aligned(16))) = {
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
	0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
	0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
	0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
	0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
	0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
	0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};
static const uint32_t initial[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
									0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

/* Four words of each of the two hashes, the first of them lowest. */
typedef struct Words
{
	__m128i v[2];
} Words;

typedef struct State
{
	__m128i abef;
	__m128i cdgh;
} State;

typedef struct States
{
	Words abef;
	Words cdgh;
} States;

/* What all nonces of a stretch have in common. */
typedef struct Stretch
{
	State midstate;
	States eighth; /* after eight rounds */
	__m128i words4;
	__m128i words8; /* with a nonce that ends in 16 zeros */
	__m128i words12;
	__m128i words16;
} Stretch;

STEP __m128i
four(uint32_t first, uint32_t second, uint32_t third, uint32_t fourth)
{
	return _mm_set_epi32((int) fourth, (int) third, (int) second, (int) first);
}

STEP Words
twice(__m128i v)
{
	return (Words){{v, v}};
}

STEP State
load_state(const uint32_t h[8])
{
	return (State){four(h[5], h[4], h[1], h[0]), four(h[7], h[6], h[3], h[2])};
}

/* The four words of the message schedule that follow these sixteen. */
STEP __m128i
next_four(__m128i w0, __m128i w4, __m128i w8, __m128i w12)
{
	__m128i sum = _mm_add_epi32(_mm_sha256msg1_epu32(w0, w4), _mm_alignr_epi8(w12, w8, 4));

	return _mm_sha256msg2_epu32(sum, w12);
}

STEP void
schedule(Words *w0, const Words *w4, const Words *w8, const Words *w12)
{
	for (int lane = 0; lane < 2; lane++)
		w0->v[lane] = next_four(w0->v[lane], w4->v[lane], w8->v[lane], w12->v[lane]);
}

/* Rounds round to round + 3. */
STEP void
rounds(States *s, int round, const Words *words)
{
	__m128i k = _mm_load_si128((const __m128i *) &constants[round]);
	__m128i left = _mm_add_epi32(words->v[0], k);
	__m128i right = _mm_add_epi32(words->v[1], k);

	s->cdgh.v[0] = _mm_sha256rnds2_epu32(s->cdgh.v[0], s->abef.v[0], left);
	s->cdgh.v[1] = _mm_sha256rnds2_epu32(s->cdgh.v[1], s->abef.v[1], right);
	left = _mm_shuffle_epi32(left, 0x0e);
	right = _mm_shuffle_epi32(right, 0x0e);
	s->abef.v[0] = _mm_sha256rnds2_epu32(s->abef.v[0], s->cdgh.v[0], left);
	s->abef.v[1] = _mm_sha256rnds2_epu32(s->abef.v[1], s->cdgh.v[1], right);
}

/* Four rounds, after which words are those for the four rounds that are sixteen further on. */
STEP void
rounds_and_schedule(States *s, int round, Words *words, const Words *w4, const Words *w8, const Words *w12)
{
	rounds(s, round, words);
	schedule(words, w4, w8, w12);
}

/* Sixteen rounds, and the words of the next sixteen. */
STEP void
sixteen_rounds(States *s, int round, Words *w0, Words *w4, Words *w8, Words *w12)
{
	rounds_and_schedule(s, round, w0, w4, w8, w12);
	rounds_and_schedule(s, round + 4, w4, w8, w12, w0);
	rounds_and_schedule(s, round + 8, w8, w12, w0, w4);
	rounds_and_schedule(s, round + 12, w12, w0, w4, w8);
}

/* The last sixteen rounds, and the addition of what the state was before all. */
STEP void
last_rounds(States *s, const State *before, const Words *w0, const Words *w4, const Words *w8,
			const Words *w12)
{
	rounds(s, 48, w0);
	rounds(s, 52, w4);
	rounds(s, 56, w8);
	rounds(s, 60, w12);
	for (int lane = 0; lane < 2; lane++)
	{
		s->abef.v[lane] = _mm_add_epi32(s->abef.v[lane], before->abef);
		s->cdgh.v[lane] = _mm_add_epi32(s->cdgh.v[lane], before->cdgh);
	}
}

/* The header's last block with the nonces that end in low and low + 1. */
STEP States
hash_headers(const Stretch *stretch, uint32_t low)
{
	States s = stretch->eighth;
	Words w0 = twice(stretch->words16);
	Words w4 = twice(stretch->words4);
	Words w8 = {{_mm_or_si128(stretch->words8, _mm_cvtsi32_si128((int) (low << 16))),
				 _mm_or_si128(stretch->words8, _mm_cvtsi32_si128((int) ((low + 1) << 16)))}};
	Words w12 = twice(stretch->words12);

	schedule(&w4, &w8, &w12, &w0);
	rounds_and_schedule(&s, 8, &w8, &w12, &w0, &w4);
	rounds_and_schedule(&s, 12, &w12, &w0, &w4, &w8);
	sixteen_rounds(&s, 16, &w0, &w4, &w8, &w12);
	sixteen_rounds(&s, 32, &w0, &w4, &w8, &w12);
	last_rounds(&s, &stretch->midstate, &w0, &w4, &w8, &w12);
	return s;
}

/* The digests that are in these states, hashed. */
STEP States
hash_digests(const States *digests, const State *before)
{
	States s = {twice(before->abef), twice(before->cdgh)};
	Words w0;
	Words w4;
	Words w8 = twice(four(0x80000000, 0, 0, 0));
	Words w12 = twice(four(0, 0, 0, 8 * APM_DIGEST_LEN));

	for (int lane = 0; lane < 2; lane++)
	{
		__m128i badc = _mm_unpackhi_epi64(digests->abef.v[lane], digests->cdgh.v[lane]);
		__m128i fehg = _mm_unpacklo_epi64(digests->abef.v[lane], digests->cdgh.v[lane]);

		w0.v[lane] = _mm_shuffle_epi32(badc, 0xb1);
		w4.v[lane] = _mm_shuffle_epi32(fehg, 0xb1);
	}
	sixteen_rounds(&s, 0, &w0, &w4, &w8, &w12);
	sixteen_rounds(&s, 16, &w0, &w4, &w8, &w12);
	sixteen_rounds(&s, 32, &w0, &w4, &w8, &w12);
	last_rounds(&s, before, &w0, &w4, &w8, &w12);
	return s;
}

/* The first 64 bits of the hash in one of the states. */
STEP uint64_t
beginning(const States *s, int lane)
{
	return (uint64_t) _mm_extract_epi64(s->abef.v[lane], 1);
}

WITH_SHA static void
begin_stretch(Stretch *stretch, const ApmPowTask *task, uint64_t nonce)
{
	uint8_t tail[APM_POW_BLOCK_LEN];
	const __m128i swap = _mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3);
	__m128i words[4];
	Words first;
	Words second;

	nonce &= ~(uint64_t) (STRETCH - 1);
	memcpy(tail, task->tail, APM_POW_BLOCK_LEN);
	apm_pow_put_u64(tail + APM_POW_NONCE_AT, nonce);
	for (int i = 0; i < 4; i++)
		words[i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *) (tail + 16 * i)), swap);

	stretch->midstate = load_state(task->midstate);
	stretch->eighth = (States){twice(stretch->midstate.abef), twice(stretch->midstate.cdgh)};
	first = twice(words[0]);
	second = twice(words[1]);
	rounds(&stretch->eighth, 0, &first);
	rounds(&stretch->eighth, 4, &second);
	stretch->words4 = words[1];
	stretch->words8 = words[2];
	stretch->words12 = words[3];
	stretch->words16 = next_four(words[0], words[1], words[2], words[3]);
}

/* As ApmPowScan, for nonces of one stretch.  The one that an odd number of tries does not ask for is as good as none. */
WITH_SHA static uint32_t
scan_stretch(const Stretch *stretch, uint32_t bits, uint32_t low, uint32_t tries)
{
	const State before = load_state(initial);
	const uint32_t rest = 64 - bits;

	for (uint32_t tried = 0; tried < tries; tried += 2)
	{
		States s = hash_headers(stretch, low + tried);

		s = hash_digests(&s, &before);
		if (beginning(&s, 0) >> rest == 0)
			return tried;
		if (beginning(&s, 1) >> rest == 0)
			return tried + 1;
	}
	return tries;
}

static uint64_t
scan(const ApmPowTask *task, uint64_t start, uint64_t tries)
{
	uint64_t tried = 0;

	while (tried < tries)
	{
		uint64_t nonce = start + tried;
		uint32_t low = (uint32_t) (nonce % STRETCH);
		uint32_t part = tries - tried < STRETCH - low ? (uint32_t) (tries - tried) : STRETCH - low;
		uint32_t done;
		Stretch stretch;

		begin_stretch(&stretch, task, nonce);
		done = scan_stretch(&stretch, task->bits, low, part);
		tried += done;
		if (done < part)
			break;
	}
	return tried;
}

ApmPowScan
apm_pow_scan_lanes(void)
{
	unsigned int eax;
	unsigned int ebx;
	unsigned int ecx;
	unsigned int edx;

	if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) == 0 || (ecx & bit_SSE4_1) == 0 || (ecx & bit_SSSE3) == 0)
		return NULL;
	if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0 || (ebx & bit_SHA) == 0)
		return NULL;
	return scan;
}

#else

ApmPowScan
apm_pow_scan_lanes(void)
{
	return NULL;
}

#endif
