/*
 * recordview.c
 *	  The view apm.patient_record: INSERT and COPY submit records.
 */
#include "postgres.h"

#include "commands/trigger.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/uuid.h"

#include "anonymize/collect.h"
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
	ApmGiven given = {.source = APM_SOURCE_CLIENT};
	ApmUuid rid;
	ApmUuid used;

	apm_hide_statement();
	check_protocol(fcinfo, TRIGGER_EVENT_INSTEAD, true);
	desc = RelationGetDescr(trigger->tg_relation);
	heap_deform_tuple(trigger->tg_trigtuple, desc, values, nulls);
	if (nulls[COLUMN_PID - 1] || nulls[COLUMN_RECORD - 1])
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("pid and record must not be null")));
	given.pid = APM_SLICE_OF(DatumGetTextPP(values[COLUMN_PID - 1]));
	given.record = DatumGetJsonbP(values[COLUMN_RECORD - 1]);
	if (!nulls[COLUMN_RID - 1])
	{
		memcpy(rid.bytes, DatumGetUUIDP(values[COLUMN_RID - 1])->data, APM_UUID_LEN);
		given.rid = &rid;
	}
	apm_collect(&given, &used);

	values[COLUMN_RID - 1] = apm_uuid_datum(&used);
	nulls[COLUMN_RID - 1] = false;
	return PointerGetDatum(heap_form_tuple(desc, values, nulls));
}

/* AFTER INSERT, each statement. */
Datum
apm_record_flush(PG_FUNCTION_ARGS)
{
	check_protocol(fcinfo, TRIGGER_EVENT_AFTER, false);
	apm_collect_flush();
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
