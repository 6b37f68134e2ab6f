/*
 * collect.c
 *	  Records that a statement submits row by row: kept until it ends.
 *
 * Submitting row by row would cost several statements a row.  Row triggers therefore
 * only collect; when a thousand rows or sixteen megabytes are together, and at the end of the
 * statement, they go on together.
 *
 * A statement can nest in another (a function in its SELECT that inserts itself), and a part
 * of it can be rolled back.  Rows are kept with the subtransaction that inserted them: a
 * flush takes those of its own only, so that an inner rollback cannot take back what an outer
 * statement wrote, and they are forgotten with it.  A statement may have no end to flush at:
 * one that its caller does not run to the end (a language that asks for the first rows of
 * INSERT ... RETURNING), or one that names a partition, of which the table's statement triggers do not
 * hear.  For that, what is left is flushed before the transaction commits.
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "anonymize/collect.h"
#include "apm_prepare.h"

/* Rows of one subtransaction; in TopTransactionContext, innermost first. */
typedef struct Collected
{
	struct Collected *outer;
	SubTransactionId subtransaction;
	ApmSubmission *submission;
} Collected;

static Collected *collected = NULL;

static void
drop_innermost(void)
{
	Collected *gone = collected;

	collected = gone->outer;
	apm_submission_free(gone->submission);
	pfree(gone);
}

void
apm_collect_flush(void)
{
	if (collected == NULL || collected->subtransaction != GetCurrentSubTransactionId())
		return;
	apm_submission_flush(collected->submission);
	drop_innermost();
}

/* The submission that a row inserted now belongs to. */
static ApmSubmission *
our_submission(void)
{
	MemoryContext caller;
	Collected *new;

	if (collected != NULL && collected->subtransaction == GetCurrentSubTransactionId())
	{
		if (apm_submission_is_ours(collected->submission))
			return collected->submission;
		apm_collect_flush();
	}
	apm_prepare_forbid();
	caller = MemoryContextSwitchTo(TopTransactionContext);
	new = palloc(sizeof(Collected));
	new->submission = apm_submission_new();
	new->subtransaction = GetCurrentSubTransactionId();
	new->outer = collected;
	collected = new;
	MemoryContextSwitchTo(caller);
	return new->submission;
}

void
apm_collect(const ApmGiven *given, ApmUuid *used)
{
	ApmSubmission *submission = our_submission();

	apm_submission_add(submission, given, used);
	if (apm_submission_full(submission))
		apm_submission_flush(submission);
}

/* Flushes, outermost last, what statements left that were not run to their end. */
static void
flush_left_over(void)
{
	if (collected == NULL)
		return;
	PushActiveSnapshot(GetTransactionSnapshot());
	while (collected != NULL)
	{
		apm_submission_flush(collected->submission);
		drop_innermost();
	}
	PopActiveSnapshot();
}

static void
at_transaction_end(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			flush_left_over();
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			collected = NULL; /* goes, and is wiped, with TopTransactionContext */
			break;
		default:
			break;
	}
}

static void
at_subtransaction_end(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB)
	{
		while (collected != NULL && collected->subtransaction == mine)
			drop_innermost();
	}
	else if (event == SUBXACT_EVENT_COMMIT_SUB)
	{
		for (Collected *c = collected; c != NULL && c->subtransaction == mine; c = c->outer)
			c->subtransaction = parent;
	}
}

void
apm_collect_init(void)
{
	RegisterXactCallback(at_transaction_end, NULL);
	RegisterSubXactCallback(at_subtransaction_end, NULL);
}
