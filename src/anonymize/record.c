/*
 * record.c
 *	  A record on its way out: the second iPR, encrypted, in its primary transaction.
 *
 * The paper joins the profile's attributes to the record before encrypting.  The
 * identifying ones are left out: they stay in the profile, from which a reader gets them
 * back, so that a name is in one place and a change of name reaches every record.
 */
#include "postgres.h"

#include "anonymize/token.h"
#include "apm_errors.h"

/*
 * Appends the text that is encrypted, and the blind tokens of what is searchable in it.  The text is the JSON, which has
 * no newline, and behind one the names of the data rules that it violates, if any.
 */
static void
record_text(const ApmPatient *patient, const ApmRecord *record, const ApmDeclared *declared, ApmBuf *out,
			ApmBuf *token_bytes, ApmTokens *tokens)
{
	const ApmBuf *violated = &record->ruling.violated;
	ApmFields given;
	ApmFields own;
	ApmFields second;

	memset(tokens, 0, sizeof(*tokens));
	if (!apm_fields_of(record->value, &given))
		apm_json_put(out, record->value);
	else
	{
		apm_declared_pick(declared, &given, APM_CLASS_IDENTIFYING, false, &own);
		apm_fields_overlay(&patient->attributes, &own, &second);
		apm_json_put_fields(out, &second);
		apm_tokens_of(&second, declared, token_bytes, tokens);
		pfree(second.v);
		pfree(own.v);
	}
	if (violated->len > 0)
	{
		apm_put_u8(out, '\n');
		apm_put_raw(out, violated->data, violated->len);
	}
	apm_check(apm_buf_status(out), "write a record");
	if (out->len > APM_RECORD_MAX)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("the record is larger than %d bytes", APM_RECORD_MAX)));
}

int
apm_record_add(ApmOutgoing *out, const ApmPatient *patient, const ApmRecord *record,
			   const ApmDeclared *declared, ApmTransaction *tx)
{
	ApmBuf text = {.secret = true};
	ApmBuf inner = {0};
	ApmBuf tokens = {0};
	int place;

	record_text(patient, record, declared, &text, &tokens, &tx->u.primary.tokens);
	apm_check(apm_record_seal(patient->key, &patient->key_id, &record->rid, apm_patient_apid(patient),
							  APM_SLICE(text.data, text.len), &inner),
			  "encrypt a record");
	apm_buf_reset(&text);

	tx->kind = APM_KIND_PRIMARY;
	tx->u.primary.rid = record->rid;
	tx->u.primary.apid = apm_patient_apid(patient);
	tx->u.primary.flags = apm_record_flags(record);
	tx->u.primary.amends = record->amends;
	tx->u.primary.ruleset = record->ruling.ruleset;
	tx->fields = APM_SLICE(record->ruling.fields.data, record->ruling.fields.len);
	tx->u.primary.record = APM_SLICE(inner.data, inner.len);
	place = apm_outgoing_add(out, tx);
	apm_buf_reset(&inner);
	apm_buf_reset(&tokens);
	return place;
}
