/*
 * test_contract.c
 *	  Every rule of the contract, broken on purpose and alone; the effects of valid
 *	  transactions; the contract digest.
 *
 * The digest's known answer was computed with Python's struct and hashlib alone:
 *
 *	hashlib.sha256(b'C\1' + struct.pack('>IH', 1, 2) + struct.pack('>HQ', 1, 8)
 *				   + struct.pack('>HQ', 2, 1) + struct.pack('>II', 0, 0)).hexdigest()
 */
#include "core/contract.h"

#include "core/digest.h"
#include "core/map.h"
#include "sample.h"

#define HEIGHT 9
#define BLOCK_TIME SAMPLE_TIME

/* A chain with one origin of its own, a stranger, and a state that a test fills. */
typedef struct World
{
	ApmEcKey   *origin;
	ApmEcKey   *stranger;
	ApmDigest	origin_id;
	ApmDigest	stranger_id;
	ApmContractState *state;
} World;

static void
load_origin(World *w, const ApmEcKey *key)
{
	uint8_t		spki[APM_SPKI_LEN];

	apm_ec_spki(key, spki);
	CHECK_OK(apm_contract_load_origin(w->state, spki));
}

static void
world_open(World *w)
{
	ApmDigest	chain = sample_digest(0xc0);

	w->origin = sample_key();
	w->stranger = sample_key();
	apm_ec_id(w->origin, &w->origin_id);
	apm_ec_id(w->stranger, &w->stranger_id);
	CHECK_OK(apm_contract_new(&chain, &w->state));
	load_origin(w, w->origin);
}

static void
world_close(World *w)
{
	apm_contract_free(w->state);
	apm_ec_free(w->origin);
	apm_ec_free(w->stranger);
}

/* The sample patient, registered by the world's origin with profile digest 0xf1..f1. */
static void
load_patient(World *w, bool erased)
{
	ApmPatientState p = {
		.known = true,
		.erased = erased,
		.origin = w->origin_id,
		.version = 1,
		.profile = sample_digest(0xf1)
	};

	CHECK_OK(apm_contract_load_patient(w->state, sample_text(SAMPLE_APID), &p));
}

static ApmTransaction
of_kind(const World *w, ApmKind kind)
{
	ApmTransaction tx = sample_transaction(kind);

	tx.origin = w->origin_id;
	return tx;
}

static ApmTransaction
member(const World *w, ApmMember which, const ApmEcKey *key)
{
	ApmTransaction tx = sample_membership(which, key);

	tx.origin = w->origin_id;
	return tx;
}

/* The verdict on tx signed by key; applies it when told to and when it is valid. */
static ApmRule
judge(World *w, const ApmEcKey *key, const ApmTransaction *tx, uint64_t height, bool apply)
{
	ApmBuf		buf = {0};
	ApmOpened	opened;
	ApmRule		rule;

	sample_sign(key, tx, &buf);
	CHECK_OK(apm_open_signed(APM_SLICE(buf.data, buf.len), &opened));
	CHECK(opened.wellformed);
	rule = apm_contract_evaluate(w->state, &opened, height, BLOCK_TIME);
	if (apply && rule == APM_RULE_NONE)
	{
		CHECK_OK(apm_contract_apply(w->state, &opened));
		CHECK(apm_contract_evaluate(w->state, &opened, height, BLOCK_TIME) == APM_RULE_FRESH);
	}
	apm_buf_reset(&buf);
	return rule;
}

static ApmRule
verdict(World *w, const ApmTransaction *tx)
{
	return judge(w, w->origin, tx, HEIGHT, false);
}

static void
test_names(void)
{
	CHECK(strcmp(apm_rule_name(APM_RULE_FRESH), "fresh") == 0);
	for (int rule = APM_RULE_TEMPLATE; rule <= APM_RULE_MEMBERSHIP; rule++)
		CHECK(apm_rule_name((uint16_t) rule) != NULL && apm_rule_text((uint16_t) rule) != NULL);
	CHECK(apm_rule_name(APM_RULE_NONE) == NULL);
	CHECK(apm_rule_name(APM_RULE_MEMBERSHIP + 1) == NULL);
	CHECK(apm_rule_text(APM_RULE_UNDECIDED) == NULL);

	CHECK(apm_purpose_code("treatment") == 1 && apm_purpose_code("research") == 7);
	CHECK(apm_purpose_code("Treatment") == 0 && apm_purpose_code("") == 0 && apm_purpose_code(NULL) == 0);
	for (uint16_t code = 1; code <= 7; code++)
		CHECK(apm_purpose_code(apm_purpose_name(code)) == code);
	CHECK(apm_purpose_name(0) == NULL && apm_purpose_name(8) == NULL);
}

/* What the other tests break is valid to begin with. */
static void
test_valid(void)
{
	World		w;
	ApmTransaction tx;

	world_open(&w);
	tx = of_kind(&w, APM_KIND_PATIENT);
	CHECK(verdict(&w, &tx) == APM_RULE_NONE);
	load_patient(&w, false);
	tx = of_kind(&w, APM_KIND_PRIMARY);
	CHECK(verdict(&w, &tx) == APM_RULE_NONE);
	tx = of_kind(&w, APM_KIND_QUERY);
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
	World		w;
	ApmSigned	s;
	ApmOpened	opened;
	ApmNeeds	needs;
	ApmUuid		none = sample_uuid(0);
	ApmBuf		buf = {0};

	world_open(&w);
	memset(&s, 0, sizeof(s));
	s.transaction = sample_text("not a transaction");
	s.proof = sample_text("not a proof");
	apm_signed_encode(&s, &buf);
	CHECK_OK(apm_open_signed(APM_SLICE(buf.data, buf.len), &opened));
	CHECK(!opened.wellformed);
	CHECK(memcmp(&opened.tid, &none, sizeof(none)) != 0);
	CHECK(apm_contract_evaluate(w.state, &opened, HEIGHT, BLOCK_TIME) == APM_RULE_TEMPLATE);
	CHECK_STATUS(apm_contract_apply(w.state, &opened), APM_ERR_FORMAT);
	apm_contract_needs(&opened, &needs);
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
	World		w;
	ApmTransaction tx;
	ApmBuf		whole = {0};
	ApmBuf		cut = {0};
	ApmSigned	s;
	ApmOpened	opened;

	world_open(&w);
	tx = of_kind(&w, APM_KIND_PATIENT);
	sample_sign(w.origin, &tx, &whole);
	CHECK_OK(apm_signed_decode(APM_SLICE(whole.data, whole.len), &s));
	s.proof.len--;
	apm_signed_encode(&s, &cut);
	CHECK_OK(apm_open_signed(APM_SLICE(cut.data, cut.len), &opened));
	CHECK(!opened.wellformed);
	CHECK(apm_contract_evaluate(w.state, &opened, HEIGHT, BLOCK_TIME) == APM_RULE_TEMPLATE);
	apm_buf_reset(&whole);
	apm_buf_reset(&cut);
	world_close(&w);
}

/* Fields within the encoding's bounds and beyond the contract's. */
static void
test_template_fields(void)
{
	World		w;
	ApmTransaction tx;

	world_open(&w);
	tx = member(&w, APM_MEMBER_NODE, w.stranger);
	tx.u.membership.spki[50] ^= 1;	/* off the curve */
	CHECK(judge(&w, w.origin, &tx, 0, false) == APM_RULE_TEMPLATE);
	tx = of_kind(&w, APM_KIND_CONTRACT);
	tx.u.contract.policies[0].value = APM_MAX_DIFFICULTY + 1;
	CHECK(judge(&w, w.origin, &tx, 0, false) == APM_RULE_TEMPLATE);
	tx = of_kind(&w, APM_KIND_CONTRACT);
	tx.u.contract.policies[1].value = 3;
	CHECK(judge(&w, w.origin, &tx, 0, false) == APM_RULE_TEMPLATE);
	tx = of_kind(&w, APM_KIND_CONTRACT);
	tx.u.contract.policies[2].value = 2;
	CHECK(judge(&w, w.origin, &tx, 0, false) == APM_RULE_TEMPLATE);
	tx = of_kind(&w, APM_KIND_CONTRACT);
	tx.u.contract.policies[2].key = 4;
	CHECK(judge(&w, w.origin, &tx, 0, false) == APM_RULE_TEMPLATE);
	world_close(&w);
}

static void
test_chain_and_origin(void)
{
	World		w;
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
	World		w;
	ApmContractState *full;
	ApmDigest	chain = sample_digest(0xc0);
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
	CHECK(apm_contract_policy(w.state, APM_POLICY_DIFFICULTY, 99) == 8);
	CHECK(apm_contract_policy(w.state, 77, 99) == 99);
	apm_contract_free(full);
	world_close(&w);
}

static void
test_fresh(void)
{
	World		w;
	ApmTransaction tx;
	ApmRecordState seen = {.known = true};

	world_open(&w);
	tx = of_kind(&w, APM_KIND_PATIENT);
	CHECK(judge(&w, w.origin, &tx, HEIGHT, true) == APM_RULE_NONE);	/* says that the same Tid is not fresh */
	tx = of_kind(&w, APM_KIND_PRIMARY);
	CHECK(judge(&w, w.origin, &tx, HEIGHT, true) == APM_RULE_NONE);
	CHECK(verdict(&w, &tx) == APM_RULE_FRESH);	/* another nonce and Tid, the same Rid */
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
	World		w;
	ApmTransaction tx;
	ApmBuf		buf = {0};
	ApmOpened	opened;
	ApmNeeds	needs;

	world_open(&w);
	tx = of_kind(&w, APM_KIND_PRIMARY);
	tx.u.primary.flags = APM_PRIMARY_AMENDS;
	tx.u.primary.amends = sample_uuid(0x33);
	sample_sign(w.origin, &tx, &buf);
	CHECK_OK(apm_open_signed(APM_SLICE(buf.data, buf.len), &opened));
	apm_contract_needs(&opened, &needs);
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
	World		w;
	ApmTransaction tx;

	world_open(&w);
	tx = of_kind(&w, APM_KIND_PRIMARY);
	CHECK(verdict(&w, &tx) == APM_RULE_PATIENT);
	tx = of_kind(&w, APM_KIND_QUERY);
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
	World		w;
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
	World		w;
	ApmTransaction tx;

	world_open(&w);
	tx = of_kind(&w, APM_KIND_PATIENT);
	tx.time_us = BLOCK_TIME + 1;
	CHECK(verdict(&w, &tx) == APM_RULE_TIME);
	tx.time_us = 0;
	CHECK(verdict(&w, &tx) == APM_RULE_NONE);
	world_close(&w);
}

/* Each kind with each single role, against the list of who may. */
static void
test_actor(void)
{
	static const struct
	{
		ApmKind		kind;
		uint16_t	allowed;
	}			who[] = {
		{APM_KIND_PATIENT, APM_ROLE_REGISTRAR | APM_ROLE_ADMIN | APM_ROLE_CLINICIAN},
		{APM_KIND_PRIMARY, APM_ROLE_CLINICIAN | APM_ROLE_ADMIN | APM_ROLE_SENSOR},
		{APM_KIND_QUERY, APM_ROLE_CLINICIAN},
		{APM_KIND_MEMBERSHIP, APM_ROLE_ADMIN},
		{APM_KIND_CONTRACT, APM_ROLE_ADMIN}
	};

	for (size_t i = 0; i < sizeof(who) / sizeof(who[0]); i++)
	{
		for (uint32_t role = 0; role <= APM_ROLE_AUDITOR; role = role == 0 ? 1 : role * 2)
		{
			World		w;
			ApmTransaction tx;

			world_open(&w);
			tx = who[i].kind == APM_KIND_MEMBERSHIP ?
				member(&w, APM_MEMBER_NODE, w.stranger) : of_kind(&w, who[i].kind);
			if (who[i].kind == APM_KIND_PRIMARY || who[i].kind == APM_KIND_QUERY)
				load_patient(&w, false);
			tx.roles = (uint16_t) role;
			CHECK(judge(&w, w.origin, &tx, 0, false) ==
				  ((role & who[i].allowed) != 0 ? APM_RULE_NONE : APM_RULE_ACTOR));
			world_close(&w);
		}
	}
}

/* Under the consent policy nobody reads without a grant, and there are no grants; nor under one unheard of. */
static void
test_access_policy(void)
{
	World		w;
	ApmTransaction tx;

	world_open(&w);
	load_patient(&w, false);
	tx = of_kind(&w, APM_KIND_QUERY);
	CHECK_OK(apm_contract_load_policy(w.state, APM_POLICY_ACCESS, 1));
	CHECK(verdict(&w, &tx) == APM_RULE_NONE);
	CHECK_OK(apm_contract_load_policy(w.state, APM_POLICY_ACCESS, 2));
	CHECK(verdict(&w, &tx) == APM_RULE_ACTOR);
	CHECK_OK(apm_contract_load_policy(w.state, APM_POLICY_ACCESS, 77));
	CHECK(verdict(&w, &tx) == APM_RULE_ACTOR);
	world_close(&w);
}

static void
test_purpose(void)
{
	World		w;
	ApmTransaction tx;

	world_open(&w);
	load_patient(&w, false);
	tx = of_kind(&w, APM_KIND_QUERY);
	tx.u.query.purpose = 8;
	CHECK(verdict(&w, &tx) == APM_RULE_PURPOSE);
	tx.u.query.purpose = 0;
	CHECK(verdict(&w, &tx) == APM_RULE_NONE);
	CHECK_OK(apm_contract_load_policy(w.state, APM_POLICY_PURPOSE, 0));
	CHECK(verdict(&w, &tx) == APM_RULE_NONE);
	CHECK_OK(apm_contract_load_policy(w.state, APM_POLICY_PURPOSE, 1));
	CHECK(verdict(&w, &tx) == APM_RULE_PURPOSE);
	tx.u.query.purpose = 7;
	CHECK(verdict(&w, &tx) == APM_RULE_NONE);
	world_close(&w);
}

static void
test_profile(void)
{
	World		w;
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
	World		w;
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
	CHECK(verdict(&w, &fix) == APM_RULE_AMENDS);	/* unknown */
	CHECK(judge(&w, w.origin, &tx, HEIGHT, true) == APM_RULE_NONE);

	CHECK_OK(apm_contract_patient(w.state, sample_text(SAMPLE_APID), &p));
	CHECK_OK(apm_contract_load_patient(w.state, sample_text("r.another"), &p));
	fix.u.primary.apid = sample_text("r.another");
	CHECK(verdict(&w, &fix) == APM_RULE_AMENDS);	/* another patient's */
	fix.u.primary.apid = sample_text(SAMPLE_APID);
	CHECK(judge(&w, w.origin, &fix, HEIGHT, true) == APM_RULE_NONE);

	fix.u.primary.rid = sample_uuid(0x23);
	CHECK(verdict(&w, &fix) == APM_RULE_AMENDS);	/* superseded */
	fix.u.primary.amends = sample_uuid(0x22);	/* the amendment may be amended */
	CHECK(judge(&w, w.origin, &fix, HEIGHT, true) == APM_RULE_NONE);
	fix.u.primary.rid = sample_uuid(0x24);
	fix.u.primary.amends = sample_uuid(0x24);	/* itself */
	CHECK(verdict(&w, &fix) == APM_RULE_AMENDS);
	world_close(&w);
}

static void
test_membership(void)
{
	World		w;
	ApmTransaction tx;

	world_open(&w);
	tx = member(&w, APM_MEMBER_ORIGIN, w.stranger);
	CHECK(verdict(&w, &tx) == APM_RULE_MEMBERSHIP);
	tx = member(&w, APM_MEMBER_NODE, w.stranger);
	CHECK(judge(&w, w.origin, &tx, 1, false) == APM_RULE_MEMBERSHIP);
	tx = of_kind(&w, APM_KIND_CONTRACT);
	CHECK(judge(&w, w.origin, &tx, 1, false) == APM_RULE_MEMBERSHIP);
	world_close(&w);
}

/* The digest depends on members and policies, not on the order in which they came, nor on patients. */
static void
test_digest(void)
{
	ApmDigest	chain = sample_digest(0xc0);
	ApmContractState *states[2];
	ApmEcKey   *keys[5];
	ApmDigest	digests[2];
	ApmDigest	changed;
	ApmPatientState p = {.known = true};
	uint8_t		spki[APM_SPKI_LEN];

	CHECK_OK(apm_contract_new(&chain, &states[0]));
	CHECK_OK(apm_contract_load_policy(states[0], APM_POLICY_ACCESS, 1));
	CHECK_OK(apm_contract_load_policy(states[0], APM_POLICY_DIFFICULTY, 8));
	CHECK_OK(apm_contract_digest(states[0], &digests[0]));
	CHECK_HEX(digests[0].bytes, APM_DIGEST_LEN, "574a68ac9aca22decf3a8326881ba6d264c3770226385c92e7de7700d8f9f7ab");
	apm_contract_free(states[0]);

	for (int i = 0; i < 5; i++)
		keys[i] = sample_key();
	for (int order = 0; order < 2; order++)
	{
		CHECK_OK(apm_contract_new(&chain, &states[order]));
		for (int i = 0; i < 5; i++)
		{
			apm_ec_spki(keys[order == 0 ? i : 4 - i], spki);
			CHECK_OK(apm_contract_load_node(states[order], spki));
			CHECK_OK(apm_contract_load_origin(states[order], spki));
			CHECK_OK(apm_contract_load_node(states[order], spki));
			CHECK_OK(apm_contract_load_policy(states[order], (uint16_t) (order == 0 ? i : 4 - i), 7));
		}
		CHECK_OK(apm_contract_digest(states[order], &digests[order]));
	}
	CHECK(memcmp(&digests[0], &digests[1], sizeof(ApmDigest)) == 0);
	CHECK_OK(apm_contract_load_patient(states[0], sample_text(SAMPLE_APID), &p));
	CHECK_OK(apm_contract_digest(states[0], &changed));
	CHECK(memcmp(&digests[0], &changed, sizeof(ApmDigest)) == 0);
	CHECK_OK(apm_contract_load_policy(states[0], 4, 8));
	CHECK_OK(apm_contract_digest(states[0], &changed));
	CHECK(memcmp(&digests[0], &changed, sizeof(ApmDigest)) != 0);
	for (int order = 0; order < 2; order++)
		apm_contract_free(states[order]);
	for (int i = 0; i < 5; i++)
		apm_ec_free(keys[i]);
}

static void
test_policy_bounds(void)
{
	ApmDigest	chain = sample_digest(0xc0);
	ApmContractState *s;

	CHECK_OK(apm_contract_new(&chain, &s));
	for (uint16_t key = APM_POLICY_MAX; key > 0; key--)
		CHECK_OK(apm_contract_load_policy(s, key, key));
	CHECK_STATUS(apm_contract_load_policy(s, APM_POLICY_MAX + 1, 1), APM_ERR_RANGE);
	CHECK_OK(apm_contract_load_policy(s, 5, 50));
	for (uint16_t key = 1; key <= APM_POLICY_MAX; key++)
		CHECK(apm_contract_policy(s, key, 0) == (key == 5 ? 50 : key));
	apm_contract_free(s);
}

/* Ten thousand keys that differ in their last bytes only, found again, and none that was not put. */
static void
test_map(void)
{
	ApmMap		map;
	uint32_t   *value;
	void	   *found;
	const ApmDigest *key;
	size_t		at = 0;
	long		n = 0;
	long		wrong = 0;

	CHECK_OK(apm_map_init(&map, sizeof(uint32_t)));
	for (uint32_t i = 0; i < 20000; i++)
	{
		ApmDigest	d = sample_digest(0);

		memcpy(d.bytes + 28, &i, sizeof(i));
		if (i % 2 == 0 && apm_map_put(&map, &d, &found) == APM_OK)
			*(uint32_t *) found = i;
	}
	for (uint32_t i = 0; i < 20000; i++)
	{
		ApmDigest	d = sample_digest(0);

		memcpy(d.bytes + 28, &i, sizeof(i));
		value = apm_map_find(&map, &d);
		if ((value != NULL) != (i % 2 == 0) || (value != NULL && *value != i))
			wrong++;
	}
	CHECK(wrong == 0);
	CHECK(map.count == 10000 && map.capacity >= 20000);
	while (apm_map_next(&map, &at, &key, &found))
		n++;
	CHECK(n == 10000);
	apm_map_free(&map);
}

static uint8_t allocation_spki[APM_SPKI_LEN];
static ApmBuf allocation_patient;

/* Makes a state, loads it, evaluates and applies; whatever could not be done shows as APM_ERR_MEMORY. */
static ApmStatus
load_and_judge(void)
{
	ApmDigest	chain = sample_digest(0xc0);
	ApmRecordState r = {.known = true};
	ApmUuid		id = sample_uuid(1);
	ApmContractState *s;
	ApmOpened	opened;
	ApmStatus	status = apm_contract_new(&chain, &s);

	if (status != APM_OK)
		return status;
	status = apm_contract_load_origin(s, allocation_spki);
	if (status == APM_OK)
		status = apm_contract_load_node(s, allocation_spki);
	if (status == APM_OK)
		status = apm_contract_load_record(s, &id, &r);
	if (status == APM_OK)
		status = apm_open_signed(APM_SLICE(allocation_patient.data, allocation_patient.len), &opened);
	if (status == APM_OK)
	{
		ApmRule		rule = apm_contract_evaluate(s, &opened, 0, BLOCK_TIME);

		CHECK(rule == APM_RULE_NONE || rule == APM_RULE_UNDECIDED);
		status = rule == APM_RULE_NONE ? apm_contract_apply(s, &opened) : APM_ERR_MEMORY;
	}
	apm_contract_free(s);
	return status;
}

/* Out of memory is never a verdict. */
static void
test_no_memory(void)
{
	World		w;
	ApmTransaction tx;

	world_open(&w);
	apm_ec_spki(w.origin, allocation_spki);
	tx = of_kind(&w, APM_KIND_PATIENT);
	sample_sign(w.origin, &tx, &allocation_patient);
	CHECK_EACH_ALLOCATION(load_and_judge);
	apm_buf_reset(&allocation_patient);
	tx = member(&w, APM_MEMBER_NODE, w.stranger);
	sample_sign(w.origin, &tx, &allocation_patient);
	CHECK_EACH_ALLOCATION(load_and_judge);
	apm_buf_reset(&allocation_patient);
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
	test_access_policy();
	test_purpose();
	test_profile();
	test_amends();
	test_membership();
	test_digest();
	test_policy_bounds();
	test_map();
	test_no_memory();
	return check_summary();
}
