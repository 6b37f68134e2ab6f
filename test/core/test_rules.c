/*
 * test_rules.c
 *	  Every rule of the contract, broken on purpose and alone, and what a valid transaction
 *	  changes for those after it.
 */
#include "core/contract.h"

#include "world.h"

static void
test_names(void)
{
	CHECK(strcmp(apm_rule_name(APM_RULE_FRESH), "fresh") == 0);
	for (int rule = APM_RULE_TEMPLATE; rule <= APM_RULE_ERASURE; rule++)
		CHECK(apm_rule_name((uint16_t) rule) != NULL && apm_rule_text((uint16_t) rule) != NULL);
	CHECK(apm_rule_name(APM_RULE_NONE) == NULL);
	CHECK(apm_rule_name(APM_RULE_ERASURE + 1) == NULL);
	CHECK(apm_rule_text(APM_RULE_UNDECIDED) == NULL);

	for (uint16_t code = 1; code <= 7; code++)
		CHECK(apm_genesis_purpose(code) != NULL);
	CHECK(apm_genesis_purpose(0) == NULL && apm_genesis_purpose(8) == NULL);
	CHECK(strcmp(apm_genesis_purpose(APM_PURPOSE_EMERGENCY), "emergency") == 0);
	CHECK(strcmp(apm_genesis_purpose(APM_PURPOSE_PATIENT_REQUEST), "patient-request") == 0);
	CHECK(strcmp(apm_genesis_purpose(APM_PURPOSE_RESEARCH), "research") == 0);
	for (uint16_t code = 1; code <= 10; code++)
	{
		CHECK(apm_genesis_reason(code) != NULL);
		CHECK(apm_reason_fits(code, true) == (code >= 6) && apm_reason_fits(code, false) == (code <= 5));
	}
	CHECK(strcmp(apm_genesis_reason(6), "no-longer-needed") == 0);
	CHECK(apm_genesis_reason(0) == NULL && apm_genesis_reason(11) == NULL);
	CHECK(apm_reason_fits(11, true) && apm_reason_fits(11, false));
}

/* What the other tests break is valid to begin with. */
static void
test_valid(void)
{
	World w;
	ApmTransaction tx;

	world_open(&w);
	tx = of_kind(&w, APM_KIND_PATIENT);
	CHECK(verdict(&w, &tx) == APM_RULE_NONE);
	load_patient(&w, false);
	tx = of_kind(&w, APM_KIND_PRIMARY);
	CHECK(verdict(&w, &tx) == APM_RULE_NONE);
	tx = of_kind(&w, APM_KIND_QUERY);
	CHECK(verdict(&w, &tx) == APM_RULE_NONE);
	tx = of_kind(&w, APM_KIND_CONSENT);
	tx.roles = APM_ROLE_REGISTRAR;
	CHECK(verdict(&w, &tx) == APM_RULE_NONE);
	tx = of_kind(&w, APM_KIND_EXPORT);
	tx.roles = APM_ROLE_RESEARCHER;
	CHECK(verdict(&w, &tx) == APM_RULE_NONE);
	tx = member(&w, APM_MEMBER_NODE, w.stranger);
	CHECK(judge(&w, w.origin, &tx, 0, false) == APM_RULE_NONE);
	tx = of_kind(&w, APM_KIND_CONTRACT);
	CHECK(judge(&w, w.origin, &tx, 0, false) == APM_RULE_NONE);
	world_close(&w);
}

/* A body that is no transaction and a proof that is none are refused, and still have a leaf and a Tid. */
static void
test_template_form(void)
{
	World w;
	ApmSigned s;
	ApmOpened opened;
	ApmNeeds needs;
	ApmUuid none = sample_uuid(0);
	ApmBuf buf = {0};

	world_open(&w);
	memset(&s, 0, sizeof(s));
	s.transaction = sample_text("not a transaction");
	s.proof = sample_text("not a proof");
	apm_signed_encode(&s, &buf);
	CHECK_OK(apm_open_signed(APM_SLICE(buf.data, buf.len), &opened));
	CHECK(!opened.wellformed);
	CHECK(memcmp(&opened.tid, &none, sizeof(none)) != 0);
	CHECK(apm_contract_evaluate(w.state, &opened, HEIGHT, BLOCK_TIME) == APM_RULE_TEMPLATE);
	CHECK_STATUS(apm_contract_apply(w.state, &opened, HEIGHT, 0, BLOCK_TIME), APM_ERR_FORMAT);
	CHECK_OK(apm_contract_needs(w.state, &opened, &needs));
	CHECK(needs.apid.len == 0 && !needs.has_rid && !needs.has_amends);
	CHECK_STATUS(apm_open_signed(APM_SLICE(buf.data, buf.len - 1), &opened), APM_ERR_FORMAT);
	CHECK_STATUS(apm_open_signed(APM_SLICE(NULL, 0), &opened), APM_ERR_FORMAT);
	apm_buf_reset(&buf);
	world_close(&w);
}

/* A transaction that reads well but whose proof does not. */
static void
test_template_proof(void)
{
	World w;
	ApmTransaction tx;
	ApmBuf whole = {0};
	ApmBuf cut = {0};
	ApmSigned s;
	ApmOpened opened;
	ApmNeeds needs;

	world_open(&w);
	tx = of_kind(&w, APM_KIND_PATIENT);
	sample_sign(w.origin, &tx, &whole);
	CHECK_OK(apm_signed_decode(APM_SLICE(whole.data, whole.len), &s));
	s.proof.len--;
	apm_signed_encode(&s, &cut);
	CHECK_OK(apm_open_signed(APM_SLICE(cut.data, cut.len), &opened));
	CHECK(!opened.wellformed);
	CHECK(apm_contract_evaluate(w.state, &opened, HEIGHT, BLOCK_TIME) == APM_RULE_TEMPLATE);
	CHECK_OK(apm_contract_needs(w.state, &opened, &needs));
	CHECK(needs.apid.len == 0);
	apm_buf_reset(&whole);
	apm_buf_reset(&cut);
	world_close(&w);
}

/* Fields within the encoding's bounds and beyond the contract's. */
static void
test_template_fields(void)
{
	World w;
	ApmTransaction tx;

	world_open(&w);
	tx = member(&w, APM_MEMBER_NODE, w.stranger);
	tx.u.membership.spki[50] ^= 1; /* off the curve */
	CHECK(judge(&w, w.origin, &tx, 0, false) == APM_RULE_TEMPLATE);
	world_close(&w);
}

static void
test_chain_and_origin(void)
{
	World w;
	ApmTransaction tx;

	world_open(&w);
	tx = of_kind(&w, APM_KIND_PATIENT);
	tx.chain.bytes[31] ^= 1;
	CHECK(verdict(&w, &tx) == APM_RULE_CHAIN);
	tx = of_kind(&w, APM_KIND_PATIENT);
	tx.origin = w.stranger_id;
	CHECK(judge(&w, w.stranger, &tx, HEIGHT, false) == APM_RULE_ORIGIN);
	tx = of_kind(&w, APM_KIND_PATIENT);
	CHECK(judge(&w, w.stranger, &tx, HEIGHT, false) == APM_RULE_SIGNATURE);
	load_origin(&w, w.stranger);
	CHECK(judge(&w, w.stranger, &tx, HEIGHT, false) == APM_RULE_SIGNATURE);
	world_close(&w);
}

/* In the genesis block an origin brings itself, signed by itself, and nobody else. */
static void
test_first_origin(void)
{
	World w;
	ApmContractState *full;
	ApmDigest chain = sample_digest(0xc0);
	ApmTransaction tx;

	world_open(&w);
	full = w.state;
	CHECK_OK(apm_contract_new(&chain, &w.state));
	tx = member(&w, APM_MEMBER_ORIGIN, w.origin);
	CHECK(judge(&w, w.stranger, &tx, 0, false) == APM_RULE_SIGNATURE);
	CHECK(judge(&w, w.origin, &tx, 1, false) == APM_RULE_ORIGIN);
	tx = member(&w, APM_MEMBER_ORIGIN, w.stranger);
	CHECK(judge(&w, w.origin, &tx, 0, false) == APM_RULE_ORIGIN);
	tx = member(&w, APM_MEMBER_NODE, w.origin);
	CHECK(judge(&w, w.origin, &tx, 0, false) == APM_RULE_ORIGIN);
	tx = member(&w, APM_MEMBER_ORIGIN, w.origin);
	CHECK(judge(&w, w.origin, &tx, 0, true) == APM_RULE_NONE);

	/* from here on it admits others, and sets policies */
	tx = member(&w, APM_MEMBER_NODE, w.stranger);
	CHECK(judge(&w, w.origin, &tx, 0, true) == APM_RULE_NONE);
	CHECK(apm_contract_node(w.state, &w.stranger_id) != NULL);
	CHECK(apm_contract_node(w.state, &w.origin_id) == NULL);
	tx = of_kind(&w, APM_KIND_CONTRACT);
	CHECK(judge(&w, w.origin, &tx, 0, true) == APM_RULE_NONE);
	CHECK(apm_contract_policy(w.state, APM_POLICY_DIFFICULTY) == 8);
	apm_contract_free(full);
	world_close(&w);
}

static void
test_fresh(void)
{
	World w;
	ApmTransaction tx;
	ApmRecordState seen = {.known = true};

	world_open(&w);
	tx = of_kind(&w, APM_KIND_PATIENT);
	CHECK(judge(&w, w.origin, &tx, HEIGHT, true) == APM_RULE_NONE); /* says that the same Tid is not fresh */
	tx = of_kind(&w, APM_KIND_PRIMARY);
	CHECK(judge(&w, w.origin, &tx, HEIGHT, true) == APM_RULE_NONE);
	CHECK(verdict(&w, &tx) == APM_RULE_FRESH); /* another nonce and Tid, the same Rid */
	tx.u.primary.rid = sample_uuid(0x12);
	CHECK(verdict(&w, &tx) == APM_RULE_NONE);
	CHECK_OK(apm_contract_load_record(w.state, &tx.u.primary.rid, &seen));
	CHECK(verdict(&w, &tx) == APM_RULE_FRESH);
	world_close(&w);
}

/* A Tid that was loaded is as good as seen. */
static void
test_loaded_tid(void)
{
	World w;
	ApmTransaction tx;
	ApmBuf buf = {0};
	ApmOpened opened;
	ApmNeeds needs;

	world_open(&w);
	tx = of_kind(&w, APM_KIND_PRIMARY);
	tx.u.primary.flags = APM_PRIMARY_AMENDS;
	tx.u.primary.amends = sample_uuid(0x33);
	sample_sign(w.origin, &tx, &buf);
	CHECK_OK(apm_open_signed(APM_SLICE(buf.data, buf.len), &opened));
	CHECK_OK(apm_contract_needs(w.state, &opened, &needs));
	CHECK(memcmp(&needs.tid, &opened.tid, sizeof(needs.tid)) == 0);
	CHECK(needs.apid.len == strlen(SAMPLE_APID) && needs.has_rid && needs.has_amends);
	CHECK(needs.rid.bytes[0] == 0x11 && needs.amends.bytes[0] == 0x33);
	CHECK_OK(apm_contract_load_tid(w.state, &needs.tid));
	CHECK(apm_contract_evaluate(w.state, &opened, HEIGHT, BLOCK_TIME) == APM_RULE_FRESH);
	apm_buf_reset(&buf);
	world_close(&w);
}

static void
test_patient(void)
{
	World w;
	ApmTransaction tx;

	world_open(&w);
	tx = of_kind(&w, APM_KIND_PRIMARY);
	CHECK(verdict(&w, &tx) == APM_RULE_PATIENT);
	tx = of_kind(&w, APM_KIND_QUERY);
	CHECK(verdict(&w, &tx) == APM_RULE_PATIENT);
	tx = of_kind(&w, APM_KIND_CONSENT);
	CHECK(verdict(&w, &tx) == APM_RULE_PATIENT);
	tx = of_kind(&w, APM_KIND_PATIENT);
	tx.u.patient.version = 2;
	CHECK(verdict(&w, &tx) == APM_RULE_PATIENT);
	load_patient(&w, false);
	tx = of_kind(&w, APM_KIND_PATIENT);
	CHECK(verdict(&w, &tx) == APM_RULE_PATIENT);
	tx.u.patient.apid = sample_text("r.another");
	CHECK(verdict(&w, &tx) == APM_RULE_NONE);
	world_close(&w);
}

static void
test_erased_and_home(void)
{
	World w;
	ApmTransaction tx;

	world_open(&w);
	load_origin(&w, w.stranger);
	load_patient(&w, false);
	tx = of_kind(&w, APM_KIND_QUERY);
	tx.origin = w.stranger_id;
	CHECK(judge(&w, w.stranger, &tx, HEIGHT, false) == APM_RULE_HOME);
	tx = of_kind(&w, APM_KIND_PRIMARY);
	tx.origin = w.stranger_id;
	CHECK(judge(&w, w.stranger, &tx, HEIGHT, false) == APM_RULE_HOME);

	load_patient(&w, true);
	tx = of_kind(&w, APM_KIND_QUERY);
	CHECK(verdict(&w, &tx) == APM_RULE_ERASED);
	tx = of_kind(&w, APM_KIND_PRIMARY);
	CHECK(verdict(&w, &tx) == APM_RULE_ERASED);
	tx = of_kind(&w, APM_KIND_PATIENT);
	tx.u.patient.version = 2;
	tx.u.patient.old_profile = sample_digest(0xf1);
	CHECK(verdict(&w, &tx) == APM_RULE_ERASED);
	world_close(&w);
}

static void
test_time(void)
{
	World w;
	ApmTransaction tx;

	world_open(&w);
	tx = of_kind(&w, APM_KIND_PATIENT);
	tx.time_us = BLOCK_TIME + 1;
	CHECK(verdict(&w, &tx) == APM_RULE_TIME);
	tx.time_us = 0;
	CHECK(verdict(&w, &tx) == APM_RULE_NONE);
	world_close(&w);
}

/* Each kind but queries, with each single role, against the list of who may. */
static void
test_actor(void)
{
	static const struct
	{
		ApmKind kind;
		uint16_t allowed;
	} who[] = {{APM_KIND_PATIENT, APM_ROLE_REGISTRAR | APM_ROLE_ADMIN | APM_ROLE_CLINICIAN},
			   {APM_KIND_PRIMARY, APM_ROLE_CLINICIAN | APM_ROLE_ADMIN | APM_ROLE_SENSOR},
			   {APM_KIND_CONSENT, APM_ROLE_REGISTRAR},
			   {APM_KIND_ERASURE, APM_ROLE_REGISTRAR | APM_ROLE_ADMIN},
			   {APM_KIND_EXPORT, APM_ROLE_RESEARCHER},
			   {APM_KIND_MEMBERSHIP, APM_ROLE_ADMIN},
			   {APM_KIND_CONTRACT, APM_ROLE_ADMIN}};

	for (size_t i = 0; i < sizeof(who) / sizeof(who[0]); i++)
	{
		for (uint32_t role = 0; role <= APM_ROLE_AUDITOR; role = role == 0 ? 1 : role * 2)
		{
			World w;
			ApmTransaction tx;

			world_open(&w);
			tx = who[i].kind == APM_KIND_MEMBERSHIP ? member(&w, APM_MEMBER_NODE, w.stranger)
													: of_kind(&w, who[i].kind);
			if (who[i].kind == APM_KIND_PRIMARY || who[i].kind == APM_KIND_CONSENT)
				load_patient(&w, false);
			if (who[i].kind == APM_KIND_ERASURE)
				load_erasable(&w, &tx.u.erasure);
			tx.roles = (uint16_t) role;
			CHECK(judge(&w, w.origin, &tx, 0, false) ==
				  ((role & who[i].allowed) != 0 ? APM_RULE_NONE : APM_RULE_ACTOR));
			world_close(&w);
		}
	}
}

static void
test_profile(void)
{
	World w;
	ApmTransaction tx;
	ApmPatientState p;

	world_open(&w);
	tx = of_kind(&w, APM_KIND_PATIENT);
	tx.u.patient.old_profile.bytes[31] = 1;
	CHECK(verdict(&w, &tx) == APM_RULE_PROFILE);
	tx = of_kind(&w, APM_KIND_PATIENT);
	CHECK(judge(&w, w.origin, &tx, HEIGHT, true) == APM_RULE_NONE);

	tx.u.patient.version = 3;
	tx.u.patient.old_profile = sample_digest(0xf1);
	tx.u.patient.profile = sample_digest(0xf2);
	CHECK(verdict(&w, &tx) == APM_RULE_PROFILE);
	tx.u.patient.version = 2;
	tx.u.patient.old_profile.bytes[0] ^= 1;
	CHECK(verdict(&w, &tx) == APM_RULE_PROFILE);
	tx.u.patient.old_profile.bytes[0] ^= 1;
	CHECK(judge(&w, w.origin, &tx, HEIGHT, true) == APM_RULE_NONE);
	CHECK_OK(apm_contract_patient(w.state, sample_text(SAMPLE_APID), &p));
	CHECK(p.known && !p.erased && p.version == 2 && p.profile.bytes[0] == 0xf2);
	CHECK(memcmp(&p.origin, &w.origin_id, sizeof(p.origin)) == 0);
	CHECK(verdict(&w, &tx) == APM_RULE_PROFILE);

	/* after the last version comes none */
	p.version = UINT32_MAX;
	CHECK_OK(apm_contract_load_patient(w.state, sample_text(SAMPLE_APID), &p));
	tx.u.patient.version = UINT32_MAX;
	tx.u.patient.old_profile = p.profile;
	CHECK(verdict(&w, &tx) == APM_RULE_PROFILE);
	world_close(&w);
}

static void
test_amends(void)
{
	World w;
	ApmTransaction tx;
	ApmTransaction fix;
	ApmPatientState p;

	world_open(&w);
	load_patient(&w, false);
	tx = of_kind(&w, APM_KIND_PRIMARY);
	fix = tx;
	fix.u.primary.rid = sample_uuid(0x22);
	fix.u.primary.flags = APM_PRIMARY_AMENDS;
	fix.u.primary.amends = tx.u.primary.rid;
	CHECK(verdict(&w, &fix) == APM_RULE_AMENDS); /* unknown */
	CHECK(judge(&w, w.origin, &tx, HEIGHT, true) == APM_RULE_NONE);

	CHECK_OK(apm_contract_patient(w.state, sample_text(SAMPLE_APID), &p));
	CHECK_OK(apm_contract_load_patient(w.state, sample_text("r.another"), &p));
	fix.u.primary.apid = sample_text("r.another");
	CHECK(verdict(&w, &fix) == APM_RULE_AMENDS); /* another patient's */
	fix.u.primary.apid = sample_text(SAMPLE_APID);
	CHECK(judge(&w, w.origin, &fix, HEIGHT, true) == APM_RULE_NONE);

	fix.u.primary.rid = sample_uuid(0x23);
	CHECK(verdict(&w, &fix) == APM_RULE_AMENDS); /* superseded */
	fix.u.primary.amends = sample_uuid(0x22);	 /* the amendment may be amended */
	CHECK(judge(&w, w.origin, &fix, HEIGHT, true) == APM_RULE_NONE);
	fix.u.primary.rid = sample_uuid(0x24);
	fix.u.primary.amends = sample_uuid(0x24); /* itself */
	CHECK(verdict(&w, &fix) == APM_RULE_AMENDS);
	world_close(&w);
}

static void
test_membership(void)
{
	static const ApmItem access = {.type = APM_ITEM_POLICY, .key = APM_POLICY_ACCESS, .value = 2};
	World w;
	ApmTransaction tx;

	world_open(&w);
	tx = member(&w, APM_MEMBER_ORIGIN, w.stranger);
	CHECK(verdict(&w, &tx) == APM_RULE_MEMBERSHIP);
	tx = member(&w, APM_MEMBER_NODE, w.stranger);
	CHECK(judge(&w, w.origin, &tx, 1, false) == APM_RULE_MEMBERSHIP);
	tx = of_kind(&w, APM_KIND_CONTRACT); /* its first policy is the difficulty */
	CHECK(judge(&w, w.origin, &tx, 1, false) == APM_RULE_MEMBERSHIP);
	CHECK(judge(&w, w.origin, &tx, 0, false) == APM_RULE_NONE);
	tx = change(&w, &access, 1);
	CHECK(judge(&w, w.origin, &tx, 1, false) == APM_RULE_NONE);
	world_close(&w);
}

int
main(void)
{
	test_names();
	test_valid();
	test_template_form();
	test_template_proof();
	test_template_fields();
	test_chain_and_origin();
	test_first_origin();
	test_fresh();
	test_loaded_tid();
	test_patient();
	test_erased_and_home();
	test_time();
	test_actor();
	test_profile();
	test_amends();
	test_membership();
	return check_summary();
}
