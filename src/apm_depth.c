/*
 * apm_depth.c
 *	  Is a queue full?  See apm_depth.h for how it is told cheaply.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "apm_depth.h"

/* The last number that the sequence has given; 0 if none.  A statement would cost ten times as much. */
static int64
newest_number(const char *sequence)
{
	LOCAL_FCINFO(fcinfo, 1);
	Oid oid = get_relname_relid(sequence, get_namespace_oid("apm", false));
	Datum last;

	if (!OidIsValid(oid))
		elog(ERROR, "sequence %s of apm is missing", sequence);
	InitFunctionCallInfoData(*fcinfo, NULL, 1, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = ObjectIdGetDatum(oid);
	fcinfo->args[0].isnull = false;
	last = pg_sequence_last_value(fcinfo);
	return fcinfo->isnull ? 0 : DatumGetInt64(last);
}

bool
apm_depth_beyond(ApmDepth *depth, int64 limit, int64 more)
{
	Datum args[1];
	int64 newest = newest_number(depth->sequence);

	/* numbers that went down: the extension was made anew */
	if (newest >= depth->counted_at && depth->counted + (newest - depth->counted_at) + more <= limit)
		return false;

	args[0] = Int64GetDatum(limit);
	apm_run(&depth->count, args);
	depth->counted = apm_row_int8(0, 1);
	depth->counted_at = newest;
	return depth->counted + more > limit;
}
