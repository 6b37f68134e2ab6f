/*
 * rsa.h
 *	  What the envelope needs of an RSA key beyond envelope.h: wrapping a content key
 *	  and taking it out again.  Private to the envelope's files and the paper's profile.
 */
#ifndef APM_CORE_RSA_H
#define APM_CORE_RSA_H

#include "envelope.h"

#define APM_CONTENT_KEY_LEN 32
#define APM_WRAPPED_MAX 1024 /* bytes of an 8192-bit modulus */

/* OpenSSL's own handle, borrowed. */
extern struct evp_pkey_st *apm_rsa_pkey(const ApmRsa *key);

/* Another handle of the same key, freed on its own. */
extern ApmStatus apm_rsa_share(const ApmRsa *key, ApmRsa **out);

/* RSA-OAEP with SHA-256 and MGF1-SHA-256, no label.  Appends the wrapped key to out. */
extern ApmStatus apm_rsa_wrap(const ApmRsa *key, const uint8_t content_key[APM_CONTENT_KEY_LEN], ApmBuf *out);

/*
 * The content key of a wrapped key, or, when it is none, random bytes, in the same time
 * and with the same answer: that it was none must not be told apart from what the
 * content key then fails to open.  Not APM_OK only if nothing could be tried at all.
 */
extern ApmStatus apm_rsa_unwrap(const ApmRsa *key, ApmSlice wrapped,
								uint8_t content_key[APM_CONTENT_KEY_LEN]);

#endif /* APM_CORE_RSA_H */
