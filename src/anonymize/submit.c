/*
 * submit.c
 *	  apm_submit(): one record.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/uuid.h"

#include "anonymize/submission.h"
#include "apm_errors.h"
#include "apm_loghook.h"

PG_FUNCTION_INFO_V1(apm_submit);

/* A uuid argument that may be null. */
static const ApmUuid *
uuid_argument(FunctionCallInfo fcinfo, int n, ApmUuid *out)
{
	if (PG_ARGISNULL(n))
		return NULL;
	memcpy(out->bytes, PG_GETARG_UUID_P(n)->data, APM_UUID_LEN);
	return out;
}

/*
 * apm_submit(pid text, record jsonb, rid uuid DEFAULT NULL, amends uuid DEFAULT NULL):
 * queues the record in the caller's transaction and returns its Rid.
 */
Datum
apm_submit(PG_FUNCTION_ARGS)
{
	ApmUuid given;
	ApmUuid amended;
	ApmUuid used;
	ApmGiven record = {.source = APM_SOURCE_CLIENT};
	ApmSubmission *submission;

	apm_hide_statement();
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("pid and record must not be null")));
	submission = apm_submission_new();
	record.pid = APM_SLICE_OF(PG_GETARG_TEXT_PP(0));
	record.record = PG_GETARG_JSONB_P(1);
	record.rid = uuid_argument(fcinfo, 2, &given);
	record.amends = uuid_argument(fcinfo, 3, &amended);
	apm_submission_add(submission, &record, &used);
	apm_submission_flush(submission);
	apm_submission_free(submission);
	PG_RETURN_DATUM(apm_uuid_datum(&used));
}
