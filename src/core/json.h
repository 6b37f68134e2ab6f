/*
 * json.h
 *	  As much of JSON (RFC 8259) as digests and proofs are made of: an object of strings, whole numbers,
 *	  and arrays of strings.  Anything else, a name twice, and anything behind the object are refused.
 */
#ifndef APM_CORE_JSON_H
#define APM_CORE_JSON_H

#include "bytes.h"

typedef enum ApmJsonType
{
	APM_JSON_STRING,
	APM_JSON_NUMBER, /* 0 to 2^63 - 1 */
	APM_JSON_ARRAY	 /* of strings */
} ApmJsonType;

typedef struct ApmJsonMember
{
	ApmSlice name; /* borrowed, as are strings; escapes in either are refused: none is ever needed */
	ApmJsonType type;
	ApmSlice string;
	uint64_t number;
	size_t first; /* array: its strings are elements[first] to elements[first + count - 1] */
	size_t count;
} ApmJsonMember;

#define APM_JSON_MEMBERS_MAX 24
#define APM_JSON_ELEMENTS_MAX 256

typedef struct ApmJson
{
	size_t nmembers;
	ApmJsonMember members[APM_JSON_MEMBERS_MAX];
	size_t nelements;
	ApmSlice elements[APM_JSON_ELEMENTS_MAX];
} ApmJson;

extern ApmStatus apm_json_read(ApmSlice text, ApmJson *out);
/* NULL: there is none of this name, or it has another type */
extern const ApmJsonMember *apm_json_find(const ApmJson *json, const char *name, ApmJsonType type);

#endif /* APM_CORE_JSON_H */
