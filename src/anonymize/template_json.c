/*
 * template_json.c
 *	  The fields of a transaction template, from the JSON that an administrator writes.
 *
 *		{"ward": {"type": "code", "codes": ["er", "icu"], "required": true},
 *		 "beds": {"type": "integer", "least": 0, "most": 99},
 *		 "urgent": {"type": "boolean"}}
 *
 * Whatever is not said has its widest meaning: any integer, not required.
 */
#include "postgres.h"

#include "anonymize/jsonplace.h"
#include "anonymize/predicate_json.h"
#include "apm_errors.h"
#include "core/field.h"

static const char field_hint[] =
	"A field is {\"type\": \"integer\", \"least\": n, \"most\": n}, {\"type\": \"boolean\"} or {\"type\": \"code\", "
	"\"codes\": [text, ...]}, each with \"required\": true or false.";

static const struct
{
	const char *name;
	uint8 type;
} types[] = {{"integer", APM_FIELD_INTEGER}, {"boolean", APM_FIELD_BOOLEAN}, {"code", APM_FIELD_CODE}};

static int
compare_codes(const void *a, const void *b)
{
	return apm_slices_compare(*(const ApmSlice *) a, *(const ApmSlice *) b);
}

/* The codes, ascending. */
static void
read_codes(ApmJsonPlace *place, const JsonbValue *value, ApmFieldSpec *spec)
{
	JsonbValue *elements;
	int n;

	if (!apm_json_array(value, &elements, &n) || n < 1 || n > APM_FIELD_CODES_MAX)
		apm_json_place_fault(
			place, psprintf("Here an array of 1 to %d codes is wanted.", APM_FIELD_CODES_MAX), field_hint);
	for (int i = 0; i < n; i++)
	{
		if (elements[i].type != jbvString)
			apm_json_place_fault(place, "A code is a text.", field_hint);
		spec->codes[i] = APM_SLICE(elements[i].val.string.val, elements[i].val.string.len);
	}
	spec->ncodes = (uint8) n;
	qsort(spec->codes, n, sizeof(ApmSlice), compare_codes);
}

static void
read_type(ApmJsonPlace *place, const ApmFields *members, ApmFieldSpec *spec)
{
	const ApmField *type = apm_fields_find(members, APM_SLICE("type", 4));
	char *name = type != NULL ? apm_json_text(&type->value) : NULL;

	for (size_t i = 0; i < lengthof(types) && name != NULL; i++)
	{
		if (strcmp(types[i].name, name) == 0)
			spec->type = types[i].type;
	}
	if (spec->type == 0)
		apm_json_place_fault(place, "The type of the field is not given.", field_hint);
}

/* A member other than the type; false if a field of its type has none of that name. */
static bool
read_member(ApmJsonPlace *place, const ApmField *member, ApmFieldSpec *spec)
{
	ApmSlice name = apm_field_name(member);
	bool integer = spec->type == APM_FIELD_INTEGER;

	if (apm_slices_equal(name, APM_SLICE("required", 8)))
	{
		spec->required = member->value.val.boolean;
		return member->value.type == jbvBool;
	}
	if (integer && apm_slices_equal(name, APM_SLICE("least", 5)))
		return apm_json_integer(&member->value, &spec->least);
	if (integer && apm_slices_equal(name, APM_SLICE("most", 4)))
		return apm_json_integer(&member->value, &spec->most);
	if (spec->type != APM_FIELD_CODE || !apm_slices_equal(name, APM_SLICE("codes", 5)))
		return apm_slices_equal(name, APM_SLICE("type", 4));
	read_codes(place, &member->value, spec);
	return true;
}

static void
read_spec(ApmJsonPlace *place, const ApmField *field, ApmFieldSpec *spec)
{
	ApmFields members;
	ApmBuf alone = {0};

	memset(spec, 0, sizeof(*spec));
	spec->name = apm_field_name(field);
	spec->least = PG_INT64_MIN;
	spec->most = PG_INT64_MAX;
	if (!apm_json_object(&field->value, &members))
		apm_json_place_fault(place, "This is no description of a field.", field_hint);
	read_type(place, &members, spec);
	for (int i = 0; i < members.n; i++)
	{
		int step = apm_json_place_member(place, apm_field_name(&members.v[i]));

		if (!read_member(place, &members.v[i], spec))
			apm_json_place_fault(place,
								 "A field of this type has no such member, or it is not of the right type.",
								 field_hint);
		apm_json_place_leave(place, step);
	}
	if (apm_specs_encode(spec, 1, &alone) != APM_OK)
		apm_json_place_fault(
			place,
			"The name is none of a public field, least is more than most, or codes are missing or no codes.",
			psprintf(
				"A name is a lower case letter and then lower case letters, digits and _, up to %d. A code is "
				"1 to %d printable ASCII characters without a space, and each is there once.",
				APM_FIELD_NAME_MAX, APM_FIELD_CODE_MAX));
	apm_buf_reset(&alone);
}

static int
compare_specs(const void *a, const void *b)
{
	return apm_slices_compare(((const ApmFieldSpec *) a)->name, ((const ApmFieldSpec *) b)->name);
}

void
apm_template_read(Jsonb *json, ApmBuf *out)
{
	ApmFieldSpec *specs;
	ApmFields members;
	ApmJsonPlace place;

	apm_json_place_start(&place, "template");
	if (!apm_fields_of(json, &members) || members.n < 1 || members.n > APM_FIELDS_MAX)
		apm_json_place_fault(&place, psprintf("Here an object of 1 to %d fields is wanted.", APM_FIELDS_MAX),
							 field_hint);
	specs = palloc(sizeof(ApmFieldSpec) * members.n);
	for (int i = 0; i < members.n; i++)
	{
		int step = apm_json_place_member(&place, apm_field_name(&members.v[i]));

		read_spec(&place, &members.v[i], &specs[i]);
		apm_json_place_leave(&place, step);
	}
	qsort(specs, members.n, sizeof(ApmFieldSpec), compare_specs);
	apm_check(apm_specs_encode(specs, members.n, out), "write a template");
}
