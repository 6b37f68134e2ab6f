/*
 * cipher.h
 *	  AES-256-GCM (NIST SP 800-38D), and what is sealed under one secret key: the inner record, the profile, the
 *	  note, a record that waits.
 *
 * A padded seal:  u8 tag 'R', u8 version 1, 8-byte key id, 32-byte key commitment,
 * 12-byte nonce, ciphertext, 16-byte GCM tag.  From the patient key, HKDF (RFC 5869)
 * with the caller's salt and the info "apm padded seal" gives 64 bytes: the AES key and
 * the commitment, which is compared first, so that one ciphertext cannot open under two
 * keys.  The plaintext is a u32 length, the text and zeros up to a multiple of 256 bytes,
 * so that "Male" and "Female" have one length.  The AAD is tag, version, key id and the
 * caller's context.  No plaintext leaves before the tag is checked; every failure to
 * open is APM_ERR_OPEN.
 */
#ifndef APM_CORE_CIPHER_H
#define APM_CORE_CIPHER_H

#include "bytes.h"

#define APM_GCM_NONCE_LEN 12
#define APM_GCM_TAG_LEN 16
#define APM_PAD_STEP 256
#define APM_TEXT_MAX (512u * 1024 * 1024)

/* Raw GCM; out has room for len + 16 bytes (seal) or len - 16 (open). */
extern ApmStatus apm_gcm_seal(const uint8_t key[32], const uint8_t nonce[APM_GCM_NONCE_LEN], ApmSlice aad,
							  ApmSlice plain, uint8_t *out);
extern ApmStatus apm_gcm_open(const uint8_t key[32], const uint8_t nonce[APM_GCM_NONCE_LEN], ApmSlice aad,
							  ApmSlice sealed, uint8_t *out);

/* Append a padded seal of text to out. */
extern ApmStatus apm_padded_seal(const uint8_t key[32], const ApmKeyId *key_id, ApmSlice salt,
								 ApmSlice context, ApmSlice text, ApmBuf *out);
/* Append the text of a padded seal to out (make out secret). */
extern ApmStatus apm_padded_open(const uint8_t key[32], const ApmKeyId *key_id, ApmSlice salt,
								 ApmSlice context, ApmSlice sealed, ApmBuf *out);

/* The inner record: salt Rid, context "record" || Rid || len,aPid. */
extern ApmStatus apm_record_seal(const uint8_t patient_key[32], const ApmKeyId *key_id, const ApmUuid *rid,
								 ApmSlice apid, ApmSlice text, ApmBuf *out);
extern ApmStatus apm_record_open(const uint8_t patient_key[32], const ApmKeyId *key_id, const ApmUuid *rid,
								 ApmSlice apid, ApmSlice sealed, ApmBuf *out);

/* The profile: salt aPid, context "profile" || len,aPid || u32 version. */
extern ApmStatus apm_profile_seal(const uint8_t patient_key[32], const ApmKeyId *key_id, ApmSlice apid,
								  uint32_t version, ApmSlice text, ApmBuf *out);
extern ApmStatus apm_profile_open(const uint8_t patient_key[32], const ApmKeyId *key_id, ApmSlice apid,
								  uint32_t version, ApmSlice sealed, ApmBuf *out);

/* The note of an emergency: salt aPid, context "note" || len,aPid.  Which emergency's it is, its digest says. */
extern ApmStatus apm_note_seal(const uint8_t patient_key[32], const ApmKeyId *key_id, ApmSlice apid,
							   ApmSlice text, ApmBuf *out);
extern ApmStatus apm_note_open(const uint8_t patient_key[32], const ApmKeyId *key_id, ApmSlice apid,
							   ApmSlice sealed, ApmBuf *out);

/* A patient's last values: salt aPid, context "last values" || len,aPid. */
extern ApmStatus apm_last_values_seal(const uint8_t patient_key[32], const ApmKeyId *key_id, ApmSlice apid,
									  ApmSlice text, ApmBuf *out);
extern ApmStatus apm_last_values_open(const uint8_t patient_key[32], const ApmKeyId *key_id, ApmSlice apid,
									  ApmSlice sealed, ApmBuf *out);

/*
 * A record that waits for its patient: a padded seal under HKDF(wrapping key, salt Rid, info "apm waiting") in the
 * place of a patient key; salt Rid, context "waiting" || u32 generation || Rid.  Symmetric, so that it dies with
 * the wrapping key's generation, in old copies too.
 */
extern ApmStatus apm_waiting_record_seal(const uint8_t wrapping[32], uint32_t generation, const ApmUuid *rid,
										 ApmSlice text, ApmBuf *out);
extern ApmStatus apm_waiting_record_open(const uint8_t wrapping[32], uint32_t generation, const ApmUuid *rid,
										 ApmSlice sealed, ApmBuf *out);

/*
 * A patient key wrapped by a wrapping key: nonce, AES-256-GCM, tag: 60 bytes.
 * The AAD is "wrap" || u32 generation || len,aPid.
 */
#define APM_WRAPPED_KEY_LEN (APM_GCM_NONCE_LEN + 32 + APM_GCM_TAG_LEN)
extern ApmStatus apm_key_wrap(const uint8_t wrapping[32], uint32_t generation, ApmSlice apid,
							  const uint8_t key[32], uint8_t out[APM_WRAPPED_KEY_LEN]);
extern ApmStatus apm_key_unwrap(const uint8_t wrapping[32], uint32_t generation, ApmSlice apid,
								const uint8_t wrapped[APM_WRAPPED_KEY_LEN], uint8_t out[32]);
/* id of a secret key: first 8 bytes of HMAC(key, "apm key id") */
extern ApmStatus apm_secret_key_id(const uint8_t key[32], ApmKeyId *out);

#endif /* APM_CORE_CIPHER_H */
