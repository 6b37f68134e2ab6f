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

/* What digests and proofs ask of members that they know; false is for APM_ERR_FORMAT. */
/* Is there a string of this name that says just that? */
extern bool apm_json_says(const ApmJson *json, const char *name, const char *text);
extern bool apm_json_number(const ApmJson *json, const char *name, uint64_t max, uint64_t *out);
/* A string of len bytes in hexadecimal, lower case. */
extern bool apm_json_hex(const ApmJson *json, const char *name, void *out, size_t len);
/* An array of digests in hexadecimal, at most max of them. */
extern bool apm_json_digests(const ApmJson *json, const char *name, size_t max, ApmDigest *out,
							 size_t *count);

/* The same way out: each appends a member; the object is begun and ended around them. */
extern void apm_json_begin(ApmBuf *out);
extern void apm_json_end(ApmBuf *out);
/* name and text have no character that would need an escape */
extern void apm_json_put_text(ApmBuf *out, const char *name, const char *text);
extern void apm_json_put_number(ApmBuf *out, const char *name, uint64_t number);
extern void apm_json_put_hex(ApmBuf *out, const char *name, const void *data, size_t len);
extern void apm_json_put_digests(ApmBuf *out, const char *name, const ApmDigest *digests, size_t count);
extern void apm_json_put_base64url(ApmBuf *out, const char *name, ApmSlice data);

#endif /* APM_CORE_JSON_H */
