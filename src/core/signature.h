/*
 * signature.h
 *	  ECDSA on P-256 with SHA-256 (FIPS 186-5); 64 bytes r || s, low s enforced when
 *	  signing and when verifying, so that a signature has one form.
 */
#ifndef APM_CORE_SIGNATURE_H
#define APM_CORE_SIGNATURE_H

#include "bytes.h"

#define APM_SIGNATURE_LEN 64
#define APM_SPKI_LEN 91 /* SubjectPublicKeyInfo, DER, uncompressed P-256 */

typedef struct ApmSignature
{
	uint8_t bytes[APM_SIGNATURE_LEN];
} ApmSignature;

typedef struct ApmEcKey ApmEcKey; /* a public key or a pair */

extern ApmStatus apm_ec_generate(ApmEcKey **out);
extern ApmStatus apm_ec_from_pem(ApmSlice pem, ApmEcKey **out);
extern ApmStatus apm_ec_from_spki(ApmSlice spki, ApmEcKey **out); /* exactly 91 bytes, point checked */
extern ApmStatus apm_ec_private_pem(const ApmEcKey *key, ApmBuf *out);
extern ApmStatus apm_ec_public_pem(const ApmEcKey *key, ApmBuf *out);
extern void apm_ec_spki(const ApmEcKey *key, uint8_t out[APM_SPKI_LEN]);
extern void apm_ec_id(const ApmEcKey *key, ApmDigest *out); /* SHA-256 of the SPKI: node id, origin id */
extern bool apm_ec_is_private(const ApmEcKey *key);
extern void apm_ec_free(ApmEcKey *key);

/* message is a digest already: it is what is signed, not hashed again */
extern ApmStatus apm_sign(const ApmEcKey *key, const ApmDigest *message, ApmSignature *out);
extern ApmStatus apm_verify_signature(const ApmEcKey *key, const ApmDigest *message, const ApmSignature *sig);

#endif /* APM_CORE_SIGNATURE_H */
