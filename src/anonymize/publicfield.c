/*
 * publicfield.c
 *	  Public fields of a transaction (core/field.h), from JSON.
 *
 * The type of a field is that of its JSON value.  Of a query nobody here asks for the template in force: what
 * does not fit it the contract refuses, and a query that was refused has left its trace.  A record's are picked
 * out of it by the template, since only that tells them from the attributes that stay encrypted.
 */
#include "postgres.h"

#include "anonymize/publicfield.h"
#include "apm_errors.h"

/*
 * A member of an object as a public field: an integer, a boolean, or a text as a code; false for anything
 * else.  Name and code point into the jsonb; whether they are within the bounds of core/field.h, and what a
 * template asks for, is looked at by whoever takes it.
 */
static bool
public_field_of(const ApmField *field, ApmPublicField *out)
{
	const JsonbValue *value = &field->value;

	memset(out, 0, sizeof(*out));
	out->name = apm_field_name(field);
	switch (value->type)
	{
		case jbvNumeric:
			out->type = APM_FIELD_INTEGER;
			return apm_json_integer(value, &out->number);
		case jbvBool:
			out->type = APM_FIELD_BOOLEAN;
			out->number = value->val.boolean;
			return true;
		case jbvString:
			out->type = APM_FIELD_CODE;
			out->code = APM_SLICE(value->val.string.val, value->val.string.len);
			return true;
		default:
			return false;
	}
}

/* As the encoding wants them; jsonb has shorter names first. */
static int
compare_fields(const void *a, const void *b)
{
	return apm_slices_compare(((const ApmPublicField *) a)->name, ((const ApmPublicField *) b)->name);
}

static void
field_fault(void)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("a public field is not an integer, a boolean or a code, or has no proper name"),
					errhint("A name is a lower case letter and then lower case letters, digits and _. A code "
							"is 1 to %d printable ASCII characters without a space.",
							APM_FIELD_CODE_MAX)));
}

void
apm_public_fields_read(Jsonb *given, ApmBuf *out)
{
	ApmPublicField fields[APM_FIELDS_MAX];
	ApmFields members;
	ApmStatus status;

	if (given == NULL)
		return;
	if (!apm_fields_of(given, &members))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("fields must be a JSON object")));
	if (members.n > APM_FIELDS_MAX)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("there are more than %d public fields", APM_FIELDS_MAX)));
	for (int i = 0; i < members.n; i++)
	{
		if (!public_field_of(&members.v[i], &fields[i]))
			field_fault();
	}
	qsort(fields, members.n, sizeof(ApmPublicField), compare_fields);
	status = apm_fields_encode(fields, members.n, out);
	if (status == APM_ERR_RANGE)
		field_fault();
	apm_check(status, "encode public fields");
}

/* The record's attribute that a template asks for, if it has one that fits. */
static bool
pick_one(const ApmFields *record, const ApmFieldSpec *spec, ApmPublicField *out)
{
	const ApmField *field = apm_fields_find(record, spec->name);

	return field != NULL && public_field_of(field, out) && apm_field_fits(out, spec);
}

/* The attributes that one template asks for, ascending by name as it has them; false if one must be there and is not. */
static bool
pick_all(const ApmFields *record, ApmSlice template, ApmPublicField *fields, int *n)
{
	ApmFieldSpec *specs = palloc(sizeof(ApmFieldSpec) * APM_FIELDS_MAX);
	int nspecs;
	bool all = apm_specs_decode(template, specs, &nspecs) == APM_OK;

	*n = 0;
	for (int i = 0; i < nspecs && all; i++)
	{
		if (pick_one(record, &specs[i], &fields[*n]))
			(*n)++;
		else
			all = !specs[i].required;
	}
	pfree(specs);
	return all;
}

bool
apm_public_fields_asked(const ApmContractState *contract)
{
	size_t at = 0;
	ApmItem item;

	while (apm_contract_next_item(contract, &at, &item))
	{
		if (item.type == APM_ITEM_TEMPLATE && item.kind == APM_KIND_PRIMARY)
			return true;
	}
	return false;
}

void
apm_public_fields_pick(const ApmFields *record, const ApmContractState *contract, bool refuse, ApmBuf *out)
{
	ApmPublicField fields[APM_FIELDS_MAX];
	bool asked = false;
	size_t at = 0;
	ApmItem item;
	int n;

	while (apm_contract_next_item(contract, &at, &item))
	{
		if (item.type != APM_ITEM_TEMPLATE || item.kind != APM_KIND_PRIMARY)
			continue;
		asked = true;
		if (!pick_all(record, item.body, fields, &n))
			continue;
		apm_check(apm_fields_encode(fields, n, out), "encode public fields");
		return;
	}
	if (asked && refuse)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("the record lacks a public field that must be there"),
						errhint("An administrator finds the templates in apm.contract.")));
}
