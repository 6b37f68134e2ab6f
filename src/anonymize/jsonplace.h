/*
 * jsonplace.h
 *	  Where in a JSON value something is wrong, for whoever wrote it.
 */
#ifndef APM_JSONPLACE_H
#define APM_JSONPLACE_H

#include "postgres.h"

#include "anonymize/jsontext.h"
#include "lib/stringinfo.h"

/* A way down into a JSON value: $.and[1].eq[0] */
typedef struct ApmJsonPlace
{
	const char *whole; /* what the value is: "predicate" */
	StringInfoData path;
} ApmJsonPlace;

extern void apm_json_place_start(ApmJsonPlace *place, const char *whole);
/* One step down; answers what apm_json_place_leave() takes to go back up. */
extern int apm_json_place_member(ApmJsonPlace *place, ApmSlice name);
extern int apm_json_place_element(ApmJsonPlace *place, int index);
extern void apm_json_place_leave(ApmJsonPlace *place, int step);

/*
 * Raises 22023: what is there is not right; detail is a sentence, hint as well, or NULL.
 */
extern void apm_json_place_fault(const ApmJsonPlace *place, const char *detail, const char *hint)
	pg_attribute_noreturn();

#endif /* APM_JSONPLACE_H */
