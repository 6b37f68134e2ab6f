/*
 * test_member.c
 *	  Keys of members: one follows another with the word of that one, an origin's old key is good for
 *	  a day, a node's to the end of the block, and all of them say who the member is.
 */
#include "world.h"

#include "core/contract_state.h"
#include "core/digest.h"

static bool
same(const ApmDigest *a, const ApmDigest *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

/* The world's origin replaces a key of that member by another. */
static ApmTransaction
succession(const World *w, ApmMember which, const ApmEcKey *replaced, const ApmEcKey *key)
{
	ApmTransaction tx = sample_succession(which, replaced, key);

	tx.origin = w->origin_id;
	tx.time_us = w->time_us;
	return tx;
}

/* The formula of doc/format.md, put together here from its parts. */
static void
test_endorsement(void)
{
	ApmEcKey *old = sample_key();
	ApmEcKey *next = sample_key();
	ApmTransaction tx = sample_succession(APM_MEMBER_ORIGIN, old, next);
	ApmMembershipFields *f = &tx.u.membership;
	const ApmMembershipFields good = *f;
	ApmDigest chain = tx.chain;
	ApmDigest message;
	uint8_t text[11 + 32 + 1 + 32 + APM_SPKI_LEN] = "apm member";

	memcpy(text + 11, chain.bytes, 32);
	text[43] = APM_MEMBER_ORIGIN;
	apm_ec_id(old, &message);
	memcpy(text + 44, message.bytes, 32);
	memcpy(text + 76, f->spki, APM_SPKI_LEN);
	CHECK_OK(apm_sha256(text, sizeof(text), &message));
	CHECK_OK(apm_verify_signature(old, &message, &f->endorsement));

	CHECK_OK(apm_member_verify(old, &chain, f));
	CHECK_STATUS(apm_member_verify(next, &chain, f), APM_ERR_VERIFY);
	chain.bytes[31] ^= 1;
	CHECK_STATUS(apm_member_verify(old, &chain, f), APM_ERR_VERIFY);
	f->member = APM_MEMBER_NODE;
	CHECK_STATUS(apm_member_verify(old, &tx.chain, f), APM_ERR_VERIFY);
	*f = good;
	f->spki[90] ^= 1;
	CHECK_STATUS(apm_member_verify(old, &tx.chain, f), APM_ERR_VERIFY);
	*f = good;
	f->endorsement.bytes[63] ^= 1;
	CHECK_STATUS(apm_member_verify(old, &tx.chain, f), APM_ERR_VERIFY);
	apm_ec_free(old);
	apm_ec_free(next);
}

/* The new key is good at once, the old one for a day of block time; both are the same origin. */
static void
test_succession_of_an_origin(void)
{
	World w;
	ApmEcKey *next;
	ApmDigest next_id;
	ApmDigest id;
	ApmTransaction tx;

	world_open(&w);
	next = sample_key();
	apm_ec_id(next, &next_id);
	tx = of_kind(&w, APM_KIND_PATIENT);
	CHECK(take(&w, &tx) == APM_RULE_NONE);
	tx = of_kind(&w, APM_KIND_QUERY);
	tx.origin = next_id;
	CHECK(judge(&w, next, &tx, w.height, false) == APM_RULE_ORIGIN);
	tx = succession(&w, APM_MEMBER_ORIGIN, w.origin, next);
	CHECK(take(&w, &tx) == APM_RULE_NONE);
	CHECK(apm_contract_current(w.state, APM_MEMBER_ORIGIN, &w.origin_id, &id) && same(&id, &next_id));
	CHECK(apm_contract_home(w.state, APM_MEMBER_ORIGIN, &next_id, &id) && same(&id, &w.origin_id));

	for (int turn = 0; turn < 2; turn++)
	{
		tx = of_kind(&w, APM_KIND_QUERY);
		CHECK(verdict(&w, &tx) == APM_RULE_NONE);
		tx.origin = next_id;
		CHECK(judge(&w, next, &tx, w.height, false) == APM_RULE_NONE);
		CHECK(judge(&w, w.origin, &tx, w.height, false) == APM_RULE_SIGNATURE);
		next_block(&w, APM_QUEUED_GRACE_US);
	}
	w.time_us = BLOCK_TIME + APM_QUEUED_GRACE_US + 1;
	tx = of_kind(&w, APM_KIND_QUERY);
	tx.time_us = BLOCK_TIME; /* made in time: it is the block that counts */
	CHECK(verdict(&w, &tx) == APM_RULE_ORIGIN);
	tx.origin = next_id;
	CHECK(judge(&w, next, &tx, w.height, false) == APM_RULE_NONE);

	/* whom the new key registers is the same origin's */
	tx = of_kind(&w, APM_KIND_PATIENT);
	tx.origin = next_id;
	tx.u.patient.apid = sample_text("r.later");
	CHECK(judge(&w, next, &tx, w.height, true) == APM_RULE_NONE);
	world_close(&w);
	apm_ec_free(next);
}

/* Whose patient he is, by whichever key; nobody else's. */
static void
test_home(void)
{
	World w;
	ApmEcKey *next;
	ApmDigest next_id;
	ApmPatientState p;
	ApmTransaction tx;

	world_open(&w);
	next = sample_key();
	apm_ec_id(next, &next_id);
	load_origin(&w, w.stranger);
	tx = succession(&w, APM_MEMBER_ORIGIN, w.origin, next);
	CHECK(take(&w, &tx) == APM_RULE_NONE);
	tx = of_kind(&w, APM_KIND_PATIENT);
	tx.origin = next_id;
	CHECK(judge(&w, next, &tx, w.height, true) == APM_RULE_NONE);
	CHECK_OK(apm_contract_patient(w.state, sample_text(SAMPLE_APID), &p));
	CHECK(same(&p.origin, &w.origin_id));
	tx = of_kind(&w, APM_KIND_QUERY);
	CHECK(verdict(&w, &tx) == APM_RULE_NONE);
	tx.origin = w.stranger_id;
	CHECK(judge(&w, w.stranger, &tx, w.height, false) == APM_RULE_HOME);
	world_close(&w);
	apm_ec_free(next);
}

/* What a node loads of replaced keys stands for what a verifier saw happen. */
static void
test_loaded_keys(void)
{
	World w;
	ApmTransaction tx;
	ApmMemberState m;

	world_open(&w);
	load_patient(&w, false);
	m = sample_first_key(APM_MEMBER_ORIGIN, w.origin);
	m.ended = true;
	m.ended_us = BLOCK_TIME - APM_QUEUED_GRACE_US;
	CHECK_OK(apm_contract_load_member(w.state, &m));
	tx = of_kind(&w, APM_KIND_QUERY);
	CHECK(verdict(&w, &tx) == APM_RULE_NONE);
	m.ended_us--;
	CHECK_OK(apm_contract_load_member(w.state, &m));
	CHECK(verdict(&w, &tx) == APM_RULE_ORIGIN);
	m.ended_us = UINT64_MAX; /* of a later block than this one: it is asked all the same */
	CHECK_OK(apm_contract_load_member(w.state, &m));
	CHECK(verdict(&w, &tx) == APM_RULE_NONE);
	apm_contract_forget(w.state);
	load_patient(&w, false);
	CHECK(verdict(&w, &tx) == APM_RULE_NONE);
	world_close(&w);
}

static void
test_refused_successions(void)
{
	World w;
	ApmEcKey *keys[3];
	ApmTransaction good;
	ApmTransaction tx;

	world_open(&w);
	for (int i = 0; i < 3; i++)
		keys[i] = sample_key();
	load_member(w.state, APM_MEMBER_NODE, keys[2]);
	good = succession(&w, APM_MEMBER_ORIGIN, w.origin, keys[0]);
	CHECK(verdict(&w, &good) == APM_RULE_NONE);
	CHECK(judge(&w, w.origin, &good, 0, false) == APM_RULE_MEMBERSHIP);
	tx = succession(&w, APM_MEMBER_NODE, keys[2], keys[0]);
	CHECK(verdict(&w, &tx) == APM_RULE_NONE);
	CHECK(judge(&w, w.origin, &tx, 0, false) == APM_RULE_MEMBERSHIP);
	tx = good;
	tx.roles = APM_ROLE_REGISTRAR;
	CHECK(verdict(&w, &tx) == APM_RULE_ACTOR);
	tx = good;
	tx.u.membership.endorsement.bytes[5] ^= 1;
	CHECK(verdict(&w, &tx) == APM_RULE_MEMBERSHIP);
	tx = good;
	apm_ec_spki(keys[1], tx.u.membership.spki); /* the word was for another key */
	CHECK(verdict(&w, &tx) == APM_RULE_MEMBERSHIP);
	tx = good;
	tx.u.membership.member = APM_MEMBER_NODE; /* and for another member */
	CHECK(verdict(&w, &tx) == APM_RULE_MEMBERSHIP);
	tx = good;
	apm_ec_id(keys[1], &tx.u.membership.replaces); /* nobody's */
	CHECK(verdict(&w, &tx) == APM_RULE_MEMBERSHIP);
	tx = succession(&w, APM_MEMBER_ORIGIN, keys[2], keys[0]); /* a node's */
	CHECK(verdict(&w, &tx) == APM_RULE_MEMBERSHIP);
	tx = succession(&w, APM_MEMBER_ORIGIN, w.origin, w.origin);
	CHECK(verdict(&w, &tx) == APM_RULE_MEMBERSHIP);

	/* another origin sends it, with the right word */
	load_origin(&w, w.stranger);
	tx = good;
	tx.origin = w.stranger_id;
	CHECK(judge(&w, w.stranger, &tx, w.height, false) == APM_RULE_MEMBERSHIP);
	/* or takes a key that is the other's */
	tx = succession(&w, APM_MEMBER_ORIGIN, w.origin, w.stranger);
	CHECK(verdict(&w, &tx) == APM_RULE_MEMBERSHIP);
	world_close(&w);
	for (int i = 0; i < 3; i++)
		apm_ec_free(keys[i]);
}

/* A key has its turn once, and only the last one has a successor. */
static void
test_no_way_back(void)
{
	World w;
	ApmEcKey *keys[2];
	ApmDigest ids[2];
	ApmDigest id;
	ApmTransaction tx;

	world_open(&w);
	for (int i = 0; i < 2; i++)
	{
		keys[i] = sample_key();
		apm_ec_id(keys[i], &ids[i]);
	}
	tx = succession(&w, APM_MEMBER_ORIGIN, w.origin, keys[0]);
	CHECK(take(&w, &tx) == APM_RULE_NONE);
	tx = succession(&w, APM_MEMBER_ORIGIN, keys[0], w.origin);
	CHECK(verdict(&w, &tx) == APM_RULE_MEMBERSHIP);
	tx = succession(&w, APM_MEMBER_ORIGIN, w.origin, keys[1]); /* its word is over, though it still signs */
	CHECK(verdict(&w, &tx) == APM_RULE_MEMBERSHIP);
	tx = succession(&w, APM_MEMBER_ORIGIN, keys[0], keys[1]); /* sent by the first key, in its day of grace */
	CHECK(take(&w, &tx) == APM_RULE_NONE);
	for (int i = 0; i < 2; i++)
		CHECK(apm_contract_home(w.state, APM_MEMBER_ORIGIN, &ids[i], &id) && same(&id, &w.origin_id));
	CHECK(apm_contract_current(w.state, APM_MEMBER_ORIGIN, &w.origin_id, &id) && same(&id, &ids[1]));
	world_close(&w);
	for (int i = 0; i < 2; i++)
		apm_ec_free(keys[i]);
}

/* First keys come in the genesis block, once each; an origin's is brought by itself. */
static void
test_first_keys(void)
{
	World w;
	ApmTransaction tx;

	world_open(&w);
	tx = member(&w, APM_MEMBER_NODE, w.stranger);
	CHECK(judge(&w, w.origin, &tx, 1, false) == APM_RULE_MEMBERSHIP);
	CHECK(judge(&w, w.origin, &tx, 0, true) == APM_RULE_NONE);
	CHECK(judge(&w, w.origin, &tx, 0, false) == APM_RULE_MEMBERSHIP);
	tx = member(&w, APM_MEMBER_ORIGIN, w.stranger);
	CHECK(judge(&w, w.origin, &tx, 0, false) == APM_RULE_MEMBERSHIP);
	tx.origin = w.stranger_id;
	CHECK(judge(&w, w.stranger, &tx, 1, false) == APM_RULE_ORIGIN);
	CHECK(judge(&w, w.stranger, &tx, 0, true) == APM_RULE_NONE);
	CHECK(judge(&w, w.stranger, &tx, 0, false) == APM_RULE_MEMBERSHIP);
	world_close(&w);
}

/* A node's key signs from the block after its own to the one that replaces it. */
static void
test_succession_of_a_node(void)
{
	World w;
	ApmEcKey *old;
	ApmEcKey *next;
	ApmDigest ids[2];
	ApmDigest before;
	ApmDigest after;
	ApmTransaction tx;

	world_open(&w);
	old = sample_key();
	next = sample_key();
	apm_ec_id(old, &ids[0]);
	apm_ec_id(next, &ids[1]);
	load_member(w.state, APM_MEMBER_NODE, old);
	CHECK_OK(apm_contract_digest(w.state, &before));
	CHECK(apm_contract_block_signer(w.state, &ids[0], HEIGHT) != NULL);
	CHECK(apm_contract_block_signer(w.state, &w.origin_id, HEIGHT) == NULL);
	tx = succession(&w, APM_MEMBER_NODE, old, next);
	CHECK(take(&w, &tx) == APM_RULE_NONE);
	CHECK(apm_contract_node(w.state, &ids[0]) == NULL && apm_contract_node(w.state, &ids[1]) != NULL);
	CHECK(apm_contract_block_signer(w.state, &ids[0], HEIGHT) != NULL);
	CHECK(apm_contract_block_signer(w.state, &ids[1], HEIGHT) == NULL);
	CHECK(apm_contract_block_signer(w.state, &ids[0], HEIGHT + 1) == NULL);
	CHECK(apm_contract_block_signer(w.state, &ids[1], HEIGHT + 1) != NULL);
	CHECK_OK(apm_contract_digest(w.state, &after));
	CHECK(!same(&before, &after));
	tx = succession(&w, APM_MEMBER_NODE, next, old);
	CHECK(verdict(&w, &tx) == APM_RULE_MEMBERSHIP);
	tx = succession(&w, APM_MEMBER_NODE, next, w.origin); /* an origin's key: of another sort */
	CHECK(verdict(&w, &tx) == APM_RULE_NONE);
	world_close(&w);
	apm_ec_free(old);
	apm_ec_free(next);
}

int
main(void)
{
	test_endorsement();
	test_succession_of_an_origin();
	test_home();
	test_loaded_keys();
	test_refused_successions();
	test_no_way_back();
	test_first_keys();
	test_succession_of_a_node();
	return check_summary();
}
