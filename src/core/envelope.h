/*
 * envelope.h
 *	  The outer layer (the paper's PKE): a content key wrapped for one recipient or
 *	  several with RSA-OAEP-SHA-256 (RFC 8017, 7.1), the message under AES-256-GCM.
 *
 * The paper encrypts with RSA directly, which ends at 245 bytes and costs a private
 * operation an attribute.  Here a content key serves many messages of one process,
 * each with its own random nonce, and a receiver remembers the content keys that it
 * unwrapped.
 *
 * Bytes: u8 tag 'E', u8 version 1, u32-length protected header (JSON text, exactly
 * what JOSE calls the protected header), u8 number of recipients, for each 8-byte
 * key id and u32-length wrapped key, 12-byte nonce, u32-length ciphertext, 16-byte
 * tag.  The AAD is ASCII(BASE64URL(protected header)), as RFC 7516, 5.1 says, so
 * that apm_envelope_jwe() only has to write the parts down in JOSE's order.  With
 * one recipient the protected header carries alg, enc and kid; with several, alg and
 * enc, and each recipient's header its kid.
 */
#ifndef APM_CORE_ENVELOPE_H
#define APM_CORE_ENVELOPE_H

#include "bytes.h"

#define APM_MAX_RECIPIENTS 8
/* In the first so many bytes all recipients are named, if they are not more than two. */
#define APM_ENVELOPE_HEAD_MAX (16 + 128 + 2 * (APM_KEY_ID_LEN + 4 + 8192 / 8))
#define APM_CONTENT_KEY_MESSAGES 65536
#define APM_CONTENT_KEY_MICROS (UINT64_C(600) * 1000 * 1000)

typedef struct ApmRsa ApmRsa; /* a public key or a pair */

extern ApmStatus apm_rsa_generate(int bits, ApmRsa **out); /* 3072 for new keys */
/* PEM, PKCS#8 private or SPKI public.  APM_ERR_RANGE under 2048 or over 8192 bits. */
extern ApmStatus apm_rsa_from_pem(ApmSlice pem, ApmRsa **out);
extern ApmStatus apm_rsa_private_pem(const ApmRsa *key, ApmBuf *out);
extern ApmStatus apm_rsa_public_pem(const ApmRsa *key, ApmBuf *out);
extern bool apm_rsa_is_private(const ApmRsa *key);
extern void apm_rsa_key_id(const ApmRsa *key, ApmKeyId *out); /* SHA-256 of the SPKI, first 8 bytes */
extern void apm_rsa_free(ApmRsa *key);

/* Seals for a fixed list of recipients; draws a new content key when the old one is spent. */
typedef struct ApmSealer ApmSealer;

extern ApmStatus apm_sealer_new(const ApmRsa *const *recipients, size_t n, ApmSealer **out);
/* now_us: any monotonic or wall clock in microseconds.  Appends to out. */
extern ApmStatus apm_sealer_seal(ApmSealer *s, ApmSlice plain, uint64_t now_us, ApmBuf *out);
extern void apm_sealer_free(ApmSealer *s);

/* Opens for any of several private keys (generations), with a bounded cache of unwrapped content keys. */
typedef struct ApmOpener ApmOpener;

extern ApmStatus apm_opener_new(ApmOpener **out);
extern ApmStatus apm_opener_add(ApmOpener *o, const ApmRsa *private_key); /* borrowed; must outlive */
/* APM_ERR_OPEN whatever is wrong.  Appends to out (make it secret). */
extern ApmStatus apm_opener_open(ApmOpener *o, ApmSlice envelope, ApmBuf *out);
extern void apm_opener_free(ApmOpener *o);

/* Is the envelope sealed for that key?  False as well for what is none. */
extern bool apm_envelope_is_for(ApmSlice envelope, const ApmKeyId *key);

/* The envelope as a JWE text: compact for one recipient, general JSON for several. */
extern ApmStatus apm_envelope_jwe(ApmSlice envelope, ApmBuf *out);

#endif /* APM_CORE_ENVELOPE_H */
