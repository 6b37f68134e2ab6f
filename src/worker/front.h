/*
 * front.h
 *	  Where a stage begins to look for its next rows.
 *
 * A stage takes the rows of its table in the order of their ids, and they are deleted.  While somebody
 * holds an old snapshot, no vacuum takes them away, and whoever looked for the oldest one
 * from the beginning would walk past all that there have been since.  So a stage remembers a front
 * behind which nothing can come any more, and looks from there on.
 *
 * What was the oldest row at one time is no front yet: a transaction that has a lower id may still commit.  It becomes the
 * front when all transactions have ended that were writing then.
 *
 *		from = apm_front_begin(&front)		the lowest id to look at
 *		...									look
 *		apm_front_end(&front, found, id)	the oldest that was found
 */
#ifndef APM_WORKER_FRONT_H
#define APM_WORKER_FRONT_H

#include "postgres.h"

#include "access/transam.h"
#include "datatype/timestamp.h"

/* Zero-initialized: looks from the beginning. */
typedef struct ApmFront
{
	int64 from;
	int64 next;			   /* becomes the front; 0: none is chosen */
	TimestampTz chosen_at; /* when it was the oldest row */
	TransactionId before;  /* when all before this one have ended; invalid: not known yet */
	TimestampTz since;	   /* of a look from the beginning that goes on; else 0 */
	TimestampTz whole_due; /* when the next one is */
} ApmFront;

/* Both with an active snapshot, the one that is looked with. */
extern int64 apm_front_begin(ApmFront *front);
extern void apm_front_end(ApmFront *front, bool found, int64 first);
/* Rows behind the front have become ready: the next look is from the beginning. */
extern void apm_front_reset(ApmFront *front);

#endif /* APM_WORKER_FRONT_H */
