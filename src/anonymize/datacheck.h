/*
 * datacheck.h
 *	  The checks of data rules: what one attribute's value must be, by itself or after an earlier one.
 *
 *		{"constant":true}					equal to the earlier value
 *		{"non-decreasing":true}				a number, not less than the earlier one
 *		{"range":[least,most]}				a number from least to most; null leaves an end open
 *		{"rate":{"most":x,"per":"hour"}}	a number that changed by at most x in an hour (second, minute, hour, day)
 *		{"codes":[...]}						one of these texts, numbers or booleans
 *
 * Values are compared in their one form (apm_json_put_scalar), numbers exactly.  A value of a type that a
 * check cannot judge does not pass it; an earlier one of such a type is as if there were none.
 */
#ifndef APM_DATACHECK_H
#define APM_DATACHECK_H

#include "postgres.h"

#include "anonymize/jsontext.h"

typedef enum ApmDataCheckKind
{
	APM_CHECK_UNKNOWN, /* nothing passes */
	APM_CHECK_CONSTANT,
	APM_CHECK_NON_DECREASING,
	APM_CHECK_RANGE,
	APM_CHECK_RATE,
	APM_CHECK_CODES
} ApmDataCheckKind;

typedef struct ApmDataCheck
{
	ApmDataCheckKind kind;
	Numeric least; /* of a range; NULL: open */
	Numeric most;  /* of a range; NULL: open.  Of a rate */
	int64 per_us;  /* of a rate */
	int ncodes;
	ApmSlice *codes; /* in the one form */
} ApmDataCheck;

/* A value before this one. */
typedef struct ApmEarlierValue
{
	ApmSlice value;	  /* in the one form */
	bool timed;		  /* is it known how long ago? */
	int64 elapsed_us; /* not negative */
} ApmEarlierValue;

/* What the JSON asks for, in the current memory context; false, and of unknown kind, if it is no check. */
extern bool apm_datacheck_of(Jsonb *json, ApmDataCheck *out);

/* The same from a text of the contract, which may be anything. */
extern void apm_datacheck_read(ApmSlice utf8, ApmDataCheck *out);

static inline bool
apm_datacheck_has_history(const ApmDataCheck *check)
{
	return check->kind == APM_CHECK_CONSTANT || check->kind == APM_CHECK_NON_DECREASING ||
		   check->kind == APM_CHECK_RATE;
}

/* value is empty for one that has no such form; earlier is NULL where there is none, or where none counts. */
extern bool apm_datacheck_passes(const ApmDataCheck *check, ApmSlice value, const ApmEarlierValue *earlier);

#endif /* APM_DATACHECK_H */
