/*
 * test_contract.c
 *	  The contract's state gives back what was loaded, and its digest stands for members
 *	  and items in force alone.
 *
 * The digest's known answer was computed with Python's struct and hashlib alone:
 *
 *	hashlib.sha256(b'C\1' + struct.pack('>II', 1, 3) + struct.pack('>BHQ', 1, 1, 8)
 *				   + struct.pack('>BHQ', 1, 2, 1) + b'\2' + struct.pack('>HI', 1, 9) + b'treatment'
 *				   + struct.pack('>II', 0, 0)).hexdigest()
 */
#include "core/contract.h"

#include "core/contract_state.h"
#include "core/digest.h"
#include "sample.h"

/* An entry loaded twice keeps the later; what was not loaded is not known. */
static void
test_loading(void)
{
	ApmDigest chain = sample_digest(0xc0);
	ApmPatientState p = {.known = true, .version = 1};
	ApmRecordState r = {.known = true, .patient = sample_digest(3)};
	ApmUuid id = sample_uuid(1);
	ApmUuid other = sample_uuid(2);
	ApmContractState *s;

	CHECK_OK(apm_contract_new(&chain, &s));
	CHECK_OK(apm_contract_load_patient(s, sample_text("r.one"), &p));
	p.version = 2;
	p.erased = true;
	CHECK_OK(apm_contract_load_patient(s, sample_text("r.one"), &p));
	memset(&p, 0x55, sizeof(p));
	CHECK_OK(apm_contract_patient(s, sample_text("r.one"), &p));
	CHECK(p.known && p.erased && p.version == 2);
	CHECK_OK(apm_contract_patient(s, sample_text("r.on"), &p));
	CHECK(!p.known && !p.erased && p.version == 0);

	CHECK_OK(apm_contract_load_record(s, &id, &r));
	r.superseded = true;
	CHECK_OK(apm_contract_load_record(s, &id, &r));
	memset(&r, 0x55, sizeof(r));
	apm_contract_record(s, &id, &r);
	CHECK(r.known && r.superseded && r.patient.bytes[0] == 3);
	apm_contract_record(s, &other, &r);
	CHECK(!r.known && !r.superseded);

	CHECK_OK(apm_contract_load_tid(s, &id));
	CHECK(apm_contract_tid_seen(s, &id) && !apm_contract_tid_seen(s, &other));
	apm_contract_free(s);
	apm_contract_free(NULL);
}

static void
load_policy(ApmContractState *s, uint16_t key, uint64_t value)
{
	ApmItem item = {.type = APM_ITEM_POLICY, .key = key, .value = value};

	CHECK_OK(apm_contract_load_item(s, &item, 0));
}

/* What was loaded for transactions is forgotten; members, items and a number of patients are not, and loading goes on. */
static void
test_forget(void)
{
	ApmDigest chain = sample_digest(0xc0);
	ApmEcKey *key = sample_key();
	ApmUuid id = sample_uuid(1);
	ApmDigest subject = sample_digest(4);
	ApmPatientState p = {.known = true, .version = 1};
	ApmRecordState r = {.known = true};
	ApmVoid leaf = {.kind = APM_KIND_PATIENT};
	ApmQueryState q = {.known = true};
	ApmConsentState c = {.granted = true};
	uint8_t staff[APM_STAFF_LEN] = {7};
	ApmContractState *s;
	int failed = 0;
	ApmDigest before;
	ApmDigest after;

	CHECK_OK(apm_contract_new(&chain, &s));
	load_member(s, APM_MEMBER_NODE, key);
	load_member(s, APM_MEMBER_ORIGIN, key);
	load_policy(s, APM_POLICY_ACCESS, 2);
	CHECK_OK(apm_contract_digest(s, &before));
	for (int round = 0; round < 2; round++)
	{
		CHECK_OK(apm_contract_load_patient(s, sample_text("r.one"), &p));
		CHECK_OK(apm_contract_load_record(s, &id, &r));
		CHECK_OK(apm_contract_load_tid(s, &id));
		CHECK_OK(apm_contract_load_leaf(s, sample_text("r.one"), &leaf));
		CHECK_OK(apm_contract_load_query(s, &id, &q));
		CHECK_OK(apm_contract_load_consent(s, sample_text("r.one"), staff, 0, &c));
		CHECK_OK(apm_contract_load_study(s, staff, 3));
		CHECK_OK(apm_contract_load_count(s, APM_COUNT_ACTOR_QUERIES, &subject, 1, 5));
		CHECK(apm_contract_releases(s, staff) == 3);
		apm_contract_forget(s);
		CHECK_OK(apm_contract_patient(s, sample_text("r.one"), &p));
		CHECK(p.known);
		apm_contract_record(s, &id, &r);
		apm_contract_query(s, &id, &q);
		CHECK(!r.known && !q.known && !apm_contract_tid_seen(s, &id) && apm_contract_releases(s, staff) == 0);
		CHECK(apm_tally_count(&s->tallies[APM_COUNT_ACTOR_QUERIES], &subject, 0, 9) == 0);
		CHECK_OK(apm_sha256("r.one", 5, &after));
		CHECK(apm_contract_words(s, &after) == NULL && apm_contract_leaves(s, &after) == NULL);
		CHECK_OK(apm_contract_digest(s, &after));
		CHECK(memcmp(&before, &after, sizeof(before)) == 0);
		p.known = r.known = q.known = true;
	}
	for (int i = 0; i <= APM_PATIENTS_KEPT; i++)
	{
		char apid[16];

		snprintf(apid, sizeof(apid), "r.%d", i);
		failed += apm_contract_load_patient(s, sample_text(apid), &p) != APM_OK;
	}
	CHECK(failed == 0);
	apm_contract_forget(s);
	CHECK_OK(apm_contract_patient(s, sample_text("r.1"), &p));
	CHECK(!p.known);
	apm_contract_free(s);
	apm_ec_free(key);
}

/* A member is known by its id; what is no key is no member. */
static void
test_members(void)
{
	ApmDigest chain = sample_digest(0xc0);
	ApmEcKey *key = sample_key();
	ApmMemberState m = sample_first_key(APM_MEMBER_NODE, key);
	ApmContractState *s;
	ApmDigest got;

	CHECK_OK(apm_contract_new(&chain, &s));
	CHECK(apm_contract_node(s, &m.home) == NULL);
	CHECK_OK(apm_contract_load_member(s, &m));
	CHECK_OK(apm_contract_load_member(s, &m));
	CHECK(apm_contract_key(s, APM_MEMBER_ORIGIN, &m.home) == NULL);
	if (CHECK(apm_contract_node(s, &m.home) != NULL))
	{
		apm_ec_id(apm_contract_node(s, &m.home), &got);
		CHECK(memcmp(&got, &m.home, sizeof(got)) == 0);
	}
	m.spki[60] ^= 1;
	CHECK(apm_contract_load_member(s, &m) != APM_OK);
	m.spki[60] ^= 1;
	m.member = 3;
	CHECK_STATUS(apm_contract_load_member(s, &m), APM_ERR_RANGE);
	m.member = 0;
	CHECK_STATUS(apm_contract_load_member(s, &m), APM_ERR_RANGE);
	apm_contract_free(s);
	apm_ec_free(key);
}

/* Of a member's keys one is in force; all say who he is. */
static void
test_keys_of_a_member(void)
{
	ApmDigest chain = sample_digest(0xc0);
	ApmEcKey *keys[] = {sample_key(), sample_key(), sample_key()};
	ApmDigest ids[3];
	ApmContractState *s;
	ApmDigest one;
	ApmDigest two;
	ApmDigest got;

	CHECK_OK(apm_contract_new(&chain, &s));
	for (int i = 0; i < 3; i++)
		apm_ec_id(keys[i], &ids[i]);
	CHECK(!apm_contract_current(s, APM_MEMBER_NODE, &ids[0], &got));
	CHECK(!apm_contract_home(s, APM_MEMBER_NODE, &ids[0], &got));
	load_member(s, APM_MEMBER_NODE, keys[2]); /* another */
	load_member(s, APM_MEMBER_NODE, keys[0]);
	CHECK_OK(apm_contract_digest(s, &one));
	for (int i = 0; i < 2; i++)
	{
		ApmMemberState m = sample_first_key(APM_MEMBER_NODE, keys[i]);

		m.home = ids[0];
		m.ended = i == 0;
		m.ended_us = 5;
		CHECK_OK(apm_contract_load_member(s, &m));
	}
	for (int i = 0; i < 2; i++)
	{
		CHECK(apm_contract_home(s, APM_MEMBER_NODE, &ids[i], &got) &&
			  memcmp(&got, &ids[0], sizeof(got)) == 0);
		CHECK(!apm_contract_home(s, APM_MEMBER_ORIGIN, &ids[i], &got));
	}
	CHECK(apm_contract_current(s, APM_MEMBER_NODE, &ids[0], &got) && memcmp(&got, &ids[1], sizeof(got)) == 0);
	CHECK(apm_contract_current(s, APM_MEMBER_NODE, &ids[2], &got) && memcmp(&got, &ids[2], sizeof(got)) == 0);
	CHECK(!apm_contract_current(s, APM_MEMBER_NODE, &ids[1], &got));
	CHECK(apm_contract_node(s, &ids[0]) == NULL && apm_contract_node(s, &ids[1]) != NULL);
	/* the contract is that of the keys in force */
	CHECK_OK(apm_contract_digest(s, &two));
	CHECK(memcmp(&one, &two, sizeof(one)) != 0);
	apm_contract_free(s);
	CHECK_OK(apm_contract_new(&chain, &s));
	load_member(s, APM_MEMBER_NODE, keys[1]);
	load_member(s, APM_MEMBER_NODE, keys[2]);
	CHECK_OK(apm_contract_digest(s, &one));
	CHECK(memcmp(&one, &two, sizeof(one)) == 0);
	apm_contract_free(s);
	for (int i = 0; i < 3; i++)
		apm_ec_free(keys[i]);
}

/* The digest depends on members and items, not on the order in which they came, nor on patients. */
static void
test_digest(void)
{
	const ApmItem treatment = {.type = APM_ITEM_PURPOSE, .key = 1, .name = sample_text("treatment")};
	ApmDigest chain = sample_digest(0xc0);
	ApmContractState *states[2];
	ApmEcKey *keys[5];
	ApmEcKey *other = sample_key();
	ApmDigest digests[2];
	ApmDigest changed;
	ApmPatientState p = {.known = true};

	CHECK_OK(apm_contract_new(&chain, &states[0]));
	CHECK_OK(apm_contract_load_item(states[0], &treatment, 0));
	load_policy(states[0], APM_POLICY_ACCESS, 2);
	load_policy(states[0], APM_POLICY_DIFFICULTY, 8);
	load_policy(states[0], APM_POLICY_ACCESS, 1);
	CHECK_OK(apm_contract_digest(states[0], &digests[0]));
	CHECK_HEX(digests[0].bytes, APM_DIGEST_LEN,
			  "24b1e373e91bf639411b15b63afb7a6fb790012b5250d7cddc17647916d2e390");
	apm_contract_free(states[0]);

	for (int i = 0; i < 5; i++)
		keys[i] = sample_key();
	for (int order = 0; order < 2; order++)
	{
		CHECK_OK(apm_contract_new(&chain, &states[order]));
		for (int i = 0; i < 5; i++)
		{
			const ApmEcKey *key = keys[order == 0 ? i : 4 - i];

			load_member(states[order], APM_MEMBER_NODE, key);
			load_member(states[order], APM_MEMBER_ORIGIN, key);
			load_member(states[order], APM_MEMBER_NODE, key);
			load_policy(states[order], (uint16_t) (APM_POLICY_ACCESS + (order == 0 ? i : 4 - i)), 1);
		}
		CHECK_OK(apm_contract_digest(states[order], &digests[order]));
	}
	CHECK(memcmp(&digests[0], &digests[1], sizeof(ApmDigest)) == 0);
	CHECK_OK(apm_contract_load_patient(states[0], sample_text(SAMPLE_APID), &p));
	CHECK_OK(apm_contract_digest(states[0], &changed));
	CHECK(memcmp(&digests[0], &changed, sizeof(ApmDigest)) == 0);
	load_policy(states[0], 4, 2);
	CHECK_OK(apm_contract_digest(states[0], &changed));
	CHECK(memcmp(&digests[0], &changed, sizeof(ApmDigest)) != 0);

	/* a node that is no origin, and an origin that is no node, are two contracts */
	load_member(states[0], APM_MEMBER_NODE, other);
	load_member(states[1], APM_MEMBER_ORIGIN, other);
	load_policy(states[1], 4, 2);
	for (int order = 0; order < 2; order++)
		CHECK_OK(apm_contract_digest(states[order], &digests[order]));
	CHECK(memcmp(&digests[0], &digests[1], sizeof(ApmDigest)) != 0);
	load_member(states[0], APM_MEMBER_ORIGIN, other);
	CHECK_OK(apm_contract_digest(states[0], &changed));
	CHECK(memcmp(&digests[0], &changed, sizeof(ApmDigest)) != 0);
	for (int order = 0; order < 2; order++)
		apm_contract_free(states[order]);
	apm_ec_free(other);
	for (int i = 0; i < 5; i++)
		apm_ec_free(keys[i]);
}

/* What nobody set has a default; that of exports is what access is. */
static void
test_policies(void)
{
	ApmDigest chain = sample_digest(0xc0);
	ApmContractState *s;

	CHECK_OK(apm_contract_new(&chain, &s));
	CHECK(apm_contract_policy(s, APM_POLICY_DIFFICULTY) == UINT64_MAX);
	CHECK(apm_contract_policy(s, APM_POLICY_ACCESS) == 1);
	CHECK(apm_contract_policy(s, APM_POLICY_PURPOSE) == 0);
	CHECK(apm_contract_policy(s, APM_POLICY_EMERGENCY) == 1);
	CHECK(apm_contract_policy(s, APM_POLICY_EXPORT) == 1);
	CHECK(apm_contract_policy(s, APM_POLICY_FETCH_CAP) == 1000);
	CHECK(apm_contract_policy(s, APM_POLICY_QUERY_RATE) == 0);
	load_policy(s, APM_POLICY_ACCESS, 2);
	CHECK(apm_contract_policy(s, APM_POLICY_ACCESS) == 2 && apm_contract_policy(s, APM_POLICY_EXPORT) == 2);
	load_policy(s, APM_POLICY_EXPORT, 1);
	load_policy(s, APM_POLICY_FETCH_CAP, 0);
	CHECK(apm_contract_policy(s, APM_POLICY_EXPORT) == 1 &&
		  apm_contract_policy(s, APM_POLICY_FETCH_CAP) == 0);
	apm_contract_free(s);
}

/* Of one grantee and purpose the last grant and the last revocation stay, in whichever order they came. */
static void
test_words(void)
{
	ApmDigest chain = sample_digest(0xc0);
	ApmDigest patient;
	uint8_t role[APM_STAFF_LEN] = {7};
	const ApmWords *words;
	ApmContractState *s;

	CHECK_OK(apm_contract_new(&chain, &s));
	CHECK_OK(apm_sha256((const uint8_t *) "r.one", 5, &patient));
	CHECK(apm_contract_words(s, &patient) == NULL);
	for (uint64_t order = 4; order <= 8; order++)
	{
		ApmConsentState c = {.granted = order % 2 == 0, .until_us = order, .order = 12 - order};

		CHECK_OK(apm_contract_load_consent(s, sample_text("r.one"), role, 3, &c));
	}
	words = apm_contract_words(s, &patient);
	if (CHECK(words != NULL && words->n == 1))
	{
		CHECK(words->v[0].granted && words->v[0].grant.order == 8 && words->v[0].grant.until_us == 4);
		CHECK(words->v[0].revoked && words->v[0].revocation == 7);
	}
	apm_contract_free(s);
}

/* Names of what a verdict and a query say by code. */
static void
test_names(void)
{
	const ApmItem ethics = {.type = APM_ITEM_PURPOSE, .key = 8, .name = sample_text("ethics-board")};
	const ApmItem flood = {.type = APM_ITEM_REASON, .key = 8, .name = sample_text("flood")};
	ApmDigest chain = sample_digest(0xc0);
	ApmContractState *s;

	CHECK_OK(apm_contract_new(&chain, &s));
	CHECK_OK(apm_contract_load_item(s, &ethics, 0));
	CHECK_OK(apm_contract_load_item(s, &flood, 0));
	CHECK(apm_contract_purpose_code(s, "ethics-board") == 8 && apm_contract_reason_code(s, "flood") == 8);
	CHECK(apm_contract_purpose_code(s, "flood") == 0 && apm_contract_purpose_code(s, NULL) == 0);
	CHECK(apm_contract_purpose_code(s, "treatment") == 0); /* not on the list of this chain */
	CHECK(strcmp(apm_contract_purpose_name(s, 8), "ethics-board") == 0);
	CHECK(strcmp(apm_contract_reason_name(s, 8), "flood") == 0);
	CHECK(apm_contract_purpose_name(s, 0) == NULL && apm_contract_reason_name(s, 1) == NULL);
	CHECK(strcmp(apm_contract_rule_name(s, APM_RULE_RATE), "rate") == 0);
	CHECK(apm_contract_rule_name(s, APM_SITE_RULE) == NULL);
	apm_contract_free(s);
}

int
main(void)
{
	test_loading();
	test_forget();
	test_members();
	test_keys_of_a_member();
	test_digest();
	test_policies();
	test_words();
	test_names();
	return check_summary();
}
