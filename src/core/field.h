/*
 * field.h
 *	  Public fields: what a transaction carries in clear beside its built-in fields,
 *	  because a template of the contract says so.
 *
 * Encoding of a transaction's public fields: nothing at all for none, else u8 count (1 to
 * APM_FIELDS_MAX) and then for each, ascending by name and none twice: name, u8 type, and u64
 * two's complement for an integer or a boolean (0, 1), or a u32-length text for a code.
 *
 * Encoding of a template's: u8 count (1 to APM_FIELDS_MAX) and then for each, ascending by name:
 * name, u8 type, u8 required, and for an integer u64 least, u64 most, for a code u8 count (1 to
 * APM_FIELD_CODES_MAX) and that many texts, ascending.
 */
#ifndef APM_CORE_FIELD_H
#define APM_CORE_FIELD_H

#include "bytes.h"

#define APM_FIELDS_MAX 16
#define APM_FIELD_NAME_MAX 63 /* bytes: a lower case letter, then lower case letters, digits, _ */
#define APM_FIELD_CODE_MAX 64 /* bytes of graphic ASCII, at least one */
#define APM_FIELD_CODES_MAX 32

typedef enum ApmFieldType
{
	APM_FIELD_INTEGER = 1,
	APM_FIELD_BOOLEAN = 2,
	APM_FIELD_CODE = 3
} ApmFieldType;

typedef struct ApmPublicField
{
	ApmSlice name;
	uint8_t type; /* ApmFieldType */
	int64_t number;
	ApmSlice code;
} ApmPublicField;

typedef struct ApmFieldSpec
{
	ApmSlice name;
	uint8_t type;
	bool required;
	int64_t least;
	int64_t most;
	uint8_t ncodes;
	ApmSlice codes[APM_FIELD_CODES_MAX];
} ApmFieldSpec;

extern bool apm_field_name_ok(ApmSlice name);

/* Append; v is ascending by name.  APM_ERR_RANGE when a value is out of its bounds. */
extern ApmStatus apm_fields_encode(const ApmPublicField *v, int n, ApmBuf *out);
/* Room for APM_FIELDS_MAX; slices point into the input. */
extern ApmStatus apm_fields_decode(ApmSlice in, ApmPublicField *v, int *n);
extern ApmStatus apm_specs_encode(const ApmFieldSpec *v, int n, ApmBuf *out);
extern ApmStatus apm_specs_decode(ApmSlice in, ApmFieldSpec *v, int *n);

/* Does this field have what the specification asks: type, bounds, codes? */
extern bool apm_field_fits(const ApmPublicField *field, const ApmFieldSpec *spec);

#endif /* APM_CORE_FIELD_H */
