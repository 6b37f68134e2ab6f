/*
 * token.c
 *	  Blind tokens: what a record is found by without being opened.
 *
 * Records lie encrypted, each under its patient's key, so nobody can look for a value in them.  For
 * an attribute that is declared searchable the APM computes
 *
 *		token = first 16 bytes of HMAC(search secret, len name || len value)
 *
 * and puts it into the record's transaction and beside the record in the cloud.  Whoever searches
 * computes the same.  Equal values of one attribute have one token, which is what a search needs
 * and what it leaks; the attribute's name is part of it, so that the same value of another attribute has
 * another, and the secret is this APM's own, so that another installation has other tokens throughout.
 *
 * Equal means equal to whoever reads JSON: a text in NFC, a number whatever its trailing zeros, a
 * boolean; and the text "1" is not the number 1, so a value begins with its type.
 */
#include "postgres.h"

#include "anonymize/token.h"
#include "anonymize/unicode.h"
#include "apm_errors.h"
#include "core/digest.h"
#include "keys/keyring.h"

bool
apm_token_of(const ApmField *field, uint8 out[APM_TOKEN_LEN])
{
	ApmBuf name = {.secret = true};
	ApmBuf value = {.secret = true};
	ApmBuf input = {.secret = true};
	bool has = apm_json_put_scalar(&value, &field->value, "a searchable attribute");

	if (has)
	{
		ApmDigest mac;
		ApmSlice part;

		apm_nfc_put(&name, apm_field_name(field), "the name of an attribute");
		apm_put_bytes(&input, name.data, name.len);
		apm_put_bytes(&input, value.data, value.len);
		apm_check(apm_buf_status(&input), "make a search token");
		part = APM_SLICE(input.data, input.len);
		apm_check(apm_hmac_sha256(apm_key_secret(APM_SECRET_SEARCH), APM_SECRET_LEN, &part, 1, &mac),
				  "make a search token");
		memcpy(out, mac.bytes, APM_TOKEN_LEN);
	}
	apm_buf_reset(&name);
	apm_buf_reset(&value);
	apm_buf_reset(&input);
	return has;
}

static int
compare(const void *a, const void *b)
{
	return memcmp(a, b, APM_TOKEN_LEN);
}

void
apm_tokens_put(const uint8 *tokens, int n, int most, ApmBuf *bytes, ApmTokens *out)
{
	uint8 *sorted = palloc(Max(n, 1) * APM_TOKEN_LEN);
	size_t start = bytes->len;
	const uint8 *last = NULL;
	int count = 0;

	memcpy(sorted, tokens, (Size) n * APM_TOKEN_LEN);
	qsort(sorted, n, APM_TOKEN_LEN, compare);
	for (int i = 0; i < n; i++)
	{
		const uint8 *token = sorted + (Size) i * APM_TOKEN_LEN;

		if (last != NULL && compare(last, token) == 0)
			continue;
		apm_put_raw(bytes, token, APM_TOKEN_LEN);
		last = token;
		count++;
	}
	pfree(sorted);
	apm_check(apm_buf_status(bytes), "make search tokens");
	if (count > most)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("more than %d searchable values", most),
				 errhint("Fewer attributes can be declared searchable, or asked for at once.")));
	out->count = (uint8) count;
	out->bytes = count > 0 ? bytes->data + start : NULL;
}

void
apm_tokens_of(const ApmFields *record, const ApmDeclared *declared, ApmBuf *bytes, ApmTokens *out)
{
	uint8 *tokens = palloc((Size) (declared->n + 1) * APM_TOKEN_LEN); /* an object has each name once */
	int n = 0;

	for (int i = 0; i < record->n; i++)
	{
		const ApmField *field = &record->v[i];

		if (apm_declared_searchable(declared, field) &&
			apm_token_of(field, tokens + (Size) n * APM_TOKEN_LEN))
			n++;
	}
	apm_tokens_put(tokens, n, APM_TOKENS_MAX, bytes, out);
	pfree(tokens);
}
