/*
 * pem.h
 *	  Keys as PEM text, for the two kinds of key that the core has.  Private to
 *	  signature.c and rsa.c: it shows OpenSSL's types.
 */
#ifndef APM_CORE_PEM_H
#define APM_CORE_PEM_H

#include <openssl/types.h>

#include "bytes.h"

/*
 * Exactly one "PRIVATE KEY" (PKCS#8, unencrypted) or "PUBLIC KEY" (SPKI) and nothing but
 * white space after it.  APM_ERR_FORMAT: not that; APM_ERR_KEY: not an OpenSSL key of
 * this type (EVP_PKEY_RSA, EVP_PKEY_EC).  The caller frees *out.
 */
extern ApmStatus apm_pem_read(ApmSlice pem, int type, EVP_PKEY **out, bool *is_private);

/* Append; the private one makes out a secret buffer. */
extern ApmStatus apm_pem_write_private(EVP_PKEY *key, ApmBuf *out);
extern ApmStatus apm_pem_write_public(EVP_PKEY *key, ApmBuf *out);

#endif /* APM_CORE_PEM_H */
