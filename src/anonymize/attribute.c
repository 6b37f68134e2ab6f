/*
 * attribute.c
 *	  What is declared of attributes: whether they identify a person, can be searched for, leave in exports.
 *
 * An identifying attribute lives in the profile and nowhere else: it is taken out of each
 * record before that is encrypted, and tells whether the record is the patient's.  So it can be
 * neither searched for nor exported.  What is not declared is part of the record.
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
	static ApmStatement load = {
		"SELECT name, class = 'identifying', searchable FROM apm.attribute", 0, {0}, NULL};
	uint64 rows = apm_run_latest(&load, NULL);

	out->n = rows;
	out->names = palloc(sizeof(ApmSlice) * Max(rows, 1));
	out->identifying = palloc(sizeof(bool) * Max(rows, 1));
	out->searchable = palloc(sizeof(bool) * Max(rows, 1));
	for (uint64 i = 0; i < rows; i++)
	{
		out->names[i] = apm_slice_copy(CurrentMemoryContext, apm_row_text(i, 1));
		out->identifying[i] = apm_row_bool(i, 2);
		out->searchable[i] = apm_row_bool(i, 3);
	}
}

/* The place of a field's name among those declared; -1: it is not. */
static int
find_declared(const ApmDeclared *declared, const ApmField *field)
{
	ApmSlice name = apm_field_name(field);

	for (int i = 0; i < declared->n; i++)
	{
		if (declared->names[i].len == name.len && memcmp(declared->names[i].data, name.data, name.len) == 0)
			return i;
	}
	return -1;
}

ApmClass
apm_declared_class(const ApmDeclared *declared, const ApmField *field)
{
	int i = find_declared(declared, field);

	if (i < 0)
		return APM_CLASS_UNDECLARED;
	return declared->identifying[i] ? APM_CLASS_IDENTIFYING : APM_CLASS_OTHER;
}

bool
apm_declared_searchable(const ApmDeclared *declared, const ApmField *field)
{
	int i = find_declared(declared, field);

	return i >= 0 && declared->searchable[i];
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

/* Raises 22023 for what cannot be declared. */
static void
check_declaration(Size name_len, const char *class, bool given_out)
{
	bool identifying = strcmp(class, "identifying") == 0;

	if (name_len == 0 || name_len > APM_ATTRIBUTE_MAX)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("the name of an attribute must have 1 to %d bytes", APM_ATTRIBUTE_MAX)));
	if (!identifying && strcmp(class, "other") != 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("no such class of attributes"),
						errhint("The classes are \"identifying\" and \"other\".")));
	if (identifying && given_out)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("an identifying attribute can be neither searchable nor exportable"),
						errhint("It never leaves the profile; a patient is found by his pid.")));
}

/*
 * apm_declare_attribute(name text, class text, searchable boolean, exportable boolean): from now on
 * attributes of that name are that.  Profiles and records that are stored already stay as they are.
 */
Datum
apm_declare_attribute(PG_FUNCTION_ARGS)
{
	static ApmStatement declare = {
		"INSERT INTO apm.attribute (name, class, searchable, exportable) VALUES ($1, $2, $3, $4)"
		" ON CONFLICT (name) DO UPDATE SET class = EXCLUDED.class, searchable = EXCLUDED.searchable,"
		" exportable = EXCLUDED.exportable WHERE NOT apm.attribute.builtin",
		4,
		{TEXTOID, TEXTOID, BOOLOID, BOOLOID},
		NULL,
	};
	text *name = PG_GETARG_TEXT_PP(0);
	text *class = PG_GETARG_TEXT_PP(1);
	bool searchable = PG_GETARG_BOOL(2);
	bool exportable = PG_GETARG_BOOL(3);
	char *wanted = text_to_cstring(class);
	Datum args[] = {PointerGetDatum(name), PointerGetDatum(class), BoolGetDatum(searchable),
					BoolGetDatum(exportable)};
	ApmSection section;
	uint64 done;

	apm_require_admin("declare an attribute");
	check_declaration(VARSIZE_ANY_EXHDR(name), wanted, searchable || exportable);

	apm_section_begin(&section);
	done = apm_run(&declare, args);
	apm_section_end(&section);
	if (done == 0 && strcmp(wanted, "identifying") != 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("an attribute that is identifying from the start stays so")));
	PG_RETURN_VOID();
}
