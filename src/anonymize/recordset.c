/*
 * recordset.c
 *	  Records as the rows that a function returns.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "anonymize/recordset.h"
#include "apm_errors.h"

#define COLUMNS_MAX 6

static bool
has_column(TupleDesc desc, const char *name)
{
	for (int i = 0; i < desc->natts; i++)
	{
		if (namestrcmp(&TupleDescAttr(desc, i)->attname, name) == 0)
			return true;
	}
	return false;
}

void
apm_recordset_start(FunctionCallInfo fcinfo, ApmRecordSet *out)
{
	apm_result_start(fcinfo, &out->result);
	out->with_pid = has_column(out->result.desc, "pid");
	out->with_superseded = has_column(out->result.desc, "superseded_by");
	if (out->result.desc->natts != 4 + out->with_pid + out->with_superseded)
		elog(ERROR, "the function's result has not the columns of records");
}

void
apm_recordset_put(ApmRecordSet *set, const ApmReading *reading, ApmSlice pid)
{
	const ApmPlace *place = reading->place;
	Jsonb *record = apm_reading_record(reading);
	Datum values[COLUMNS_MAX] = {0};
	bool nulls[COLUMNS_MAX] = {false};
	int n = 0;

	if (set->with_pid)
		values[n++] = apm_text_datum(pid);
	values[n++] = apm_uuid_datum(&place->rid);
	values[n++] = TimestampTzGetDatum(apm_time_of(reading->tx->time_us));
	values[n++] = JsonbPGetDatum(record);
	if (set->with_superseded)
	{
		nulls[n] = !place->superseded;
		values[n++] = apm_uuid_datum(&place->superseded_by);
	}
	values[n++] = apm_reading_flags(reading);
	apm_result_put(&set->result, values, nulls);
	apm_wipe(record, VARSIZE(record));
}

static void
put_reading(const ApmReading *reading, void *closure)
{
	apm_recordset_put(closure, reading, APM_SLICE("", 0));
}

void
apm_recordset_fetch(ApmRecordSet *set, const ApmAsk *ask, ApmSlice apid)
{
	ApmGateQuestion *answer = apm_gate_ask(ask, &apid, 1);

	apm_gate_require(answer);
	apm_reading_run(answer, &apid, 1, put_reading, set);
}
