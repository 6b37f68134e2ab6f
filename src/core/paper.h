/*
 * paper.h
 *	  The ciphers of the paper's Chapter III as published, for study and comparison.
 *
 * A value goes through AES-256 in 8-bit CFB (NIST SP 800-38A, 6.3; what Python's
 * AES.MODE_CFB is) under a 16-byte IV, base64, and RSA-2048 with PKCS#1 v1.5 padding
 * (RFC 8017, 7.2).  Nothing of that says whether a value was altered, and its length shows.
 * This padding and this mode are in use nowhere else.
 */
#ifndef APM_CORE_PAPER_H
#define APM_CORE_PAPER_H

#include "envelope.h"

#define APM_PAPER_IV_LEN 16
#define APM_PAPER_RSA_LEN 256
/* RSA takes 256 - 11 bytes, and 244 of them are the base64 of 183. */
#define APM_PAPER_VALUE_MAX 183
/* what bcrypt reads of a value; a longer one would be hashed like its beginning */
#define APM_PAPER_HASHED_MAX 72

extern ApmStatus apm_cfb8_encrypt(const uint8_t key[32], const uint8_t iv[APM_PAPER_IV_LEN], ApmSlice in,
								  uint8_t *out);
extern ApmStatus apm_cfb8_decrypt(const uint8_t key[32], const uint8_t iv[APM_PAPER_IV_LEN], ApmSlice in,
								  uint8_t *out);

/*
 * Appends a sealed value, APM_PAPER_RSA_LEN bytes, with an IV drawn for it.  APM_ERR_RANGE for a
 * value of more than APM_PAPER_VALUE_MAX bytes, APM_ERR_KEY unless the RSA key has 2048 bits.
 */
extern ApmStatus apm_paper_seal(const uint8_t key[32], const ApmRsa *rsa, ApmSlice value,
								uint8_t iv[APM_PAPER_IV_LEN], ApmBuf *out);
/* Appends the value (make out secret).  APM_ERR_OPEN whatever is wrong with what is sealed. */
extern ApmStatus apm_paper_open(const uint8_t key[32], const ApmRsa *rsa, const uint8_t iv[APM_PAPER_IV_LEN],
								ApmSlice sealed, ApmBuf *out);

#endif /* APM_CORE_PAPER_H */
