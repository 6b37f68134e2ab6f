/*
 * envelope_form.h
 *	  The bytes of an envelope taken apart.  Private to the envelope's files.
 */
#ifndef APM_CORE_ENVELOPE_FORM_H
#define APM_CORE_ENVELOPE_FORM_H

#include "cipher.h"
#include "envelope.h"

#define APM_PROTECTED_MAX 128				  /* characters of the longest protected header */
#define APM_KID_TEXT_LEN (2 * APM_KEY_ID_LEN) /* a key id as JOSE's kid: lower-case hexadecimal */

typedef struct ApmRecipientPart
{
	ApmKeyId key_id;
	ApmSlice wrapped;
} ApmRecipientPart;

/* Slices point into the envelope. */
typedef struct ApmEnvelopeParts
{
	ApmSlice header; /* the protected header, JSON text */
	uint8_t count;	 /* 1 to APM_MAX_RECIPIENTS */
	ApmRecipientPart recipients[APM_MAX_RECIPIENTS];
	ApmSlice nonce;
	ApmSlice sealed; /* ciphertext and tag */
} ApmEnvelopeParts;

/* Characters of the protected header for count recipients, of whom first is the first. */
extern size_t apm_protected_header(uint8_t count, const ApmKeyId *first, char out[APM_PROTECTED_MAX]);

/* Appends everything that stands before the recipients. */
extern void apm_envelope_put_head(uint8_t count, const ApmKeyId *first, ApmBuf *out);

/* APM_ERR_FORMAT unless it has the form that apm_sealer_seal writes, header included. */
extern ApmStatus apm_envelope_parse(ApmSlice envelope, ApmEnvelopeParts *out);

/* Appends BASE64URL(bytes), without padding. */
extern void apm_put_base64url(ApmBuf *buf, ApmSlice bytes);

#endif /* APM_CORE_ENVELOPE_FORM_H */
