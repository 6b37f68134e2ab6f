/*
 * apm_depth.c
 *	  Is a queue full?  See apm_depth.h for how it is told cheaply.
 */
#include "postgres.h"

#include "apm_depth.h"

bool
apm_depth_beyond(ApmDepth *depth, int64 limit, int64 more)
{
	Datum args[1];
	int64 newest;

	apm_run(&depth->newest, NULL);
	newest = apm_row_int8(0, 1);

	/* numbers that went down: the extension was made anew */
	if (newest >= depth->counted_at && depth->counted + (newest - depth->counted_at) + more <= limit)
		return false;

	args[0] = Int64GetDatum(limit);
	apm_run(&depth->count, args);
	depth->counted = apm_row_int8(0, 1);
	depth->counted_at = newest;
	return depth->counted + more > limit;
}
