/*
 * test_rules_contract.c
 *	  Items of the contract: which can be applied, what they demand of transactions, from
 *	  when and for how long.
 */
#include "core/contract.h"

#include "core/digest.h"
#include "core/field.h"
#include "predicates.h"
#include "world.h"

/* Bytes that live as long as the test. */
static ApmSlice
keep(ApmBuf *buf)
{
	static uint8_t store[1 << 20];
	static size_t used = 0;
	ApmSlice out = APM_SLICE(store + used, buf->len);

	if (!CHECK(used + buf->len <= sizeof(store)))
		exit(2);
	memcpy(store + used, buf->data, buf->len);
	used += buf->len;
	apm_buf_reset(buf);
	return out;
}

static ApmItem
policy(uint16_t key, uint64_t value)
{
	return (ApmItem){.type = APM_ITEM_POLICY, .key = key, .value = value};
}

static ApmItem
code(ApmItemType type, uint16_t key, const char *name)
{
	return (ApmItem){.type = type, .key = key, .name = sample_text(name)};
}

static ApmItem
drop(ApmItemType type, const char *name)
{
	return (ApmItem){.type = type, .name = sample_text(name)};
}

/* A template with one integer field. */
static ApmItem template(const char *name, ApmKind kind, const char *field, bool required)
{
	ApmFieldSpec spec = {
		.name = sample_text(field), .type = APM_FIELD_INTEGER, .required = required, .least = 1, .most = 9};
	ApmBuf buf = {0};

	CHECK_OK(apm_specs_encode(&spec, 1, &buf));
	return (ApmItem){
		.type = APM_ITEM_TEMPLATE, .name = sample_text(name), .kind = (uint8_t) kind, .body = keep(&buf)};
}

/* counter within seconds < limit */
static ApmItem
limit(const char *name, ApmKind kind, ApmCounter counter, uint32_t seconds, int64_t most)
{
	ApmBuf buf = {0};

	p_limit(&buf, counter, seconds, most);
	return (ApmItem){
		.type = APM_ITEM_RULE, .name = sample_text(name), .kind = (uint8_t) kind, .body = keep(&buf)};
}

/* A rule that nothing satisfies: the statement has no transaction. */
static ApmItem
never(const char *name, ApmKind kind)
{
	ApmBuf buf = {0};

	p_op(&buf, APM_OP_EQ);
	p_field(&buf, APM_TERM_BATCH);
	p_integer(&buf, 0);
	return (ApmItem){
		.type = APM_ITEM_RULE, .name = sample_text(name), .kind = (uint8_t) kind, .body = keep(&buf)};
}

static ApmItem
data_rule(const char *name, const char *attribute, const char *check, ApmViolation violation)
{
	return (ApmItem){.type = APM_ITEM_DATA_RULE,
					 .name = sample_text(name),
					 .attribute = sample_text(attribute),
					 .body = sample_text(check),
					 .violation = (uint8_t) violation};
}

static uint16_t
apply(World *w, ApmItem item)
{
	ApmTransaction tx = change(w, &item, 1);

	return take(w, &tx);
}

static uint16_t
take_two(World *w, ApmItem first, ApmItem second)
{
	ApmItem items[] = {first, second};
	ApmTransaction tx = change(w, items, 2);

	return take(w, &tx);
}

static void
open_with_patient(World *w)
{
	world_open(w);
	load_patient(w, false);
}

static void
test_policy_bounds(void)
{
	static const struct
	{
		uint16_t key;
		uint64_t most;
		uint64_t least;
	} policies[] = {
		{APM_POLICY_ACCESS, 2, 1},
		{APM_POLICY_PURPOSE, 1, 0},
		{APM_POLICY_EMERGENCY, 2, 0},
		{APM_POLICY_EXPORT, 2, 1},
		{APM_POLICY_FETCH_CAP, INT32_MAX, 0},
		{APM_POLICY_QUERY_RATE, INT32_MAX, 0},
	};
	ApmItem difficulty = policy(APM_POLICY_DIFFICULTY, APM_MAX_DIFFICULTY + 1);
	ApmTransaction tx;
	World w;

	world_open(&w);
	for (size_t i = 0; i < sizeof(policies) / sizeof(policies[0]); i++)
	{
		CHECK(apply(&w, policy(policies[i].key, policies[i].most + 1)) == APM_RULE_ITEM);
		CHECK(apply(&w, policy(policies[i].key, UINT64_MAX)) == APM_RULE_ITEM);
		CHECK(apply(&w, policy(policies[i].key, policies[i].most)) == APM_RULE_NONE);
		CHECK(apply(&w, policy(policies[i].key, policies[i].least)) == APM_RULE_NONE);
		CHECK(apm_contract_policy(w.state, policies[i].key) == policies[i].least);
		if (policies[i].least > 0)
			CHECK(apply(&w, policy(policies[i].key, policies[i].least - 1)) == APM_RULE_ITEM);
	}
	CHECK(apply(&w, policy(0, 1)) == APM_RULE_ITEM);
	CHECK(apply(&w, policy(APM_POLICY_QUERY_RATE + 1, 1)) == APM_RULE_ITEM);
	tx = change(&w, &difficulty, 1);
	CHECK(judge(&w, w.origin, &tx, 0, false) == APM_RULE_ITEM);
	world_close(&w);
}

/* Codes and names are given once; some purposes have the codes that rules know. */
static void
test_lists(void)
{
	ApmDigest chain = sample_digest(0xc0);
	ApmContractState *bare;
	ApmItem item;
	World w;

	world_open(&w);
	CHECK(apply(&w, code(APM_ITEM_PURPOSE, 8, "teaching")) == APM_RULE_NONE);
	CHECK(apply(&w, code(APM_ITEM_PURPOSE, 8, "billing")) == APM_RULE_ITEM);
	CHECK(apply(&w, code(APM_ITEM_PURPOSE, 9, "teaching")) == APM_RULE_ITEM);
	CHECK(apply(&w, code(APM_ITEM_PURPOSE, 999, "billing")) == APM_RULE_NONE);
	CHECK(apply(&w, code(APM_ITEM_REASON, 12, "teaching")) == APM_RULE_NONE);
	CHECK(apply(&w, code(APM_ITEM_REASON, 1, "flood")) == APM_RULE_ITEM);
	/* the chain gives the next code, also to two of one transaction, as long as there is one */
	CHECK(take_two(&w, code(APM_ITEM_REASON, APM_ITEM_NEXT_CODE, "flood"),
				   code(APM_ITEM_REASON, APM_ITEM_NEXT_CODE, "fire")) == APM_RULE_NONE);
	CHECK(apm_contract_reason_code(w.state, "flood") == 13 &&
		  apm_contract_reason_code(w.state, "fire") == 14);
	CHECK(apply(&w, code(APM_ITEM_REASON, APM_ITEM_NEXT_CODE, "fire")) == APM_RULE_ITEM);
	CHECK(apply(&w, code(APM_ITEM_PURPOSE, APM_ITEM_NEXT_CODE, "law")) == APM_RULE_ITEM);
	world_close(&w);

	CHECK_OK(apm_contract_new(&chain, &bare));
	item = code(APM_ITEM_PURPOSE, APM_PURPOSE_RESEARCH, "teaching");
	CHECK_STATUS(apm_contract_load_item(bare, &item, 0), APM_ERR_RANGE);
	item = code(APM_ITEM_PURPOSE, 8, "research");
	CHECK_STATUS(apm_contract_load_item(bare, &item, 0), APM_ERR_RANGE);
	item = code(APM_ITEM_PURPOSE, APM_PURPOSE_RESEARCH, "research");
	CHECK_OK(apm_contract_load_item(bare, &item, 0));
	item = code(APM_ITEM_PURPOSE, APM_ITEM_NEXT_CODE, "payment"); /* whose code is 2 */
	CHECK_STATUS(apm_contract_try_item(bare, &item), APM_ERR_RANGE);
	item = code(APM_ITEM_PURPOSE, APM_ITEM_NEXT_CODE, "teaching");
	CHECK_OK(apm_contract_try_item(bare, &item));
	CHECK(apm_contract_purpose_code(bare, "teaching") == 0); /* tried and not done */
	CHECK_OK(apm_contract_load_item(bare, &item, 0));
	CHECK(apm_contract_purpose_code(bare, "teaching") == 8);
	apm_contract_free(bare);
}

/* What cannot be a template, a rule; and dropping what is not in force. */
static void
test_refused_items(void)
{
	static const ApmKind kinds[] = {APM_KIND_PATIENT,  APM_KIND_PRIMARY, APM_KIND_QUERY,
									APM_KIND_CONSENT,  APM_KIND_EXPORT,	 APM_KIND_MEMBERSHIP,
									APM_KIND_CONTRACT, APM_KIND_ERASURE};
	ApmItem item;
	World w;

	world_open(&w);
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
	{
		CHECK(apply(&w, template("t", kinds[i], "ward", false)) ==
			  (apm_kind_has_fields(kinds[i]) ? APM_RULE_NONE : APM_RULE_ITEM));
		CHECK(apply(&w, limit("r", kinds[i], APM_COUNT_ACTOR_RECORDS, 0, 5)) ==
			  (apm_kind_has_rules(kinds[i]) ? APM_RULE_NONE : APM_RULE_ITEM));
	}
	CHECK(!apm_kind_has_rules(APM_KIND_CONTRACT) && !apm_kind_has_rules(APM_KIND_MEMBERSHIP));
	CHECK(apply(&w, limit("fresh", APM_KIND_QUERY, APM_COUNT_ACTOR_QUERIES, 0, 5)) == APM_RULE_ITEM);
	item = limit("broken", APM_KIND_QUERY, APM_COUNT_ACTOR_QUERIES, 0, 5);
	item.body.len--;
	CHECK(apply(&w, item) == APM_RULE_ITEM);
	item = template("broken", APM_KIND_QUERY, "ward", false);
	item.body.len--;
	CHECK(apply(&w, item) == APM_RULE_ITEM);
	CHECK(apply(&w, drop(APM_ITEM_DROP_RULE, "nobody")) == APM_RULE_ITEM);
	CHECK(apply(&w, drop(APM_ITEM_DROP_TEMPLATE, "r")) == APM_RULE_ITEM);
	CHECK(apply(&w, drop(APM_ITEM_DROP_DATA_RULE, "t")) == APM_RULE_ITEM);
	CHECK(apply(&w, drop(APM_ITEM_DROP_RULE, "r")) == APM_RULE_NONE);
	CHECK(apply(&w, drop(APM_ITEM_DROP_RULE, "r")) == APM_RULE_ITEM);
	world_close(&w);
}

/* An item may rest on those before it in its transaction; if one cannot be applied none is. */
static void
test_items_in_order(void)
{
	ApmItem good[] = {limit("r", APM_KIND_QUERY, APM_COUNT_ACTOR_QUERIES, 60, 5),
					  drop(APM_ITEM_DROP_RULE, "r"),
					  limit("r", APM_KIND_QUERY, APM_COUNT_ACTOR_QUERIES, 60, 7)};
	ApmItem bad[] = {policy(APM_POLICY_PURPOSE, 1), drop(APM_ITEM_DROP_RULE, "r"),
					 drop(APM_ITEM_DROP_RULE, "r")};
	ApmDigest before;
	ApmDigest after;
	ApmTransaction tx;
	World w;

	world_open(&w);
	tx = change(&w, good, 3);
	CHECK(take(&w, &tx) == APM_RULE_NONE);
	CHECK(strcmp(apm_contract_rule_name(w.state, APM_SITE_RULE), "r") == 0);
	CHECK(strcmp(apm_contract_rule_name(w.state, APM_SITE_RULE + 1), "r") == 0);
	CHECK(apm_contract_rule_name(w.state, APM_SITE_RULE + 2) == NULL);
	CHECK_OK(apm_contract_digest(w.state, &before));
	tx = change(&w, bad, 3);
	CHECK(take(&w, &tx) == APM_RULE_ITEM);
	CHECK_OK(apm_contract_digest(w.state, &after));
	CHECK(memcmp(&before, &after, sizeof(before)) == 0);
	tx = change(&w, bad, 2);
	CHECK(take(&w, &tx) == APM_RULE_NONE);
	CHECK_OK(apm_contract_digest(w.state, &after));
	CHECK(memcmp(&before, &after, sizeof(before)) != 0);
	world_close(&w);
}

static const char *
numbered(const char *stem, int n)
{
	static char names[256][16];
	static int used = 0;

	snprintf(names[used % 256], sizeof(names[0]), "%s%d", stem, n);
	return names[used++ % 256];
}

/* As many as there may be and not one more; a replacement is not one more. */
static void
test_bounds(void)
{
	World w;
	int n;

	world_open(&w);
	for (n = 0; n < APM_SITE_RULES_MAX; n++)
		CHECK(apply(&w, limit(numbered("r", n), APM_KIND_QUERY, APM_COUNT_ACTOR_QUERIES, (uint32_t) n % 15,
							  5)) == APM_RULE_NONE);
	CHECK(apply(&w, limit("one-more", APM_KIND_QUERY, APM_COUNT_ACTOR_QUERIES, 1, 5)) == APM_RULE_ITEM);
	CHECK(apply(&w, limit("r3", APM_KIND_QUERY, APM_COUNT_ACTOR_QUERIES, 1, 9)) == APM_RULE_NONE);
	/* a sixteenth counter, unless what asked for another goes */
	CHECK(apply(&w, limit("r3", APM_KIND_QUERY, APM_COUNT_ACTOR_QUERIES, 77, 9)) == APM_RULE_ITEM);
	CHECK(apply(&w, drop(APM_ITEM_DROP_RULE, "r14")) == APM_RULE_NONE);
	CHECK(apply(&w, limit("r29", APM_KIND_PRIMARY, APM_COUNT_PATIENT_RECORDS, 14, 9)) == APM_RULE_NONE);
	CHECK(apply(&w, limit("r30", APM_KIND_PRIMARY, APM_COUNT_PATIENT_RECORDS, 15, 9)) == APM_RULE_ITEM);

	for (n = 0; n < APM_TEMPLATES_MAX; n++)
		CHECK(apply(&w, template(numbered("t", n), APM_KIND_PRIMARY, "ward", false)) == APM_RULE_NONE);
	CHECK(apply(&w, template("one-more", APM_KIND_PRIMARY, "ward", false)) == APM_RULE_ITEM);
	CHECK(apply(&w, template("t5", APM_KIND_QUERY, "ward", false)) == APM_RULE_NONE);
	for (n = 0; n < APM_DATA_RULES_MAX; n++)
		CHECK(apply(&w, data_rule(numbered("d", n), "pulse", "{}", APM_VIOLATION_FLAG)) == APM_RULE_NONE);
	CHECK(apply(&w, data_rule("one-more", "pulse", "{}", APM_VIOLATION_FLAG)) == APM_RULE_ITEM);
	CHECK(apply(&w, data_rule("d5", "pulse", "{}", APM_VIOLATION_REFUSE)) == APM_RULE_NONE);
	world_close(&w);
}

/* Rules have numbers in the order in which they came, and no number is given twice or beyond what fits. */
static void
test_numbers(void)
{
	ApmDigest chain = sample_digest(0xc0);
	ApmItem rule = limit("r", APM_KIND_QUERY, APM_COUNT_ACTOR_QUERIES, 60, 5);
	ApmContractState *s;
	int n = 0;

	CHECK_OK(apm_contract_new(&chain, &s));
	while (apm_contract_load_item(s, &rule, 0) == APM_OK)
		n++;
	CHECK(n == INT16_MAX - APM_SITE_RULE + 1);
	CHECK(apm_contract_rule_name(s, INT16_MAX) != NULL && apm_contract_rule_name(s, INT16_MAX + 1) == NULL);
	apm_contract_free(s);
}

/* In the order that the digest is over, whatever the order in which they came. */
static void
test_next_item(void)
{
	static const char *const expected[] = {"2", "3", "teaching", "a", "b", "a-rule", "pulse"};
	ApmDigest chain = sample_digest(0xc0);
	ApmItem items[] = {data_rule("pulse", "pulse", "{}", APM_VIOLATION_FLAG),
					   limit("a-rule", APM_KIND_QUERY, APM_COUNT_ACTOR_QUERIES, 60, 5),
					   template("b", APM_KIND_QUERY, "x", true),
					   template("a", APM_KIND_QUERY, "y", true),
					   code(APM_ITEM_PURPOSE, 8, "teaching"),
					   policy(APM_POLICY_PURPOSE, 1),
					   policy(APM_POLICY_ACCESS, 2)};
	ApmContractState *s;
	ApmItem item;
	size_t at = 0;
	size_t n = 0;

	CHECK_OK(apm_contract_new(&chain, &s));
	for (size_t i = 0; i < sizeof(items) / sizeof(items[0]); i++)
		CHECK_OK(apm_contract_load_item(s, &items[i], 0));
	while (apm_contract_next_item(s, &at, &item) && CHECK(n < 7))
	{
		if (item.type == APM_ITEM_POLICY)
			CHECK(item.key == atoi(expected[n]));
		else
			CHECK(item.name.len == strlen(expected[n]) &&
				  memcmp(item.name.data, expected[n], item.name.len) == 0);
		n++;
	}
	CHECK(n == 7);
	apm_contract_free(s);
}

static void
put_field(ApmTransaction *tx, const char *name, int64_t value)
{
	ApmPublicField field = {.name = sample_text(name), .type = APM_FIELD_INTEGER, .number = value};
	ApmBuf buf = {0};

	CHECK_OK(apm_fields_encode(&field, 1, &buf));
	tx->fields = keep(&buf);
}

/* The verdict on a query made that long ago, with this public field unless it is NULL. */
static uint16_t
query_with(World *w, const char *field, int64_t value, uint64_t ago_us)
{
	ApmTransaction tx = of_kind(w, APM_KIND_QUERY);

	tx.time_us -= ago_us;
	if (field != NULL)
		put_field(&tx, field, value);
	return verdict(w, &tx);
}

static void
test_template_fields(void)
{
	World w;
	ApmTransaction tx;

	open_with_patient(&w);
	CHECK(query_with(&w, NULL, 0, 0) == APM_RULE_NONE);
	CHECK(query_with(&w, "ward", 3, 0) == APM_RULE_TEMPLATE); /* no template, no fields */
	CHECK(apply(&w, template("t", APM_KIND_QUERY, "ward", true)) == APM_RULE_NONE);
	next_block(&w, 2 * HOUR);
	CHECK(query_with(&w, "ward", 3, 0) == APM_RULE_NONE);
	CHECK(query_with(&w, "ward", 10, 0) == APM_RULE_TEMPLATE);
	CHECK(query_with(&w, "wards", 3, 0) == APM_RULE_TEMPLATE);
	CHECK(query_with(&w, NULL, 0, 0) == APM_RULE_TEMPLATE);
	/* a second template is another way to be made */
	CHECK(apply(&w, template("u", APM_KIND_QUERY, "bed", false)) == APM_RULE_NONE);
	CHECK(query_with(&w, "ward", 3, 0) == APM_RULE_NONE);
	CHECK(query_with(&w, "bed", 3, 0) == APM_RULE_NONE);
	CHECK(query_with(&w, NULL, 0, 0) == APM_RULE_NONE);

	/* of other kinds nothing is asked */
	tx = of_kind(&w, APM_KIND_PRIMARY);
	CHECK(verdict(&w, &tx) == APM_RULE_NONE);
	put_field(&tx, "ward", 3);
	CHECK(verdict(&w, &tx) == APM_RULE_TEMPLATE);
	tx = of_kind(&w, APM_KIND_PATIENT);
	tx.u.patient.apid = sample_text("r.another");
	put_field(&tx, "ward", 3);
	CHECK(verdict(&w, &tx) == APM_RULE_TEMPLATE);
	world_close(&w);
}

/* For so long after a change a query may be as before it; measured from its own time. */
static void
test_template_grace(void)
{
	const uint64_t grace = APM_QUERY_GRACE_US;
	World w;

	open_with_patient(&w);
	CHECK(apply(&w, template("t", APM_KIND_QUERY, "ward", true)) == APM_RULE_NONE);
	CHECK(query_with(&w, NULL, 0, 0) == APM_RULE_NONE);
	next_block(&w, grace - 1);
	CHECK(query_with(&w, NULL, 0, 0) == APM_RULE_NONE);
	next_block(&w, 1);
	CHECK(query_with(&w, NULL, 0, 0) == APM_RULE_TEMPLATE);
	CHECK(query_with(&w, NULL, 0, 1) == APM_RULE_NONE);

	/* replaced: the old form for a while, and never none */
	CHECK(apply(&w, template("t", APM_KIND_QUERY, "bed", true)) == APM_RULE_NONE);
	CHECK(query_with(&w, NULL, 0, 0) == APM_RULE_TEMPLATE);
	next_block(&w, grace - 1);
	CHECK(query_with(&w, "ward", 3, 0) == APM_RULE_NONE && query_with(&w, "bed", 3, 0) == APM_RULE_NONE);
	CHECK(query_with(&w, NULL, 0, 0) == APM_RULE_TEMPLATE);
	next_block(&w, 1);
	CHECK(query_with(&w, "ward", 3, 0) == APM_RULE_TEMPLATE && query_with(&w, "bed", 3, 0) == APM_RULE_NONE);

	/* dropped, and another begins with another block: between them there was none */
	CHECK(apply(&w, drop(APM_ITEM_DROP_TEMPLATE, "t")) == APM_RULE_NONE);
	CHECK(query_with(&w, NULL, 0, 0) == APM_RULE_NONE && query_with(&w, "bed", 3, 0) == APM_RULE_NONE);
	next_block(&w, 2 * grace);
	CHECK(query_with(&w, "bed", 3, 0) == APM_RULE_TEMPLATE);
	CHECK(query_with(&w, "bed", 3, 2 * grace) == APM_RULE_NONE);
	CHECK(apply(&w, template("u", APM_KIND_QUERY, "bed", true)) == APM_RULE_NONE);
	CHECK(query_with(&w, NULL, 0, 0) == APM_RULE_NONE);
	next_block(&w, grace);
	CHECK(query_with(&w, NULL, 0, 0) == APM_RULE_TEMPLATE);

	/* comes and goes at one block time: in force to what stands between, and at no moment */
	CHECK(apply(&w, template("v", APM_KIND_QUERY, "cot", true)) == APM_RULE_NONE);
	CHECK(query_with(&w, "cot", 3, 0) == APM_RULE_NONE);
	CHECK(apply(&w, drop(APM_ITEM_DROP_TEMPLATE, "v")) == APM_RULE_NONE);
	CHECK(query_with(&w, "cot", 3, 0) == APM_RULE_TEMPLATE);
	world_close(&w);
}

static uint16_t
record_held_to(World *w, const ApmDigest *ruleset, uint64_t ago_us)
{
	ApmTransaction tx = of_kind(w, APM_KIND_PRIMARY);

	tx.time_us -= ago_us;
	tx.u.primary.ruleset = *ruleset;
	return verdict(w, &tx);
}

/*
 * The digest's known answer was computed with Python's struct and hashlib alone, over the items of
 * doc/format.md one after the other.
 */
static void
test_ruleset(void)
{
	ApmItem items[] = {data_rule("weight", "kg", "{\"range\":[0,500]}", APM_VIOLATION_FLAG),
					   data_rule("pulse", "pulse", "{\"range\":[0,300]}", APM_VIOLATION_REFUSE)};
	const ApmDigest none = sample_digest(0);
	ApmDigest one;
	ApmDigest two;
	ApmTransaction tx;
	World w;

	open_with_patient(&w);
	CHECK_OK(apm_contract_ruleset(w.state, &one));
	CHECK(memcmp(&one, &none, sizeof(none)) == 0);
	CHECK(record_held_to(&w, &none, 0) == APM_RULE_NONE);
	tx = change(&w, items, 2);
	CHECK(take(&w, &tx) == APM_RULE_NONE);
	CHECK_OK(apm_contract_ruleset(w.state, &two));
	CHECK_HEX(two.bytes, APM_DIGEST_LEN, "1fb9a798f7e318c372ab59c43992ae3575e06166ebaf952dedf406d29adc7e37");
	CHECK(record_held_to(&w, &two, 0) == APM_RULE_NONE && record_held_to(&w, &none, 0) == APM_RULE_NONE);
	CHECK(record_held_to(&w, &one, 0) == APM_RULE_NONE); /* also zeros */
	next_block(&w, APM_QUEUED_GRACE_US - 1);
	CHECK(record_held_to(&w, &none, 0) == APM_RULE_NONE);
	next_block(&w, 1);
	CHECK(record_held_to(&w, &two, 0) == APM_RULE_NONE && record_held_to(&w, &none, 0) == APM_RULE_RULESET);
	CHECK(record_held_to(&w, &none, 1) == APM_RULE_NONE);

	CHECK(apply(&w, drop(APM_ITEM_DROP_DATA_RULE, "pulse")) == APM_RULE_NONE);
	CHECK_OK(apm_contract_ruleset(w.state, &one));
	CHECK(record_held_to(&w, &one, 0) == APM_RULE_NONE && record_held_to(&w, &two, 0) == APM_RULE_NONE);
	next_block(&w, APM_QUEUED_GRACE_US);
	CHECK(record_held_to(&w, &one, 0) == APM_RULE_NONE && record_held_to(&w, &two, 0) == APM_RULE_RULESET);
	CHECK(apply(&w, drop(APM_ITEM_DROP_DATA_RULE, "weight")) == APM_RULE_NONE);
	next_block(&w, APM_QUEUED_GRACE_US);
	CHECK(record_held_to(&w, &none, 0) == APM_RULE_NONE && record_held_to(&w, &one, 0) == APM_RULE_RULESET);
	/* what came in the same block and never stood at its end was never in force: only "one" and "none" were */
	tx = change(&w, items, 2);
	CHECK(take(&w, &tx) == APM_RULE_NONE &&
		  apply(&w, drop(APM_ITEM_DROP_DATA_RULE, "pulse")) == APM_RULE_NONE);
	CHECK(record_held_to(&w, &two, 0) == APM_RULE_RULESET);
	CHECK(record_held_to(&w, &one, 0) == APM_RULE_NONE);
	world_close(&w);
}

/* A rule judges from the block after its own to the one that ends it, its kind alone, in the order of numbers. */
static void
test_site_rules(void)
{
	ApmTransaction query;
	ApmTransaction record;
	World w;

	open_with_patient(&w);
	query = of_kind(&w, APM_KIND_QUERY);
	record = of_kind(&w, APM_KIND_PRIMARY);
	CHECK(apply(&w, never("zz", APM_KIND_QUERY)) == APM_RULE_NONE);
	CHECK(verdict(&w, &query) == APM_RULE_NONE);
	next_block(&w, 0); /* the next block, if of the same time */
	CHECK(verdict(&w, &query) == APM_SITE_RULE && verdict(&w, &record) == APM_RULE_NONE);
	CHECK(apply(&w, never("aa", APM_KIND_QUERY)) == APM_RULE_NONE);
	next_block(&w, 0);
	CHECK(verdict(&w, &query) == APM_SITE_RULE);
	CHECK(strcmp(apm_contract_rule_name(w.state, APM_SITE_RULE), "zz") == 0);

	/* replaced and dropped: until the end of this block as before it */
	CHECK(apply(&w, never("zz", APM_KIND_PRIMARY)) == APM_RULE_NONE);
	CHECK(apply(&w, drop(APM_ITEM_DROP_RULE, "aa")) == APM_RULE_NONE);
	CHECK(verdict(&w, &query) == APM_SITE_RULE && verdict(&w, &record) == APM_RULE_NONE);
	next_block(&w, 0);
	CHECK(verdict(&w, &query) == APM_RULE_NONE && verdict(&w, &record) == APM_SITE_RULE + 2);
	/* in force for no block at all */
	CHECK(apply(&w, never("short", APM_KIND_QUERY)) == APM_RULE_NONE);
	CHECK(apply(&w, drop(APM_ITEM_DROP_RULE, "short")) == APM_RULE_NONE);
	CHECK(verdict(&w, &query) == APM_RULE_NONE);
	next_block(&w, 0);
	CHECK(verdict(&w, &query) == APM_RULE_NONE);
	CHECK(strcmp(apm_contract_rule_name(w.state, APM_SITE_RULE + 3), "short") == 0);

	/* a built-in rule that is broken too is the verdict */
	record.u.primary.ruleset = sample_digest(9);
	CHECK(verdict(&w, &record) == APM_RULE_RULESET);
	world_close(&w);
}

/* Counters of rules: of the actor, of the patient; of what was valid before, in this block too. */
static void
test_site_counters(void)
{
	ApmTransaction tx;
	World w;

	open_with_patient(&w);
	CHECK(apply(&w, limit("per-actor", APM_KIND_QUERY, APM_COUNT_ACTOR_QUERIES, 60, 2)) == APM_RULE_NONE);
	CHECK(apply(&w, limit("per-patient", APM_KIND_PRIMARY, APM_COUNT_PATIENT_RECORDS, 0, 2)) ==
		  APM_RULE_NONE);
	next_block(&w, SECOND);
	for (int n = 0; n < 4; n++)
	{
		tx = of_kind(&w, APM_KIND_QUERY);
		CHECK(take(&w, &tx) == (n < 2 ? APM_RULE_NONE : APM_SITE_RULE));
		tx = of_kind(&w, APM_KIND_PRIMARY);
		tx.u.primary.rid = sample_uuid((uint8_t) (0x20 + n));
		tx.actor[0] = (uint8_t) n;
		CHECK(take(&w, &tx) == (n < 2 ? APM_RULE_NONE : APM_SITE_RULE + 1));
	}
	/* a search counts for its actor and has no patient to count for */
	next_block(&w, 60 * SECOND);
	CHECK(apply(&w, limit("none-of-patient", APM_KIND_QUERY, APM_COUNT_PATIENT_QUERIES, 0, 1)) ==
		  APM_RULE_NONE);
	next_block(&w, 0);
	tx = of_kind(&w, APM_KIND_QUERY);
	CHECK(verdict(&w, &tx) == APM_SITE_RULE + 2);
	tx.u.query.scope = APM_SCOPE_SEARCH;
	tx.u.query.apid = APM_SLICE(NULL, 0);
	tx.u.query.tokens = (ApmTokens){1, sample_role};
	CHECK(take(&w, &tx) == APM_RULE_NONE && take(&w, &tx) == APM_RULE_NONE);
	CHECK(verdict(&w, &tx) == APM_SITE_RULE);
	world_close(&w);
}

/* What a predicate asks of names is answered from the lists of the chain. */
static void
test_site_names(void)
{
	ApmBuf buf = {0};
	ApmItem item = {.type = APM_ITEM_RULE, .name = sample_text("why"), .kind = APM_KIND_QUERY};
	ApmTransaction tx;
	World w;

	open_with_patient(&w);
	p_op(&buf, APM_OP_EQ);
	p_field(&buf, APM_TERM_PURPOSE);
	p_text(&buf, "teaching");
	item.body = keep(&buf);
	CHECK(apply(&w, code(APM_ITEM_PURPOSE, 20, "teaching")) == APM_RULE_NONE);
	CHECK(apply(&w, item) == APM_RULE_NONE);
	next_block(&w, 0);
	tx = of_kind(&w, APM_KIND_QUERY);
	CHECK(verdict(&w, &tx) == APM_SITE_RULE);
	tx.u.query.purpose = 20;
	CHECK(verdict(&w, &tx) == APM_RULE_NONE);
	world_close(&w);
}

int
main(void)
{
	test_policy_bounds();
	test_lists();
	test_refused_items();
	test_items_in_order();
	test_bounds();
	test_numbers();
	test_next_item();
	test_template_fields();
	test_template_grace();
	test_ruleset();
	test_site_rules();
	test_site_counters();
	test_site_names();
	return check_summary();
}
