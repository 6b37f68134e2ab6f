/*
 * test_blocktime.c
 *	  Times of blocks: not before the parent, not too far ahead, and a clock that less than half of the peers cannot
 *	  talk out of being right.
 */
#include "core/blocktime.h"

#include "check.h"

#define NOW UINT64_C(1700000000000000)

static void
test_check(void)
{
	CHECK(apm_blocktime_check(NOW, NOW, NOW) == APM_TIME_OK);
	CHECK(apm_blocktime_check(NOW - 1, NOW, NOW) == APM_TIME_BEFORE_PARENT);
	CHECK(apm_blocktime_check(0, NOW, NOW) == APM_TIME_BEFORE_PARENT);
	CHECK(apm_blocktime_check(0, 0, NOW) == APM_TIME_OK); /* long ago */
	CHECK(apm_blocktime_check(NOW + APM_AHEAD_MAX_US, NOW, NOW) == APM_TIME_OK);
	CHECK(apm_blocktime_check(NOW + APM_AHEAD_MAX_US + 1, NOW, NOW) == APM_TIME_AHEAD);
	CHECK(apm_blocktime_check(NOW + APM_AHEAD_MAX_US + 1, NOW, NOW + 1) == APM_TIME_OK);
	CHECK(apm_blocktime_check(UINT64_MAX, 0, NOW) == APM_TIME_AHEAD);
}

static void
test_propose(void)
{
	CHECK(apm_blocktime_propose(NOW - 5, 0, NOW) == NOW);
	CHECK(apm_blocktime_propose(NOW + 5, 0, NOW) == NOW + 5);
	CHECK(apm_blocktime_propose(NOW - 5, NOW + 7, NOW) == NOW + 7);
	CHECK(apm_blocktime_propose(NOW + 9, NOW + 7, NOW) == NOW + 9);
	CHECK(apm_blocktime_propose(NOW, NOW + APM_AHEAD_MAX_US, NOW) == NOW + APM_AHEAD_MAX_US);
	CHECK(apm_blocktime_propose(NOW, NOW + APM_AHEAD_MAX_US + 1, NOW) == NOW);
	/* whatever is proposed on a parent that was good is good */
	for (uint64_t parent = NOW - 3; parent <= NOW + APM_AHEAD_MAX_US; parent += APM_AHEAD_MAX_US / 7)
		CHECK(apm_blocktime_check(apm_blocktime_propose(parent, NOW + 3, NOW), parent, NOW) == APM_TIME_OK);
}

static void
test_drift(void)
{
	int64_t odd[] = {900, -5, 3};
	int64_t even[] = {4, 9, -1000, 1000};
	int64_t astride[] = {-3, 8};
	int64_t behind[] = {-9, -7};

	CHECK(apm_clock_drift(NULL, 0) == 0);
	CHECK(apm_clock_drift(odd, 3) == 3);
	CHECK(apm_clock_drift(even, 4) == 4);
	CHECK(apm_clock_drift(astride, 2) == 0);
	CHECK(apm_clock_drift(behind, 2) == -7);

	/* n honest ones within ten, fewer liars anywhere */
	srandom(1);
	for (int round = 0; round < 500; round++)
	{
		int64_t said[32];
		size_t honest = 1 + (size_t) random() % 16;
		size_t liars = (size_t) random() % honest;
		int64_t drift;

		for (size_t i = 0; i < honest; i++)
			said[i] = random() % 21 - 10;
		for (size_t i = honest; i < honest + liars; i++)
			said[i] = random() % 2 == 0 ? INT64_MAX : INT64_MIN;
		drift = apm_clock_drift(said, honest + liars);
		CHECK(drift >= -10 && drift <= 10);
	}
}

int
main(void)
{
	test_check();
	test_propose();
	test_drift();
	return check_summary();
}
