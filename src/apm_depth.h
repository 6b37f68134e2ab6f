/*
 * apm_depth.h
 *	  Is a queue full?  Asked at every submission, so the answer must not cost what
 *	  counting costs.
 *
 * A queue's key is an identity column: since the last count at most as many rows have
 * come as numbers were drawn from its sequence.  Only when that bound reaches the
 * limit is there a count, and it stops at the limit.  So a queue far from full costs the
 * look at one sequence, and a full one a count for each refusal.
 *
 * How exact it is: nobody is refused while the rows that he can see leave room for his.
 * Rows that other transactions have put and not committed are not seen by the count, so
 * the limit can be passed by what was in flight.
 */
#ifndef APM_DEPTH_H
#define APM_DEPTH_H

#include "apm_sql.h"

/* One queue, as a static of who fills it; the counts are this process's memory of it. */
typedef struct ApmDepth
{
	const char *sequence; /* of its key, in the schema apm */
	ApmStatement count;	  /* $1 bigint: counts no further than that */
	int64 counted;
	int64 counted_at; /* the last number drawn then */
} ApmDepth;

/* Would the queue hold more than limit rows with that many more?  Expects SPI and apm_privileged. */
extern bool apm_depth_beyond(ApmDepth *depth, int64 limit, int64 more);

#endif /* APM_DEPTH_H */
