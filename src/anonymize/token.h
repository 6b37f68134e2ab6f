/*
 * token.h
 *	  Blind tokens: what a record is found by without being opened.
 */
#ifndef APM_TOKEN_H
#define APM_TOKEN_H

#include "postgres.h"

#include "anonymize/patient.h"

/*
 * The token of an attribute's value; false for a value that has none: null, an object, an array.
 * Attributes are named as they are declared, in the server's encoding.
 */
extern bool apm_token_of(const ApmField *field, uint8 out[APM_TOKEN_LEN]);

/*
 * Appends n tokens to bytes in ascending order, none twice, and lets out point there; raises 54000 if more than
 * most remain.
 */
extern void apm_tokens_put(const uint8 *tokens, int n, int most, ApmBuf *bytes, ApmTokens *out);

/* The tokens of a second iPR: of its attributes that are declared searchable.  As apm_tokens_put(). */
extern void apm_tokens_of(const ApmFields *record, const ApmDeclared *declared, ApmBuf *bytes,
						  ApmTokens *out);

#endif /* APM_TOKEN_H */
