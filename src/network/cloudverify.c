/*
 * cloudverify.c
 *	  apm_verify_cloud(): the whole ledger against the whole cloud.
 *
 * apm_verify() tells whether the ledger is right, reading tells whether one patient's records are there.  This tells of
 * all at once, before somebody needs them: it counts, and names the first fault by the record's id.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/uuid.h"

#include "apm_errors.h"
#include "apm_sql.h"
#include "apm_user.h"
#include "chain/chain.h"
#include "network/survey.h"

PG_FUNCTION_INFO_V1(apm_verify_cloud);

#define PORTION 256

typedef struct CloudVerification
{
	int64 checked;
	int64 missing;
	int64 altered;
	int64 unknown;
	int64 erased_left;
	int64 pending;
	char fault[160]; /* the first one; empty: none */
} CloudVerification;

static void
note_fault(CloudVerification *found, const char *format, const ApmUuid *rid)
{
	if (found->fault[0] == '\0')
		snprintf(found->fault, sizeof(found->fault), format,
				 rid == NULL ? "without an id"
							 : DatumGetCString(DirectFunctionCall1(uuid_out, apm_uuid_datum(rid))));
}

static void
count(ApmSurveyFinding finding, const ApmUuid *rid, const ApmUuid *tid, void *closure)
{
	CloudVerification *found = closure;

	switch (finding)
	{
		case APM_RECORD_GOOD:
		case APM_RECORD_OLD_KEY:
			break;
		case APM_RECORD_PENDING:
		case APM_ROW_LEAVING:
			found->pending++;
			break;
		case APM_RECORD_MISSING:
			found->missing++;
			note_fault(found, "record %s is missing", rid);
			break;
		case APM_RECORD_ALTERED:
			found->altered++;
			note_fault(found, "record %s is not as the ledger has it", rid);
			break;
		case APM_ROW_ERASED:
			found->erased_left++;
			note_fault(found, "row %s is of a patient who is erased", rid);
			break;
		case APM_ROW_UNKNOWN:
			found->unknown++;
			note_fault(found, "row %s belongs to no record", rid);
			break;
	}
}

static void
verify(CloudVerification *found)
{
	ApmSurvey survey = {.height = PG_INT64_MAX, .callback = count, .closure = found};
	ApmPrivileged saved;
	ApmDigest chain;
	ApmDigest origin;

	SPI_connect();
	apm_privileged_begin(&saved);
	if (!apm_chain_identity(&chain, &origin))
		ereport(ERROR, (errcode(ERRCODE_APM_NOT_SET_UP), errmsg("this database takes part in no chain"),
						errhint("Call apm_setup().")));
	while (!survey.finished)
		found->checked += apm_survey_portion(&survey, PORTION);
	apm_privileged_end(&saved);
	SPI_finish();
}

/*
 * apm_verify_cloud(OUT ok boolean, OUT checked bigint, OUT missing bigint, OUT altered bigint, OUT unknown bigint,
 *					OUT erased_left bigint, OUT pending bigint, OUT fault text)
 */
Datum
apm_verify_cloud(PG_FUNCTION_ARGS)
{
	CloudVerification found = {0};
	Datum values[8];
	bool nulls[8] = {0};
	TupleDesc desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	verify(&found);
	values[0] = BoolGetDatum(found.fault[0] == '\0');
	values[1] = Int64GetDatum(found.checked);
	values[2] = Int64GetDatum(found.missing);
	values[3] = Int64GetDatum(found.altered);
	values[4] = Int64GetDatum(found.unknown);
	values[5] = Int64GetDatum(found.erased_left);
	values[6] = Int64GetDatum(found.pending);
	nulls[7] = found.fault[0] == '\0';
	values[7] = nulls[7] ? (Datum) 0 : CStringGetTextDatum(found.fault);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
