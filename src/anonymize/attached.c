/*
 * attached.c
 *	  The triggers of an attached table: its new rows are submitted with the statement that inserts them.
 *
 * A row trigger, not one transition table a statement: PostgreSQL gives row triggers to the partitions, those
 * that are there and those to come, and so a row is seen whichever of them the statement names.  It comes after the
 * row: other triggers have changed what they want to change, and a row that a conflict turned
 * into an update never comes.  The function is ours alone; whatever it calls of the user's (a
 * type's output, a cast to json) runs with the rights of whoever inserts, never with ours.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "commands/trigger.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "anonymize/attachment.h"
#include "anonymize/collect.h"
#include "apm_errors.h"
#include "apm_loghook.h"

PG_FUNCTION_INFO_V1(apm_attached_insert);
PG_FUNCTION_INFO_V1(apm_attached_flush);
PG_FUNCTION_INFO_V1(apm_attached_rid);

static void
check_protocol(FunctionCallInfo fcinfo, bool for_row)
{
	TriggerData *data = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_AFTER(data->tg_event) ||
		(TRIGGER_FIRED_FOR_ROW(data->tg_event) != 0) != for_row || !apm_is_attached(data->tg_relation))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("this function serves the triggers that apm_attach() makes only")));
}

/* The attachment of the trigger's table, kept as long as its rows' triggers run. */
static const ApmAttachment *
attachment_of(FunctionCallInfo fcinfo, const TriggerData *data)
{
	if (fcinfo->flinfo->fn_extra == NULL)
	{
		MemoryContext caller = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);

		fcinfo->flinfo->fn_extra = apm_attachment_open(data->tg_relation, data->tg_trigger);
		MemoryContextSwitchTo(caller);
	}
	return fcinfo->flinfo->fn_extra;
}

/* AFTER INSERT, each row: collects it.  The updates that the trigger names for its columns' sake mean nothing. */
Datum
apm_attached_insert(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	ApmGiven given = {.source = APM_SOURCE_INSERT};
	ApmUuid rid;
	ApmUuid used;

	if (CALLED_AS_TRIGGER(fcinfo) && TRIGGER_FIRED_BY_UPDATE(data->tg_event))
		return PointerGetDatum(NULL);
	apm_hide_statement();
	check_protocol(fcinfo, true);
	apm_attachment_read(attachment_of(fcinfo, data), data->tg_trigtuple, &given, &rid);
	apm_collect(&given, &used);
	return PointerGetDatum(NULL);
}

/* AFTER INSERT, each statement. */
Datum
apm_attached_flush(PG_FUNCTION_ARGS)
{
	check_protocol(fcinfo, false);
	apm_collect_flush();
	return PointerGetDatum(NULL);
}

/* The attachment of a table that rows are given of, kept as long as the statement asks for the same table. */
static const ApmAttachment *
attachment_of_rows(FunctionCallInfo fcinfo, Oid relation)
{
	ApmAttachment *known = fcinfo->flinfo->fn_extra;

	if (known == NULL || known->table != relation)
	{
		MemoryContext caller = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);
		Relation table = table_open(relation, AccessShareLock);

		fcinfo->flinfo->fn_extra = known = apm_attachment_of(table);
		table_close(table, NoLock);
		MemoryContextSwitchTo(caller);
	}
	return known;
}

/*
 * apm_attached_rid(row record): the Rid of a row of an attached table, that of the first if rows with this key have
 * been deleted and inserted again.
 */
Datum
apm_attached_rid(PG_FUNCTION_ARGS)
{
	HeapTupleHeader header = PG_GETARG_HEAPTUPLEHEADER(0);
	Oid relation = get_typ_typrelid(HeapTupleHeaderGetTypeId(header));
	HeapTupleData row = {.t_len = HeapTupleHeaderGetDatumLength(header), .t_data = header};
	const ApmAttachment *attachment;
	ApmUuid rid;
	char **key;

	if (!OidIsValid(relation))
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH), errmsg("this is not a row of an attached table"),
				 errhint("Give the table's name or alias: SELECT apm_attached_rid(v) FROM visit AS v.")));
	attachment = attachment_of_rows(fcinfo, relation);
	key = palloc(sizeof(char *) * attachment->nkeys);
	apm_attachment_key(attachment, &row, key);
	apm_attachment_rid(attachment, key, &rid);
	PG_RETURN_DATUM(apm_uuid_datum(&rid));
}
