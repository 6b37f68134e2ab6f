/*
 * timing.h
 *	  Processor time of a yardstick, which other processes on the machine do not change much.
 */
#ifndef APM_BENCH_TIMING_H
#define APM_BENCH_TIMING_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static inline double
timing_of(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (double) now.tv_sec + (double) now.tv_nsec / 1e9;
}

/* Seconds that this process has had of a processor. */
static inline double
timing_processor(void)
{
	return timing_of(CLOCK_PROCESS_CPUTIME_ID);
}

static inline void
timing_need(bool good, const char *what)
{
	if (!good)
	{
		fprintf(stderr, "%s\n", what);
		exit(2);
	}
}

/* A whole number of at least 1 from the command line. */
static inline uint64_t
timing_number(const char *text)
{
	char *end;
	unsigned long long number = strtoull(text, &end, 10);

	timing_need(number > 0 && end != text && *end == '\0', "a number was expected");
	return number;
}

#endif /* APM_BENCH_TIMING_H */
