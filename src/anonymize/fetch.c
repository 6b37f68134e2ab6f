/*
 * fetch.c
 *	  apm_fetch(): a patient's records, as the ledger lists them.
 *
 * What comes from the cloud is believed in nothing: the gate's answer lists the records
 * with the digest of each, and each must be there and match before anything of it is opened.
 * It is all or an error, because a part would look like the whole.  The rows stay in
 * memory, whatever work_mem says, since what is spilled is written to a file in plain text.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"
#include "utils/uuid.h"

#include "anonymize/gate.h"
#include "apm_errors.h"
#include "apm_loghook.h"
#include "cloud/cloud.h"
#include "keys/keyring.h"

PG_FUNCTION_INFO_V1(apm_fetch);

/* Records read from the cloud at a time: few at first, then as many as these bytes hold. */
#define FIRST_READ 16
#define MOST_READ 1000
#define READ_BYTES (16 * 1024 * 1024)

/* A fetch in progress. */
typedef struct Fetch
{
	const ApmPatient *patient;
	const ApmGateAnswer *answer;
	Tuplestorestate *store;
	TupleDesc desc;
} Fetch;

static void
record_fault(const ApmPlace *place, const char *fault)
{
	char *rid = DatumGetCString(DirectFunctionCall1(uuid_out, apm_uuid_datum(&place->rid)));

	ereport(
		ERROR,
		(errcode(ERRCODE_APM_TAMPERED), errmsg("record %s does not match the ledger", rid),
		 errdetail("What the cloud holds for it %s.", fault),
		 errhint("No record of the patient is given out. The operator of the cloud must be asked, unless an "
				 "older key \"apm-envelope\" was removed here.")));
}

/* The transaction in what the cloud sent for a place, if it is the one that the ledger lists there. */
static void
open_checked(const Fetch *fetch, const ApmPlace *place, ApmSlice apr, ApmBuf *plain, ApmOpened *opened)
{
	const ApmPrimaryFields *fields = &opened->tx.u.primary;
	ApmSlice apid = apm_patient_apid(fetch->patient);

	if (apr.len == 0)
		record_fault(place, "is missing");
	if (apm_opener_open(apm_key_opener(APM_PAIR_APM), apr, plain) != APM_OK ||
		apm_open_signed(APM_SLICE(plain->data, plain->len), opened) != APM_OK || !opened->wellformed ||
		opened->tx.kind != APM_KIND_PRIMARY)
		record_fault(place, "was altered");
	if (memcmp(&fields->rid, &place->rid, sizeof(ApmUuid)) != 0 || fields->apid.len != apid.len ||
		memcmp(fields->apid.data, apid.data, apid.len) != 0)
		record_fault(place, "belongs to another record");
	if (memcmp(&opened->leaf, &place->leaf, sizeof(ApmDigest)) != 0)
		record_fault(place, "was altered");
}

/* One row of the result. */
static void
put_record(const Fetch *fetch, const ApmPlace *place, ApmSlice apr)
{
	ApmBuf plain = {0};
	ApmOpened opened;
	Datum values[3];
	bool nulls[3] = {false, false, false};
	Jsonb *record;

	open_checked(fetch, place, apr, &plain, &opened);
	record = apm_gate_open(fetch->patient, &opened.tx);
	values[0] = apm_uuid_datum(&place->rid);
	values[1] = TimestampTzGetDatum(apm_time_of(opened.tx.time_us));
	values[2] = JsonbPGetDatum(record);
	tuplestore_putvalues(fetch->store, fetch->desc, values, nulls);
	apm_wipe(record, VARSIZE(record));
}

/* The records from place first on, n of them, into the store; answers how many bytes the cloud sent. */
static Size
put_records(const Fetch *fetch, int first, int n)
{
	const ApmPlace *places = &fetch->answer->records[first];
	ApmUuid *rids = palloc(sizeof(ApmUuid) * n);
	ApmSlice *aprs = palloc(sizeof(ApmSlice) * n);
	MemoryContext one = AllocSetContextCreate(CurrentMemoryContext, "apm record", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller;
	Size bytes = 0;

	for (int i = 0; i < n; i++)
		rids[i] = places[i].rid;
	apm_cloud_read(rids, n, aprs);

	caller = MemoryContextSwitchTo(one);
	for (int i = 0; i < n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		put_record(fetch, &places[i], aprs[i]);
		bytes += aprs[i].len;
		MemoryContextReset(one);
	}
	MemoryContextSwitchTo(caller);
	return bytes;
}

static void
put_all(const Fetch *fetch)
{
	MemoryContext part = AllocSetContextCreate(CurrentMemoryContext, "apm fetch", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(part);
	int step = FIRST_READ;

	for (int done = 0; done < fetch->answer->nrecords;)
	{
		int n = Min(step, fetch->answer->nrecords - done);
		Size average = put_records(fetch, done, n) / n + 1;

		done += n;
		step = Max(1, Min(MOST_READ, READ_BYTES / average));
		MemoryContextReset(part);
	}
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(part);
}

/* The place for the result, which never spills to a file. */
static void
start_result(FunctionCallInfo fcinfo, Fetch *fetch)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	MemoryContext caller;

	if (result == NULL || !IsA(result, ReturnSetInfo) || (result->allowedModes & SFRM_Materialize) == 0)
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("a set of records cannot be returned in this context")));
	caller = MemoryContextSwitchTo(result->econtext->ecxt_per_query_memory);
	if (get_call_result_type(fcinfo, NULL, &fetch->desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "the result of apm_fetch is not a row");
	fetch->store =
		tuplestore_begin_heap((result->allowedModes & SFRM_Materialize_Random) != 0, false, MAX_KILOBYTES);
	MemoryContextSwitchTo(caller);
	result->returnMode = SFRM_Materialize;
	result->setResult = fetch->store;
	result->setDesc = fetch->desc;
}

/* The aPid for a pid, or what stands for it. */
static void
find_apid(ApmSlice pid_text, char apid[APM_APID_MAX + 1])
{
	ApmSection section;
	ApmPid pid;

	apm_section_begin(&section);
	apm_pid_read(pid_text, &pid);
	if (!apm_patient_find(&pid.index, apid))
		apm_apid_stand_in(&pid.index, apid);
	apm_section_end(&section);
}

/*
 * apm_fetch(pid text, purpose text DEFAULT NULL): rid, recorded_at, record, in the order of
 * the chain.
 */
Datum
apm_fetch(PG_FUNCTION_ARGS)
{
	MemoryContext memory;
	MemoryContext caller;
	ApmGateAnswer answer;
	char apid[APM_APID_MAX + 1];
	Fetch fetch;

	apm_hide_statement();
	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("the pid must not be null")));
	start_result(fcinfo, &fetch);
	memory = AllocSetContextCreate(CurrentMemoryContext, "apm fetch", ALLOCSET_DEFAULT_SIZES);
	caller = MemoryContextSwitchTo(memory);

	find_apid(APM_SLICE_OF(PG_GETARG_TEXT_PP(0)), apid);
	apm_gate_ask(APM_SLICE(apid, strlen(apid)),
				 apm_gate_purpose(PG_ARGISNULL(1) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(1))), &answer);
	fetch.patient = apm_gate_patient(APM_SLICE(apid, strlen(apid)), &answer);
	fetch.answer = &answer;
	put_all(&fetch);

	MemoryContextSwitchTo(caller);
	MemoryContextDelete(memory);
	return (Datum) 0;
}
