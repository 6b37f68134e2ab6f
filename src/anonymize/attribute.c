/*
 * attribute.c
 *	  Which attributes identify a person.
 *
 * An identifying attribute lives in the profile and nowhere else: it is taken out of each
 * record before that is encrypted, and tells whether the record is the patient's.  What is
 * not declared is part of the record.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"

#include "anonymize/patient.h"
#include "anonymize/unicode.h"
#include "apm_errors.h"

PG_FUNCTION_INFO_V1(apm_declare_attribute);

void
apm_declared_load(ApmDeclared *out)
{
	static ApmStatement load = {"SELECT name, class = 'identifying' FROM apm.attribute", 0, {0}, NULL};
	uint64 rows = apm_run_latest(&load, NULL);

	out->n = rows;
	out->names = palloc(sizeof(ApmSlice) * Max(rows, 1));
	out->identifying = palloc(sizeof(bool) * Max(rows, 1));
	for (uint64 i = 0; i < rows; i++)
	{
		out->names[i] = apm_slice_copy(CurrentMemoryContext, apm_row_text(i, 1));
		out->identifying[i] = apm_row_bool(i, 2);
	}
}

ApmClass
apm_declared_class(const ApmDeclared *declared, const ApmField *field)
{
	ApmSlice name = apm_field_name(field);

	for (int i = 0; i < declared->n; i++)
	{
		if (declared->names[i].len == name.len && memcmp(declared->names[i].data, name.data, name.len) == 0)
			return declared->identifying[i] ? APM_CLASS_IDENTIFYING : APM_CLASS_OTHER;
	}
	return APM_CLASS_UNDECLARED;
}

void
apm_declared_pick(const ApmDeclared *declared, const ApmFields *from, ApmClass class, bool take,
				  ApmFields *out)
{
	out->n = 0;
	out->v = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(ApmField) * ((Size) from->n + 1));
	for (int i = 0; i < from->n; i++)
	{
		const ApmField *field = &from->v[i];

		if ((apm_declared_class(declared, field) == class) != take)
			continue;
		if (take && class == APM_CLASS_IDENTIFYING && field->value.type == jbvNull)
			continue;
		out->v[out->n++] = *field;
	}
}

void
apm_identifying_value(const ApmField *field, ApmBuf *out)
{
	size_t start = out->len;

	switch (field->value.type)
	{
		case jbvString:
			apm_nfc_put(out, APM_SLICE(field->value.val.string.val, field->value.val.string.len),
						"an identifying attribute");
			break;
		case jbvNumeric:
		case jbvBool:
			apm_json_put_value(out, &field->value);
			break;
		default:
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							errmsg("an identifying attribute must be a text, a number or a boolean")));
	}
	if (out->len == start)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("an identifying attribute must not be empty")));
}

/*
 * apm_declare_attribute(name text, class text): from now on attributes of that name are of
 * that class.  Profiles and records that are stored already stay as they are.
 */
Datum
apm_declare_attribute(PG_FUNCTION_ARGS)
{
	static ApmStatement declare = {
		"INSERT INTO apm.attribute (name, class) VALUES ($1, $2)"
		" ON CONFLICT (name) DO UPDATE SET class = EXCLUDED.class WHERE NOT apm.attribute.builtin",
		2,
		{TEXTOID, TEXTOID},
		NULL,
	};
	text *name = PG_GETARG_TEXT_PP(0);
	text *class = PG_GETARG_TEXT_PP(1);
	char *wanted = text_to_cstring(class);
	Datum args[] = {PointerGetDatum(name), PointerGetDatum(class)};
	ApmSection section;
	uint64 done;

	apm_require_admin("declare an attribute");
	if (VARSIZE_ANY_EXHDR(name) == 0 || VARSIZE_ANY_EXHDR(name) > 1024)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("the name of an attribute must have 1 to 1024 bytes")));
	if (strcmp(wanted, "identifying") != 0 && strcmp(wanted, "other") != 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("no such class of attributes"),
						errhint("The classes are \"identifying\" and \"other\".")));

	apm_section_begin(&section);
	done = apm_run(&declare, args);
	apm_section_end(&section);
	if (done == 0 && strcmp(wanted, "identifying") != 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("an attribute that is identifying from the start stays so")));
	PG_RETURN_VOID();
}
