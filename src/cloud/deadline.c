/*
 * deadline.c
 *	  An end to waiting for a store that neither answers nor fails.
 *
 * A network that swallows packets leaves a statement waiting for as long as TCP likes.  A
 * background worker has no statement_timeout, so this is one: it cancels what runs,
 * by the way that every wait in the server already looks at.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/timeout.h"

#include "cloud/store.h"

static TimeoutId deadline = MAX_TIMEOUTS;

/* In a signal handler. */
static void
deadline_passed(void)
{
	InterruptPending = true;
	QueryCancelPending = true;
	SetLatch(MyLatch);
}

void
apm_deadline_start(int ms)
{
	if (deadline == MAX_TIMEOUTS)
		deadline = RegisterTimeout(USER_TIMEOUT, deadline_passed);
	enable_timeout_after(deadline, ms);
}

void
apm_deadline_stop(void)
{
	if (deadline != MAX_TIMEOUTS)
		disable_timeout(deadline, false);
	QueryCancelPending = false; /* it may have passed when all was done */
}
