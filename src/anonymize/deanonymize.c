/*
 * deanonymize.c
 *	  Method 1 and Method 2 on their own: a record made anonymous without being sent, and
 *	  opened again through the same gate as every reading.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "anonymize/anonymizer.h"
#include "anonymize/submission.h"
#include "anonymize/paper.h"
#include "anonymize/publicfield.h"
#include "apm_errors.h"
#include "apm_loghook.h"
#include "keys/keyring.h"

PG_FUNCTION_INFO_V1(apm_anonymize);
PG_FUNCTION_INFO_V1(apm_deanonymize);
PG_FUNCTION_INFO_V1(apm_jwe);

/* The registered patient that a record is for; raises if it is not his. */
static ApmPatient *
patient_of(ApmAnonymizer *anonymizer, ApmSlice pid_text, Jsonb *record)
{
	ApmPatient *patient;
	ApmFields fields;
	ApmFields identifying = {0};
	ApmPid pid;

	apm_pid_read(pid_text, &pid);
	patient = apm_anonymizer_patient(anonymizer, &pid.index);
	if (patient == NULL)
		ereport(ERROR, (errcode(ERRCODE_APM_UNKNOWN_PATIENT), errmsg("no such patient is registered"),
						errhint("Patients are registered with apm_register_patient().")));
	if (apm_fields_of(record, &fields))
		apm_declared_pick(&anonymizer->declared, &fields, APM_CLASS_IDENTIFYING, true, &identifying);
	if (apm_patient_differs(patient, &identifying))
		ereport(ERROR, (errcode(ERRCODE_APM_IDENTITY),
						errmsg("the record's identifying attributes are not the patient's")));
	return patient;
}

/* apm's own form: signed, and sealed for the APM. */
static void
anonymize(ApmAnonymizer *anonymizer, const ApmPatient *patient, Jsonb *value, ApmBuf *out)
{
	ApmRecord record = {.value = value};
	ApmTransaction tx = {0};
	ApmBuf form = {0};

	anonymizer->out.n = 0;
	apm_check(apm_uuid7_random(apm_now_us() / 1000, &record.rid), "draw a record id");
	(void) apm_record_add(&anonymizer->out, patient, &record, &anonymizer->declared, &tx);
	apm_outgoing_signed(&anonymizer->out, &form);
	apm_check(apm_sealer_seal(apm_key_sealer(true, false, false), APM_SLICE(form.data, form.len),
							  apm_now_us(), out),
			  "seal a record");
	apm_buf_reset(&form);
}

/* Which profile a caller asks for; raises 22023 for another. */
static bool
wants_paper(const char *profile, bool has_salt)
{
	bool paper = strcmp(profile, "paper") == 0;

	if (!paper && strcmp(profile, "apm") != 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("no such profile"),
						errhint("The profiles are \"apm\" and \"paper\".")));
	if (!paper && has_salt)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("a salt can be chosen in the paper's profile only")));
	return paper;
}

/*
 * apm_anonymize(pid text, record jsonb, profile text DEFAULT 'apm', salt text DEFAULT
 * NULL): the aPR of a registered patient's record, as the cloud would hold it, or in the
 * paper's form.  Nothing is sent.
 */
Datum
apm_anonymize(PG_FUNCTION_ARGS)
{
	MemoryContext caller;
	ApmAnonymizer *anonymizer;
	ApmBuf apr = {0};
	ApmPatient *patient;
	Jsonb *record;
	bool paper;
	Datum result;

	apm_hide_statement();
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(2))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("pid, record and profile must not be null")));
	anonymizer = apm_anonymizer(fcinfo->flinfo, APM_ROLE_CLINICIAN | APM_ROLE_ADMIN);
	caller = MemoryContextSwitchTo(anonymizer->call);
	paper = wants_paper(text_to_cstring(PG_GETARG_TEXT_PP(2)), !PG_ARGISNULL(3));
	record = PG_GETARG_JSONB_P(1);
	apm_record_check(record);

	patient = patient_of(anonymizer, APM_SLICE_OF(PG_GETARG_TEXT_PP(0)), record);
	if (paper)
		apm_paper_anonymize(patient, record, &anonymizer->declared,
							PG_ARGISNULL(3) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(3)), &apr);
	else
		anonymize(anonymizer, patient, record, &apr);
	MemoryContextSwitchTo(caller);
	result = apm_bytea_datum(APM_SLICE(apr.data, apr.len));
	MemoryContextReset(anonymizer->call);
	PG_RETURN_DATUM(result);
}

/* Was it signed by an origin of our chain?  The contract asked the same of what it admitted. */
static void
check_origin(const ApmOpened *opened)
{
	static ApmStatement find = {
		"SELECT spki FROM apm.member WHERE id = $1 AND member = $2", 2, {BYTEAOID, INT2OID}, NULL};
	Datum args[] = {apm_digest_datum(&opened->tx.origin), Int16GetDatum(APM_MEMBER_ORIGIN)};
	ApmStatus status = APM_ERR_VERIFY;
	ApmSection section;
	ApmEcKey *key;

	apm_section_begin(&section);
	if (apm_run_latest(&find, args) > 0)
	{
		apm_check(apm_ec_from_spki(apm_row_bytea(0, 1), &key), "read the origin's key");
		status = apm_origin_verify(key, &opened->leaf, &opened->proof);
		apm_ec_free(key);
	}
	apm_section_end(&section);
	apm_check(status, "check who made the record");
}

/* The record in an envelope.  Outer layer and signature are looked at before the gate is asked. */
static Jsonb *
deanonymize(ApmSlice apr, const ApmAsk *ask)
{
	ApmReading reading = {0};
	ApmPatient *patient;
	ApmOpened opened;
	ApmBuf plain = {0};

	apm_check(apm_key_open(APM_PAIR_APM, apr, &plain), "open the aPR");
	apm_check(apm_open_signed(APM_SLICE(plain.data, plain.len), &opened), "open the aPR");
	if (!opened.wellformed || opened.tx.kind != APM_KIND_PRIMARY)
		apm_raise(APM_ERR_FORMAT, "open the aPR");
	check_origin(&opened);

	patient = apm_reading_ask(ask, opened.tx.u.primary.apid);
	apm_reading_open(patient, &opened.tx, &reading);
	return apm_reading_record(&reading);
}

/*
 * apm_deanonymize(apr bytea, purpose text DEFAULT NULL, fields jsonb DEFAULT NULL): the record in an aPR,
 * from apm_anonymize(), from the cloud, or in the paper's form, once the query is in the ledger.
 */
Datum
apm_deanonymize(PG_FUNCTION_ARGS)
{
	MemoryContext memory;
	MemoryContext caller;
	ApmAsk ask = {.scope = APM_SCOPE_RECORDS, .list = APM_GATE_NOTHING};
	ApmBuf fields = {0};
	ApmSlice apr;
	Jsonb *record;
	Jsonb *result;

	apm_hide_statement();
	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("the aPR must not be null")));
	memory = AllocSetContextCreate(CurrentMemoryContext, "apm deanonymize", ALLOCSET_DEFAULT_SIZES);
	caller = MemoryContextSwitchTo(memory);
	ask.purpose = apm_gate_purpose(PG_ARGISNULL(1) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(1)));
	apm_public_fields_read(PG_ARGISNULL(2) ? NULL : PG_GETARG_JSONB_P(2), &fields);
	ask.fields = APM_SLICE(fields.data, fields.len);
	apr = APM_SLICE_OF(PG_GETARG_BYTEA_PP(0));
	record = apm_paper_is_form(apr) ? apm_paper_deanonymize(apr, &ask) : deanonymize(apr, &ask);

	MemoryContextSwitchTo(caller);
	result = palloc(VARSIZE(record));
	memcpy(result, record, VARSIZE(record));
	apm_wipe(record, VARSIZE(record));
	MemoryContextDelete(memory);
	PG_RETURN_JSONB_P(result);
}

/*
 * apm_jwe(envelope bytea): an envelope as JOSE's JWE (RFC 7516), which any JOSE library
 * with the recipient's private key opens.
 */
Datum
apm_jwe(PG_FUNCTION_ARGS)
{
	ApmBuf jwe = {0};
	Datum result;

	apm_check(apm_envelope_jwe(APM_SLICE_OF(PG_GETARG_BYTEA_PP(0)), &jwe), "write the envelope as a JWE");
	result = apm_text_datum(APM_SLICE(jwe.data, jwe.len));
	apm_buf_reset(&jwe);
	PG_RETURN_DATUM(result);
}
