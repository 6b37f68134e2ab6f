/*
 * step.c
 *	  Going to the store for one's own work, and what follows when it fails.
 *
 * A step is one short transaction that waits for the store, so nothing else of ours is open in it.  When it fails,
 * the SQLSTATE says what to do (apm_store_fault): some rows are to blame, or nobody, and then one waits, longer each time.
 */
#include "postgres.h"

#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "cloud/store.h"
#include "worker/worker.h"

#define STEP_TIMEOUT_MS (120 * 1000)
#define BACKOFF_MIN_MS 500
#define BACKOFF_MAX_MS (5 * 1000) /* what waits meanwhile has to be made up for */

int
apm_store_step(void (*step)(void *closure), void *closure)
{
	MemoryContext turn = CurrentMemoryContext;
	volatile int sqlstate = 0;

	PG_TRY();
	{
		apm_deadline_start(STEP_TIMEOUT_MS);
		step(closure);
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(turn);
		error = CopyErrorData();
		sqlstate = error->sqlerrcode;
		FlushErrorState();
		apm_turn_abort();
		apm_turn_failed(error->sqlerrcode, error->message);
	}
	PG_END_TRY();
	apm_deadline_stop();
	return sqlstate;
}

int
apm_backoff_wait(const ApmBackoff *backoff)
{
	TimestampTz now = GetCurrentTimestamp();

	if (backoff->ms == 0 || now >= backoff->until)
		return 0;
	return (int) TimestampDifferenceMilliseconds(now, backoff->until) + 1;
}

int
apm_backoff_failed(ApmBackoff *backoff, int sqlstate, const char *what)
{
	if (backoff->ms == 0)
		ereport(LOG, (errcode(sqlstate), errmsg("%s", what),
					  errdetail("It failed with SQLSTATE %s.", unpack_sql_state(sqlstate))));
	backoff->ms = backoff->ms == 0 ? BACKOFF_MIN_MS : Min(backoff->ms * 2, BACKOFF_MAX_MS);
	backoff->until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), backoff->ms);
	return backoff->ms;
}

void
apm_backoff_over(ApmBackoff *backoff, const char *what)
{
	if (backoff->ms > 0)
		ereport(LOG, (errmsg("%s", what)));
	backoff->ms = 0;
}
