/*
 * test_undecided.c
 *	  Out of memory is never a verdict: a state that could not be loaded says so, and the
 *	  contract is undecided, at whichever allocation memory runs out.
 */
#include "core/contract.h"

#include "core/field.h"
#include "predicates.h"
#include "world.h"

static ApmEcKey *origin;
static uint64_t height; /* 0: the chain has no origin yet */
static ApmBuf input;
static ApmItem items[5];

static ApmStatus
load_items(ApmContractState *s)
{
	ApmStatus status = APM_OK;

	for (int i = 0; i < 5 && status == APM_OK; i++)
		status = apm_contract_load_item(s, &items[i], 0);
	return status;
}

static ApmDigest
ruleset_of_items(void)
{
	ApmDigest chain = sample_digest(0xc0);
	ApmContractState *s;
	ApmDigest ruleset;

	CHECK_OK(apm_contract_new(&chain, &s));
	CHECK_OK(load_items(s));
	CHECK_OK(apm_contract_ruleset(s, &ruleset));
	apm_contract_free(s);
	return ruleset;
}

static ApmStatus
load_key(ApmContractState *s, ApmMember member)
{
	ApmMemberState m = sample_first_key(member, origin);

	return apm_contract_load_member(s, &m);
}

static ApmStatus
load_leaves(ApmContractState *s)
{
	ApmTransaction tx = sample_transaction(APM_KIND_ERASURE);
	ApmStatus status = APM_OK;
	ApmVoid leaf;

	for (uint32_t i = 0; i < tx.u.erasure.count && status == APM_OK; i++)
	{
		apm_erasure_void(&tx.u.erasure, i, &leaf);
		status = apm_contract_load_leaf(s, tx.u.erasure.apid, &leaf);
	}
	return status;
}

static ApmStatus
load_ledger(ApmContractState *s)
{
	ApmPatientState p = {.known = true, .version = 1};
	ApmRecordState r = {.known = true};
	ApmConsentState c = {.granted = true};
	ApmQueryState q = {.known = true};
	ApmUuid id = sample_uuid(1);
	ApmDigest subject = sample_digest(5);
	ApmStatus status = load_key(s, APM_MEMBER_NODE);

	apm_ec_id(origin, &p.origin);
	if (status == APM_OK)
		status = apm_contract_load_patient(s, sample_text(SAMPLE_APID), &p);
	if (status == APM_OK)
		status = load_leaves(s);
	if (status == APM_OK)
		status = apm_contract_load_record(s, &id, &r);
	for (uint16_t purpose = 0; purpose < 6 && status == APM_OK; purpose++)
		status = apm_contract_load_consent(s, sample_text(SAMPLE_APID), sample_role, purpose, &c);
	if (status == APM_OK)
		status = apm_contract_load_query(s, &id, &q);
	if (status == APM_OK)
		status = apm_contract_load_study(s, id.bytes, 1);
	if (status == APM_OK)
		status = apm_contract_load_count(s, APM_COUNT_ACTOR_QUERIES, &subject, 1, 1);
	return status;
}

static ApmStatus
judge_and_apply(ApmContractState *s)
{
	ApmOpened opened;
	ApmNeeds needs;
	ApmDigest digest;
	ApmStatus status = apm_open_signed(APM_SLICE(input.data, input.len), &opened);
	uint16_t rule;

	if (status == APM_OK)
		status = apm_contract_needs(s, &opened, &needs);
	if (status != APM_OK)
		return status;
	rule = apm_contract_evaluate(s, &opened, height, BLOCK_TIME);
	CHECK(rule == APM_RULE_NONE || rule == APM_RULE_UNDECIDED);
	if (rule != APM_RULE_NONE)
		return APM_ERR_MEMORY;
	status = apm_contract_apply(s, &opened, height, 0, BLOCK_TIME);
	return status == APM_OK ? apm_contract_digest(s, &digest) : status;
}

/* Makes a state, loads it, evaluates and applies; whatever could not be done shows as APM_ERR_MEMORY. */
static ApmStatus
load_and_judge(void)
{
	ApmDigest chain = sample_digest(0xc0);
	ApmContractState *s;
	ApmStatus status = apm_contract_new(&chain, &s);

	if (status != APM_OK)
		return status;
	if (height > 0)
		status = load_key(s, APM_MEMBER_ORIGIN);
	if (status == APM_OK)
		status = load_items(s);
	if (status == APM_OK)
		status = load_ledger(s);
	if (status == APM_OK)
		status = judge_and_apply(s);
	apm_contract_free(s);
	return status;
}

/* What an erasure left of a record, and the erasure's leaf for it. */
static ApmStatus
apply_void(void)
{
	ApmDigest chain = sample_digest(0xc0);
	ApmVoid voided = {.leaf = sample_digest(3), .kind = APM_KIND_PRIMARY};
	ApmContractState *s;
	ApmStatus status = apm_contract_new(&chain, &s);

	if (status != APM_OK)
		return status;
	status = apm_contract_apply_void(s, sample_text(SAMPLE_APID), &chain, &voided, BLOCK_TIME);
	apm_contract_free(s);
	return status;
}

static void
judge_without_memory(ApmTransaction tx, uint16_t roles)
{
	apm_ec_id(origin, &tx.origin);
	tx.roles = roles;
	sample_sign(origin, &tx, &input);
	CHECK_EACH_ALLOCATION(load_and_judge);
	apm_buf_reset(&input);
}

int
main(void)
{
	ApmFieldSpec spec = {.name = sample_text("ward"), .type = APM_FIELD_BOOLEAN};
	ApmItem more[2];
	ApmBuf predicate = {0};
	ApmBuf specs = {0};
	ApmTransaction tx;
	ApmEcKey *next = sample_key();

	origin = sample_key();
	p_limit(&predicate, APM_COUNT_ACTOR_QUERIES, 60, 5);
	CHECK_OK(apm_specs_encode(&spec, 1, &specs));
	items[0] = (ApmItem){.type = APM_ITEM_PURPOSE, .key = 1, .name = sample_text("treatment")};
	items[4] = (ApmItem){.type = APM_ITEM_REASON, .key = 6, .name = sample_text("no-longer-needed")};
	items[1] = (ApmItem){
		.type = APM_ITEM_TEMPLATE, .name = sample_text("t"), .kind = APM_KIND_QUERY, .body = p_slice(&specs)};
	items[2] = (ApmItem){
		.type = APM_ITEM_RULE, .name = sample_text("r"), .kind = APM_KIND_QUERY, .body = p_slice(&predicate)};
	items[3] = (ApmItem){.type = APM_ITEM_DATA_RULE,
						 .name = sample_text("d"),
						 .attribute = sample_text("pulse"),
						 .body = sample_text("{}"),
						 .violation = APM_VIOLATION_FLAG};

	tx = sample_transaction(APM_KIND_PATIENT);
	tx.u.patient.apid = sample_text("r.new");
	height = HEIGHT;
	judge_without_memory(tx, APM_ROLE_REGISTRAR);
	judge_without_memory(sample_transaction(APM_KIND_QUERY), APM_ROLE_CLINICIAN);
	tx = sample_transaction(APM_KIND_PRIMARY);
	tx.u.primary.ruleset = ruleset_of_items();
	judge_without_memory(tx, APM_ROLE_CLINICIAN);
	judge_without_memory(sample_transaction(APM_KIND_CONSENT), APM_ROLE_REGISTRAR);
	judge_without_memory(sample_transaction(APM_KIND_EXPORT), APM_ROLE_RESEARCHER);
	tx = sample_transaction(APM_KIND_CONTRACT);
	more[0] = items[2];
	more[1] = (ApmItem){.type = APM_ITEM_DROP_DATA_RULE, .name = sample_text("d")};
	sample_items(more, 2, &tx.u.contract);
	judge_without_memory(tx, APM_ROLE_ADMIN);
	tx = sample_transaction(APM_KIND_ERASURE);
	judge_without_memory(tx, APM_ROLE_REGISTRAR);
	judge_without_memory(sample_succession(APM_MEMBER_ORIGIN, origin, next), APM_ROLE_ADMIN);
	CHECK_EACH_ALLOCATION(apply_void);
	height = 0;
	judge_without_memory(sample_membership(APM_MEMBER_ORIGIN, origin), APM_ROLE_ADMIN);

	apm_buf_reset(&predicate);
	apm_buf_reset(&specs);
	apm_ec_free(origin);
	apm_ec_free(next);
	return check_summary();
}
