/*
 * make_sealed.c
 *	  Examples of what is encrypted, with the keys that open it, and of pseudonyms.
 */
#include "core/cipher.h"
#include "core/envelope.h"
#include "core/pseudonym.h"
#include "vectors.h"

#define APID "r.AAECAwQFBgcICQoLDA0ODxAREhMUFRYX"
#define TEXT "{\"sex\":\"F\",\"pulse\":72}"

/* Begins a vector of something that is sealed under this key, for this patient. */
static void
begin_sealed(ApmBuf *out, const char *name, const uint8_t key[32], const char *text, ApmBuf *sealed)
{
	begin(out, name);
	apm_json_put_hex(out, "key", key, 32);
	put_hex(out, "text", sample_text(text));
	put_hex(out, "sealed", slice_of(sealed));
	apm_buf_reset(sealed);
}

static void
put_padded(ApmBuf *out, const uint8_t key[32])
{
	static const char long_text[] =
		"{\"pulse\":72,\"report\":\"0123456789012345678901234567890123456789012345"
		"6789012345678901234567890123456789012345678901234567890123456789012345"
		"6789012345678901234567890123456789012345678901234567890123456789012345"
		"67890123456789012345678901234567890123456789012345678901234567890123\"}";
	ApmSlice apid = sample_text(APID);
	ApmUuid rid = sample_uuid(0x1d);
	ApmKeyId id;
	ApmBuf sealed = {0};
	ApmDigest digest;

	CHECK_OK(apm_secret_key_id(key, &id));
	for (int i = 0; i < 2; i++)
	{
		const char *text = i == 0 ? TEXT : long_text;

		CHECK_OK(apm_record_seal(key, &id, &rid, apid, sample_text(text), &sealed));
		begin_sealed(out, i == 0 ? "record" : "long record", key, text, &sealed);
		apm_json_put_hex(out, "rid", rid.bytes, APM_UUID_LEN);
		apm_json_put_text(out, "apid", APID);
		apm_json_end(out);
	}
	CHECK_OK(apm_profile_seal(key, &id, apid, 3, sample_text(TEXT), &sealed));
	CHECK_OK(apm_profile_digest(3, slice_of(&sealed), &digest));
	begin_sealed(out, "profile", key, TEXT, &sealed);
	apm_json_put_text(out, "apid", APID);
	apm_json_put_number(out, "version", 3);
	put_digest(out, "digest", &digest);
	apm_json_end(out);
	CHECK_OK(apm_last_values_seal(key, &id, apid, sample_text(TEXT), &sealed));
	begin_sealed(out, "last values", key, TEXT, &sealed);
	apm_json_put_text(out, "apid", APID);
	apm_json_end(out);
	CHECK_OK(apm_note_seal(key, &id, apid, sample_text("brought in by ambulance"), &sealed));
	CHECK_OK(apm_note_digest(slice_of(&sealed), &digest));
	begin_sealed(out, "note", key, "brought in by ambulance", &sealed);
	apm_json_put_text(out, "apid", APID);
	put_digest(out, "digest", &digest);
	apm_json_end(out);
	CHECK_OK(apm_waiting_record_seal(key, 2, &rid, sample_text(TEXT), &sealed));
	begin_sealed(out, "waiting record", key, TEXT, &sealed);
	apm_json_put_hex(out, "rid", rid.bytes, APM_UUID_LEN);
	apm_json_put_number(out, "generation", 2);
	apm_json_end(out);
}

static void
put_wrapped_key(ApmBuf *out, const uint8_t wrapping[32], const uint8_t key[32])
{
	uint8_t wrapped[APM_WRAPPED_KEY_LEN];

	CHECK_OK(apm_key_wrap(wrapping, 2, sample_text(APID), key, wrapped));
	begin(out, "wrapped key");
	apm_json_put_hex(out, "wrapping", wrapping, 32);
	apm_json_put_number(out, "generation", 2);
	apm_json_put_text(out, "apid", APID);
	apm_json_put_hex(out, "key", key, 32);
	apm_json_put_hex(out, "wrapped", wrapped, sizeof(wrapped));
	apm_json_end(out);
}

static void
put_pseudonym(ApmBuf *out, const uint8_t pepper[32], const uint8_t key[32])
{
	static const ApmAttribute identity[] = {
		{{(const uint8_t *) "name", 4}, {(const uint8_t *) "Mo\xc3\xab", 4}},
		{{(const uint8_t *) "birth", 5}, {(const uint8_t *) "1970-01-31", 10}}};
	uint8_t blind[APM_BLIND_LEN];
	char pseudonym[APM_PSEUDONYM_LEN + 1];

	CHECK_OK(apm_pseudonym_blind(key, blind));
	for (int n = 1; n <= 2; n++)
	{
		CHECK_OK(apm_identity(pepper, blind, identity, (size_t) n, APM_SALTING_ROUNDS_MIN, pseudonym));
		begin(out, n == 1 ? "pseudonym" : "identity");
		apm_json_put_hex(out, "pepper", pepper, 32);
		apm_json_put_hex(out, "key", key, 32);
		put_hex(out, "name 1", identity[0].name);
		put_hex(out, "value 1", identity[0].value);
		if (n == 2)
		{
			put_hex(out, "name 2", identity[1].name);
			put_hex(out, "value 2", identity[1].value);
		}
		apm_json_put_text(out, "pseudonym", pseudonym);
		apm_json_end(out);
	}
}

/* A private key in PEM, without its line breaks, which a string could not have. */
static void
put_private_key(ApmBuf *out, const char *name, const ApmRsa *key)
{
	ApmBuf pem = {.secret = true};
	char text[8192];
	size_t len = 0;

	CHECK_OK(apm_rsa_private_pem(key, &pem));
	for (size_t i = 0; i < pem.len && len + 1 < sizeof(text); i++)
		text[len++] = pem.data[i] == '\n' ? '|' : (char) pem.data[i];
	text[len] = '\0';
	apm_json_put_text(out, name, text);
	apm_buf_reset(&pem);
}

static void
put_envelopes(ApmBuf *out)
{
	ApmRsa *keys[2];
	ApmSealer *sealer;
	ApmBuf sealed = {0};

	CHECK_OK(apm_rsa_generate(3072, &keys[0]));
	CHECK_OK(apm_rsa_generate(3072, &keys[1]));
	for (size_t n = 1; n <= 2; n++)
	{
		CHECK_OK(apm_sealer_new((const ApmRsa *const *) keys, n, &sealer));
		CHECK_OK(apm_sealer_seal(sealer, sample_text(TEXT), 1, &sealed));
		begin(out, n == 1 ? "envelope" : "envelope for two");
		put_private_key(out, "private 1", keys[0]);
		if (n == 2)
			put_private_key(out, "private 2", keys[1]);
		put_hex(out, "text", sample_text(TEXT));
		put_hex(out, "sealed", slice_of(&sealed));
		apm_json_end(out);
		apm_sealer_free(sealer);
		apm_buf_reset(&sealed);
	}
	apm_rsa_free(keys[0]);
	apm_rsa_free(keys[1]);
}

bool
make_sealed(const char *directory)
{
	uint8_t key[32];
	uint8_t other[32];
	ApmBuf out = {0};

	CHECK_OK(apm_random(key, sizeof(key)));
	CHECK_OK(apm_random(other, sizeof(other)));
	put_padded(&out, key);
	put_wrapped_key(&out, other, key);
	put_pseudonym(&out, other, key);
	put_envelopes(&out);
	finish(&out, directory, "sealed.json");
	return check_failed == 0;
}
