/*
 * tally.h
 *	  Counters as points in time: where each stood after which block.  Private to src/core.
 *
 * What rules ask is how often something happened in the last so many seconds of block
 * time, which is the difference of two points: the newest, and the newest that is not
 * after the window's begin.  So it does not matter whether all points are there or
 * those two.
 */
#ifndef APM_CORE_TALLY_H
#define APM_CORE_TALLY_H

#include "map.h"

/* Of one counter: all of its subjects. */
typedef struct ApmTally
{
	ApmMap subjects; /* subject to Points */
} ApmTally;

extern ApmStatus apm_tally_init(ApmTally *tally);
extern void apm_tally_free(ApmTally *tally);
extern void apm_tally_clear(ApmTally *tally); /* as if nothing had been entered */
/*
 * The counter of the subject stood at total after the block with that time.  In any order; of one time the
 * greatest total stays.
 */
extern ApmStatus apm_tally_point(ApmTally *tally, const ApmDigest *subject, uint64_t time_us, uint64_t total);
/* One more in a block with that time, which is not before that of any point. */
extern ApmStatus apm_tally_add(ApmTally *tally, const ApmDigest *subject, uint64_t time_us);
/* How many in blocks later than so many seconds before now; with 0 seconds, ever. */
extern uint64_t apm_tally_count(const ApmTally *tally, const ApmDigest *subject, uint32_t seconds,
								uint64_t now_us);

#endif /* APM_CORE_TALLY_H */
