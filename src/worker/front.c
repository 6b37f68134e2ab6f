/*
 * front.c
 *	  Where a stage begins to look for its next rows; see front.h.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "worker/front.h"
#include "worker/worker.h"

/* From one look from the beginning to the next: so long at least, and so many times what one takes. */
#define LEAST_MS 20
#define TIMES 100

int64
apm_front_begin(ApmFront *front)
{
	TimestampTz now = GetCurrentTimestamp();

	front->since = 0;
	if (now < front->whole_due)
		return front->from;
	front->since = now;
	return 0;
}

int
apm_front_end(ApmFront *front, bool found, int64 first)
{
	TimestampTz now = GetCurrentTimestamp();

	if (front->since != 0)
		front->whole_due = now + Max(LEAST_MS * INT64CONST(1000), TIMES * (now - front->since));
	if (found)
		front->from = first;
	if (found || front->since != 0)
		return APM_TURN_IDLE;
	return (int) TimestampDifferenceMilliseconds(now, front->whole_due) + 1;
}

void
apm_front_reset(ApmFront *front)
{
	front->whole_due = 0;
}
