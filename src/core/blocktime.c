/*
 * blocktime.c
 *	  Times of blocks, and the own clock held against the others'.
 */
#include "blocktime.h"

#include <stdlib.h>

ApmTimeFault
apm_blocktime_check(uint64_t time_us, uint64_t parent_us, uint64_t now_us)
{
	if (time_us < parent_us)
		return APM_TIME_BEFORE_PARENT;
	return time_us > now_us && time_us - now_us > APM_AHEAD_MAX_US ? APM_TIME_AHEAD : APM_TIME_OK;
}

uint64_t
apm_blocktime_propose(uint64_t parent_us, uint64_t newest_us, uint64_t now_us)
{
	uint64_t time_us = now_us > parent_us ? now_us : parent_us;

	if (newest_us > time_us && newest_us - now_us <= APM_AHEAD_MAX_US)
		time_us = newest_us;
	return time_us;
}

static int
compare(const void *a, const void *b)
{
	int64_t left = *(const int64_t *) a;
	int64_t right = *(const int64_t *) b;

	return (left > right) - (left < right);
}

int64_t
apm_clock_drift(int64_t *ahead_us, size_t n)
{
	int64_t low;
	int64_t high;

	if (n == 0)
		return 0;
	qsort(ahead_us, n, sizeof(int64_t), compare);
	low = ahead_us[(n - 1) / 2];
	high = ahead_us[n / 2];
	if (low > 0)
		return low;
	return high < 0 ? high : 0;
}
