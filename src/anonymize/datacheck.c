/*
 * datacheck.c
 *	  The checks of data rules: what one attribute's value must be, by itself or after an earlier one.
 *
 * Numbers are PostgreSQL's numeric throughout: a limit of 0.1 is 0.1, and a rate is compared without a
 * division, |change| * per <= most * elapsed.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "anonymize/datacheck.h"

static const struct
{
	const char *name;
	int64 us;
} periods[] = {
	{"second", INT64CONST(1000000)},
	{"minute", INT64CONST(60000000)},
	{"hour", INT64CONST(3600000000)},
	{"day", INT64CONST(86400000000)},
};

static int
compare(Numeric a, Numeric b)
{
	return DatumGetInt32(DirectFunctionCall2(numeric_cmp, NumericGetDatum(a), NumericGetDatum(b)));
}

/* False where the product is beyond what a numeric holds. */
static bool
multiply(Numeric number, int64 by, Numeric *out)
{
	bool beyond = false;

	*out = numeric_mul_opt_error(number, int64_to_numeric(by), &beyond);
	return !beyond;
}

static bool
is_named(const ApmField *field, const char *name)
{
	return apm_slices_equal(apm_field_name(field), APM_SLICE(name, strlen(name)));
}

/* A copy of a number that outlives the JSON it stands in. */
static Numeric
copy_number(const JsonbValue *value)
{
	return DatumGetNumericCopy(NumericGetDatum(value->val.numeric));
}

/* {"constant":true} and {"non-decreasing":true} */
static bool
read_switch(const JsonbValue *value, ApmDataCheckKind kind, ApmDataCheck *out)
{
	out->kind = kind;
	return value->type == jbvBool && value->val.boolean;
}

/* The elements of an array, palloc'd; false if it is none, or has arrays or objects in it. */
static bool
read_scalars(const JsonbValue *value, JsonbValue **out, int *n)
{
	if (!apm_json_array(value, out, n))
		return false;
	for (int i = 0; i < *n; i++)
	{
		if ((*out)[i].type == jbvBinary)
			return false;
	}
	return true;
}

/* One end of a range. */
static bool
read_end(const JsonbValue *value, Numeric *out)
{
	*out = value->type == jbvNumeric ? copy_number(value) : NULL;
	return value->type == jbvNumeric || value->type == jbvNull;
}

static bool
read_range(const JsonbValue *value, ApmDataCheck *out)
{
	JsonbValue *ends;
	int n;

	out->kind = APM_CHECK_RANGE;
	if (!read_scalars(value, &ends, &n) || n != 2)
		return false;
	if (!read_end(&ends[0], &out->least) || !read_end(&ends[1], &out->most))
		return false;
	if (out->least == NULL && out->most == NULL)
		return false;
	return out->least == NULL || out->most == NULL || compare(out->least, out->most) <= 0;
}

static bool
read_period(const JsonbValue *value, int64 *us)
{
	if (value->type != jbvString)
		return false;
	for (size_t i = 0; i < lengthof(periods); i++)
	{
		if (apm_slices_equal(APM_SLICE(value->val.string.val, value->val.string.len),
							 APM_SLICE(periods[i].name, strlen(periods[i].name))))
		{
			*us = periods[i].us;
			return true;
		}
	}
	return false;
}

static bool
read_rate(const JsonbValue *value, ApmDataCheck *out)
{
	ApmFields members;
	const ApmField *most;
	const ApmField *per;

	out->kind = APM_CHECK_RATE;
	if (!apm_json_object(value, &members) || members.n != 2)
		return false;
	most = apm_fields_find(&members, APM_SLICE("most", 4));
	per = apm_fields_find(&members, APM_SLICE("per", 3));
	if (most == NULL || per == NULL || most->value.type != jbvNumeric ||
		!read_period(&per->value, &out->per_us))
		return false;
	out->most = copy_number(&most->value);
	return compare(out->most, int64_to_numeric(0)) >= 0;
}

static bool
read_codes(const JsonbValue *value, ApmDataCheck *out)
{
	JsonbValue *elements;

	out->kind = APM_CHECK_CODES;
	if (!read_scalars(value, &elements, &out->ncodes) || out->ncodes == 0)
		return false;
	out->codes = palloc(sizeof(ApmSlice) * out->ncodes);
	for (int i = 0; i < out->ncodes; i++)
	{
		ApmBuf code = {0};

		if (!apm_json_put_scalar(&code, &elements[i], "a code of a data rule"))
			return false;
		out->codes[i] = APM_SLICE(code.data, code.len);
	}
	return true;
}

static bool
read_member(const ApmField *field, ApmDataCheck *out)
{
	if (is_named(field, "constant"))
		return read_switch(&field->value, APM_CHECK_CONSTANT, out);
	if (is_named(field, "non-decreasing"))
		return read_switch(&field->value, APM_CHECK_NON_DECREASING, out);
	if (is_named(field, "range"))
		return read_range(&field->value, out);
	if (is_named(field, "rate"))
		return read_rate(&field->value, out);
	if (is_named(field, "codes"))
		return read_codes(&field->value, out);
	return false;
}

bool
apm_datacheck_of(Jsonb *json, ApmDataCheck *out)
{
	ApmFields members;

	memset(out, 0, sizeof(*out));
	if (apm_fields_of(json, &members) && members.n == 1 && read_member(&members.v[0], out))
		return true;
	memset(out, 0, sizeof(*out));
	return false;
}

/*
 * The contract's bytes may be of another version or of somebody's own making.  What PostgreSQL refuses as
 * JSON is a check that nothing passes, not an error that keeps every record out.
 */
void
apm_datacheck_read(ApmSlice utf8, ApmDataCheck *out)
{
	MemoryContext caller = CurrentMemoryContext;

	memset(out, 0, sizeof(*out));
	PG_TRY();
	{
		Jsonb *json = apm_json_parse(utf8);

		(void) apm_datacheck_of(json, out);
		apm_core_free(json);
	}
	PG_CATCH();
	{
		int code = geterrcode();

		if (ERRCODE_TO_CATEGORY(code) != ERRCODE_TO_CATEGORY(ERRCODE_DATA_EXCEPTION) &&
			code != ERRCODE_STATEMENT_TOO_COMPLEX)
			PG_RE_THROW();
		MemoryContextSwitchTo(caller);
		FlushErrorState();
		memset(out, 0, sizeof(*out));
	}
	PG_END_TRY();
}

static bool
in_range(const ApmDataCheck *check, Numeric number)
{
	return (check->least == NULL || compare(number, check->least) >= 0) &&
		   (check->most == NULL || compare(number, check->most) <= 0);
}

/* A change beyond what a numeric holds is too fast, and no error: that would keep later values out, too. */
static bool
within_rate(const ApmDataCheck *check, Numeric number, Numeric before, int64 elapsed_us)
{
	bool beyond = false;
	Numeric change = numeric_sub_opt_error(number, before, &beyond);
	Numeric scaled;
	Numeric allowed;

	if (!multiply(check->most, elapsed_us, &allowed))
		return true;
	if (beyond)
		return false;
	change = DatumGetNumeric(DirectFunctionCall1(numeric_abs, NumericGetDatum(change)));
	return multiply(change, check->per_us, &scaled) && compare(scaled, allowed) <= 0;
}

static bool
passes_as_number(const ApmDataCheck *check, Numeric number, const ApmEarlierValue *earlier)
{
	Numeric before;

	if (check->kind == APM_CHECK_RANGE)
		return in_range(check, number);
	before = earlier != NULL ? apm_json_scalar_number(earlier->value) : NULL;
	if (before == NULL)
		return true;
	if (check->kind == APM_CHECK_NON_DECREASING)
		return compare(number, before) >= 0;
	return !earlier->timed || within_rate(check, number, before, earlier->elapsed_us);
}

static bool
is_code(const ApmDataCheck *check, ApmSlice value)
{
	for (int i = 0; i < check->ncodes; i++)
	{
		if (apm_slices_equal(check->codes[i], value))
			return true;
	}
	return false;
}

bool
apm_datacheck_passes(const ApmDataCheck *check, ApmSlice value, const ApmEarlierValue *earlier)
{
	Numeric number;

	if (value.len == 0)
		return false;
	switch (check->kind)
	{
		case APM_CHECK_UNKNOWN:
			return false;
		case APM_CHECK_CONSTANT:
			return earlier == NULL || apm_slices_equal(value, earlier->value);
		case APM_CHECK_CODES:
			return is_code(check, value);
		case APM_CHECK_NON_DECREASING:
		case APM_CHECK_RANGE:
		case APM_CHECK_RATE:
			break;
	}
	number = apm_json_scalar_number(value);
	return number != NULL && passes_as_number(check, number, earlier);
}
