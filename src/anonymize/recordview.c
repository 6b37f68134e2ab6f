/*
 * recordview.c
 *	  The view apm.patient_record: INSERT and COPY submit records.
 *
 * Submitting row by row would cost several statements a row.  The row trigger therefore
 * only collects; when a thousand rows or sixteen megabytes are together, and at the end of the
 * statement, they go on together.
 *
 * A statement can nest in another (a function in its SELECT that inserts itself), and a part
 * of it can be rolled back.  Rows are kept with the subtransaction that inserted them: a
 * flush takes those of its own only, so that an inner rollback cannot take back what an outer
 * statement wrote, and they are forgotten with it.  A statement that its caller does not
 * run to the end (a language that asks for the first rows of INSERT ... RETURNING) has no
 * end to flush at; for that, what is left is flushed before the transaction commits.
 */
#include "postgres.h"

#include "access/xact.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/uuid.h"

#include "anonymize/anonymize.h"
#include "anonymize/submission.h"
#include "apm_errors.h"
#include "apm_loghook.h"

PG_FUNCTION_INFO_V1(apm_record_insert);
PG_FUNCTION_INFO_V1(apm_record_flush);
PG_FUNCTION_INFO_V1(apm_record_refuse);

enum
{
	COLUMN_PID = 1,
	COLUMN_RECORD,
	COLUMN_RID,
	COLUMNS = COLUMN_RID
};

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

/* Flushes and forgets what the current subtransaction collected. */
static void
flush_ours(void)
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
		flush_ours();
	}
	caller = MemoryContextSwitchTo(TopTransactionContext);
	new = palloc(sizeof(Collected));
	new->submission = apm_submission_new();
	new->subtransaction = GetCurrentSubTransactionId();
	new->outer = collected;
	collected = new;
	MemoryContextSwitchTo(caller);
	return new->submission;
}

/* Raises unless called as this kind of trigger, on our view and no other. */
static void
check_protocol(FunctionCallInfo fcinfo, TriggerEvent timing, bool for_row)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	bool good = CALLED_AS_TRIGGER(fcinfo) && (trigger->tg_event & TRIGGER_EVENT_TIMINGMASK) == timing &&
				(TRIGGER_FIRED_FOR_ROW(trigger->tg_event) != 0) == for_row;

	if (good)
	{
		char *schema = get_namespace_name(RelationGetNamespace(trigger->tg_relation));

		good = schema != NULL && strcmp(schema, "apm") == 0 &&
			   strcmp(RelationGetRelationName(trigger->tg_relation), "patient_record") == 0 &&
			   RelationGetDescr(trigger->tg_relation)->natts == COLUMNS;
	}
	if (!good)
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("this function serves the triggers of apm.patient_record only")));
}

/* INSTEAD OF INSERT, each row: collects it, and gives its Rid to RETURNING. */
Datum
apm_record_insert(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	TupleDesc desc;
	Datum values[COLUMNS];
	bool nulls[COLUMNS];
	ApmSubmission *submission;
	ApmUuid rid;
	ApmUuid used;

	apm_hide_statement();
	check_protocol(fcinfo, TRIGGER_EVENT_INSTEAD, true);
	desc = RelationGetDescr(trigger->tg_relation);
	heap_deform_tuple(trigger->tg_trigtuple, desc, values, nulls);
	if (nulls[COLUMN_PID - 1] || nulls[COLUMN_RECORD - 1])
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("pid and record must not be null")));
	if (!nulls[COLUMN_RID - 1])
		memcpy(rid.bytes, DatumGetUUIDP(values[COLUMN_RID - 1])->data, APM_UUID_LEN);

	submission = our_submission();
	apm_submission_add(submission, APM_SLICE_OF(DatumGetTextPP(values[COLUMN_PID - 1])),
					   DatumGetJsonbP(values[COLUMN_RECORD - 1]), nulls[COLUMN_RID - 1] ? NULL : &rid, NULL,
					   &used);
	if (apm_submission_full(submission))
		apm_submission_flush(submission);

	values[COLUMN_RID - 1] = apm_uuid_datum(&used);
	nulls[COLUMN_RID - 1] = false;
	return PointerGetDatum(heap_form_tuple(desc, values, nulls));
}

/* AFTER INSERT, each statement. */
Datum
apm_record_flush(PG_FUNCTION_ARGS)
{
	check_protocol(fcinfo, TRIGGER_EVENT_AFTER, false);
	flush_ours();
	return PointerGetDatum(NULL);
}

/* BEFORE UPDATE OR DELETE, each statement. */
Datum
apm_record_refuse(PG_FUNCTION_ARGS)
{
	check_protocol(fcinfo, TRIGGER_EVENT_BEFORE, false);
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("records are never changed or deleted"),
			 errhint("Submit a record that amends the former with apm_submit(pid, record, amends => rid).")));
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
		case XACT_EVENT_PRE_PREPARE:
			/* the queue refuses those it knows of, and these it cannot know of yet */
			if (collected != NULL)
				ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
								errmsg("cannot prepare a transaction that has submitted records")));
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
apm_anonymize_init(void)
{
	RegisterXactCallback(at_transaction_end, NULL);
	RegisterSubXactCallback(at_subtransaction_end, NULL);
}
