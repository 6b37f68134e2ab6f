/*
 * result.c
 *	  Sets of rows that a function gives out.
 */
#include "postgres.h"

#include "funcapi.h"
#include "miscadmin.h"
#include "utils/guc.h"

#include "anonymize/result.h"

void
apm_result_start(FunctionCallInfo fcinfo, ApmResult *out)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	TypeFuncClass class;
	MemoryContext caller;
	Oid type;

	if (result == NULL || !IsA(result, ReturnSetInfo) || (result->allowedModes & SFRM_Materialize) == 0)
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("a set of rows cannot be returned in this context")));
	caller = MemoryContextSwitchTo(result->econtext->ecxt_per_query_memory);
	class = get_call_result_type(fcinfo, &type, &out->desc);
	if (class == TYPEFUNC_SCALAR)
	{
		out->desc = CreateTemplateTupleDesc(1);
		TupleDescInitEntry(out->desc, 1, NULL, type, -1, 0);
	}
	else if (class != TYPEFUNC_COMPOSITE)
		elog(ERROR, "the result of the function is not a row");
	out->store =
		tuplestore_begin_heap((result->allowedModes & SFRM_Materialize_Random) != 0, false, MAX_KILOBYTES);
	MemoryContextSwitchTo(caller);
	result->returnMode = SFRM_Materialize;
	result->setResult = out->store;
	result->setDesc = out->desc;
}

void
apm_result_put(const ApmResult *result, const Datum *values, const bool *nulls)
{
	tuplestore_putvalues(result->store, result->desc, unconstify(Datum *, values), unconstify(bool *, nulls));
}
