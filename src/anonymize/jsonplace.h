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
typedef struct ApmPlace
{
	const char *whole; /* what the value is: "predicate" */
	StringInfoData path;
} ApmPlace;

extern void apm_place_start(ApmPlace *place, const char *whole);
/* One step down; answers what apm_place_leave() takes to go back up. */
extern int apm_place_member(ApmPlace *place, ApmSlice name);
extern int apm_place_element(ApmPlace *place, int index);
extern void apm_place_leave(ApmPlace *place, int step);

/*
 * Raises 22023: what is there is not right; detail is a sentence, hint as well, or NULL.
 */
extern void apm_place_fault(const ApmPlace *place, const char *detail, const char *hint)
	pg_attribute_noreturn();

#endif /* APM_JSONPLACE_H */
