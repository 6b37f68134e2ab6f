/*
 * emergency.c
 *	  Breaking the glass: reading in an emergency without being allowed to, and what follows.
 *
 *		apm_break_glass()			reads; the ledger has who, when, and the code of a reason
 *		apm_break_glass_note()		the sentence that he wrote about it, for the auditor
 *		apm_review_break_glass()	somebody else's finding, a transaction too
 *
 * The sentence may tell of the patient, so it is sealed under his key.  It goes through the gate with the query, is
 * written in the same transaction as that, and the query holds its digest: it cannot be changed, swapped or
 * denied later.  For a pid that is not registered it is sealed under a key that nobody keeps, so that
 * the answer is the contract's like that to every other query.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "anonymize/consent.h"
#include "anonymize/contractcache.h"
#include "anonymize/gate.h"
#include "anonymize/groups.h"
#include "anonymize/publicfield.h"
#include "anonymize/recordset.h"
#include "anonymize/unicode.h"
#include "apm_errors.h"
#include "apm_loghook.h"
#include "core/cipher.h"

PG_FUNCTION_INFO_V1(apm_break_glass);
PG_FUNCTION_INFO_V1(apm_break_glass_note);
PG_FUNCTION_INFO_V1(apm_review_break_glass);
PG_FUNCTION_INFO_V1(apm_break_glass_unreviewed);

#define NOTE_MAX 4096 /* bytes of UTF-8 */
#define UNREVIEWED_COLUMNS 6

/* Appends the sealed note of a patient, or of nobody. */
static void
seal_note(ApmSlice apid, ApmSlice note, ApmBuf *out)
{
	MemoryContext caller = CurrentMemoryContext;
	ApmBuf text = {.secret = true};
	uint8 drawn[32];
	ApmSection section;
	const uint8 *key;
	ApmKeyId id;

	apm_section_begin(&section);
	apm_utf8_put(&text, note, "the note");
	if (text.len > NOTE_MAX)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("the note is longer than %d bytes", NOTE_MAX)));
	apm_check(apm_random(drawn, sizeof(drawn)), "seal the note");
	key = apm_patient_key(apid, &id);
	if (key == NULL)
	{
		key = drawn;
		apm_check(apm_secret_key_id(key, &id), "seal the note");
	}
	MemoryContextSwitchTo(caller);
	apm_check(apm_note_seal(key, &id, apid, APM_SLICE(text.data, text.len), out), "seal the note");
	apm_section_end(&section);
}

/*
 * apm_break_glass(pid text, reason_code text, note text DEFAULT NULL, fields jsonb DEFAULT NULL): rows as
 * apm_fetch() gives them.
 */
Datum
apm_break_glass(PG_FUNCTION_ARGS)
{
	ApmAsk ask = {.scope = APM_SCOPE_EMERGENCY, .list = APM_GATE_CURRENT};
	MemoryContext memory;
	MemoryContext caller;
	ApmBuf fields = {0};
	ApmBuf note = {0};
	ApmRecordSet set;
	ApmSlice apid;
	ApmSlice pid;

	apm_hide_statement();
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("pid and reason must not be null")));
	apm_recordset_start(fcinfo, &set);
	memory = AllocSetContextCreate(CurrentMemoryContext, "apm break glass", ALLOCSET_DEFAULT_SIZES);
	caller = MemoryContextSwitchTo(memory);

	pid = APM_SLICE_OF(PG_GETARG_TEXT_PP(0));
	ask.reason = apm_gate_reason(text_to_cstring(PG_GETARG_TEXT_PP(1)), false);
	ask.purpose = apm_gate_purpose("emergency");
	apm_public_fields_read(PG_ARGISNULL(3) ? NULL : PG_GETARG_JSONB_P(3), &fields);
	ask.fields = APM_SLICE(fields.data, fields.len);
	apid = apm_gate_apids(&pid, 1)[0];
	if (!PG_ARGISNULL(2))
		seal_note(apid, APM_SLICE_OF(PG_GETARG_TEXT_PP(2)), &note);
	ask.note = APM_SLICE(note.data, note.len);
	apm_recordset_fetch(&set, &ask, apid);

	MemoryContextSwitchTo(caller);
	MemoryContextDelete(memory);
	return (Datum) 0;
}

/* An emergency that the contract allowed, from the ledger; raises 22023 if that Tid is none.  In a section. */
static void
find_emergency(const ApmUuid *tid, ApmQueryRow *out)
{
	if (!apm_ledger_query(tid, out) || out->tx.u.query.scope != APM_SCOPE_EMERGENCY ||
		out->rule != APM_RULE_NONE)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("that transaction is no emergency"),
				 errhint("apm.break_glass_review lists those that nobody has reviewed, apm_access_history() "
						 "a patient's.")));
}

/* The sealed note of an emergency, if it is the one whose digest the query holds.  In a section. */
static ApmSlice
load_note(const ApmUuid *tid, const ApmDigest *digest)
{
	static ApmStatement load = {"SELECT sealed FROM ONLY apm.note WHERE tid = $1", 1, {UUIDOID}, NULL};
	Datum args[] = {apm_uuid_datum(tid)};
	ApmDigest found;
	ApmSlice sealed;

	if (apm_run_latest(&load, args) == 0)
		ereport(ERROR, (errcode(ERRCODE_APM_TAMPERED), errmsg("the note does not match the ledger"),
						errdetail("It is missing.")));
	sealed = apm_row_bytea(0, 1);
	apm_check(apm_note_digest(sealed, &found), "check the note");
	if (memcmp(&found, digest, sizeof(found)) != 0)
		ereport(ERROR, (errcode(ERRCODE_APM_TAMPERED), errmsg("the note does not match the ledger"),
						errdetail("It was altered.")));
	return sealed;
}

/* The note of an emergency, in the server's encoding. */
static text *
open_note(const ApmUuid *tid, ApmSlice apid, const ApmDigest *digest)
{
	MemoryContext caller = CurrentMemoryContext;
	ApmBuf utf8 = {.secret = true};
	ApmBuf own = {.secret = true};
	ApmSection section;
	const uint8 *key;
	ApmSlice sealed;
	ApmKeyId id;
	text *note;

	apm_section_begin(&section);
	apm_patient_refuse_forgotten(apid);
	sealed = load_note(tid, digest);
	key = apm_patient_key(apid, &id);
	if (key == NULL)
		apm_raise(APM_ERR_KEY, "open the note");
	apm_check(apm_note_open(key, &id, apid, sealed, &utf8), "open the note");
	apm_server_text_put(&own, APM_SLICE(utf8.data, utf8.len), "the note");
	MemoryContextSwitchTo(caller);
	note = cstring_to_text_with_len((const char *) own.data, (int) own.len);
	apm_section_end(&section);
	return note;
}

/*
 * apm_break_glass_note(tid uuid, fields jsonb DEFAULT NULL): null where nothing was written.  Goes through the
 * gate, so that the reading of the note stands in the patient's history, too.
 */
Datum
apm_break_glass_note(PG_FUNCTION_ARGS)
{
	static const ApmDigest none;
	ApmAsk ask = {.scope = APM_SCOPE_NOTE, .list = APM_GATE_NOTHING};
	ApmUuid tid;
	ApmSection section;
	ApmQueryRow emergency;
	char apid_text[APM_APID_MAX + 1];
	ApmBuf fields = {0};
	ApmDigest digest;
	ApmSlice apid;

	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("the tid must not be null")));
	memcpy(tid.bytes, PG_GETARG_UUID_P(0)->data, APM_UUID_LEN);
	apm_section_begin(&section);
	find_emergency(&tid, &emergency);
	digest = emergency.tx.u.query.note;
	apid = APM_SLICE(apid_text, emergency.tx.u.query.apid.len);
	memcpy(apid_text, emergency.tx.u.query.apid.data, apid.len);
	apm_section_end(&section);

	ask.basis = tid.bytes;
	ask.purpose = apm_gate_purpose("audit");
	apm_public_fields_read(PG_ARGISNULL(1) ? NULL : PG_GETARG_JSONB_P(1), &fields);
	ask.fields = APM_SLICE(fields.data, fields.len);
	apm_gate_require(apm_gate_ask(&ask, &apid, 1));
	if (memcmp(&digest, &none, sizeof(none)) == 0)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(open_note(&tid, apid, &digest));
}

/*
 * Was it the reviewer himself, or somebody whom he can become?  The contract compares pseudonyms and asks for
 * the roles that he has now.  Whom the pseudonym stands for only we know: who read as a role that he no longer
 * has had the same login.
 */
static bool
is_own(const ApmActing *who, const ApmGroups *groups, const ApmQueryRow *emergency)
{
	uint8 role[APM_STAFF_LEN];
	NameData acting;
	NameData login;

	if (memcmp(who->staff, emergency->tx.actor, APM_STAFF_LEN) == 0 ||
		apm_groups_have(groups, emergency->tx.u.query.acting))
		return true;
	if (!apm_staff_find(emergency->tx.actor, &acting, &login))
		return false;
	apm_role_pseudonym(NameStr(login), role);
	return apm_groups_have(groups, role);
}

/* The contract refuses most of it, too; but the reviewer should hear of it now. */
static void
check_review(const ApmActing *who, const ApmGroups *groups, const ApmQueryRow *emergency)
{
	if (emergency->reviewed)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("the emergency has been reviewed already")));
	if (is_own(who, groups, emergency))
		apm_consent_refuse_self("review one's own emergency");
}

/*
 * apm_review_break_glass(tid uuid, justified boolean, fields jsonb DEFAULT NULL)
 */
Datum
apm_review_break_glass(PG_FUNCTION_ARGS)
{
	ApmTransaction tx = {.kind = APM_KIND_CONSENT, .u.consent.action = APM_CONSENT_REVIEW};
	ApmConsentFields *review = &tx.u.consent;
	ApmQueryRow emergency;
	ApmSection section;
	ApmOutgoing out;
	ApmActing who;
	ApmUuid tid;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("tid and finding must not be null")));
	apm_acting(&who);
	apm_acting_require(&who, APM_ROLE_AUDITOR | APM_ROLE_ADMIN, "review an emergency");
	memcpy(review->reviewed.bytes, PG_GETARG_UUID_P(0)->data, APM_UUID_LEN);
	review->finding = PG_GETARG_BOOL(1) ? APM_FINDING_JUSTIFIED : APM_FINDING_UNJUSTIFIED;

	apm_section_begin(&section);
	apm_outgoing_start(&out, &who);
	find_emergency(&review->reviewed, &emergency);
	review->apid = emergency.tx.u.query.apid;
	apm_consent_groups(&who, &review->groups);
	check_review(&who, &review->groups, &emergency);
	tid = apm_consent_send(&out, &tx, PG_ARGISNULL(2) ? NULL : PG_GETARG_JSONB_P(2));
	apm_section_end(&section);
	PG_RETURN_DATUM(apm_uuid_datum(&tid));
}

/* What apm.break_glass_review shows. */
Datum
apm_break_glass_unreviewed(PG_FUNCTION_ARGS)
{
	const ApmContractState *contract;
	ApmSection section;
	ApmQueryRow *rows;
	ApmResult result;
	uint64 serial;
	int n;

	apm_result_start(fcinfo, &result);
	apm_section_begin(&section);
	n = apm_ledger_unreviewed(&rows);
	contract = apm_contract_now(&serial);
	for (int i = 0; i < n; i++)
	{
		const char *reason = apm_contract_reason_name(contract, rows[i].tx.u.query.reason);
		bool nulls[UNREVIEWED_COLUMNS] = {0};
		Datum values[UNREVIEWED_COLUMNS];
		NameData login;

		values[0] = apm_uuid_datum(&rows[i].tid);
		values[1] = TimestampTzGetDatum(apm_time_of(rows[i].tx.time_us));
		values[2] = CStringGetTextDatum(apm_staff_text(rows[i].tx.actor, &login));
		nulls[3] = NameStr(login)[0] == '\0';
		values[3] = nulls[3] ? (Datum) 0 : CStringGetTextDatum(NameStr(login));
		nulls[4] = reason == NULL;
		values[4] = nulls[4] ? (Datum) 0 : CStringGetTextDatum(reason);
		values[5] = Int64GetDatum((int64) rows[i].height);
		apm_result_put(&result, values, nulls);
	}
	apm_section_end(&section);
	return (Datum) 0;
}
