/*
 * jsonplace.c
 *	  Where in a JSON value something is wrong.
 *
 * Only the contract's own JSON is read with this: predicates and templates, which stand in clear
 * on the chain.  So a message may name the members that lead to the fault.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"

#include "anonymize/jsonplace.h"

/* Longer names are cut in messages. */
#define SHOWN_NAME 64

void
apm_json_place_start(ApmJsonPlace *place, const char *whole)
{
	place->whole = whole;
	initStringInfo(&place->path);
	appendStringInfoChar(&place->path, '$');
}

int
apm_json_place_member(ApmJsonPlace *place, ApmSlice name)
{
	int step = place->path.len;

	appendStringInfoChar(&place->path, '.');
	appendBinaryStringInfo(&place->path, (const char *) name.data,
						   pg_mbcliplen((const char *) name.data, (int) name.len, SHOWN_NAME));
	return step;
}

int
apm_json_place_element(ApmJsonPlace *place, int index)
{
	int step = place->path.len;

	appendStringInfo(&place->path, "[%d]", index);
	return step;
}

void
apm_json_place_leave(ApmJsonPlace *place, int step)
{
	place->path.len = step;
	place->path.data[step] = '\0';
}

void
apm_json_place_fault(const ApmJsonPlace *place, const char *detail, const char *hint)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("the %s is not right at %s", place->whole, place->path.data),
					errdetail_internal("%s", detail), hint != NULL ? errhint("%s", hint) : 0));
}
