/*
 * paper.c
 *	  Method 1 and Method 2 as the paper published them.
 *
 * doc/paper-profile.md describes the form exactly.  In short: the pid and each identifying
 * attribute become a bcrypt hash with one salt, each other attribute is encrypted on its own
 * (core/paper.h), and the way back tries the profiles one after the other until a pid
 * hashes to the aPid.  Each step is here to be studied beside what apm does instead.
 */
#include "postgres.h"

#include "common/jsonapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/uuid.h"

#include "anonymize/paper.h"
#include "anonymize/unicode.h"
#include "apm_errors.h"
#include "apm_guc.h"
#include "core/digest.h"
#include "core/paper.h"
#include "keys/paperkey.h"

#define SETTING_LEN 29 /* "$2b$", two digits, "$", 22 characters of salt */

/* profiles tried before memory is given back */
#define PROFILES 50

/* The keys, freed with the memory context that they were read in. */
typedef struct PaperKeys
{
	uint8 *aes; /* 32 secret bytes */
	ApmRsa *rsa;
	MemoryContextCallback release;
} PaperKeys;

static void
check_allowed(void)
{
	if (!apm_allow_paper_profile)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("the paper's profile is not allowed here"),
				 errhint("It is weak and only for study; a superuser allows it with "
						 "apm.allow_paper_profile.")));
	ereport(WARNING, (errmsg("the paper's profile protects neither names nor values well"),
					  errhint("It is for study and comparison only.")));
}

static void
release_keys(void *arg)
{
	apm_rsa_free(((PaperKeys *) arg)->rsa);
}

static PaperKeys *
read_keys(void)
{
	PaperKeys *keys = palloc0(sizeof(PaperKeys));

	keys->aes = apm_core_alloc(32, true);
	if (keys->aes == NULL)
		apm_raise(APM_ERR_MEMORY, "read the keys of the paper's profile");
	apm_key_paper(keys->aes, &keys->rsa);
	keys->release.func = release_keys;
	keys->release.arg = keys;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &keys->release);
	return keys;
}

/* Is it "$2b$NN$" and a salt, at a cost that ends in our lifetime? */
static bool
is_setting(const char *text, size_t len)
{
	int cost;

	if (len < SETTING_LEN || strncmp(text, "$2b$", 4) != 0 || !isdigit((unsigned char) text[4]) ||
		!isdigit((unsigned char) text[5]) || text[6] != '$')
		return false;
	cost = (text[4] - '0') * 10 + (text[5] - '0');
	if (cost < APM_SALTING_ROUNDS_MIN || cost > APM_SALTING_ROUNDS_MAX)
		return false;
	return strspn(text + 7, "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789") == len - 7;
}

/* Raw bcrypt of a value, which is what the paper's profile hashes. */
static void
hash_value(const ApmBuf *value, const char *setting, char out[APM_PSEUDONYM_LEN + 1])
{
	char secret[APM_PAPER_HASHED_MAX + 1] = {0};
	ApmStatus status;

	if (value->len > APM_PAPER_HASHED_MAX)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("a value to be hashed has more than %d bytes", APM_PAPER_HASHED_MAX),
						errdetail("bcrypt, which the paper's profile uses bare, reads no more.")));
	CHECK_FOR_INTERRUPTS();
	memcpy(secret, value->data, value->len);
	status = apm_bcrypt(secret, setting, out);
	apm_wipe(secret, sizeof(secret));
	apm_check(status, "hash a value");
}

/* A value's text: what stands between a text's quotation marks, JSON for all else. */
static void
put_text(const JsonbValue *value, ApmBuf *out)
{
	if (value->type == jbvString)
		apm_utf8_put(out, APM_SLICE(value->val.string.val, value->val.string.len), "the record");
	else
		apm_json_put_value(out, value);
}

static void
put_literal(ApmBuf *out, const char *text)
{
	apm_put_raw(out, text, strlen(text));
}

static void
put_base64(ApmBuf *out, const void *data, size_t len)
{
	char *text = palloc(apm_base64_len(len) + 1);

	apm_base64_encode(data, len, text);
	apm_put_u8(out, '"');
	put_literal(out, text);
	apm_put_u8(out, '"');
	pfree(text);
}

/* A value, encrypted: {"iv": ..., "value": ...} */
static void
put_encrypted(const PaperKeys *keys, const ApmBuf *value, ApmBuf *out)
{
	uint8 iv[APM_PAPER_IV_LEN];
	ApmBuf sealed = {0};

	if (value->len > APM_PAPER_VALUE_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("a value has more than %d bytes", APM_PAPER_VALUE_MAX),
				 errdetail("The paper's profile encrypts its base64 with RSA-2048 directly, which takes "
						   "245 bytes."),
				 errhint("apm's own profile has no such limit.")));
	apm_check(apm_paper_seal(keys->aes, keys->rsa, APM_SLICE(value->data, value->len), iv, &sealed),
			  "encrypt a value in the paper's profile");
	put_literal(out, "{\"iv\":");
	put_base64(out, iv, sizeof(iv));
	put_literal(out, ",\"value\":");
	put_base64(out, sealed.data, sealed.len);
	put_literal(out, "}");
	apm_buf_reset(&sealed);
}

/* One attribute of the record, hashed or encrypted. */
static void
put_attribute(const ApmField *field, bool hashed, const char *setting, const PaperKeys *keys, ApmBuf *out)
{
	ApmSlice name = apm_field_name(field);
	ApmBuf text = {.secret = true};

	if ((name.len == 3 && memcmp(name.data, "Rid", 3) == 0) ||
		(name.len == 4 && memcmp(name.data, "aPid", 4) == 0))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("in the paper's profile no attribute may be called Rid or aPid")));
	apm_put_u8(out, ',');
	apm_json_put_value(out, &field->name);
	apm_put_u8(out, ':');
	put_text(&field->value, &text);
	if (hashed)
	{
		char hash[APM_PSEUDONYM_LEN + 1];

		hash_value(&text, setting, hash);
		apm_json_put_string(out, APM_SLICE(hash, strlen(hash)));
	}
	else
		put_encrypted(keys, &text, out);
	apm_buf_reset(&text);
}

void
apm_paper_anonymize(const ApmPatient *patient, Jsonb *record, const ApmDeclared *declared, const char *salt,
					ApmBuf *out)
{
	char setting[SETTING_LEN + 1];
	char apid[APM_PSEUDONYM_LEN + 1];
	PaperKeys *keys;
	ApmFields own;
	ApmFields second;
	ApmFields all;
	ApmUuid rid;

	check_allowed();
	if (!apm_fields_of(record, &own))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("in the paper's profile a record must be a JSON object")));
	if (salt == NULL)
		apm_check(apm_bcrypt_setting(apm_salting_rounds, setting), "draw a salt");
	else if (strlen(salt) == SETTING_LEN && is_setting(salt, SETTING_LEN))
		strlcpy(setting, salt, sizeof(setting));
	else
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the salt is not a bcrypt setting"),
				 errhint("It has the form \"$2b$12$\" with 22 characters after it, and a cost of %d to %d.",
						 APM_SALTING_ROUNDS_MIN, APM_SALTING_ROUNDS_MAX)));

	keys = read_keys();
	apm_fields_overlay(&patient->attributes, &own, &second);
	apm_fields_overlay(&second, &patient->identifying, &all);
	hash_value(&patient->pid, setting, apid);
	apm_check(apm_uuid7_random(apm_now_us() / 1000, &rid), "draw a record id");

	put_literal(out, "{\"Rid\":\"");
	put_literal(out, DatumGetCString(DirectFunctionCall1(uuid_out, apm_uuid_datum(&rid))));
	put_literal(out, "\",\"aPid\":\"");
	put_literal(out, apid);
	put_literal(out, "\"");
	for (int i = 0; i < all.n; i++)
		put_attribute(&all.v[i], apm_declared_class(declared, &all.v[i]) == APM_CLASS_IDENTIFYING, setting,
					  keys, out);
	put_literal(out, "}");
	apm_check(apm_buf_status(out), "write the paper's JSON");
}

bool
apm_paper_is_form(ApmSlice apr)
{
	return apr.len > 0 && apr.data[0] == '{';
}

/* The fields of the paper's JSON; one error whatever is wrong, since PostgreSQL's would quote from it. */
static void
parse_form(ApmSlice apr, ApmFields *out)
{
	JsonLexContext *lex;
	bool good = apr.len < APM_PROFILE_MAX &&
				pg_verify_mbstr(PG_UTF8, (const char *) apr.data, apr.len, true) &&
				memchr(apr.data, 0, apr.len) == NULL;

	if (good)
	{
		lex =
			makeJsonLexContextCstringLen(unconstify(char *, (const char *) apr.data), apr.len, PG_UTF8, true);
		good = pg_parse_json(lex, &nullSemAction) == JSON_SUCCESS;
	}
	if (!good || !apm_fields_of(apm_json_parse(apr), out))
		apm_raise(APM_ERR_FORMAT, "read the paper's JSON");
}

/* The text of a field that must be there and be a text; raises. */
static ApmSlice
text_field(const ApmFields *fields, const char *name)
{
	const ApmField *found = apm_fields_find(fields, APM_SLICE(name, strlen(name)));

	if (found == NULL || found->value.type != jbvString)
		apm_raise(APM_ERR_FORMAT, "read the paper's JSON");
	return APM_SLICE(found->value.val.string.val, found->value.val.string.len);
}

/* Does a value hash to this hash? */
static bool
hashes_to(const ApmBuf *value, ApmSlice hash)
{
	char setting[SETTING_LEN + 1];
	char made[APM_PSEUDONYM_LEN + 1];

	if (hash.len != APM_PSEUDONYM_LEN || !is_setting((const char *) hash.data, hash.len))
		apm_raise(APM_ERR_FORMAT, "read the paper's JSON");
	if (value->len > APM_PAPER_HASHED_MAX)
		return false;
	strlcpy(setting, (const char *) hash.data, sizeof(setting));
	hash_value(value, setting, made);
	return apm_equal(made, hash.data, APM_PSEUDONYM_LEN);
}

/* One step of the paper's loop: tries the next profiles after *last; false when there are no more. */
static bool
try_profiles(ApmSlice hash, ApmDigest *last, char apid[APM_APID_MAX + 1])
{
	static ApmStatement next = {
		"SELECT index_key FROM apm.patient WHERE index_key > $1 ORDER BY index_key LIMIT $2",
		2,
		{BYTEAOID, INT4OID},
		NULL,
	};
	Datum args[] = {apm_digest_datum(last), Int32GetDatum(PROFILES)};
	uint64 rows = apm_run_latest(&next, args);
	ApmDigest indexes[PROFILES];
	ApmPatient *patients[PROFILES];

	for (uint64 i = 0; i < rows; i++)
		apm_row_digest(i, 1, &indexes[i]);
	if (rows == 0)
		return false;
	*last = indexes[rows - 1];
	apm_patients_load(indexes, rows, patients);
	for (uint64 i = 0; i < rows && apid[0] == '\0'; i++)
	{
		if (patients[i] != NULL && hashes_to(&patients[i]->pid, hash))
			strlcpy(apid, patients[i]->apid, APM_APID_MAX + 1);
	}
	return apid[0] == '\0';
}

/* apm's own aPid for the paper's, or what stands for it. */
static void
find_patient(ApmSlice hash, char apid[APM_APID_MAX + 1])
{
	ApmDigest last = {{0}};
	bool more = true;

	apid[0] = '\0';
	while (more)
	{
		ApmSection section;

		apm_section_begin(&section);
		more = try_profiles(hash, &last, apid);
		apm_section_end(&section);
	}
	if (apid[0] == '\0')
	{
		apm_check(apm_sha256(hash.data, hash.len, &last), "name the patient");
		apm_apid_stand_in(&last, apid);
	}
}

/* Decodes a base64 text of an encrypted value's object. */
static void
get_base64(const ApmFields *object, const char *name, size_t len, ApmBuf *out)
{
	ApmSlice text = text_field(object, name);

	if (apm_base64_decode((const char *) text.data, text.len, out) != APM_OK || out->len != len)
		apm_raise(APM_ERR_OPEN, "open a value of the paper's profile");
}

/* Appends an encrypted value as a JSON string. */
static void
open_value(const PaperKeys *keys, const ApmField *field, ApmBuf *out)
{
	ApmFields one = {1, unconstify(ApmField *, field)};
	ApmFields object;
	ApmBuf iv = {0};
	ApmBuf sealed = {0};
	ApmBuf text = {.secret = true};
	char *name = pnstrdup(field->name.val.string.val, field->name.val.string.len);

	apm_fields_member(&one, name, &object);
	get_base64(&object, "iv", APM_PAPER_IV_LEN, &iv);
	get_base64(&object, "value", APM_PAPER_RSA_LEN, &sealed);
	apm_check(apm_paper_open(keys->aes, keys->rsa, iv.data, APM_SLICE(sealed.data, sealed.len), &text),
			  "open a value of the paper's profile");
	/* there is no tag: that it is text is all that can be checked */
	if (!pg_verify_mbstr(PG_UTF8, (const char *) text.data, text.len, true) ||
		memchr(text.data, 0, text.len) != NULL)
		apm_raise(APM_ERR_OPEN, "open a value of the paper's profile");
	apm_json_put_string(out, APM_SLICE(text.data, text.len));
	apm_buf_reset(&text);
}

/* An identifying attribute: taken from the profile, if it is what was hashed. */
static void
put_identifying(const ApmPatient *patient, const ApmField *field, ApmBuf *out)
{
	const ApmField *known = apm_fields_find(&patient->identifying, apm_field_name(field));
	ApmBuf text = {.secret = true};

	if (known != NULL)
		put_text(&known->value, &text);
	if (known == NULL ||
		!hashes_to(&text, APM_SLICE(field->value.val.string.val, field->value.val.string.len)))
		ereport(ERROR, (errcode(ERRCODE_APM_IDENTITY),
						errmsg("the record's identifying attributes are not the patient's")));
	apm_json_put_value(out, &known->value);
	apm_buf_reset(&text);
}

Jsonb *
apm_paper_deanonymize(ApmSlice apr, const ApmAsk *ask)
{
	char apid[APM_APID_MAX + 1];
	ApmBuf text = {.secret = true};
	ApmPatient *patient;
	PaperKeys *keys;
	ApmFields fields;
	bool first = true;

	check_allowed();
	parse_form(apr, &fields);
	(void) text_field(&fields, "Rid");
	find_patient(text_field(&fields, "aPid"), apid);
	patient = apm_reading_ask(ask, APM_SLICE(apid, strlen(apid)));

	keys = read_keys();
	for (int i = 0; i < fields.n; i++)
	{
		const ApmField *field = &fields.v[i];
		ApmSlice name = apm_field_name(field);

		if ((name.len == 3 && memcmp(name.data, "Rid", 3) == 0) ||
			(name.len == 4 && memcmp(name.data, "aPid", 4) == 0))
			continue;
		apm_put_u8(&text, first ? '{' : ',');
		first = false;
		apm_json_put_value(&text, &field->name);
		apm_put_u8(&text, ':');
		if (field->value.type == jbvString)
			put_identifying(patient, field, &text);
		else
			open_value(keys, field, &text);
	}
	put_literal(&text, first ? "{}" : "}");
	apm_check(apm_buf_status(&text), "read the paper's JSON");
	return apm_json_parse(APM_SLICE(text.data, text.len));
}
