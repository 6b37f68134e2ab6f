/*
 * envelope_form.c
 *	  Reading an envelope's bytes, and its form as a JWE (RFC 7516).
 *
 * The protected header is text, but never parsed as JSON: there is one for each key id and
 * one for several recipients, it is written down here, and an envelope must carry
 * exactly that.  So no reader can be talked into another algorithm.
 */
#include "envelope_form.h"

#include <stdio.h>
#include <string.h>

#include "rsa.h"

#define ENVELOPE_TAG 'E'
#define ENVELOPE_VERSION 1

size_t
apm_protected_header(uint8_t count, const ApmKeyId *first, char out[APM_PROTECTED_MAX])
{
	char kid[APM_KID_TEXT_LEN + 1];

	if (count > 1)
		return (size_t) snprintf(out, APM_PROTECTED_MAX, "{\"alg\":\"RSA-OAEP-256\",\"enc\":\"A256GCM\"}");
	apm_hex_encode(first->bytes, APM_KEY_ID_LEN, kid);
	return (size_t) snprintf(out, APM_PROTECTED_MAX,
							 "{\"alg\":\"RSA-OAEP-256\",\"enc\":\"A256GCM\",\"kid\":\"%s\"}", kid);
}

void
apm_envelope_put_head(uint8_t count, const ApmKeyId *first, ApmBuf *out)
{
	char header[APM_PROTECTED_MAX];
	size_t len = apm_protected_header(count, first, header);

	apm_put_u8(out, ENVELOPE_TAG);
	apm_put_u8(out, ENVELOPE_VERSION);
	apm_put_bytes(out, header, len);
	apm_put_u8(out, count);
}

ApmStatus
apm_envelope_parse(ApmSlice envelope, ApmEnvelopeParts *out)
{
	ApmReader r;
	char header[APM_PROTECTED_MAX];
	size_t header_len;
	uint32_t len;

	apm_reader_init(&r, envelope);
	apm_expect_u8(&r, ENVELOPE_TAG);
	apm_expect_u8(&r, ENVELOPE_VERSION);
	out->header = apm_get_bytes(&r, APM_PROTECTED_MAX);
	out->count = apm_get_u8(&r);
	if (out->count < 1 || out->count > APM_MAX_RECIPIENTS)
		return APM_ERR_FORMAT;
	for (uint8_t i = 0; i < out->count; i++)
	{
		apm_get_raw(&r, out->recipients[i].key_id.bytes, APM_KEY_ID_LEN);
		out->recipients[i].wrapped = apm_get_bytes(&r, APM_WRAPPED_MAX);
	}
	out->nonce = apm_get_slice(&r, APM_GCM_NONCE_LEN);
	len = apm_get_u32(&r);
	out->sealed = apm_get_slice(&r, (size_t) len + APM_GCM_TAG_LEN);
	if (!apm_reader_done(&r))
		return APM_ERR_FORMAT;

	header_len = apm_protected_header(out->count, &out->recipients[0].key_id, header);
	if (out->header.len != header_len || memcmp(out->header.data, header, header_len) != 0)
		return APM_ERR_FORMAT;
	return APM_OK;
}

bool
apm_envelope_is_for(ApmSlice envelope, const ApmKeyId *key)
{
	ApmEnvelopeParts parts;

	if (apm_envelope_parse(envelope, &parts) != APM_OK)
		return false;
	for (uint8_t i = 0; i < parts.count; i++)
	{
		if (memcmp(parts.recipients[i].key_id.bytes, key->bytes, APM_KEY_ID_LEN) == 0)
			return true;
	}
	return false;
}

void
apm_put_base64url(ApmBuf *buf, ApmSlice bytes)
{
	size_t len;

	if (!apm_buf_reserve(buf, apm_base64_len(bytes.len) + 1))
		return;
	apm_base64url_encode(bytes.data, bytes.len, (char *) buf->data + buf->len, &len);
	buf->len += len;
}

static void
put_text(ApmBuf *buf, const char *text)
{
	apm_put_raw(buf, text, strlen(text));
}

/* RFC 7516, 7.1 */
static void
put_compact(const ApmEnvelopeParts *parts, ApmSlice ciphertext, ApmSlice tag, ApmBuf *out)
{
	apm_put_base64url(out, parts->header);
	put_text(out, ".");
	apm_put_base64url(out, parts->recipients[0].wrapped);
	put_text(out, ".");
	apm_put_base64url(out, parts->nonce);
	put_text(out, ".");
	apm_put_base64url(out, ciphertext);
	put_text(out, ".");
	apm_put_base64url(out, tag);
}

/* RFC 7516, 7.2.1 */
static void
put_general(const ApmEnvelopeParts *parts, ApmSlice ciphertext, ApmSlice tag, ApmBuf *out)
{
	put_text(out, "{\"protected\":\"");
	apm_put_base64url(out, parts->header);
	put_text(out, "\",\"recipients\":[");
	for (uint8_t i = 0; i < parts->count; i++)
	{
		char kid[APM_KID_TEXT_LEN + 1];

		apm_hex_encode(parts->recipients[i].key_id.bytes, APM_KEY_ID_LEN, kid);
		put_text(out, i == 0 ? "{\"header\":{\"kid\":\"" : ",{\"header\":{\"kid\":\"");
		put_text(out, kid);
		put_text(out, "\"},\"encrypted_key\":\"");
		apm_put_base64url(out, parts->recipients[i].wrapped);
		put_text(out, "\"}");
	}
	put_text(out, "],\"iv\":\"");
	apm_put_base64url(out, parts->nonce);
	put_text(out, "\",\"ciphertext\":\"");
	apm_put_base64url(out, ciphertext);
	put_text(out, "\",\"tag\":\"");
	apm_put_base64url(out, tag);
	put_text(out, "\"}");
}

/* Needs no key.  APM_ERR_FORMAT: not an envelope. */
ApmStatus
apm_envelope_jwe(ApmSlice envelope, ApmBuf *out)
{
	ApmEnvelopeParts parts;
	ApmSlice ciphertext;
	ApmSlice tag;
	ApmStatus status = apm_envelope_parse(envelope, &parts);

	if (status != APM_OK)
		return status;
	ciphertext = (ApmSlice){parts.sealed.data, parts.sealed.len - APM_GCM_TAG_LEN};
	tag = (ApmSlice){parts.sealed.data + ciphertext.len, APM_GCM_TAG_LEN};
	if (parts.count == 1)
		put_compact(&parts, ciphertext, tag, out);
	else
		put_general(&parts, ciphertext, tag, out);
	return apm_buf_status(out);
}
