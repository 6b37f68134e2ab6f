/*
 * story.h
 *	  A chain of a hundred blocks in which everything happens that a ledger knows: all kinds of transactions,
 *	  valid and refused, changes of the contract, a node and an origin that take new keys, two patients who are
 *	  erased.
 */
#ifndef APM_TEST_STORY_H
#define APM_TEST_STORY_H

#include "chain.h"
#include "predicates.h"

#define STORY_BLOCKS 100
#define STORY_PATIENTS 5
#define STORY_NODE_SUCCESSION 40   /* the last block that the first node key signs */
#define STORY_ORIGIN_SUCCESSION 50 /* the block with the origin's second key */
#define STORY_FIRST_ERASURE 80
#define STORY_SECOND_ERASURE 90

typedef struct Story
{
	Chain chain;
	ApmEcKey *nodes[2];
	ApmEcKey *origins[2]; /* of the hospital in question */
	ApmEcKey *other;	  /* another hospital's */
	ApmUuid records[STORY_PATIENTS];
	uint32_t versions[STORY_PATIENTS];
	uint32_t rids;
	ApmUuid emergency;
	uint32_t rules[APM_SITE_RULE + 1]; /* how often each was the verdict; site rules together */
} Story;

static inline ApmSlice
story_patient(int n)
{
	static const char *const apids[STORY_PATIENTS] = {"r.first", "r.second", "r.third", "r.fourth",
													  "r.fifth"};

	return sample_text(apids[n]);
}

static inline uint16_t
story_put_by(Story *s, const ApmEcKey *key, const ApmTransaction *tx, uint32_t statement)
{
	uint16_t rule = chain_put(&s->chain, key, tx, statement);

	s->rules[rule < APM_SITE_RULE ? rule : APM_SITE_RULE]++;
	return rule;
}

/* The hospital's key in force. */
static inline const ApmEcKey *
story_origin(const Story *s)
{
	return s->origins[s->chain.count > STORY_ORIGIN_SUCCESSION];
}

static inline uint16_t
story_put(Story *s, const ApmTransaction *tx)
{
	return story_put_by(s, story_origin(s), tx, 1);
}

static inline ApmTransaction
story_tx(const Story *s, ApmKind kind, uint16_t roles)
{
	ApmTransaction tx = chain_of_kind(&s->chain, story_origin(s), kind);

	tx.roles = roles;
	return tx;
}

static inline ApmTransaction
story_profile(Story *s, int n)
{
	ApmTransaction tx = story_tx(s, APM_KIND_PATIENT, APM_ROLE_REGISTRAR);
	ApmPatientFields *f = &tx.u.patient;

	f->apid = story_patient(n);
	f->version = s->versions[n] + 1;
	f->profile = sample_digest((uint8_t) (16 * n + (int) f->version));
	if (s->versions[n] > 0)
		f->old_profile = sample_digest((uint8_t) (16 * n + (int) s->versions[n]));
	s->versions[n]++;
	return tx;
}

static inline ApmTransaction
story_record(Story *s, int n)
{
	ApmTransaction tx = story_tx(s, APM_KIND_PRIMARY, APM_ROLE_CLINICIAN);
	ApmPrimaryFields *f = &tx.u.primary;

	f->apid = story_patient(n);
	f->rid = sample_uuid(0);
	f->rid.bytes[0] = (uint8_t) (++s->rids >> 8);
	f->rid.bytes[1] = (uint8_t) s->rids;
	CHECK_OK(apm_contract_ruleset(s->chain.state, &f->ruleset));
	return tx;
}

/* A record of the patient, which amends the one before if it is to. */
static inline void
story_add_record(Story *s, int n, bool amends, uint32_t statement)
{
	ApmTransaction tx = story_record(s, n);

	if (amends)
	{
		tx.u.primary.flags = APM_PRIMARY_AMENDS;
		tx.u.primary.amends = s->records[n];
	}
	if (story_put_by(s, story_origin(s), &tx, statement) == APM_RULE_NONE)
		s->records[n] = tx.u.primary.rid;
}

static inline ApmTransaction
story_query(const Story *s, int n, ApmScope scope, uint16_t roles)
{
	ApmTransaction tx = story_tx(s, APM_KIND_QUERY, roles);

	tx.u.query.scope = (uint8_t) scope;
	tx.u.query.apid = story_patient(n);
	return tx;
}

static inline ApmUuid
story_last_tid(const Story *s)
{
	const ChainBlock *b = &s->chain.blocks[s->chain.count];

	return b->entries[b->stored.count - 1].tid;
}

/* A search and what matches it. */
static inline void
story_search(Story *s, int n)
{
	ApmTransaction search = story_query(s, n, APM_SCOPE_SEARCH, APM_ROLE_CLINICIAN);
	ApmTransaction match = story_query(s, n, APM_SCOPE_MATCH, APM_ROLE_CLINICIAN);
	ApmUuid tid;

	search.u.query.apid = APM_SLICE(NULL, 0);
	search.u.query.tokens = (ApmTokens){1, sample_role};
	story_put(s, &search);
	tid = story_last_tid(s);
	memcpy(match.u.query.basis, tid.bytes, APM_UUID_LEN);
	story_put(s, &match);
}

static inline void
story_emergency(Story *s, int n)
{
	ApmTransaction tx = story_query(s, n, APM_SCOPE_EMERGENCY, APM_ROLE_CLINICIAN);

	tx.u.query.purpose = APM_PURPOSE_EMERGENCY;
	tx.u.query.reason = 1;
	tx.u.query.note = sample_digest(0x55);
	story_put(s, &tx);
	s->emergency = story_last_tid(s);
}

/* An auditor reads the emergency's note and reviews it. */
static inline void
story_review(Story *s, int n)
{
	static const uint8_t auditors[APM_STAFF_LEN] = {9};
	ApmTransaction note = story_query(s, n, APM_SCOPE_NOTE, APM_ROLE_AUDITOR);
	ApmTransaction review = story_tx(s, APM_KIND_CONSENT, APM_ROLE_AUDITOR);
	ApmConsentFields *f = &review.u.consent;

	memcpy(note.u.query.basis, s->emergency.bytes, APM_UUID_LEN);
	story_put(s, &note);
	memset(review.actor, 0x77, APM_STAFF_LEN);
	f->action = APM_CONSENT_REVIEW;
	f->apid = story_patient(n);
	memset(f->grantee, 0, APM_STAFF_LEN);
	f->reviewed = s->emergency;
	f->finding = APM_FINDING_JUSTIFIED;
	f->groups = (ApmGroups){1, auditors};
	story_put(s, &review);
}

static inline void
story_consent(Story *s, int n, ApmConsentAction action)
{
	ApmTransaction tx = story_tx(s, APM_KIND_CONSENT, APM_ROLE_REGISTRAR);

	tx.u.consent.action = (uint8_t) action;
	tx.u.consent.apid = story_patient(n);
	if (action == APM_CONSENT_REVOKE)
		memset(tx.u.consent.grantee, 0, APM_STAFF_LEN);
	story_put(s, &tx);
}

static inline void
story_change(Story *s, const ApmItem *item)
{
	ApmTransaction tx = story_tx(s, APM_KIND_CONTRACT, APM_ROLE_ADMIN);

	sample_items(item, 1, &tx.u.contract);
	story_put(s, &tx);
}

/* A rule that refuses what is asked of a patient too often, and a data rule. */
static inline void
story_rules(Story *s)
{
	ApmBuf body = {0};
	ApmItem rule = {.type = APM_ITEM_RULE, .kind = APM_KIND_QUERY, .name = sample_text("seldom")};
	ApmItem data = {.type = APM_ITEM_DATA_RULE,
					.name = sample_text("pulse-range"),
					.attribute = sample_text("pulse"),
					.body = sample_text("{\"max\":300}"),
					.violation = APM_VIOLATION_FLAG};

	p_limit(&body, APM_COUNT_PATIENT_QUERIES, 900, 1);
	rule.body = p_slice(&body);
	story_change(s, &rule);
	story_change(s, &data);
	apm_buf_reset(&body);
}

static inline void
story_genesis(Story *s)
{
	ApmItem items[APM_ITEMS_MAX] = {
		{.type = APM_ITEM_POLICY, .key = APM_POLICY_DIFFICULTY, .value = CHAIN_BITS}};
	ApmTransaction tx = story_tx(s, APM_KIND_CONTRACT, APM_ROLE_ADMIN);
	ApmTransaction member;
	uint16_t n = 1;

	for (uint16_t code = 1; apm_genesis_purpose(code) != NULL; code++)
		items[n++] =
			(ApmItem){.type = APM_ITEM_PURPOSE, .key = code, .name = sample_text(apm_genesis_purpose(code))};
	for (uint16_t code = 1; apm_genesis_reason(code) != NULL; code++)
		items[n++] =
			(ApmItem){.type = APM_ITEM_REASON, .key = code, .name = sample_text(apm_genesis_reason(code))};
	sample_items(items, n, &tx.u.contract);
	member = sample_membership(APM_MEMBER_ORIGIN, s->origins[0]);
	apm_ec_id(s->origins[0], &member.origin);
	story_put_by(s, s->origins[0], &member, 1);
	member = sample_membership(APM_MEMBER_ORIGIN, s->other);
	apm_ec_id(s->other, &member.origin);
	story_put_by(s, s->other, &member, 1);
	member = sample_membership(APM_MEMBER_NODE, s->nodes[0]);
	apm_ec_id(s->origins[0], &member.origin);
	story_put_by(s, s->origins[0], &member, 1);
	story_put(s, &tx);
	chain_seal(&s->chain);
}

static inline void
story_succession(Story *s, ApmMember member, const ApmEcKey *const keys[2])
{
	ApmTransaction tx = sample_succession(member, keys[0], keys[1]);

	apm_ec_id(story_origin(s), &tx.origin);
	tx.time_us = s->chain.time_us;
	story_put(s, &tx);
}

static inline void
story_export(Story *s, int n, uint32_t release)
{
	ApmTransaction query = story_query(s, n, APM_SCOPE_EXPORT, APM_ROLE_RESEARCHER);
	ApmTransaction tx = story_tx(s, APM_KIND_EXPORT, APM_ROLE_RESEARCHER);

	query.u.query.purpose = APM_PURPOSE_RESEARCH;
	memset(query.u.query.basis, 0x81, APM_STUDY_LEN);
	story_put(s, &query);
	tx.u.export.release = release;
	story_put(s, &tx);
}

/* What is refused: an unknown patient's record, another hospital's, one of the key that was replaced. */
static inline void
story_refused(Story *s, int n)
{
	ApmTransaction tx = story_record(s, n);

	tx.u.primary.apid = sample_text("r.nobody");
	story_put(s, &tx);
	tx = story_record(s, n);
	apm_ec_id(s->other, &tx.origin);
	story_put_by(s, s->other, &tx, 1);
	tx = story_record(s, n);
	apm_ec_id(s->origins[0], &tx.origin);
	story_put_by(s, s->origins[0], &tx, 1);
}

/* What happens once, at its height. */
static inline void
story_event(Story *s, size_t height)
{
	static const ApmItem seldom_ends = {.type = APM_ITEM_DROP_RULE, .name = {(const uint8_t *) "seldom", 6}};
	static const ApmItem insurance = {.type = APM_ITEM_PURPOSE, .name = {(const uint8_t *) "insurance", 9}};

	switch (height)
	{
		case 1:
			for (int n = 0; n < STORY_PATIENTS; n++)
			{
				ApmTransaction tx = story_profile(s, n);

				story_put_by(s, story_origin(s), &tx, 5);
			}
			break;
		case 10:
			story_change(s, &insurance);
			break;
		case 20:
			story_rules(s);
			break;
		case 70:
			story_change(s, &seldom_ends);
			break;
		case 30:
		case 60:
			story_export(s, 3, (uint32_t) height / 30);
			break;
		case STORY_NODE_SUCCESSION:
			story_succession(s, APM_MEMBER_NODE, (const ApmEcKey *const *) s->nodes);
			break;
		case STORY_ORIGIN_SUCCESSION:
			story_succession(s, APM_MEMBER_ORIGIN, (const ApmEcKey *const *) s->origins);
			break;
		case STORY_FIRST_ERASURE:
			CHECK(chain_erase(&s->chain, story_origin(s), story_patient(0)) == APM_RULE_NONE);
			break;
		case STORY_SECOND_ERASURE:
			story_add_record(s, 4, false, 1);
			CHECK(chain_erase(&s->chain, story_origin(s), story_patient(4)) == APM_RULE_NONE);
			break;
	}
}

/* What happens again and again. */
static inline void
story_day(Story *s, size_t height)
{
	int n = (int) (height % STORY_PATIENTS);
	ApmTransaction tx;

	if (height % 2 == 0)
		story_add_record(s, n, height % 4 == 0 && height > 10, (uint32_t) height % 7 + 1);
	if (height % 3 == 0)
	{
		tx = story_query(s, n, APM_SCOPE_RECORDS, APM_ROLE_CLINICIAN);
		story_put(s, &tx);
	}
	if (height % 10 == 4)
		story_search(s, n);
	if (height % 10 == 6)
		story_emergency(s, n);
	if (height % 10 == 7)
		story_review(s, n > 0 ? n - 1 : 0);
	if (height % 20 == 8)
		story_consent(s, n, APM_CONSENT_GRANT);
	if (height % 20 == 13)
		story_consent(s, n, APM_CONSENT_REVOKE);
	if (height % 20 == 2)
	{
		tx = story_profile(s, n);
		story_put(s, &tx);
	}
	if (height % 20 == 19)
		story_refused(s, n);
}

static inline void
story_open(Story *s)
{
	memset(s, 0, sizeof(*s));
	for (int i = 0; i < 2; i++)
	{
		s->nodes[i] = sample_key();
		s->origins[i] = sample_key();
	}
	s->other = sample_key();
	chain_open(&s->chain, s->nodes[0], STORY_BLOCKS);
	story_genesis(s);
	for (size_t height = 1; height < STORY_BLOCKS; height++)
	{
		/* once longer than an old key of an origin is borne with */
		s->chain.time_us += height == 75 ? APM_QUEUED_GRACE_US * 2 : 300 * SECOND;
		story_event(s, height);
		story_day(s, height);
		s->chain.node = s->nodes[height > STORY_NODE_SUCCESSION];
		chain_seal(&s->chain);
	}
}

static inline void
story_close(Story *s)
{
	chain_close(&s->chain);
	for (int i = 0; i < 2; i++)
	{
		apm_ec_free(s->nodes[i]);
		apm_ec_free(s->origins[i]);
	}
	apm_ec_free(s->other);
}

#endif /* APM_TEST_STORY_H */
