/*
 * register.c
 *	  Registering a patient, and changing his profile.
 *
 * Registration draws the patient's key, makes the pseudonyms, once, and binds the sealed
 * profile to the chain by a patient transaction that carries its digest.  Profile and
 * transaction are written together; reads use a version once the chain has it.  One that the contract
 * refused counts for nothing: who was not registered can be registered, and the next version follows the
 * one before.  Of two sessions that register one pid, the unique index lets one win; the other waits for it and
 * then finds the patient registered.
 *
 * Who is being forgotten is not registered until nothing is left of him.  Whoever registers then is a new patient,
 * with another key and another pseudonym.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "anonymize/lastvalue.h"
#include "anonymize/unicode.h"
#include "anonymize/waiting.h"
#include "apm_errors.h"
#include "apm_loghook.h"
#include "apm_guc.h"
#include "keys/keyring.h"

PG_FUNCTION_INFO_V1(apm_register_patient);
PG_FUNCTION_INFO_V1(apm_update_patient);

/* The text that is sealed as a profile. */
static void
profile_text(ApmSlice pid, const ApmFields *identifying, const ApmFields *attributes, ApmBuf *out)
{
	static const char *const parts[] = {"{\"pid\":", ",\"identifying\":", ",\"attributes\":"};

	apm_put_raw(out, parts[0], strlen(parts[0]));
	apm_json_put_string(out, pid);
	apm_put_raw(out, parts[1], strlen(parts[1]));
	apm_json_put_fields(out, identifying);
	apm_put_raw(out, parts[2], strlen(parts[2]));
	apm_json_put_fields(out, attributes);
	apm_put_u8(out, '}');
	apm_check(apm_buf_status(out), "write the profile");
	if (out->len > APM_PROFILE_MAX)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("the patient's profile is larger than %d bytes", APM_PROFILE_MAX)));
}

/*
 * Seals version p->version of a profile, enters its digest into p and adds the patient
 * transaction that follows the version with digest old (zeros: none).
 */
static ApmUuid
seal_profile(ApmPatient *p, ApmSlice text, const ApmDigest *old, ApmOutgoing *out, ApmBuf *sealed)
{
	ApmTransaction tx = {.kind = APM_KIND_PATIENT};

	apm_check(apm_profile_seal(p->key, &p->key_id, apm_patient_apid(p), p->version, text, sealed),
			  "seal the profile");
	apm_check(apm_profile_digest(p->version, APM_SLICE(sealed->data, sealed->len), &p->digest),
			  "seal the profile");
	tx.u.patient.apid = apm_patient_apid(p);
	tx.u.patient.version = p->version;
	tx.u.patient.old_profile = *old;
	tx.u.patient.profile = p->digest;
	return out->items[apm_outgoing_add(out, &tx)].tid;
}

/* What this patient's pseudonyms are blinded with; wipe it. */
static void
blind_of(const ApmPatient *p, uint8 blind[APM_BLIND_LEN])
{
	apm_check(apm_pseudonym_blind(p->key, blind), "make a pseudonym");
}

/* The identity's pseudonym into out; false in random mode, where nothing is derived from the person. */
static bool
identity_of(const ApmPatient *p, const ApmFields *identifying, char out[APM_PSEUDONYM_LEN + 1])
{
	uint8 blind[APM_BLIND_LEN];
	ApmAttribute *attributes;
	ApmStatus status;
	ApmBuf *texts;

	if (apm_pseudonym_mode == APM_PSEUDONYM_RANDOM)
		return false;
	attributes = palloc0(sizeof(ApmAttribute) * identifying->n);
	texts = palloc0(sizeof(ApmBuf) * 2 * identifying->n);
	for (int i = 0; i < identifying->n; i++)
	{
		ApmBuf *name = &texts[2 * i];
		ApmBuf *value = &texts[2 * i + 1];

		value->secret = true;
		apm_nfc_put(name, apm_field_name(&identifying->v[i]), "the name of an attribute");
		apm_identifying_value(&identifying->v[i], value);
		attributes[i].name = APM_SLICE(name->data, name->len);
		attributes[i].value = APM_SLICE(value->data, value->len);
	}
	/* a bcrypt cannot be interrupted */
	CHECK_FOR_INTERRUPTS();
	blind_of(p, blind);
	status = apm_identity(apm_key_secret(APM_SECRET_PEPPER), blind, attributes, identifying->n,
						  apm_salting_rounds, out);
	apm_wipe(blind, sizeof(blind));
	apm_check(status, "make a pseudonym");
	for (int i = 0; i < 2 * identifying->n; i++)
		apm_buf_reset(&texts[i]);
	pfree(texts);
	pfree(attributes);
	return true;
}

static void
make_apid(ApmPatient *p, const ApmPid *pid)
{
	uint8 blind[APM_BLIND_LEN];
	ApmStatus status;

	CHECK_FOR_INTERRUPTS();
	if (apm_pseudonym_mode == APM_PSEUDONYM_RANDOM)
	{
		apm_check(apm_pseudonym_random(p->apid), "make a pseudonym");
		return;
	}
	blind_of(p, blind);
	status = apm_pseudonym(apm_key_secret(APM_SECRET_PEPPER), blind, APM_SLICE("pid", 3),
						   APM_SLICE(pid->text.data, pid->text.len), apm_salting_rounds, p->apid);
	apm_wipe(blind, sizeof(blind));
	apm_check(status, "make a pseudonym");
}

static void
write_profile(const ApmPatient *p, const ApmBuf *sealed, const ApmUuid *tid)
{
	static ApmStatement put = {
		"INSERT INTO apm.profile (apid, version, sealed, tid) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
		4,
		{TEXTOID, INT4OID, BYTEAOID, UUIDOID},
		NULL,
	};
	Datum args[] = {apm_text_datum(apm_patient_apid(p)), Int32GetDatum(p->version),
					apm_bytea_datum(APM_SLICE(sealed->data, sealed->len)), apm_uuid_datum(tid)};

	if (apm_run(&put, args) == 0)
		ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
						errmsg("the patient was changed by another transaction meanwhile"),
						errhint("Repeat the transaction.")));
}

/* False if the index is taken; waits for a transaction that is about to take it. */
static bool
write_patient(const ApmPatient *p, const char *identity)
{
	static ApmStatement put = {
		"INSERT INTO apm.patient (index_key, apid, identity, wrapped_key, generation, registered_at)"
		" VALUES ($1, $2, $3, $4, $5, pg_catalog.now()) ON CONFLICT (index_key) DO NOTHING",
		5,
		{BYTEAOID, TEXTOID, TEXTOID, BYTEAOID, INT4OID},
		NULL,
	};
	uint32 generation = apm_key_wrapping_active();
	uint8 wrapped[APM_WRAPPED_KEY_LEN];
	Datum args[5];

	apm_check(apm_key_wrap(apm_key_wrapping(generation), generation, apm_patient_apid(p), p->key, wrapped),
			  "wrap the patient's key");
	args[0] = apm_digest_datum(&p->index);
	args[1] = apm_text_datum(apm_patient_apid(p));
	args[2] = identity != NULL ? CStringGetTextDatum(identity) : (Datum) 0;
	args[3] = apm_bytea_datum(APM_SLICE(wrapped, sizeof(wrapped)));
	args[4] = Int32GetDatum(generation);
	return apm_run_nulls(&put, args, identity != NULL ? "     " : "  n  ", 0) != 0;
}

static void
write_identity(const ApmPatient *p, const ApmFields *identifying)
{
	static ApmStatement put = {
		"UPDATE apm.patient SET identity = $2 WHERE apid = $1", 2, {TEXTOID, TEXTOID}, NULL};
	char identity[APM_PSEUDONYM_LEN + 1];
	bool hashed = identity_of(p, identifying, identity);
	Datum args[] = {apm_text_datum(apm_patient_apid(p)), hashed ? CStringGetTextDatum(identity) : (Datum) 0};

	apm_run_nulls(&put, args, hashed ? "  " : " n", 0);
}

/* A version that the contract refused is none: its number is free for the next one. */
static void
forget_refused(const ApmPatient *p)
{
	static ApmStatement forget = {
		"DELETE FROM ONLY apm.profile AS f USING ONLY apm.final_transaction AS t"
		" WHERE f.apid = $1 AND f.version >= $2 AND t.tid = f.tid AND t.rule <> 0",
		2,
		{TEXTOID, INT4OID},
		NULL,
	};
	Datum args[] = {apm_text_datum(apm_patient_apid(p)), Int32GetDatum(p->version)};

	(void) apm_run(&forget, args);
}

/* Draws the key, makes the pseudonyms and writes them; false if somebody else has registered the pid. */
static bool
make_patient(ApmPatient *p, const ApmPid *pid, const ApmFields *identifying)
{
	char identity[APM_PSEUDONYM_LEN + 1];
	bool hashed;

	p->key = apm_core_alloc(32, true);
	if (p->key == NULL)
		apm_raise(APM_ERR_MEMORY, "register the patient");
	apm_check(apm_random(p->key, 32), "draw the patient's key");
	apm_check(apm_secret_key_id(p->key, &p->key_id), "draw the patient's key");
	make_apid(p, pid);
	hashed = identity_of(p, identifying, identity);
	if (!write_patient(p, hashed ? identity : NULL))
		return false;
	apm_last_values_begin(apm_patient_apid(p));
	return true;
}

/*
 * Somebody whose registration the contract refused is registered once more.  Pseudonym and key stay: records
 * that came meanwhile wait for the one, sealed under the other.
 */
static bool
take_up(ApmPatient *p, const ApmFields *identifying)
{
	ApmPatient *registered;

	apm_patients_load(&p->index, 1, &registered);
	if (registered != NULL)
		return false;
	p->key = apm_patient_key(apm_patient_apid(p), &p->key_id);
	forget_refused(p);
	write_identity(p, identifying);
	return true;
}

/* Makes the patient of an index, or takes him up; false if he is registered. */
static bool
claim_index(ApmPatient *p, const ApmPid *pid, const ApmFields *identifying)
{
	ApmFound found = apm_patient_find(&pid->index, p->apid);

	if (found == APM_FOUND_FORGOTTEN)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_IN_USE), errmsg("the patient is being forgotten"),
						errhint("Whoever returns can be registered when that is done; apm_erasure_state() "
								"tells.")));
	return found == APM_FOUND_NOBODY ? make_patient(p, pid, identifying) : take_up(p, identifying);
}

bool
apm_patient_register(const ApmPid *pid, const ApmFields *identifying, const ApmFields *attributes,
					 ApmOutgoing *out, ApmPatient **made)
{
	static const ApmDigest none;
	ApmPatient *p = palloc0(sizeof(ApmPatient));
	ApmSlice pid_text = APM_SLICE(pid->text.data, pid->text.len);
	ApmBuf text = {.secret = true};
	ApmBuf sealed = {0};
	ApmUuid tid;

	p->index = pid->index;
	p->version = 1;
	p->identifying = *identifying;
	p->attributes = *attributes;
	p->pid.secret = true;
	apm_put_raw(&p->pid, pid_text.data, pid_text.len);
	apm_check(apm_buf_status(&p->pid), "register the patient");
	profile_text(pid_text, identifying, attributes, &text);

	apm_patient_lock(&pid->index);
	if (!claim_index(p, pid, identifying))
		return false;
	tid = seal_profile(p, APM_SLICE(text.data, text.len), &none, out, &sealed);
	write_profile(p, &sealed, &tid);
	apm_buf_reset(&text);
	apm_buf_reset(&sealed);
	*made = p;
	return true;
}

/*
 * The fields of an argument that must be an object of attributes that are all
 * identifying, or none of them.
 */
static void
read_attributes(Jsonb *argument, bool identifying, const ApmDeclared *declared, ApmFields *out)
{
	const char *part = identifying ? "identifying" : "attributes";

	if (!apm_fields_of(argument, out))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s must be a JSON object", part)));
	if (identifying && out->n == 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("a patient needs an identifying attribute")));
	for (int i = 0; i < out->n; i++)
	{
		bool is = apm_declared_class(declared, &out->v[i]) == APM_CLASS_IDENTIFYING;
		ApmBuf value = {.secret = true};

		if (is != identifying)
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							identifying ? errmsg("an attribute in %s is not declared as identifying", part)
										: errmsg("an attribute in %s is declared as identifying", part),
							errhint("Attributes are declared with apm_declare_attribute().")));
		if (identifying)
			apm_identifying_value(&out->v[i], &value);
		apm_buf_reset(&value);
	}
}

/*
 * apm_register_patient(pid text, identifying jsonb, attributes jsonb)
 */
Datum
apm_register_patient(PG_FUNCTION_ARGS)
{
	ApmActing who;
	ApmSection section;
	ApmDeclared declared;
	ApmFields identifying;
	ApmFields attributes;
	ApmOutgoing out;
	ApmPatient *made;
	ApmPid pid;

	apm_hide_statement();
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(2))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("pid, identifying and attributes must not be null")));
	apm_acting(&who);
	apm_acting_require(&who, APM_ROLE_REGISTRAR | APM_ROLE_ADMIN, "register a patient");

	apm_section_begin(&section);
	apm_outgoing_start(&out, &who);
	apm_pid_read(APM_SLICE_OF(PG_GETARG_TEXT_PP(0)), &pid);
	apm_declared_load(&declared);
	read_attributes(PG_GETARG_JSONB_P(1), true, &declared, &identifying);
	read_attributes(PG_GETARG_JSONB_P(2), false, &declared, &attributes);
	if (!apm_patient_register(&pid, &identifying, &attributes, &out, &made))
		ereport(ERROR, (errcode(ERRCODE_APM_REGISTERED), errmsg("the patient is registered already"),
						errhint("Profiles are changed with apm_update_patient().")));
	apm_staff_note(&who);
	apm_outgoing_send(&out);
	apm_waiting_release(&pid.index);
	apm_section_end(&section);
	PG_RETURN_VOID();
}

/* Writes and sends the next version of a profile, which becomes what *p says. */
static void
write_next_version(ApmPatient *p, ApmOutgoing *out)
{
	ApmBuf text = {.secret = true};
	ApmBuf sealed = {0};
	ApmDigest old = p->digest;
	ApmUuid tid;

	p->version++;
	profile_text(APM_SLICE(p->pid.data, p->pid.len), &p->identifying, &p->attributes, &text);
	tid = seal_profile(p, APM_SLICE(text.data, text.len), &old, out, &sealed);
	forget_refused(p);
	write_profile(p, &sealed, &tid);
	apm_outgoing_send(out);
	apm_buf_reset(&text);
	apm_buf_reset(&sealed);
}

/*
 * apm_update_patient(pid text, identifying jsonb, attributes jsonb): null leaves a part of
 * the profile as it is.
 */
Datum
apm_update_patient(PG_FUNCTION_ARGS)
{
	ApmActing who;
	ApmSection section;
	ApmDeclared declared;
	ApmOutgoing out;
	ApmPatient *patient;
	ApmPid pid;

	apm_hide_statement();
	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("the pid must not be null")));
	apm_acting(&who);
	apm_acting_require(&who, APM_ROLE_REGISTRAR | APM_ROLE_ADMIN, "change a patient's profile");

	apm_section_begin(&section);
	apm_outgoing_start(&out, &who);
	apm_pid_read(APM_SLICE_OF(PG_GETARG_TEXT_PP(0)), &pid);
	apm_declared_load(&declared);
	apm_patient_lock(&pid.index);
	apm_patients_load(&pid.index, 1, &patient);
	if (patient == NULL)
		ereport(ERROR, (errcode(ERRCODE_APM_UNKNOWN_PATIENT), errmsg("no such patient is registered"),
						errhint("Patients are registered with apm_register_patient().")));
	if (!PG_ARGISNULL(1))
	{
		read_attributes(PG_GETARG_JSONB_P(1), true, &declared, &patient->identifying);
		write_identity(patient, &patient->identifying);
	}
	if (!PG_ARGISNULL(2))
		read_attributes(PG_GETARG_JSONB_P(2), false, &declared, &patient->attributes);
	write_next_version(patient, &out);
	apm_staff_note(&who);
	apm_waiting_release(&pid.index);
	apm_section_end(&section);
	PG_RETURN_VOID();
}
