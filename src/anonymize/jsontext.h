/*
 * jsontext.h
 *	  Records and profiles as JSON: the text that is sealed, and what becomes of it.
 *
 * The text of a value is one: jsonb's order of keys, no white space, numbers as
 * PostgreSQL prints them, no escapes but those that JSON demands, UTF-8.
 */
#ifndef APM_JSONTEXT_H
#define APM_JSONTEXT_H

#include "postgres.h"

#include "utils/jsonb.h"
#include "utils/numeric.h"

#include "core/bytes.h"

typedef struct ApmField
{
	JsonbValue name;  /* jbvString */
	JsonbValue value; /* a container: jbvBinary */
} ApmField;

/* The members of an object in jsonb's order; they point into the jsonb that they came from. */
typedef struct ApmFields
{
	int n;
	ApmField *v; /* palloc'd; NULL when there are none */
} ApmFields;

/* The members of value; false if it is no object. */
extern bool apm_fields_of(Jsonb *value, ApmFields *out);
/* Those of a member that is an object; raises AP004 if there is none (a sealed profile always has it). */
extern void apm_fields_member(const ApmFields *fields, const char *name, ApmFields *out);
extern const ApmField *apm_fields_find(const ApmFields *fields, ApmSlice name);
/* base with every field of over in place of, or beside, its own */
extern void apm_fields_overlay(const ApmFields *base, const ApmFields *over, ApmFields *out);
extern Jsonb *apm_fields_jsonb(const ApmFields *fields);

/* The members of a value that is an object; false if it is none. */
extern bool apm_json_object(const JsonbValue *value, ApmFields *out);
/* The elements of an array, palloc'd; false if the value is none. */
extern bool apm_json_array(const JsonbValue *value, JsonbValue **out, int *n);
/* A number without a fraction; false if the value is none, or does not fit. */
extern bool apm_json_integer(const JsonbValue *value, int64 *out);
/* A copy of a text; NULL if the value is none. */
extern char *apm_json_text(const JsonbValue *value);

static inline ApmSlice
apm_field_name(const ApmField *field)
{
	return APM_SLICE(field->name.val.string.val, field->name.val.string.len);
}

/* Append the text of a whole value, of an object with these fields, or of one value. */
extern void apm_json_put(ApmBuf *out, Jsonb *value);
extern void apm_json_put_fields(ApmBuf *out, const ApmFields *fields);
extern void apm_json_put_value(ApmBuf *out, const JsonbValue *value);
/* Append a UTF-8 text as a JSON string. */
extern void apm_json_put_string(ApmBuf *out, ApmSlice utf8);

/*
 * Append the one form of a text (NFC), a number or a boolean, so that equal values have equal bytes and values of
 * different types have different ones; false, and nothing appended, for any other value.  what as in unicode.h.
 */
extern bool apm_json_put_scalar(ApmBuf *out, const JsonbValue *value, const char *what);
/* The number in such a form; NULL if it is none. */
extern Numeric apm_json_scalar_number(ApmSlice scalar);

/* The value of a text that the functions above wrote, in secret memory of the core. */
extern Jsonb *apm_json_parse(ApmSlice text);
/* A copy in secret memory of the core. */
extern Jsonb *apm_json_copy(Jsonb *value);

#endif /* APM_JSONTEXT_H */
