/*
 * test_contract.c
 *	  The contract's state gives back what was loaded, and its digest stands for members
 *	  and policies alone.
 *
 * The digest's known answer was computed with Python's struct and hashlib alone:
 *
 *	hashlib.sha256(b'C\1' + struct.pack('>IH', 1, 2) + struct.pack('>HQ', 1, 8)
 *				   + struct.pack('>HQ', 2, 1) + struct.pack('>II', 0, 0)).hexdigest()
 */
#include "core/contract.h"

#include "core/contract_state.h"
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

/* A member is known by its id; what is no key is no member. */
static void
test_members(void)
{
	ApmDigest chain = sample_digest(0xc0);
	ApmEcKey *key = sample_key();
	ApmContractState *s;
	ApmDigest id;
	ApmDigest got;
	uint8_t spki[APM_SPKI_LEN];

	CHECK_OK(apm_contract_new(&chain, &s));
	apm_ec_id(key, &id);
	apm_ec_spki(key, spki);
	CHECK(apm_contract_node(s, &id) == NULL);
	CHECK_OK(apm_contract_load_node(s, spki));
	CHECK_OK(apm_contract_load_node(s, spki));
	CHECK(apm_contract_origin(s, &id) == NULL);
	if (CHECK(apm_contract_node(s, &id) != NULL))
	{
		apm_ec_id(apm_contract_node(s, &id), &got);
		CHECK(memcmp(&got, &id, sizeof(id)) == 0);
	}
	spki[60] ^= 1;
	CHECK(apm_contract_load_node(s, spki) != APM_OK);
	apm_contract_free(s);
	apm_ec_free(key);
}

/* The digest depends on members and policies, not on the order in which they came, nor on patients. */
static void
test_digest(void)
{
	ApmDigest chain = sample_digest(0xc0);
	ApmContractState *states[2];
	ApmEcKey *keys[5];
	ApmEcKey *other = sample_key();
	ApmDigest digests[2];
	ApmDigest changed;
	ApmPatientState p = {.known = true};
	uint8_t spki[APM_SPKI_LEN];

	CHECK_OK(apm_contract_new(&chain, &states[0]));
	CHECK_OK(apm_contract_load_policy(states[0], APM_POLICY_ACCESS, 1));
	CHECK_OK(apm_contract_load_policy(states[0], APM_POLICY_DIFFICULTY, 8));
	CHECK_OK(apm_contract_digest(states[0], &digests[0]));
	CHECK_HEX(digests[0].bytes, APM_DIGEST_LEN,
			  "574a68ac9aca22decf3a8326881ba6d264c3770226385c92e7de7700d8f9f7ab");
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

	/* a node that is no origin, and an origin that is no node, are two contracts */
	apm_ec_spki(other, spki);
	CHECK_OK(apm_contract_load_node(states[0], spki));
	CHECK_OK(apm_contract_load_origin(states[1], spki));
	CHECK_OK(apm_contract_load_policy(states[1], 4, 8));
	for (int order = 0; order < 2; order++)
		CHECK_OK(apm_contract_digest(states[order], &digests[order]));
	CHECK(memcmp(&digests[0], &digests[1], sizeof(ApmDigest)) != 0);
	CHECK_OK(apm_contract_load_origin(states[0], spki));
	CHECK_OK(apm_contract_digest(states[0], &changed));
	CHECK(memcmp(&digests[0], &changed, sizeof(ApmDigest)) != 0);
	for (int order = 0; order < 2; order++)
		apm_contract_free(states[order]);
	apm_ec_free(other);
	for (int i = 0; i < 5; i++)
		apm_ec_free(keys[i]);
}

static void
test_policy_bounds(void)
{
	ApmDigest chain = sample_digest(0xc0);
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

int
main(void)
{
	test_loading();
	test_members();
	test_digest();
	test_policy_bounds();
	return check_summary();
}
