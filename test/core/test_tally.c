/*
 * test_tally.c
 *	  Counters as points in time: two points are as good as all.
 */
#include "core/tally.h"

#include "check.h"

#define SECOND UINT64_C(1000000)

static ApmDigest
subject(uint8_t n)
{
	ApmDigest d;

	memset(&d, n, sizeof(d));
	return d;
}

static void
test_windows(void)
{
	ApmDigest a = subject(1);
	ApmDigest b = subject(2);
	ApmTally t;

	CHECK_OK(apm_tally_init(&t));
	CHECK(apm_tally_count(&t, &a, 10, 100 * SECOND) == 0 && apm_tally_count(&t, &a, 0, 0) == 0);
	CHECK_OK(apm_tally_add(&t, &a, 100 * SECOND));
	CHECK_OK(apm_tally_add(&t, &a, 100 * SECOND));
	CHECK_OK(apm_tally_add(&t, &a, 105 * SECOND));
	CHECK(apm_tally_count(&t, &b, 0, 105 * SECOND) == 0);
	CHECK(apm_tally_count(&t, &a, 0, 105 * SECOND) == 3);
	CHECK(apm_tally_count(&t, &a, 10, 105 * SECOND) == 3);
	CHECK(apm_tally_count(&t, &a, 10, 110 * SECOND - 1) == 3);
	CHECK(apm_tally_count(&t, &a, 10, 110 * SECOND) == 1); /* the window begins behind its begin */
	CHECK(apm_tally_count(&t, &a, 10, 115 * SECOND) == 0);
	CHECK(apm_tally_count(&t, &a, 1000, 115 * SECOND) == 3); /* longer than time itself */
	CHECK(apm_tally_count(&t, &a, UINT32_MAX, UINT64_MAX) == 0);
	apm_tally_free(&t);
}

/* Points may come in any order and twice; of one time the greatest total stays. */
static void
test_points(void)
{
	ApmDigest a = subject(1);
	ApmTally t;

	CHECK_OK(apm_tally_init(&t));
	CHECK_OK(apm_tally_point(&t, &a, 50 * SECOND, 9));
	CHECK_OK(apm_tally_point(&t, &a, 20 * SECOND, 4));
	CHECK_OK(apm_tally_point(&t, &a, 50 * SECOND, 7));
	CHECK_OK(apm_tally_point(&t, &a, 20 * SECOND, 4));
	CHECK(apm_tally_count(&t, &a, 30, 50 * SECOND) == 5);
	CHECK(apm_tally_count(&t, &a, 31, 50 * SECOND) == 9);
	CHECK_OK(apm_tally_add(&t, &a, 60 * SECOND));
	CHECK(apm_tally_count(&t, &a, 0, 60 * SECOND) == 10 && apm_tally_count(&t, &a, 40, 60 * SECOND) == 6);
	/* totals that fall are nonsense, and still no enormous number */
	CHECK_OK(apm_tally_point(&t, &a, 70 * SECOND, 1));
	CHECK(apm_tally_count(&t, &a, 5, 75 * SECOND) == 0);
	apm_tally_free(&t);
}

/*
 * For histories and windows by chance: a tally of which only the newest point and the newest
 * not after the window's begin were loaded, and which then goes on, answers as one that saw everything.
 */
static void
test_two_points(void)
{
	ApmDigest a = subject(1);

	srandom(7);
	for (int round = 0; round < 500; round++)
	{
		ApmTally whole;
		ApmTally two;
		uint64_t now = 1000 * SECOND;
		uint32_t seconds = (uint32_t) (random() % 60 + 1);
		uint64_t total = 0;
		uint64_t newest_us = 0;
		uint64_t begin_total = 0;
		uint64_t begin_us = 0;
		uint64_t end = now + 40 * SECOND;

		CHECK_OK(apm_tally_init(&whole));
		CHECK_OK(apm_tally_init(&two));
		for (long n = random() % 30; n > 0; n--)
		{
			now += (uint64_t) (random() % 3) * SECOND;
			end = now + (uint64_t) (random() % 40) * SECOND;
			CHECK_OK(apm_tally_add(&whole, &a, now));
		}
		/* the points as a ledger has them, one a block's time */
		for (uint64_t at = 1000 * SECOND; at <= now; at += SECOND)
		{
			uint64_t then = apm_tally_count(&whole, &a, 0, now) -
							apm_tally_count(&whole, &a, (uint32_t) ((now - at) / SECOND), now);

			if (at == now)
				then = apm_tally_count(&whole, &a, 0, now);
			if (then > total)
			{
				total = then;
				newest_us = at;
				if (at + seconds * SECOND <= end)
				{
					begin_total = then;
					begin_us = at;
				}
			}
		}
		if (total > 0)
			CHECK_OK(apm_tally_point(&two, &a, newest_us, total));
		if (begin_total > 0)
			CHECK_OK(apm_tally_point(&two, &a, begin_us, begin_total));
		CHECK(apm_tally_count(&whole, &a, seconds, end) == apm_tally_count(&two, &a, seconds, end));
		CHECK_OK(apm_tally_add(&whole, &a, end));
		CHECK_OK(apm_tally_add(&two, &a, end));
		CHECK(apm_tally_count(&whole, &a, seconds, end) == apm_tally_count(&two, &a, seconds, end));
		CHECK(apm_tally_count(&whole, &a, 0, end) == apm_tally_count(&two, &a, 0, end));
		apm_tally_free(&whole);
		apm_tally_free(&two);
	}
}

static ApmStatus
fill(void)
{
	ApmTally t;
	ApmStatus status = apm_tally_init(&t);

	for (uint8_t i = 0; i < 20 && status == APM_OK; i++)
	{
		ApmDigest d = subject(i % 3);

		status = apm_tally_add(&t, &d, i * SECOND);
	}
	apm_tally_free(&t);
	return status;
}

int
main(void)
{
	test_windows();
	test_points();
	test_two_points();
	CHECK_EACH_ALLOCATION(fill);
	return check_summary();
}
