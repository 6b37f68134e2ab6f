/*
 * fetch.c
 *	  apm_fetch(): the records of a patient, or of several, as the ledger lists them.
 *
 * Of several patients each has a question of his own in the ledger, and the reader gets what he asked for as a
 * whole: if the contract refuses one of them, none is read.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"

#include "anonymize/publicfield.h"
#include "anonymize/recordset.h"
#include "apm_errors.h"
#include "apm_loghook.h"

PG_FUNCTION_INFO_V1(apm_fetch);
PG_FUNCTION_INFO_V1(apm_fetch_many);

/* The arguments that both functions have behind the first. */
static void
read_ask(FunctionCallInfo fcinfo, ApmAsk *out)
{
	ApmBuf fields = {0};

	memset(out, 0, sizeof(*out));
	out->scope = APM_SCOPE_RECORDS;
	out->purpose = apm_gate_purpose(PG_ARGISNULL(1) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(1)));
	out->list = !PG_ARGISNULL(2) && PG_GETARG_BOOL(2) ? APM_GATE_ALL : APM_GATE_CURRENT;
	apm_public_fields_read(PG_ARGISNULL(3) ? NULL : PG_GETARG_JSONB_P(3), &fields);
	out->fields = APM_SLICE(fields.data, fields.len);
}

/*
 * apm_fetch(pid text, purpose text DEFAULT NULL, all_versions boolean DEFAULT false, fields jsonb DEFAULT NULL):
 * rid, recorded_at, record, superseded_by, flags, in the order of the chain.
 */
Datum
apm_fetch(PG_FUNCTION_ARGS)
{
	MemoryContext memory;
	MemoryContext caller;
	ApmRecordSet set;
	ApmSlice pid;
	ApmAsk ask;

	apm_hide_statement();
	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("the pid must not be null")));
	apm_recordset_start(fcinfo, &set);
	memory = AllocSetContextCreate(CurrentMemoryContext, "apm fetch", ALLOCSET_DEFAULT_SIZES);
	caller = MemoryContextSwitchTo(memory);

	pid = APM_SLICE_OF(PG_GETARG_TEXT_PP(0));
	read_ask(fcinfo, &ask);
	apm_recordset_fetch(&set, &ask, apm_gate_apids(&pid, 1)[0]);

	MemoryContextSwitchTo(caller);
	MemoryContextDelete(memory);
	return (Datum) 0;
}

/* Patients of an array, each once, in the order of the array. */
typedef struct Patients
{
	int n;
	ApmSlice *pids; /* as the caller wrote them first */
	ApmSlice *apids;
	int *elements; /* at which place, from 1 */
} Patients;

static ApmSlice *
read_pids(ArrayType *array, int *n)
{
	Datum *values;
	bool *nulls;
	ApmSlice *pids;

	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &values, &nulls, n);
	pids = palloc(sizeof(ApmSlice) * Max(*n, 1));
	for (int i = 0; i < *n; i++)
	{
		if (nulls[i])
			ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("a pid must not be null"),
							errdetail("Element %d is.", i + 1)));
		pids[i] = APM_SLICE_OF(DatumGetTextPP(values[i]));
	}
	return pids;
}

static int
compare_apids(const void *a, const void *b, void *arg)
{
	const ApmSlice *apids = arg;
	int left = *(const int *) a;
	int right = *(const int *) b;
	int order = strcmp((const char *) apids[left].data, (const char *) apids[right].data);

	return order != 0 ? order : left - right;
}

static int
compare_ints(const void *a, const void *b)
{
	return *(const int *) a - *(const int *) b;
}

/* The patients of an array.  Two spellings of one pid are one patient. */
static void
find_patients(ArrayType *array, Patients *out)
{
	int n;
	ApmSlice *pids = read_pids(array, &n);
	ApmSlice *apids = apm_gate_apids(pids, n);
	int *order = palloc(sizeof(int) * Max(n, 1));
	int distinct = 0;

	for (int i = 0; i < n; i++)
		order[i] = i;
	qsort_arg(order, n, sizeof(int), compare_apids, apids);
	for (int i = 0; i < n; i++)
	{
		if (distinct == 0 ||
			strcmp((const char *) apids[order[distinct - 1]].data, (const char *) apids[order[i]].data) != 0)
			order[distinct++] = order[i];
	}
	qsort(order, distinct, sizeof(int), compare_ints);

	out->n = distinct;
	out->pids = palloc(sizeof(ApmSlice) * Max(distinct, 1));
	out->apids = palloc(sizeof(ApmSlice) * Max(distinct, 1));
	out->elements = palloc(sizeof(int) * Max(distinct, 1));
	for (int i = 0; i < distinct; i++)
	{
		out->pids[i] = pids[order[i]];
		out->apids[i] = apids[order[i]];
		out->elements[i] = order[i] + 1;
	}
}

typedef struct ManyFetch
{
	ApmRecordSet set;
	Patients patients;
} ManyFetch;

static void
put_reading(const ApmReading *reading, void *closure)
{
	ManyFetch *fetch = closure;

	apm_recordset_put(&fetch->set, reading, fetch->patients.pids[reading->question]);
}

/*
 * apm_fetch(pids text[], purpose text DEFAULT NULL, all_versions boolean DEFAULT false, fields jsonb DEFAULT NULL):
 * pid, rid, recorded_at, record, superseded_by, flags, patient by patient in the order of the array.
 */
Datum
apm_fetch_many(PG_FUNCTION_ARGS)
{
	MemoryContext memory;
	MemoryContext caller;
	ApmGateQuestion *answers;
	ManyFetch fetch;
	ApmAsk ask;

	apm_hide_statement();
	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("the pids must not be null")));
	apm_recordset_start(fcinfo, &fetch.set);
	memory = AllocSetContextCreate(CurrentMemoryContext, "apm fetch", ALLOCSET_DEFAULT_SIZES);
	caller = MemoryContextSwitchTo(memory);

	find_patients(PG_GETARG_ARRAYTYPE_P(0), &fetch.patients);
	read_ask(fcinfo, &ask);
	answers = apm_gate_ask(&ask, fetch.patients.apids, fetch.patients.n);
	for (int i = 0; i < fetch.patients.n; i++)
		apm_gate_require_element(&answers[i], fetch.patients.elements[i]);
	apm_reading_run(answers, fetch.patients.apids, fetch.patients.n, put_reading, &fetch);

	MemoryContextSwitchTo(caller);
	MemoryContextDelete(memory);
	return (Datum) 0;
}
