/*
 * front.c
 *	  Where a stage begins to look for its next rows; see front.h.
 *
 * Ids are drawn in order, and so whoever has a lower id than a row that is there drew it before, and
 * has a transaction id by now, or a moment later: it draws the one when it inserts its first row and the other a
 * few instructions before.  For the sake of a process that is stopped just there, and of rows that somebody
 * inserts with an id of his own, one looks from the beginning now and then, so rarely that
 * this does not count.
 */
#include "postgres.h"

#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "worker/front.h"

#define MOMENT_MS 100

/* From one look from the beginning to the next: so long at least, and so many times what one takes. */
#define LEAST_MS 10000
#define TIMES 5000

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

/* Moves on to what was chosen, or to the oldest row if that is older, if nothing can come behind it any more. */
static void
advance(ApmFront *front, TimestampTz now, int64 oldest)
{
	if (front->next == 0)
		return;
	if (!TransactionIdIsValid(front->before))
	{
		if (TimestampDifferenceExceeds(front->chosen_at, now, MOMENT_MS))
			front->before = ReadNextTransactionId();
		return;
	}
	if (TransactionIdPrecedes(GetActiveSnapshot()->xmin, front->before))
		return;
	front->from = Min(front->next, oldest);
	front->next = 0;
}

void
apm_front_end(ApmFront *front, bool found, int64 first)
{
	TimestampTz now = GetCurrentTimestamp();

	if (front->since != 0)
	{
		front->whole_due = now + Max(LEAST_MS * INT64CONST(1000), TIMES * (now - front->since));
		/* a row that was found behind the front goes back with it */
		if (found && first < front->from)
			front->from = first;
	}
	advance(front, now, found ? first : PG_INT64_MAX);
	if (front->next == 0 && found)
	{
		front->next = first;
		front->chosen_at = now;
		front->before = InvalidTransactionId;
	}
}

void
apm_front_reset(ApmFront *front)
{
	memset(front, 0, sizeof(*front));
}
