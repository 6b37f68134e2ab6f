/*
 * blocktime.h
 *	  The time in a block's header: what it may be, what an honest node writes there, and whether a node's own
 *	  clock can be trusted.
 *
 * Rules of the contract look at block times, so a node that lies about them could stretch a consent or a rate.  That a
 * block is not before its parent is part of its validity (block_check.c) and the same for ever.  That it is not too
 * far ahead depends on who asks and when, so it never makes a block invalid: it is taken later.  A
 * majority's clocks bound in this way what any node can write.
 */
#ifndef APM_CORE_BLOCKTIME_H
#define APM_CORE_BLOCKTIME_H

#include "bytes.h"

/* How far ahead of a node's clock a block may be: as far as an APM's clock may be, whose records it must hold. */
#define APM_AHEAD_MAX_US (UINT64_C(2) * 3600 * 1000000)
/* A clock further than this from those of most others is wrong. */
#define APM_DRIFT_MAX_US (UINT64_C(60) * 1000000)

typedef enum ApmTimeFault
{
	APM_TIME_OK = 0,
	APM_TIME_BEFORE_PARENT, /* never good */
	APM_TIME_AHEAD			/* not good yet: look again when the clock is further */
} ApmTimeFault;

extern ApmTimeFault apm_blocktime_check(uint64_t time_us, uint64_t parent_us, uint64_t now_us);

/*
 * What an honest node writes: its own time, but neither before the parent nor before the newest transaction, unless
 * that is too far ahead.  newest_us is 0 if there are none.
 */
extern uint64_t apm_blocktime_propose(uint64_t parent_us, uint64_t newest_us, uint64_t now_us);

/*
 * By how much the others' clocks are ahead of the own one: the median of the differences, and of an even number what is
 * nearest to zero between the two in the middle.  Less than half of them cannot move it beyond what the rest
 * say.  Sorts the array; 0 for none.
 */
extern int64_t apm_clock_drift(int64_t *ahead_us, size_t n);

#endif /* APM_CORE_BLOCKTIME_H */
