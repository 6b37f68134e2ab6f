/*
 * patient.c
 *	  Patients as the APM knows them: found by a keyed index, opened with their own key.
 *
 * A bcrypt takes a fifth of a second, so the pseudonym is made once and a patient found by
 * an HMAC of the pid.  Keys and profiles are opened when a statement needs them and wiped
 * with its memory; what a statement's rows share is opened once, and nothing secret is kept
 * between statements that a later change or erasure would have to hunt for.
 *
 * Who is forgotten is not found and not opened.  The journal of erasures is asked each time, because it
 * alone knows of an erasure that the tables do not know of any more.
 */
#include "postgres.h"

#include "anonymize/patient.h"
#include "anonymize/unicode.h"
#include "apm_errors.h"
#include "apm_guc.h"
#include "core/digest.h"
#include "keys/journal.h"
#include "keys/keyring.h"

/* HMAC(index key, len "pid" len pid): what a patient is found by. */
static void
index_of(const ApmBuf *pid, ApmDigest *out)
{
	ApmBuf labelled = {.secret = true};
	ApmSlice part;

	apm_put_bytes(&labelled, "pid", strlen("pid"));
	apm_put_bytes(&labelled, pid->data, pid->len);
	apm_check(apm_buf_status(&labelled), "index the patient");
	part = APM_SLICE(labelled.data, labelled.len);
	apm_check(apm_hmac_sha256(apm_key_secret(APM_SECRET_INDEX), APM_SECRET_LEN, &part, 1, out),
			  "index the patient");
	apm_buf_reset(&labelled);
}

void
apm_pid_read(ApmSlice pid, ApmPid *out)
{
	if (pid.len == 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the pid must not be empty")));
	if (pid.len > APM_PID_MAX)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("the pid is longer than %d bytes", APM_PID_MAX)));

	memset(out, 0, sizeof(*out));
	out->text.secret = true;
	apm_nfc_put(&out->text, pid, "the pid");
	index_of(&out->text, &out->index);
}

static void
profile_fault(const char *fault)
{
	ereport(ERROR, (errcode(ERRCODE_APM_TAMPERED), errmsg("the patient's profile does not match the ledger"),
					errdetail("The version that the ledger names %s.", fault)));
}

/* Takes the opened profile's text apart. */
static void
read_profile(ApmPatient *patient, ApmSlice text)
{
	ApmFields whole;
	const ApmField *pid;

	if (!apm_fields_of(apm_json_parse(text), &whole))
		apm_raise(APM_ERR_OPEN, "read the profile");
	pid = apm_fields_find(&whole, APM_SLICE("pid", 3));
	if (pid == NULL || pid->value.type != jbvString)
		apm_raise(APM_ERR_OPEN, "read the profile");
	patient->pid.secret = true;
	apm_nfc_put(&patient->pid, APM_SLICE(pid->value.val.string.val, pid->value.val.string.len), "the pid");
	apm_fields_member(&whole, "identifying", &patient->identifying);
	apm_fields_member(&whole, "attributes", &patient->attributes);
}

/* Unwraps a patient's key, in the current memory context. */
static uint8 *
open_key(ApmSlice apid, ApmSlice wrapped, uint32 generation, ApmKeyId *id)
{
	uint8 *key;

	if (apid.len > APM_APID_MAX || wrapped.len != APM_WRAPPED_KEY_LEN)
		apm_raise(APM_ERR_OPEN, "open the patient's key");
	key = apm_core_alloc(32, true);
	if (key == NULL)
		apm_raise(APM_ERR_MEMORY, "open the patient's key");
	apm_check(apm_key_unwrap(apm_key_wrapping(generation), generation, apid, wrapped.data, key),
			  "open the patient's key");
	apm_check(apm_secret_key_id(key, id), "open the patient's key");
	return key;
}

/* Opens row of SPI_tuptable: index_key, apid, wrapped_key, generation, version, sealed. */
static ApmPatient *
open_row(uint64 row)
{
	ApmPatient *patient = palloc0(sizeof(ApmPatient));
	ApmSlice apid = apm_row_text(row, 2);
	ApmSlice sealed = apm_row_bytea(row, 6);
	ApmBuf text = {.secret = true};
	ApmDigest index;

	apm_row_digest(row, 1, &patient->index);
	patient->version = apm_row_int4(row, 5);
	patient->key = open_key(apid, apm_row_bytea(row, 3), apm_row_int4(row, 4), &patient->key_id);
	memcpy(patient->apid, apid.data, apid.len);
	apm_check(apm_profile_digest(patient->version, sealed, &patient->digest), "open the patient's profile");
	apm_check(apm_profile_open(patient->key, &patient->key_id, apid, patient->version, sealed, &text),
			  "open the patient's profile");
	read_profile(patient, APM_SLICE(text.data, text.len));
	apm_buf_reset(&text);

	/* aPid, key and profile belong together; that they are this pid's is said by the profile alone */
	index_of(&patient->pid, &index);
	if (memcmp(&index, &patient->index, sizeof(index)) != 0)
		profile_fault("is another patient's");
	return patient;
}

/* The chain whose journal is asked; false where there is none, and so no patient.  May run a statement. */
static bool
our_chain(ApmDigest *chain)
{
	ApmDigest origin;

	return apm_chain_identity(chain, &origin);
}

/* Is the aPid in that column of a row in the chain's journal? */
static bool
in_journal(const ApmDigest *chain, uint64 row, int apid)
{
	return apm_journal_has(chain, apm_row_text(row, apid));
}

/* What open_row() reads. */
#define PATIENT_COLUMNS "p.index_key, p.apid, p.wrapped_key, p.generation, f.version, f.sealed"
/* The newest version of a patient's profile that the contract did not refuse. */
#define NEWEST_PROFILE                                                                                    \
	"CROSS JOIN LATERAL (SELECT v.version, v.sealed FROM apm.profile AS v WHERE v.apid = p.apid"          \
	"   AND NOT EXISTS (SELECT FROM ONLY apm.final_transaction AS t WHERE t.tid = v.tid AND t.rule <> 0)" \
	"   ORDER BY v.version DESC LIMIT 1) AS f"

/* Rows of those of n patients who are not forgotten, with their place among the n.  Most often it is one. */
static uint64
load_rows(const ApmDigest *indexes, int n)
{
	static ApmStatement one = {
		"SELECT " PATIENT_COLUMNS ", 1::pg_catalog.int8 FROM apm.patient AS p " NEWEST_PROFILE
		" WHERE p.index_key = $1 AND NOT p.erasing",
		1,
		{BYTEAOID},
		NULL,
	};
	static ApmStatement many = {
		"SELECT " PATIENT_COLUMNS
		", w.place FROM pg_catalog.unnest($1) WITH ORDINALITY AS w (index_key, place)"
		" JOIN apm.patient AS p ON p.index_key = w.index_key AND NOT p.erasing " NEWEST_PROFILE,
		1,
		{BYTEAARRAYOID},
		NULL,
	};
	Datum args[] = {n == 1 ? apm_digest_datum(indexes) : apm_digest_array(indexes, n)};

	return apm_run_latest(n == 1 ? &one : &many, args);
}

void
apm_patients_load(const ApmDigest *indexes, int n, ApmPatient **out)
{
	SPITupleTable *found;
	ApmDigest chain;
	uint64 rows;

	memset(out, 0, sizeof(*out) * n);
	if (!our_chain(&chain))
		return;
	rows = load_rows(indexes, n);
	found = SPI_tuptable;
	for (uint64 i = 0; i < rows; i++)
	{
		if (!in_journal(&chain, i, 2))
			out[apm_row_int8(i, 7) - 1] = open_row(i);
	}
	SPI_freetuptable(found);
}

/* Looks n indexes up: rows of place, apid, erasing; those that are found.  Most often it is one. */
static uint64
find_rows(const ApmDigest *indexes, int n)
{
	static ApmStatement one = {
		"SELECT 1::pg_catalog.int8, p.apid, p.erasing FROM apm.patient AS p WHERE p.index_key = $1",
		1,
		{BYTEAOID},
		NULL,
	};
	static ApmStatement many = {
		"SELECT w.place, p.apid, p.erasing FROM pg_catalog.unnest($1) WITH ORDINALITY AS w (index_key, place)"
		" JOIN apm.patient AS p ON p.index_key = w.index_key",
		1,
		{BYTEAARRAYOID},
		NULL,
	};
	Datum args[] = {n == 1 ? apm_digest_datum(indexes) : apm_digest_array(indexes, n)};

	return apm_run_latest(n == 1 ? &one : &many, args);
}

/* Is the patient in a row of find_rows() forgotten? */
static bool
found_forgotten(const ApmDigest *chain, uint64 row)
{
	return apm_row_bool(row, 3) || in_journal(chain, row, 2);
}

ApmFound
apm_patient_find(const ApmDigest *index, char apid[APM_APID_MAX + 1])
{
	ApmDigest chain;
	ApmSlice found;

	if (!our_chain(&chain) || find_rows(index, 1) == 0)
		return APM_FOUND_NOBODY;
	found = apm_row_text(0, 2);
	if (found.len > APM_APID_MAX)
		apm_raise(APM_ERR_FORMAT, "find the patient");
	memcpy(apid, found.data, found.len);
	apid[found.len] = '\0';
	return found_forgotten(&chain, 0) ? APM_FOUND_FORGOTTEN : APM_FOUND_PATIENT;
}

void
apm_patients_find(const ApmDigest *indexes, int n, MemoryContext memory, ApmSlice *apids)
{
	ApmDigest chain;
	uint64 rows = our_chain(&chain) ? find_rows(indexes, n) : 0;

	for (uint64 i = 0; i < rows; i++)
	{
		ApmSlice found = apm_row_text(i, 2);

		if (!found_forgotten(&chain, i))
			apids[apm_row_int8(i, 1) - 1] = APM_SLICE(
				MemoryContextStrdup(memory, pnstrdup((const char *) found.data, found.len)), found.len);
	}
}

void
apm_patients_forgotten(const ApmSlice *apids, int n, bool *forgotten)
{
	static ApmStatement find = {
		"SELECT w.place, p.erasing IS TRUE"
		" FROM pg_catalog.unnest($1) WITH ORDINALITY AS w (apid, place)"
		" LEFT JOIN apm.patient AS p ON p.apid = w.apid",
		1,
		{TEXTARRAYOID},
		NULL,
	};
	Datum args[] = {apm_text_array(apids, n)};
	ApmDigest chain;
	uint64 rows = our_chain(&chain) ? apm_run_latest(&find, args) : 0;

	memset(forgotten, 0, sizeof(bool) * n);
	for (uint64 i = 0; i < rows; i++)
	{
		int64 place = apm_row_int8(i, 1) - 1;

		forgotten[place] = apm_row_bool(i, 2) || apm_journal_has(&chain, apids[place]);
	}
}

void
apm_patient_refuse_forgotten(ApmSlice apid)
{
	bool forgotten;

	apm_patients_forgotten(&apid, 1, &forgotten);
	if (forgotten)
		ereport(ERROR, (errcode(ERRCODE_APM_UNKNOWN_PATIENT), errmsg("the patient has been forgotten"),
						errhint("Whoever asks again is told that there is no such patient.")));
}

uint8 *
apm_patient_key(ApmSlice apid, ApmKeyId *id)
{
	static ApmStatement load = {
		"SELECT p.wrapped_key, p.generation, p.apid FROM apm.patient AS p WHERE p.apid = $1 AND NOT p.erasing",
		1,
		{TEXTOID},
		NULL,
	};
	Datum args[] = {apm_text_datum(apid)};
	ApmDigest chain;

	if (!our_chain(&chain) || apm_run_latest(&load, args) == 0 || in_journal(&chain, 0, 3))
		return NULL;
	return open_key(apid, apm_row_bytea(0, 1), apm_row_int4(0, 2), id);
}

void
apm_apid_stand_in(const ApmDigest *index, char apid[APM_APID_MAX + 1])
{
	static const char alphabet[] = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
	static const char info[] = "apm stand-in";
	uint8 drawn[53]; /* characters of a bcrypt's salt and result */

	apm_check(apm_hkdf_sha256(apm_key_secret(APM_SECRET_INDEX), APM_SECRET_LEN, index->bytes, APM_DIGEST_LEN,
							  info, strlen(info), drawn, sizeof(drawn)),
			  "name the patient");
	if (apm_pseudonym_mode == APM_PSEUDONYM_RANDOM)
	{
		size_t len;

		strcpy(apid, "r.");
		apm_base64url_encode(drawn, 24, apid + 2, &len);
		return;
	}
	snprintf(apid, APM_APID_MAX + 1, "$2b$%02d$", apm_salting_rounds);
	for (size_t i = 0; i < sizeof(drawn); i++)
	{
		/* 22 characters hold 128 bits and 31 hold 184: the last of each has bits to spare */
		uint8 mask = i == 21 ? 0x30 : i == 52 ? 0x3c : 0x3f;

		apid[7 + i] = alphabet[drawn[i] & mask];
	}
	apid[APM_PSEUDONYM_LEN] = '\0';
}

ApmPatient *
apm_patient_at(ApmSlice apid, const ApmPatientState *ledger)
{
	static ApmStatement load = {
		"SELECT p.index_key, p.apid, p.wrapped_key, p.generation, f.version, f.sealed"
		" FROM apm.patient AS p JOIN apm.profile AS f ON f.apid = p.apid"
		" WHERE p.apid = $1 AND f.version = $2 AND NOT p.erasing",
		2,
		{TEXTOID, INT4OID},
		NULL,
	};
	Datum args[] = {apm_text_datum(apid), Int32GetDatum(ledger->version)};
	ApmDigest digest;
	ApmDigest chain;

	if (!our_chain(&chain) || apm_run_latest(&load, args) == 0 || in_journal(&chain, 0, 2))
	{
		apm_patient_refuse_forgotten(apid);
		profile_fault("is missing");
	}
	apm_check(apm_profile_digest(ledger->version, apm_row_bytea(0, 6), &digest),
			  "check the patient's profile");
	if (memcmp(&digest, &ledger->profile, sizeof(digest)) != 0)
		profile_fault("was altered");
	return open_row(0);
}

/* Are two identifying values the same to a reader? */
static bool
same_value(const ApmField *a, const ApmField *b)
{
	ApmBuf left = {.secret = true};
	ApmBuf right = {.secret = true};
	bool same;

	apm_identifying_value(a, &left);
	apm_identifying_value(b, &right);
	same = left.len == right.len && memcmp(left.data, right.data, left.len) == 0;
	apm_buf_reset(&left);
	apm_buf_reset(&right);
	return same;
}

bool
apm_patient_differs(const ApmPatient *patient, const ApmFields *identifying)
{
	for (int i = 0; i < identifying->n; i++)
	{
		const ApmField *given = &identifying->v[i];
		const ApmField *known = apm_fields_find(&patient->identifying, apm_field_name(given));

		if (known == NULL || !same_value(given, known))
			return true;
	}
	return false;
}

Jsonb *
apm_patient_record(const ApmPatient *patient, Jsonb *record)
{
	ApmFields own;
	ApmFields merged;
	ApmFields all;

	if (!apm_fields_of(record, &own))
		return record;
	apm_fields_overlay(&patient->attributes, &own, &merged);
	apm_fields_overlay(&merged, &patient->identifying, &all);
	return apm_fields_jsonb(&all);
}
