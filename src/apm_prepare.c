/*
 * apm_prepare.c
 *	  What must not be prepared.
 *
 * Whoever leaves work for a worker wakes it when his transaction commits.  PREPARE
 * TRANSACTION would commit it later, in another process, which knows nothing of the wake-up;
 * so it is refused.
 */
#include "postgres.h"

#include "access/xact.h"

#include "apm_prepare.h"

/* The outermost transaction level that has submitted something which is not rolled back; 0: none. */
static int level_of = 0;

static void
at_transaction_event(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_PRE_PREPARE && level_of > 0)
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("cannot prepare a transaction that has submitted records"),
						errhint("Commit it in one step.")));
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT)
		level_of = 0;
}

static void
at_subtransaction_event(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg)
{
	int level = GetCurrentTransactionNestLevel();

	if (level_of < level)
		return;
	if (event == SUBXACT_EVENT_ABORT_SUB)
		level_of = 0;
	else if (event == SUBXACT_EVENT_COMMIT_SUB)
		level_of = level - 1;
}

void
apm_prepare_forbid(void)
{
	static bool registered = false;
	int level = GetCurrentTransactionNestLevel();

	if (!registered)
	{
		RegisterXactCallback(at_transaction_event, NULL);
		RegisterSubXactCallback(at_subtransaction_event, NULL);
		registered = true;
	}
	level_of = level_of == 0 ? level : Min(level_of, level);
}
