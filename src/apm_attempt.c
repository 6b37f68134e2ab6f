/*
 * apm_attempt.c
 *	  Doing something whose error is an answer.
 *
 * What an error leaves open (locks, buffers, SPI, a role) is closed by the end of a subtransaction and by nothing
 * less.  The subtransaction ends before anybody looks at the error, also where it then goes on: one that is left open
 * outlives its statement, and the session with it.
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/resowner.h"

#include "apm_attempt.h"

ErrorData *
apm_attempt(void (*step)(void *arg), void *arg)
{
	MemoryContext caller = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData *volatile error = NULL;

	BeginInternalSubTransaction(NULL);
	PG_TRY();
	{
		step(arg);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	CurrentResourceOwner = owner;
	return error;
}
