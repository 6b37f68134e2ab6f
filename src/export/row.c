/*
 * row.c
 *	  From an opened record to a line of a dataset.
 *
 * A line is {"patient":...,"period":...,"attributes":{...}}: the patient's pseudonym in this study,
 * the day, week, month, quarter or year of the record, and those attributes that are declared
 * exportable.  Neither Rid nor aPid nor an exact time leaves the house.
 *
 * An attribute that holds a doctor's sentences can name the patient whatever its declaration
 * says.  A text that is long or has line breaks therefore goes out only if the researcher asked
 * for that attribute by name; nested values may hold such texts and go the same way.
 */
#include "postgres.h"

#include "utils/datetime.h"
#include "utils/timestamp.h"

#include "anonymize/acting.h"
#include "anonymize/patient.h"
#include "apm_errors.h"
#include "export/row.h"

#define CODE_MAX 40 /* bytes of a text that is a code, not a sentence */

static const char *const steps[] = {"day", "week", "month", "quarter", "year"};

ApmTimeStep
apm_step_read(const char *name)
{
	for (int i = 0; i < (int) lengthof(steps); i++)
	{
		if (strcmp(name, steps[i]) == 0)
			return (ApmTimeStep) i;
	}
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("no such time step"),
					errhint("Time steps are day, week, month, quarter and year.")));
}

const char *
apm_step_name(ApmTimeStep step)
{
	return steps[step];
}

/* The period that a time lies in, in UTC: "2026-11-22", "2026-W47", "2026-11", "2026-Q4", "2026". */
static void
put_period(uint64 us, ApmTimeStep step, ApmBuf *out)
{
	struct pg_tm tm;
	fsec_t fraction;
	char text[32];
	int year;

	if (timestamp2tm(apm_time_of(us), NULL, &tm, &fraction, NULL, NULL) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE), errmsg("a record's time is out of range")));
	year = tm.tm_year;
	switch (step)
	{
		case APM_STEP_DAY:
			snprintf(text, sizeof(text), "\"%04d-%02d-%02d\"", year, tm.tm_mon, tm.tm_mday);
			break;
		case APM_STEP_WEEK:
			year = date2isoyear(tm.tm_year, tm.tm_mon, tm.tm_mday);
			snprintf(text, sizeof(text), "\"%04d-W%02d\"", year,
					 date2isoweek(tm.tm_year, tm.tm_mon, tm.tm_mday));
			break;
		case APM_STEP_MONTH:
			snprintf(text, sizeof(text), "\"%04d-%02d\"", year, tm.tm_mon);
			break;
		case APM_STEP_QUARTER:
			snprintf(text, sizeof(text), "\"%04d-Q%d\"", year, (tm.tm_mon + 2) / 3);
			break;
		case APM_STEP_YEAR:
			snprintf(text, sizeof(text), "\"%04d\"", year);
			break;
	}
	apm_put_raw(out, text, strlen(text));
}

/* May a value of an attribute that nobody asked for by name go out? */
static bool
is_code(const JsonbValue *value)
{
	switch (value->type)
	{
		case jbvBool:
		case jbvNumeric:
			return true;
		case jbvString:
			return value->val.string.len <= CODE_MAX &&
				   memchr(value->val.string.val, '\n', value->val.string.len) == NULL;
		default:
			return false;
	}
}

/* The record's fields that may go out. */
static void
choose(const ApmDataset *set, const ApmFields *from, ApmFields *out)
{
	out->n = 0;
	out->v = palloc_array(ApmField, Max(set->columns->n, 1));
	for (int i = 0; i < set->columns->n; i++)
	{
		const ApmField *field = apm_fields_find(from, set->columns->names[i]);

		if (field == NULL || field->value.type == jbvNull)
			continue;
		if (set->columns->by_name || is_code(&field->value))
			out->v[out->n++] = *field;
	}
}

static void
put_text(ApmBuf *out, const char *text)
{
	apm_put_raw(out, text, strlen(text));
}

bool
apm_row_put(const ApmDataset *set, ApmSlice apid, uint64 recorded_us, Jsonb *record, ApmBuf *out)
{
	char patient[APM_STUDY_PATIENT_LEN + 1];
	ApmFields all;
	ApmFields chosen;

	if (!apm_fields_of(record, &all))
		return false;
	choose(set, &all, &chosen);
	if (chosen.n > 0)
	{
		apm_study_patient(set->study, apid, patient);
		put_text(out, "{\"patient\":\"");
		put_text(out, patient);
		put_text(out, "\",\"period\":");
		put_period(recorded_us, set->step, out);
		put_text(out, ",\"attributes\":");
		apm_json_put_fields(out, &chosen);
		put_text(out, "}");
		apm_check(apm_buf_status(out), "write a line of the dataset");
	}
	pfree(chosen.v);
	if (all.v != NULL)
		pfree(all.v);
	return chosen.n > 0;
}
