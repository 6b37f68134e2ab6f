/*
 * apm_time.h
 *	  Times of the chain, in microseconds since 1970-01-01 UTC, and PostgreSQL's, since 2000.
 */
#ifndef APM_TIME_H
#define APM_TIME_H

#include "postgres.h"

#include "utils/timestamp.h"

#define APM_EPOCH_SHIFT ((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY)

static inline TimestampTz
apm_time_of(uint64 us)
{
	return (TimestampTz) us - APM_EPOCH_SHIFT;
}

/* Of a time after 1970. */
static inline uint64
apm_us_of(TimestampTz time)
{
	return (uint64) (time + APM_EPOCH_SHIFT);
}

static inline uint64
apm_now_us(void)
{
	return apm_us_of(GetCurrentTimestamp());
}

#endif /* APM_TIME_H */
