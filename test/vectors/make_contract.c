/*
 * make_contract.c
 *	  Examples of predicates, of the contract's digest, and of entries of a block.
 */
#include "vectors.h"

static void
put_predicate(ApmBuf *out, const char *name, ApmKind kind, ApmBuf *predicate)
{
	begin(out, name);
	apm_json_put_number(out, "kind", kind);
	put_hex(out, "predicate", slice_of(predicate));
	apm_json_put_number(out, "good", apm_predicate_check(slice_of(predicate), kind, NULL, NULL) == APM_OK);
	apm_json_end(out);
	apm_buf_reset(predicate);
}

/* One with everything in it, which is good for queries and not for records, and one too deep. */
static void
put_predicates(ApmBuf *out)
{
	static const ApmKind kinds[] = {APM_KIND_QUERY, APM_KIND_PRIMARY};
	ApmBuf p = {0};

	for (int i = 0; i < 2; i++)
	{
		p_group(&p, APM_OP_OR, 3);
		p_op(&p, APM_OP_NOT);
		p_op(&p, APM_OP_ROLE);
		apm_put_u16(&p, APM_ROLE_CLINICIAN);
		p_op(&p, APM_OP_LT);
		p_count(&p, APM_COUNT_ACTOR_QUERIES, 3600);
		p_integer(&p, 20);
		p_group(&p, APM_OP_AND, 2);
		p_op(&p, APM_OP_IN);
		p_field(&p, APM_TERM_SCOPE);
		apm_put_u8(&p, 2);
		p_text(&p, "records");
		p_text(&p, "emergency");
		p_op(&p, APM_OP_EQ);
		p_public(&p, "ward");
		p_text(&p, "icu");
		put_predicate(out, "predicate", kinds[i], &p);
	}
	for (int levels = 8; levels <= 9; levels++)
	{
		for (int i = 1; i < levels; i++)
			p_op(&p, APM_OP_NOT);
		p_op(&p, APM_OP_ROLE);
		apm_put_u16(&p, APM_ROLE_AUDITOR);
		put_predicate(out, "predicate", APM_KIND_EXPORT, &p);
	}
}

static void
put_strings(ApmBuf *out, const char *name, const ApmBuf *strings, size_t n)
{
	apm_put_raw(out, ", \"", 3);
	apm_put_raw(out, name, strlen(name));
	apm_put_raw(out, "\": [", 4);
	for (size_t i = 0; i < n; i++)
	{
		char hex[1024];

		if (!CHECK(2 * strings[i].len < sizeof(hex)))
			return;
		apm_hex_encode(strings[i].data, strings[i].len, hex);
		apm_put_raw(out, i == 0 ? "\"" : ", \"", i == 0 ? 1 : 3);
		apm_put_raw(out, hex, 2 * strings[i].len);
		apm_put_u8(out, '"');
	}
	apm_put_u8(out, ']');
}

/* A contract of a few items, which came in another order than that of the digest, two nodes and an origin. */
static void
put_digest_of_contract(ApmBuf *out)
{
	static const ApmItem items[] = {
		{.type = APM_ITEM_DATA_RULE,
		 .name = {(const uint8_t *) "pulse-range", 11},
		 .attribute = {(const uint8_t *) "pulse", 5},
		 .body = {(const uint8_t *) "{\"range\":[0,300]}", 17},
		 .violation = APM_VIOLATION_REFUSE},
		{.type = APM_ITEM_PURPOSE, .key = 1, .name = {(const uint8_t *) "treatment", 9}},
		{.type = APM_ITEM_POLICY, .key = APM_POLICY_ACCESS, .value = 2},
		{.type = APM_ITEM_POLICY, .key = APM_POLICY_DIFFICULTY, .value = 16}};
	ApmEcKey *keys[3] = {sample_key(), sample_key(), sample_key()};
	ApmDigest chain = sample_digest(0xc0);
	ApmDigest ids[3];
	ApmDigest digest;
	ApmContractState *state;
	ApmBuf encoded[4] = {{0}};

	CHECK_OK(apm_contract_new(&chain, &state));
	for (int i = 0; i < 3; i++)
	{
		load_member(state, i < 2 ? APM_MEMBER_NODE : APM_MEMBER_ORIGIN, keys[i]);
		apm_ec_id(keys[i], &ids[i]);
	}
	for (int i = 0; i < 4; i++)
	{
		CHECK_OK(apm_contract_load_item(state, &items[i], 0));
		CHECK_OK(apm_item_put(&items[i], &encoded[i]));
	}
	CHECK_OK(apm_contract_digest(state, &digest));
	begin(out, "contract digest");
	put_strings(out, "items", encoded, 4);
	apm_json_put_digests(out, "nodes", ids, 2);
	apm_json_put_digests(out, "origins", ids + 2, 1);
	put_digest(out, "digest", &digest);
	apm_json_end(out);
	for (int i = 0; i < 4; i++)
		apm_buf_reset(&encoded[i]);
	for (int i = 0; i < 3; i++)
		apm_ec_free(keys[i]);
	apm_contract_free(state);
}

static void
put_entries(ApmBuf *out)
{
	ApmEntry entries[] = {{sample_uuid(0x01), APM_KIND_PATIENT, APM_RULE_NONE, sample_digest(0x11)},
						  {sample_uuid(0x02), APM_KIND_PRIMARY, APM_RULE_PATIENT, sample_digest(0x22)},
						  {sample_uuid(0x03), APM_KIND_QUERY, APM_SITE_RULE, sample_digest(0x33)}};
	ApmDigest stand[3];
	ApmDigest root;
	ApmBuf encoded = {0};

	for (int i = 0; i < 3; i++)
		CHECK_OK(apm_entry_hash(&entries[i], &stand[i]));
	CHECK_OK(apm_entries_root(entries, 3, &root));
	apm_entries_encode(entries, 3, &encoded);
	begin(out, "entries");
	put_hex(out, "entries", slice_of(&encoded));
	apm_json_put_digests(out, "stand", stand, 3);
	put_digest(out, "root", &root);
	apm_json_end(out);
	apm_buf_reset(&encoded);
}

bool
make_contract(const char *directory)
{
	ApmBuf out = {0};

	put_predicates(&out);
	put_digest_of_contract(&out);
	put_entries(&out);
	finish(&out, directory, "contract.json");
	return check_failed == 0;
}
