/*
 * pseudonym.h
 *	  What stands in the place of a patient's identity.
 *
 * bcrypt reads 72 bytes and stops at NUL, and its result carries its salt, so a
 * bare bcrypt of a name is reversed by a list of names.  The input is therefore
 * base64(HMAC-SHA-256(pepper, u32 len || attribute || u32 len || value || blind)): 44
 * characters, no NUL, useless without the pepper.  The blind comes from the patient's
 * key: when an erasure has destroyed that, the pepper's holder cannot try values either.
 * Values are UTF-8 in NFC; normalizing is the caller's work, because the core has no
 * Unicode tables.
 */
#ifndef APM_CORE_PSEUDONYM_H
#define APM_CORE_PSEUDONYM_H

#include "bytes.h"

#define APM_PSEUDONYM_LEN 60 /* characters of a "$2b$" bcrypt result */
#define APM_APID_MAX 64		 /* either mode */
#define APM_SALTING_ROUNDS_MIN 4
#define APM_SALTING_ROUNDS_MAX 14

#define APM_BLIND_LEN 32

typedef struct ApmAttribute
{
	ApmSlice name;	/* UTF-8 */
	ApmSlice value; /* UTF-8, NFC */
} ApmAttribute;

/*
 * bcrypt through libxcrypt's crypt_rn with a full setting ("$2b$NN$" and 22
 * characters of salt).  Takes 2^rounds iterations and cannot be interrupted.
 * APM_ERR_CRYPTO if the result is not 60 characters or begins with '*'.
 * secret is NUL-terminated.
 */
extern ApmStatus apm_bcrypt(const char *secret, const char *setting, char out[APM_PSEUDONYM_LEN + 1]);
/* "$2b$", rounds, and a random salt: 29 characters */
extern ApmStatus apm_bcrypt_setting(int rounds, char out[30]);

/* HKDF-SHA-256(patient key, no salt, "apm pseudonym"): what the pseudonyms of one patient are blinded with.  Wipe it. */
extern ApmStatus apm_pseudonym_blind(const uint8_t patient_key[32], uint8_t out[APM_BLIND_LEN]);

/* The pseudonym of one attribute's value, random salt. */
extern ApmStatus apm_pseudonym(const uint8_t pepper[32], const uint8_t blind[APM_BLIND_LEN],
							   ApmSlice attribute, ApmSlice value, int rounds,
							   char out[APM_PSEUDONYM_LEN + 1]);
/*
 * One pseudonym for a set of attributes; the order in which they come does not
 * matter (sorted by name).  APM_ERR_RANGE for an empty set or a name twice.
 */
extern ApmStatus apm_identity(const uint8_t pepper[32], const uint8_t blind[APM_BLIND_LEN],
							  const ApmAttribute *attrs, size_t n, int rounds,
							  char out[APM_PSEUDONYM_LEN + 1]);
/* Does value have this pseudonym?  Costs one bcrypt. */
extern ApmStatus apm_pseudonym_check(const uint8_t pepper[32], const uint8_t blind[APM_BLIND_LEN],
									 ApmSlice attribute, ApmSlice value, const char *pseudonym,
									 bool *matches);
/* A code not derived from the person: "r." and 32 base64url characters (192 bits). */
extern ApmStatus apm_pseudonym_random(char out[APM_APID_MAX + 1]);

#endif /* APM_CORE_PSEUDONYM_H */
