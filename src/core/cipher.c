/*
 * cipher.c
 *	  AES-256-GCM and the padded, committing seal built on it.
 *
 * One context of the process serves every message, with the algorithm fetched once.  After
 * each message a key of zeros takes the place of the real one in it: cheaper
 * than a new context, and no key stays behind.  OpenSSL writes plaintext before it has
 * compared the tag; apm_gcm_open wipes it again when the tag is wrong, so that a caller
 * who looks at the status, and one who does not, both see nothing.
 */
#include "cipher.h"

#include <limits.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/evp.h>

#include "digest.h"

#define SEAL_TAG 'R'
#define SEAL_VERSION 1
#define COMMITMENT_LEN 32
#define COMMITMENT_AT (2 + APM_KEY_ID_LEN)
#define NONCE_AT (COMMITMENT_AT + COMMITMENT_LEN)
#define BODY_AT (NONCE_AT + APM_GCM_NONCE_LEN)

static EVP_CIPHER *gcm = NULL;
static EVP_CIPHER_CTX *context = NULL;

static void
drop_context(void)
{
	EVP_CIPHER_CTX_free(context);
	context = NULL;
}

/*
 * Sees to a context that knows its algorithm.  It is told only once: an EVP_CipherInit_ex2() that names one, were it the
 * same, takes the context apart and makes it anew.
 */
static bool
have_context(void)
{
	if (context != NULL)
		return true;
	if (gcm == NULL)
		gcm = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
	if (gcm == NULL)
		return false;
	context = EVP_CIPHER_CTX_new();
	if (context != NULL && EVP_CipherInit_ex2(context, gcm, NULL, NULL, 1, NULL) != 1)
		drop_context();
	return context != NULL;
}

static bool
begin(const uint8_t key[32], const uint8_t nonce[APM_GCM_NONCE_LEN], ApmSlice aad, int encrypt)
{
	int len;

	return have_context() && EVP_CipherInit_ex2(context, NULL, key, nonce, encrypt, NULL) == 1 &&
		   (aad.len == 0 || EVP_CipherUpdate(context, NULL, &len, aad.data, (int) aad.len) == 1);
}

/* Takes the key out of the context, and what went wrong out of OpenSSL's error queue. */
static void
end(bool good)
{
	static const uint8_t zeros[32] = {0};

	if (context != NULL && EVP_CipherInit_ex2(context, NULL, zeros, zeros, 1, NULL) != 1)
	{
		drop_context();
		good = false;
	}
	if (!good)
		ERR_clear_error();
}

static bool
process(ApmSlice in, uint8_t *out)
{
	int len;

	return in.len == 0 ||
		   (EVP_CipherUpdate(context, out, &len, in.data, (int) in.len) == 1 && (size_t) len == in.len);
}

static bool
lengths_fit(ApmSlice aad, ApmSlice text)
{
	return aad.len <= INT_MAX - 64 && text.len <= INT_MAX - 64;
}

/* out may be plain.data.  A nonce never serves a key twice: it is the caller's to draw. */
ApmStatus
apm_gcm_seal(const uint8_t key[32], const uint8_t nonce[APM_GCM_NONCE_LEN], ApmSlice aad, ApmSlice plain,
			 uint8_t *out)
{
	uint8_t none[16];
	int len;
	bool good;

	if (!lengths_fit(aad, plain))
		return APM_ERR_RANGE;
	good = begin(key, nonce, aad, 1) && process(plain, out) && EVP_CipherFinal_ex(context, none, &len) == 1 &&
		   EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, APM_GCM_TAG_LEN, out + plain.len) == 1;
	end(good);
	return good ? APM_OK : APM_ERR_CRYPTO;
}

/* out may be sealed.data.  On failure out is zeros. */
ApmStatus
apm_gcm_open(const uint8_t key[32], const uint8_t nonce[APM_GCM_NONCE_LEN], ApmSlice aad, ApmSlice sealed,
			 uint8_t *out)
{
	ApmSlice text = {sealed.data, sealed.len - APM_GCM_TAG_LEN};
	uint8_t tag[APM_GCM_TAG_LEN];
	uint8_t none[16];
	int len;
	bool good;

	if (sealed.len < APM_GCM_TAG_LEN || !lengths_fit(aad, text))
		return APM_ERR_OPEN;
	memcpy(tag, sealed.data + text.len, APM_GCM_TAG_LEN);
	good = begin(key, nonce, aad, 0) && process(text, out) &&
		   EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, APM_GCM_TAG_LEN, tag) == 1 &&
		   EVP_CipherFinal_ex(context, none, &len) == 1;
	end(good);
	if (!good)
		apm_wipe(out, text.len);
	return good ? APM_OK : APM_ERR_OPEN;
}

/* What HKDF makes of a patient key and a salt. */
typedef struct SealKeys
{
	uint8_t key[32];
	uint8_t commitment[COMMITMENT_LEN];
} SealKeys;

static ApmStatus
derive(const uint8_t key[32], ApmSlice salt, SealKeys *out)
{
	static const char info[] = "apm padded seal";

	return apm_hkdf_sha256(key, 32, salt.data, salt.len, info, sizeof(info) - 1, out, sizeof(*out));
}

static ApmStatus
put_aad(const ApmKeyId *key_id, ApmSlice context_bytes, ApmBuf *aad)
{
	apm_put_u8(aad, SEAL_TAG);
	apm_put_u8(aad, SEAL_VERSION);
	apm_put_raw(aad, key_id->bytes, APM_KEY_ID_LEN);
	apm_put_raw(aad, context_bytes.data, context_bytes.len);
	return apm_buf_status(aad);
}

/* Bytes of the padded plaintext of a text. */
static size_t
padded_len(size_t text_len)
{
	return (4 + text_len + APM_PAD_STEP - 1) / APM_PAD_STEP * APM_PAD_STEP;
}

/* Appends head and padded text to out and encrypts the text where it lies. */
static ApmStatus
append_seal(const SealKeys *keys, const ApmKeyId *key_id, ApmSlice aad, ApmSlice text, ApmBuf *out)
{
	uint8_t nonce[APM_GCM_NONCE_LEN];
	size_t start = out->len;
	size_t body_len = padded_len(text.len);
	ApmStatus status = apm_random(nonce, sizeof(nonce));
	uint8_t *body;

	if (status != APM_OK)
		return status;
	if (!apm_buf_reserve(out, BODY_AT + body_len + APM_GCM_TAG_LEN))
		return APM_ERR_MEMORY;
	apm_put_u8(out, SEAL_TAG);
	apm_put_u8(out, SEAL_VERSION);
	apm_put_raw(out, key_id->bytes, APM_KEY_ID_LEN);
	apm_put_raw(out, keys->commitment, COMMITMENT_LEN);
	apm_put_raw(out, nonce, sizeof(nonce));
	apm_put_u32(out, (uint32_t) text.len);
	apm_put_raw(out, text.data, text.len);
	memset(out->data + out->len, 0, body_len - 4 - text.len);

	body = out->data + start + BODY_AT;
	status = apm_gcm_seal(keys->key, nonce, aad, (ApmSlice){body, body_len}, body);
	if (status == APM_OK)
		out->len = start + BODY_AT + body_len + APM_GCM_TAG_LEN;
	else
	{
		apm_wipe(body, body_len);
		out->len = start;
	}
	return status;
}

/* APM_ERR_RANGE: the text is longer than APM_TEXT_MAX.  On failure out is as before. */
ApmStatus
apm_padded_seal(const uint8_t key[32], const ApmKeyId *key_id, ApmSlice salt, ApmSlice context_bytes,
				ApmSlice text, ApmBuf *out)
{
	SealKeys keys;
	ApmBuf aad = {0};
	ApmStatus status;

	if (text.len > APM_TEXT_MAX)
		return APM_ERR_RANGE;
	status = put_aad(key_id, context_bytes, &aad);
	if (status == APM_OK)
		status = derive(key, salt, &keys);
	if (status == APM_OK)
	{
		status = append_seal(&keys, key_id, (ApmSlice){aad.data, aad.len}, text, out);
		apm_wipe(&keys, sizeof(keys));
	}
	apm_buf_reset(&aad);
	return status;
}

/*
 * Takes the text out of a padded plaintext at the end of out, and wipes what is left over.
 * The tag was good, so a wrong length or padding is the sealer's fault, but it is refused
 * all the same: a text has one seal length.
 */
static ApmStatus
strip_padding(ApmBuf *out, size_t body_len)
{
	uint8_t *body = out->data + out->len;
	ApmReader r;
	uint32_t len;
	uint8_t rest = 0;

	apm_reader_init(&r, (ApmSlice){body, body_len});
	len = apm_get_u32(&r);
	if (len > APM_TEXT_MAX || padded_len(len) != body_len)
	{
		apm_wipe(body, body_len);
		return APM_ERR_OPEN;
	}
	for (size_t i = 4 + (size_t) len; i < body_len; i++)
		rest |= body[i];
	if (rest != 0)
	{
		apm_wipe(body, body_len);
		return APM_ERR_OPEN;
	}
	memmove(body, body + 4, len);
	apm_wipe(body + len, body_len - len);
	out->len += len;
	return APM_OK;
}

/* Is it a seal under this key id, with a body of whole steps? */
static bool
seal_is_formed(ApmSlice sealed, const ApmKeyId *key_id)
{
	size_t body_len = sealed.len - BODY_AT - APM_GCM_TAG_LEN;

	return sealed.len >= BODY_AT + APM_PAD_STEP + APM_GCM_TAG_LEN && body_len % APM_PAD_STEP == 0 &&
		   body_len <= padded_len(APM_TEXT_MAX) && sealed.data[0] == SEAL_TAG &&
		   sealed.data[1] == SEAL_VERSION && memcmp(sealed.data + 2, key_id->bytes, APM_KEY_ID_LEN) == 0;
}

/* APM_ERR_MEMORY apart, every failure is APM_ERR_OPEN.  On failure out is as before. */
ApmStatus
apm_padded_open(const uint8_t key[32], const ApmKeyId *key_id, ApmSlice salt, ApmSlice context_bytes,
				ApmSlice sealed, ApmBuf *out)
{
	SealKeys keys;
	ApmBuf aad = {0};
	size_t body_len;
	ApmStatus status;

	if (!seal_is_formed(sealed, key_id))
		return APM_ERR_OPEN;
	body_len = sealed.len - BODY_AT - APM_GCM_TAG_LEN;
	if (!apm_buf_reserve(out, body_len))
		return APM_ERR_MEMORY;
	status = put_aad(key_id, context_bytes, &aad);
	if (status == APM_OK && derive(key, salt, &keys) != APM_OK)
		status = APM_ERR_OPEN;
	if (status == APM_OK)
	{
		if (!apm_equal(keys.commitment, sealed.data + COMMITMENT_AT, COMMITMENT_LEN))
			status = APM_ERR_OPEN;
		else
			status = apm_gcm_open(keys.key, sealed.data + NONCE_AT, (ApmSlice){aad.data, aad.len},
								  (ApmSlice){sealed.data + BODY_AT, body_len + APM_GCM_TAG_LEN},
								  out->data + out->len);
		apm_wipe(&keys, sizeof(keys));
	}
	if (status == APM_OK)
		status = strip_padding(out, body_len);
	apm_buf_reset(&aad);
	return status;
}

/* Seals text; what it is about is freed. */
static ApmStatus
seal_about(ApmBuf *about, const uint8_t patient_key[32], const ApmKeyId *key_id, ApmSlice salt, ApmSlice text,
		   ApmBuf *out)
{
	ApmStatus status = apm_buf_status(about);

	if (status == APM_OK)
		status = apm_padded_seal(patient_key, key_id, salt, (ApmSlice){about->data, about->len}, text, out);
	apm_buf_reset(about);
	return status;
}

/* The reverse. */
static ApmStatus
open_about(ApmBuf *about, const uint8_t patient_key[32], const ApmKeyId *key_id, ApmSlice salt,
		   ApmSlice sealed, ApmBuf *out)
{
	ApmStatus status = apm_buf_status(about);

	if (status == APM_OK)
		status = apm_padded_open(patient_key, key_id, salt, (ApmSlice){about->data, about->len}, sealed, out);
	apm_buf_reset(about);
	return status;
}

static void
record_context(const ApmUuid *rid, ApmSlice apid, ApmBuf *out)
{
	apm_put_raw(out, "record", 6);
	apm_put_raw(out, rid->bytes, APM_UUID_LEN);
	apm_put_bytes(out, apid.data, apid.len);
}

ApmStatus
apm_record_seal(const uint8_t patient_key[32], const ApmKeyId *key_id, const ApmUuid *rid, ApmSlice apid,
				ApmSlice text, ApmBuf *out)
{
	ApmBuf about = {0};

	record_context(rid, apid, &about);
	return seal_about(&about, patient_key, key_id, (ApmSlice){rid->bytes, APM_UUID_LEN}, text, out);
}

ApmStatus
apm_record_open(const uint8_t patient_key[32], const ApmKeyId *key_id, const ApmUuid *rid, ApmSlice apid,
				ApmSlice sealed, ApmBuf *out)
{
	ApmBuf about = {0};

	record_context(rid, apid, &about);
	return open_about(&about, patient_key, key_id, (ApmSlice){rid->bytes, APM_UUID_LEN}, sealed, out);
}

static void
profile_context(ApmSlice apid, uint32_t version, ApmBuf *out)
{
	apm_put_raw(out, "profile", 7);
	apm_put_bytes(out, apid.data, apid.len);
	apm_put_u32(out, version);
}

ApmStatus
apm_profile_seal(const uint8_t patient_key[32], const ApmKeyId *key_id, ApmSlice apid, uint32_t version,
				 ApmSlice text, ApmBuf *out)
{
	ApmBuf about = {0};

	profile_context(apid, version, &about);
	return seal_about(&about, patient_key, key_id, apid, text, out);
}

ApmStatus
apm_profile_open(const uint8_t patient_key[32], const ApmKeyId *key_id, ApmSlice apid, uint32_t version,
				 ApmSlice sealed, ApmBuf *out)
{
	ApmBuf about = {0};

	profile_context(apid, version, &about);
	return open_about(&about, patient_key, key_id, apid, sealed, out);
}

/* What says only what sort of text it is and whose: label || len,aPid. */
static void
patient_context(const char *label, ApmSlice apid, ApmBuf *out)
{
	apm_put_raw(out, label, strlen(label));
	apm_put_bytes(out, apid.data, apid.len);
}

ApmStatus
apm_note_seal(const uint8_t patient_key[32], const ApmKeyId *key_id, ApmSlice apid, ApmSlice text,
			  ApmBuf *out)
{
	ApmBuf about = {0};

	patient_context("note", apid, &about);
	return seal_about(&about, patient_key, key_id, apid, text, out);
}

ApmStatus
apm_note_open(const uint8_t patient_key[32], const ApmKeyId *key_id, ApmSlice apid, ApmSlice sealed,
			  ApmBuf *out)
{
	ApmBuf about = {0};

	patient_context("note", apid, &about);
	return open_about(&about, patient_key, key_id, apid, sealed, out);
}

ApmStatus
apm_last_values_seal(const uint8_t patient_key[32], const ApmKeyId *key_id, ApmSlice apid, ApmSlice text,
					 ApmBuf *out)
{
	ApmBuf about = {0};

	patient_context("last values", apid, &about);
	return seal_about(&about, patient_key, key_id, apid, text, out);
}

ApmStatus
apm_last_values_open(const uint8_t patient_key[32], const ApmKeyId *key_id, ApmSlice apid, ApmSlice sealed,
					 ApmBuf *out)
{
	ApmBuf about = {0};

	patient_context("last values", apid, &about);
	return open_about(&about, patient_key, key_id, apid, sealed, out);
}

/* What a record that waits is sealed under: its own key with its id, and what is said of it. */
static ApmStatus
waiting_terms(const uint8_t wrapping[32], uint32_t generation, const ApmUuid *rid, uint8_t key[32],
			  ApmKeyId *key_id, ApmBuf *about)
{
	static const char info[] = "apm waiting";
	ApmStatus status =
		apm_hkdf_sha256(wrapping, 32, rid->bytes, APM_UUID_LEN, info, sizeof(info) - 1, key, 32);

	apm_put_raw(about, "waiting", 7);
	apm_put_u32(about, generation);
	apm_put_raw(about, rid->bytes, APM_UUID_LEN);
	return status == APM_OK ? apm_secret_key_id(key, key_id) : status;
}

ApmStatus
apm_waiting_record_seal(const uint8_t wrapping[32], uint32_t generation, const ApmUuid *rid, ApmSlice text,
						ApmBuf *out)
{
	ApmBuf about = {0};
	uint8_t key[32];
	ApmKeyId key_id;
	ApmStatus status = waiting_terms(wrapping, generation, rid, key, &key_id, &about);

	if (status == APM_OK)
		status = seal_about(&about, key, &key_id, (ApmSlice){rid->bytes, APM_UUID_LEN}, text, out);
	apm_buf_reset(&about);
	apm_wipe(key, sizeof(key));
	return status;
}

ApmStatus
apm_waiting_record_open(const uint8_t wrapping[32], uint32_t generation, const ApmUuid *rid, ApmSlice sealed,
						ApmBuf *out)
{
	ApmBuf about = {0};
	uint8_t key[32];
	ApmKeyId key_id;
	ApmStatus status = waiting_terms(wrapping, generation, rid, key, &key_id, &about);

	if (status == APM_OK)
		status = open_about(&about, key, &key_id, (ApmSlice){rid->bytes, APM_UUID_LEN}, sealed, out);
	apm_buf_reset(&about);
	apm_wipe(key, sizeof(key));
	return status;
}

static ApmStatus
wrap_aad(uint32_t generation, ApmSlice apid, ApmBuf *out)
{
	apm_put_raw(out, "wrap", 4);
	apm_put_u32(out, generation);
	apm_put_bytes(out, apid.data, apid.len);
	return apm_buf_status(out);
}

ApmStatus
apm_key_wrap(const uint8_t wrapping[32], uint32_t generation, ApmSlice apid, const uint8_t key[32],
			 uint8_t out[APM_WRAPPED_KEY_LEN])
{
	ApmBuf aad = {0};
	ApmStatus status = wrap_aad(generation, apid, &aad);

	if (status == APM_OK)
		status = apm_random(out, APM_GCM_NONCE_LEN);
	if (status == APM_OK)
		status = apm_gcm_seal(wrapping, out, (ApmSlice){aad.data, aad.len}, (ApmSlice){key, 32},
							  out + APM_GCM_NONCE_LEN);
	apm_buf_reset(&aad);
	return status;
}

ApmStatus
apm_key_unwrap(const uint8_t wrapping[32], uint32_t generation, ApmSlice apid,
			   const uint8_t wrapped[APM_WRAPPED_KEY_LEN], uint8_t out[32])
{
	ApmBuf aad = {0};
	ApmStatus status = wrap_aad(generation, apid, &aad);

	if (status == APM_OK)
		status = apm_gcm_open(
			wrapping, wrapped, (ApmSlice){aad.data, aad.len},
			(ApmSlice){wrapped + APM_GCM_NONCE_LEN, APM_WRAPPED_KEY_LEN - APM_GCM_NONCE_LEN}, out);
	apm_buf_reset(&aad);
	return status;
}

ApmStatus
apm_secret_key_id(const uint8_t key[32], ApmKeyId *out)
{
	ApmSlice label = APM_SLICE("apm key id", 10);
	ApmDigest mac;
	ApmStatus status = apm_hmac_sha256(key, 32, &label, 1, &mac);

	if (status == APM_OK)
		memcpy(out->bytes, mac.bytes, APM_KEY_ID_LEN);
	return status;
}
