/*
 * export.c
 *	  apm_export() and apm_export_encrypted(): a dataset for a study.
 */
#include "postgres.h"

#include "catalog/pg_type_d.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "anonymize/acting.h"
#include "anonymize/result.h"
#include "anonymize/unicode.h"
#include "apm_errors.h"
#include "apm_loghook.h"
#include "export/release.h"
#include "export/seal.h"

PG_FUNCTION_INFO_V1(apm_export);
PG_FUNCTION_INFO_V1(apm_export_encrypted);

/* The elements of a text[] argument, none of them null. */
static ApmSlice *
names_of(ArrayType *array, int *n)
{
	Datum *elements;
	bool *nulls;
	ApmSlice *names;

	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, n);
	names = palloc_array(ApmSlice, Max(*n, 1));
	for (int i = 0; i < *n; i++)
	{
		if (nulls[i])
			ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
							errmsg("the name of an attribute must not be null")));
		names[i] = APM_SLICE_OF(DatumGetTextPP(elements[i]));
	}
	return names;
}

/* The arguments attributes, selection, time_step, fields, which stand side by side. */
static void
read_order(FunctionCallInfo fcinfo, int first, ApmOrder *order)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext section_memory;
	ApmSlice *names = NULL;
	ApmSection section;
	ApmDigest origin;
	int n = 0;

	memset(order, 0, sizeof(*order));
	if (PG_ARGISNULL(0) || PG_ARGISNULL(first + 2))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("the study and the time step must not be null")));
	order->step = apm_step_read(text_to_cstring(PG_GETARG_TEXT_PP(first + 2)));
	if (!PG_ARGISNULL(first))
		names = names_of(PG_GETARG_ARRAYTYPE_P(first), &n);
	if (!PG_ARGISNULL(first + 1))
		order->selection = PG_GETARG_JSONB_P(first + 1);
	if (!PG_ARGISNULL(first + 3))
		order->public_fields = PG_GETARG_JSONB_P(first + 3);

	apm_section_begin(&section);
	section_memory = MemoryContextSwitchTo(caller);
	if (!apm_chain_home(APM_MEMBER_ORIGIN, &origin))
		ereport(ERROR, (errcode(ERRCODE_APM_NOT_SET_UP), errmsg("there is no chain in this database"),
						errhint("Call apm_setup().")));
	apm_study_read(APM_SLICE_OF(PG_GETARG_TEXT_PP(0)), &origin, &order->study);
	apm_columns_read(names, n, &order->columns);
	if (order->selection != NULL)
		apm_columns_check_selection(order->selection);
	MemoryContextSwitchTo(section_memory);
	apm_section_end(&section);
}

static void
require_researcher(void)
{
	ApmActing who;

	apm_acting(&who);
	apm_acting_require(&who, APM_ROLE_RESEARCHER, "export a dataset");
}

static void
put_result(const ApmResult *result, const ApmDataset *set)
{
	for (int64 i = 0; i < set->n; i++)
	{
		ApmBuf line = {.secret = true};
		bool null = false;
		Datum value;

		CHECK_FOR_INTERRUPTS();
		apm_server_text_put(&line, set->lines[i], "a line of the dataset");
		value = apm_text_datum(APM_SLICE(line.data, line.len));
		apm_result_put(result, &value, &null);
		apm_buf_reset(&line);
		apm_wipe(DatumGetPointer(value), VARSIZE(DatumGetPointer(value)));
		pfree(DatumGetPointer(value));
	}
}

/*
 * apm_export(study text, attributes text[], selection jsonb, time_step text, fields jsonb): one
 * JSON object a row; the file that the digest on the chain is of is each row, in UTF-8, and a line feed.
 */
Datum
apm_export(PG_FUNCTION_ARGS)
{
	MemoryContext memory;
	MemoryContext caller;
	ApmResult result;
	ApmDataset set;
	ApmOrder order;

	apm_hide_statement();
	apm_result_start(fcinfo, &result);
	require_researcher();
	memory = AllocSetContextCreate(CurrentMemoryContext, "apm export", ALLOCSET_DEFAULT_SIZES);
	caller = MemoryContextSwitchTo(memory);
	read_order(fcinfo, 1, &order);
	apm_release_make(&order, &set);
	put_result(&result, &set);
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(memory);
	return (Datum) 0;
}

/*
 * apm_export_encrypted(study text, recipient_key text, attributes text[], selection jsonb, time_step text,
 * fields jsonb): the same file as an OpenPGP message for that key.
 */
Datum
apm_export_encrypted(PG_FUNCTION_ARGS)
{
	MemoryContext memory;
	MemoryContext caller;
	ApmSection section;
	ApmDataset set;
	ApmOrder order;
	ApmSlice key;
	Datum sealed;

	apm_hide_statement();
	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("the recipient's key must not be null")));
	require_researcher();
	memory = AllocSetContextCreate(CurrentMemoryContext, "apm export", ALLOCSET_DEFAULT_SIZES);
	caller = MemoryContextSwitchTo(memory);
	key = APM_SLICE_OF(PG_GETARG_TEXT_PP(1));
	apm_section_begin(&section);
	apm_pgp_check(key);
	apm_section_end(&section);
	read_order(fcinfo, 2, &order);
	apm_release_make(&order, &set);

	apm_section_begin(&section);
	MemoryContextSwitchTo(caller);
	sealed = apm_pgp_seal(&set, key);
	apm_section_end(&section);
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(memory);
	PG_RETURN_DATUM(sealed);
}
