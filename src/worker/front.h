/*
 * front.h
 *	  Where a stage begins to look for its next rows.
 *
 * A stage takes the rows of its table in the order of their ids, and they are deleted.  While somebody
 * holds an old snapshot, no vacuum takes them away, and whoever looked for the oldest one
 * from the beginning would walk past all that there have been since.  So a stage remembers the oldest row that it
 * has seen last, and looks from there on.
 *
 * A row with a lower id can become ready all the same: a transaction that has its id may
 * commit late, and what was put off becomes due.  So now and then a stage looks from the beginning, so
 * rarely that it takes a hundredth of its time, and always before it goes to sleep.
 *
 *		from = apm_front_begin(&front)		the lowest id to look at
 *		...									look
 *		apm_front_end(&front, found, id)	the oldest that was found
 */
#ifndef APM_WORKER_FRONT_H
#define APM_WORKER_FRONT_H

#include "postgres.h"

#include "datatype/timestamp.h"

/* Zero-initialized: looks from the beginning. */
typedef struct ApmFront
{
	int64 from;
	TimestampTz since;	   /* of a look from the beginning that goes on; else 0 */
	TimestampTz whole_due; /* when the next one is */
} ApmFront;

extern int64 apm_front_begin(ApmFront *front);
/*
 * The look has ended.  Answers when the next one is wanted, in milliseconds, or APM_TURN_IDLE: if nothing was found
 * and this one did not begin at the beginning, the next one has to.
 */
extern int apm_front_end(ApmFront *front, bool found, int64 first);
/* Rows behind the front have become ready: the next look is from the beginning. */
extern void apm_front_reset(ApmFront *front);

#endif /* APM_WORKER_FRONT_H */
