/*
 * make_transactions.c
 *	  Examples of signed transactions: one of each kind, scope and action, all under one signature.
 */
#include "vectors.h"

#define TRANSACTIONS_MAX 24

typedef struct Named
{
	const char *name;
	ApmTransaction tx;
} Named;

static const uint8_t ids[3 * APM_STAFF_LEN] = {[0] = 0x11, [16] = 0x22, [32] = 0x33};

static size_t
queries(Named *out)
{
	static const char *const names[] = {"",
										"query records",
										"query history",
										"query search",
										"query match",
										"query export",
										"query emergency",
										"query note"};
	ApmPublicField fields[] = {
		{.name = sample_text("shift"), .type = APM_FIELD_INTEGER, .number = -3},
		{.name = sample_text("urgent"), .type = APM_FIELD_BOOLEAN, .number = 1},
		{.name = sample_text("ward"), .type = APM_FIELD_CODE, .code = sample_text("B-7")}};
	static ApmBuf public;
	size_t n = 0;

	CHECK_OK(apm_fields_encode(fields, 3, &public));
	for (uint8_t scope = APM_SCOPE_RECORDS; scope <= APM_SCOPE_NOTE; scope++)
	{
		ApmTransaction tx = sample_transaction(APM_KIND_QUERY);
		ApmQueryFields *f = &tx.u.query;

		f->scope = scope;
		f->groups = (ApmGroups){3, ids};
		if (scope == APM_SCOPE_RECORDS)
			tx.fields = slice_of(&public);
		if (scope == APM_SCOPE_SEARCH)
		{
			f->apid = APM_SLICE(NULL, 0);
			f->tokens = (ApmTokens){2, ids};
		}
		if (scope == APM_SCOPE_MATCH || scope == APM_SCOPE_EXPORT || scope == APM_SCOPE_NOTE)
			memset(f->basis, 0xb5, sizeof(f->basis));
		if (scope == APM_SCOPE_EMERGENCY)
		{
			f->reason = 2;
			f->note = sample_digest(0x4e);
		}
		out[n++] = (Named){names[scope], tx};
	}
	return n;
}

static size_t
consents(Named *out)
{
	ApmTransaction grant = sample_transaction(APM_KIND_CONSENT);
	ApmTransaction revocation = grant;
	ApmTransaction review = grant;

	grant.u.consent.until_us = SAMPLE_TIME + 86400 * SECOND;
	grant.u.consent.purpose = 7;
	revocation.u.consent.action = APM_CONSENT_REVOKE;
	memset(revocation.u.consent.grantee, 0, APM_STAFF_LEN);
	review.u.consent.action = APM_CONSENT_REVIEW;
	memset(review.u.consent.grantee, 0, APM_STAFF_LEN);
	review.u.consent.reviewed = sample_uuid(0x6e);
	review.u.consent.finding = APM_FINDING_UNJUSTIFIED;
	out[0] = (Named){"consent grant", grant};
	out[1] = (Named){"consent revocation", revocation};
	out[2] = (Named){"consent review", review};
	return 3;
}

/* One item of each type. */
static ApmTransaction
contract_change(void)
{
	static ApmBuf specs;
	static ApmBuf body;
	ApmFieldSpec spec = {
		.name = sample_text("shift"), .type = APM_FIELD_INTEGER, .required = true, .least = -5, .most = 5};
	ApmItem items[9] = {{.type = APM_ITEM_POLICY, .key = APM_POLICY_QUERY_RATE, .value = 200},
						{.type = APM_ITEM_PURPOSE, .name = sample_text("quality-audit")},
						{.type = APM_ITEM_REASON, .key = 11, .name = sample_text("power-cut")},
						{.type = APM_ITEM_TEMPLATE, .name = sample_text("by-shift"), .kind = APM_KIND_QUERY},
						{.type = APM_ITEM_RULE, .name = sample_text("seldom"), .kind = APM_KIND_QUERY},
						{.type = APM_ITEM_DATA_RULE,
						 .name = sample_text("pulse-range"),
						 .attribute = sample_text("pulse"),
						 .body = sample_text("{\"max\":300}"),
						 .violation = APM_VIOLATION_FLAG},
						{.type = APM_ITEM_DROP_TEMPLATE, .name = sample_text("by-shift")},
						{.type = APM_ITEM_DROP_RULE, .name = sample_text("seldom")},
						{.type = APM_ITEM_DROP_DATA_RULE, .name = sample_text("pulse-range")}};
	ApmTransaction tx = sample_transaction(APM_KIND_CONTRACT);

	CHECK_OK(apm_specs_encode(&spec, 1, &specs));
	p_limit(&body, APM_COUNT_ACTOR_QUERIES, 3600, 20);
	items[3].body = slice_of(&specs);
	items[4].body = slice_of(&body);
	sample_items(items, 9, &tx.u.contract);
	return tx;
}

static size_t
all_transactions(const ApmEcKey *const members[2], Named *out)
{
	ApmTransaction amendment = sample_transaction(APM_KIND_PRIMARY);
	size_t n = 0;

	amendment.u.primary.flags = APM_PRIMARY_AMENDS | APM_PRIMARY_LATE;
	amendment.u.primary.amends = sample_uuid(0x12);
	amendment.u.primary.ruleset = sample_digest(0xd7);
	amendment.u.primary.tokens = (ApmTokens){3, ids};
	out[n++] = (Named){"patient", sample_transaction(APM_KIND_PATIENT)};
	out[n++] = (Named){"primary", sample_transaction(APM_KIND_PRIMARY)};
	out[n++] = (Named){"primary amendment", amendment};
	n += queries(out + n);
	n += consents(out + n);
	out[n++] = (Named){"erasure", sample_transaction(APM_KIND_ERASURE)};
	out[n++] = (Named){"export", sample_transaction(APM_KIND_EXPORT)};
	out[n++] = (Named){"membership, first key", sample_membership(APM_MEMBER_NODE, members[0])};
	out[n++] = (Named){"membership, successor", sample_succession(APM_MEMBER_ORIGIN, members[0], members[1])};
	out[n++] = (Named){"contract", contract_change()};
	return n;
}

static void
put_transaction(ApmBuf *out, const Named *named, ApmSlice signed_bytes, const uint8_t spki[APM_SPKI_LEN])
{
	ApmOpened opened;

	CHECK_OK(apm_open_signed(signed_bytes, &opened));
	begin(out, named->name);
	apm_json_put_number(out, "kind", named->tx.kind);
	apm_json_put_number(out, "time", named->tx.time_us);
	apm_json_put_hex(out, "nonce", opened.envelope.nonce, APM_NONCE_LEN);
	put_hex(out, "transaction", opened.envelope.transaction);
	put_digest(out, "leaf", &opened.leaf);
	apm_json_put_hex(out, "tid", opened.tid.bytes, APM_UUID_LEN);
	put_hex(out, "proof", opened.envelope.proof);
	apm_json_put_hex(out, "origin", spki, APM_SPKI_LEN);
	put_hex(out, "signed", signed_bytes);
	apm_json_end(out);
}

bool
make_transactions(const char *directory)
{
	ApmEcKey *keys[3] = {sample_key(), sample_key(), sample_key()};
	uint8_t spki[APM_SPKI_LEN];
	uint8_t nonces[TRANSACTIONS_MAX][APM_NONCE_LEN];
	ApmDigest leaves[TRANSACTIONS_MAX];
	ApmPath paths[TRANSACTIONS_MAX];
	ApmBuf bodies[TRANSACTIONS_MAX] = {{0}};
	Named named[TRANSACTIONS_MAX];
	ApmOriginProof proof = {.index = 0};
	ApmDigest root;
	ApmBuf out = {0};
	size_t n = all_transactions((const ApmEcKey *const *) keys, named);

	apm_ec_spki(keys[2], spki);
	for (size_t i = 0; i < n; i++)
	{
		apm_ec_id(keys[2], &named[i].tx.origin);
		CHECK_OK(apm_random(nonces[i], APM_NONCE_LEN));
		CHECK_OK(apm_transaction_encode(&named[i].tx, &bodies[i]));
		CHECK_OK(apm_transaction_leaf(nonces[i], slice_of(&bodies[i]), &leaves[i]));
	}
	CHECK_OK(apm_merkle_all_paths(leaves, n, paths, &root));
	CHECK_OK(apm_origin_sign(keys[2], &root, (uint32_t) n, &proof.signature));
	proof.size = (uint32_t) n;
	for (size_t i = 0; i < n; i++)
	{
		ApmSigned whole = {.transaction = slice_of(&bodies[i])};
		ApmBuf encoded = {0};
		ApmBuf bytes = {0};

		proof.index = (uint32_t) i;
		proof.path = paths[i];
		apm_origin_proof_encode(&proof, &encoded);
		memcpy(whole.nonce, nonces[i], APM_NONCE_LEN);
		whole.proof = slice_of(&encoded);
		apm_signed_encode(&whole, &bytes);
		put_transaction(&out, &named[i], slice_of(&bytes), spki);
		apm_buf_reset(&encoded);
		apm_buf_reset(&bytes);
		apm_buf_reset(&bodies[i]);
	}
	finish(&out, directory, "transactions.json");
	for (int i = 0; i < 3; i++)
		apm_ec_free(keys[i]);
	return check_failed == 0;
}
