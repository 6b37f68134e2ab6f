/*
 * test_rules_read.c
 *	  Who may read: every rule about queries, consents, reviews and releases, broken on
 *	  purpose and kept; and the order of a patient's words.
 */
#include "core/contract.h"

#include "world.h"

/* Roles of the server: the sample actors belong to the first, nobody in these tests to the second. */
static const uint8_t *own = sample_role;
static const uint8_t other[APM_STAFF_LEN] = {0x71};
static const uint8_t everybody[APM_STAFF_LEN];

#define TREATMENT 1
#define OPERATIONS 3
#define UNCONSCIOUS 1

static ApmTransaction
query(const World *w, ApmScope scope, uint16_t roles)
{
	ApmTransaction tx = of_kind(w, APM_KIND_QUERY);

	tx.roles = roles;
	tx.u.query.scope = (uint8_t) scope;
	switch (scope)
	{
		case APM_SCOPE_SEARCH:
			tx.u.query.apid = APM_SLICE(NULL, 0);
			tx.u.query.tokens = (ApmTokens){1, other};
			break;
		case APM_SCOPE_EMERGENCY:
			tx.u.query.purpose = APM_PURPOSE_EMERGENCY;
			tx.u.query.reason = UNCONSCIOUS;
			break;
		case APM_SCOPE_EXPORT:
			tx.u.query.purpose = APM_PURPOSE_RESEARCH;
			memset(tx.u.query.basis, 0x81, APM_UUID_LEN);
			break;
		default:
			break;
	}
	return tx;
}

static ApmTransaction
word(const World *w, ApmConsentAction action, const uint8_t *grantee, uint16_t purpose)
{
	ApmTransaction tx = of_kind(w, APM_KIND_CONSENT);

	tx.roles = APM_ROLE_REGISTRAR;
	tx.u.consent.action = (uint8_t) action;
	memcpy(tx.u.consent.grantee, grantee, APM_STAFF_LEN);
	tx.u.consent.purpose = purpose;
	tx.u.consent.groups = (ApmGroups){1, other};
	return tx;
}

/* Enters a patient's word.  The registrar belongs to a role of his own. */
static void
say(World *w, ApmConsentAction action, const uint8_t *grantee, uint16_t purpose, uint64_t until_us)
{
	static const uint8_t registrars[APM_STAFF_LEN] = {0x99};
	ApmTransaction tx = word(w, action, grantee, purpose);

	tx.u.consent.until_us = until_us;
	tx.u.consent.groups = (ApmGroups){1, registrars};
	CHECK(take(w, &tx) == APM_RULE_NONE);
}

static uint16_t
may(World *w, ApmScope scope, uint16_t roles)
{
	ApmTransaction tx = query(w, scope, roles);

	return verdict(w, &tx);
}

static uint16_t
may_for(World *w, uint16_t roles, uint16_t purpose)
{
	ApmTransaction tx = query(w, APM_SCOPE_RECORDS, roles);

	tx.u.query.purpose = purpose;
	return verdict(w, &tx);
}

static void
open_with_patient(World *w)
{
	world_open(w);
	load_patient(w, false);
}

/* Each scope with each single role. */
static void
test_actor(void)
{
	static const struct
	{
		ApmScope scope;
		uint16_t valid;		/* roles that are enough */
		uint16_t otherwise; /* the verdict on the others, as far as they may ask at all */
	} scopes[] = {
		{APM_SCOPE_RECORDS, APM_ROLE_CLINICIAN, APM_RULE_CONSENT},
		{APM_SCOPE_HISTORY, APM_ROLE_AUDITOR, APM_RULE_CONSENT},
		{APM_SCOPE_SEARCH, APM_ROLE_CLINICIAN | APM_ROLE_RESEARCHER, APM_RULE_ACTOR},
		{APM_SCOPE_EXPORT, APM_ROLE_RESEARCHER, APM_RULE_ACTOR},
		{APM_SCOPE_EMERGENCY, APM_ROLE_CLINICIAN, APM_RULE_ACTOR},
	};
	World w;

	open_with_patient(&w);
	for (size_t i = 0; i < sizeof(scopes) / sizeof(scopes[0]); i++)
	{
		for (uint32_t role = 0; role <= APM_ROLE_AUDITOR; role = role == 0 ? 1 : role * 2)
		{
			uint16_t rule = may(&w, scopes[i].scope, (uint16_t) role);

			if (role == APM_ROLE_REGISTRAR || role == APM_ROLE_SENSOR)
				CHECK(rule == APM_RULE_ACTOR);
			else if ((role & scopes[i].valid) != 0)
				CHECK(rule == APM_RULE_NONE);
			else
				CHECK(rule == scopes[i].otherwise);
			/* whatever else a registrar is, he does not read; a sensor does if he is a clinician too */
			CHECK(may(&w, scopes[i].scope, (uint16_t) (role | APM_ROLE_REGISTRAR)) == APM_RULE_ACTOR);
			rule = may(&w, scopes[i].scope, (uint16_t) (role | APM_ROLE_SENSOR));
			CHECK((rule == APM_RULE_ACTOR) ==
				  ((role & APM_ROLE_CLINICIAN) == 0 || scopes[i].scope == APM_SCOPE_EXPORT));
		}
	}
	world_close(&w);
}

static void
test_purpose(void)
{
	World w;
	ApmTransaction tx;

	open_with_patient(&w);
	CHECK(may_for(&w, APM_ROLE_CLINICIAN, 0) == APM_RULE_NONE);
	CHECK(may_for(&w, APM_ROLE_CLINICIAN, 8) == APM_RULE_PURPOSE);
	load_policy(&w, APM_POLICY_PURPOSE, 1);
	CHECK(may_for(&w, APM_ROLE_CLINICIAN, 0) == APM_RULE_PURPOSE);
	CHECK(may_for(&w, APM_ROLE_CLINICIAN, 7) == APM_RULE_NONE);
	tx = query(&w, APM_SCOPE_SEARCH, APM_ROLE_CLINICIAN);
	tx.u.query.purpose = 0;
	CHECK(verdict(&w, &tx) == APM_RULE_PURPOSE);

	/* emergencies and exports have one each, and need it whatever the policy */
	load_policy(&w, APM_POLICY_PURPOSE, 0);
	tx = query(&w, APM_SCOPE_EMERGENCY, APM_ROLE_CLINICIAN);
	tx.u.query.purpose = TREATMENT;
	CHECK(verdict(&w, &tx) == APM_RULE_PURPOSE);
	tx = query(&w, APM_SCOPE_EXPORT, APM_ROLE_RESEARCHER);
	tx.u.query.purpose = 0;
	CHECK(verdict(&w, &tx) == APM_RULE_PURPOSE);

	/* a grant may be for every purpose or for one that is listed */
	tx = word(&w, APM_CONSENT_GRANT, own, 0);
	CHECK(verdict(&w, &tx) == APM_RULE_NONE);
	tx.u.consent.purpose = TREATMENT;
	CHECK(verdict(&w, &tx) == APM_RULE_NONE);
	tx.u.consent.purpose = 8;
	CHECK(verdict(&w, &tx) == APM_RULE_PURPOSE);
	world_close(&w);
}

/* With the policy clinician: a clinician reads unless barred, others with a grant. */
static void
test_access_clinician(void)
{
	World w;

	open_with_patient(&w);
	CHECK(may(&w, APM_SCOPE_RECORDS, APM_ROLE_CLINICIAN) == APM_RULE_NONE);
	CHECK(may(&w, APM_SCOPE_RECORDS, 0) == APM_RULE_CONSENT);
	say(&w, APM_CONSENT_GRANT, own, 0, 0);
	CHECK(may(&w, APM_SCOPE_RECORDS, 0) == APM_RULE_NONE);
	/* a withdrawal beats every role, and every earlier grant */
	say(&w, APM_CONSENT_REVOKE, everybody, 0, 0);
	CHECK(may(&w, APM_SCOPE_RECORDS, 0) == APM_RULE_CONSENT);
	CHECK(may(&w, APM_SCOPE_RECORDS, APM_ROLE_CLINICIAN) == APM_RULE_CONSENT);
	CHECK(may(&w, APM_SCOPE_RECORDS, APM_ROLE_CLINICIAN | APM_ROLE_ADMIN | APM_ROLE_AUDITOR) ==
		  APM_RULE_CONSENT);
	/* the way back is a later grant, to a role that one belongs to */
	say(&w, APM_CONSENT_GRANT, other, 0, 0);
	CHECK(may(&w, APM_SCOPE_RECORDS, APM_ROLE_CLINICIAN) == APM_RULE_CONSENT);
	say(&w, APM_CONSENT_GRANT, own, 0, 0);
	CHECK(may(&w, APM_SCOPE_RECORDS, APM_ROLE_CLINICIAN) == APM_RULE_NONE);
	CHECK(may(&w, APM_SCOPE_RECORDS, 0) == APM_RULE_NONE);
	/* from whom it is taken alone, others keep it */
	say(&w, APM_CONSENT_REVOKE, other, 0, 0);
	CHECK(may(&w, APM_SCOPE_RECORDS, 0) == APM_RULE_NONE);
	say(&w, APM_CONSENT_REVOKE, own, 0, 0);
	CHECK(may(&w, APM_SCOPE_RECORDS, APM_ROLE_CLINICIAN) == APM_RULE_CONSENT);
	world_close(&w);
}

static void
test_access_consent(void)
{
	World w;

	open_with_patient(&w);
	load_policy(&w, APM_POLICY_ACCESS, 2);
	CHECK(may(&w, APM_SCOPE_RECORDS, APM_ROLE_CLINICIAN) == APM_RULE_CONSENT);
	say(&w, APM_CONSENT_GRANT, own, 0, 0);
	CHECK(may(&w, APM_SCOPE_RECORDS, APM_ROLE_CLINICIAN) == APM_RULE_NONE);
	say(&w, APM_CONSENT_REVOKE, own, 0, 0);
	CHECK(may(&w, APM_SCOPE_RECORDS, APM_ROLE_CLINICIAN) == APM_RULE_CONSENT);
	world_close(&w);
}

/* Words for one purpose concern that one; words for all, each. */
static void
test_purposes_of_words(void)
{
	World w;

	open_with_patient(&w);
	say(&w, APM_CONSENT_GRANT, own, TREATMENT, 0);
	CHECK(may_for(&w, 0, TREATMENT) == APM_RULE_NONE);
	CHECK(may_for(&w, 0, OPERATIONS) == APM_RULE_CONSENT);
	CHECK(may_for(&w, 0, 0) == APM_RULE_CONSENT);
	say(&w, APM_CONSENT_REVOKE, everybody, OPERATIONS, 0);
	CHECK(may_for(&w, 0, TREATMENT) == APM_RULE_NONE);
	CHECK(may_for(&w, APM_ROLE_CLINICIAN, OPERATIONS) == APM_RULE_CONSENT);
	CHECK(may_for(&w, APM_ROLE_CLINICIAN, 0) == APM_RULE_NONE);
	say(&w, APM_CONSENT_GRANT, own, 0, 0);
	CHECK(may_for(&w, 0, OPERATIONS) == APM_RULE_NONE);
	say(&w, APM_CONSENT_REVOKE, own, 0, 0);
	CHECK(may_for(&w, 0, TREATMENT) == APM_RULE_CONSENT);
	CHECK(may_for(&w, APM_ROLE_CLINICIAN, TREATMENT) == APM_RULE_CONSENT);
	world_close(&w);
}

/* A grant ends at its time of a block's; what was revoked before it is then revoked again. */
static void
test_end_of_grant(void)
{
	World w;

	open_with_patient(&w);
	say(&w, APM_CONSENT_REVOKE, own, 0, 0);
	say(&w, APM_CONSENT_GRANT, own, 0, BLOCK_TIME + HOUR);
	CHECK(may(&w, APM_SCOPE_RECORDS, APM_ROLE_CLINICIAN) == APM_RULE_NONE);
	next_block(&w, HOUR - 1);
	CHECK(may(&w, APM_SCOPE_RECORDS, 0) == APM_RULE_NONE);
	next_block(&w, 1);
	CHECK(may(&w, APM_SCOPE_RECORDS, 0) == APM_RULE_CONSENT);
	CHECK(may(&w, APM_SCOPE_RECORDS, APM_ROLE_CLINICIAN) == APM_RULE_CONSENT);
	/* the last grant to somebody is the one that counts, also when it ends earlier */
	say(&w, APM_CONSENT_GRANT, own, 0, 0);
	say(&w, APM_CONSENT_GRANT, own, 0, w.time_us + HOUR);
	next_block(&w, HOUR);
	CHECK(may(&w, APM_SCOPE_RECORDS, 0) == APM_RULE_CONSENT);
	world_close(&w);
}

/* Of two words of one block the later position counts; loaded from a ledger they may come in any order. */
static void
test_order(void)
{
	World w;

	for (int round = 0; round < 4; round++)
	{
		ApmConsentState grant = {.granted = true, .order = apm_order(5, round % 2 == 0 ? 7 : 6)};
		ApmConsentState revocation = {.order = apm_order(round < 2 ? 5 : 4, round % 2 == 0 ? 6 : 7)};
		bool granted = round != 1;

		open_with_patient(&w);
		if (round % 2 == 0)
			CHECK_OK(apm_contract_load_consent(w.state, sample_text(SAMPLE_APID), everybody, 0, &revocation));
		CHECK_OK(apm_contract_load_consent(w.state, sample_text(SAMPLE_APID), own, 0, &grant));
		if (round % 2 != 0)
			CHECK_OK(apm_contract_load_consent(w.state, sample_text(SAMPLE_APID), everybody, 0, &revocation));
		CHECK(may(&w, APM_SCOPE_RECORDS, 0) == (granted ? APM_RULE_NONE : APM_RULE_CONSENT));
		CHECK(may(&w, APM_SCOPE_RECORDS, APM_ROLE_CLINICIAN) == (granted ? APM_RULE_NONE : APM_RULE_CONSENT));
		world_close(&w);
	}
}

static void
test_history(void)
{
	World w;

	open_with_patient(&w);
	CHECK(may(&w, APM_SCOPE_HISTORY, APM_ROLE_CLINICIAN) == APM_RULE_CONSENT);
	say(&w, APM_CONSENT_GRANT, own, TREATMENT, 0);
	CHECK(may(&w, APM_SCOPE_HISTORY, 0) == APM_RULE_CONSENT);
	say(&w, APM_CONSENT_GRANT, own, APM_PURPOSE_PATIENT_REQUEST, 0);
	CHECK(may(&w, APM_SCOPE_HISTORY, 0) == APM_RULE_NONE);
	say(&w, APM_CONSENT_REVOKE, everybody, 0, 0);
	CHECK(may(&w, APM_SCOPE_HISTORY, 0) == APM_RULE_CONSENT);
	CHECK(may(&w, APM_SCOPE_HISTORY, APM_ROLE_AUDITOR) == APM_RULE_NONE);
	say(&w, APM_CONSENT_GRANT, own, 0, 0);
	CHECK(may(&w, APM_SCOPE_HISTORY, 0) == APM_RULE_NONE);
	world_close(&w);
}

static void
test_export_query(void)
{
	World w;

	open_with_patient(&w);
	CHECK(may(&w, APM_SCOPE_EXPORT, APM_ROLE_RESEARCHER) == APM_RULE_NONE);
	say(&w, APM_CONSENT_REVOKE, everybody, APM_PURPOSE_RESEARCH, 0);
	CHECK(may(&w, APM_SCOPE_EXPORT, APM_ROLE_RESEARCHER) == APM_RULE_CONSENT);
	say(&w, APM_CONSENT_GRANT, own, APM_PURPOSE_RESEARCH, 0);
	CHECK(may(&w, APM_SCOPE_EXPORT, APM_ROLE_RESEARCHER) == APM_RULE_NONE);
	world_close(&w);

	open_with_patient(&w);
	load_policy(&w, APM_POLICY_ACCESS, 2); /* and exports as access, since nobody set it */
	CHECK(may(&w, APM_SCOPE_EXPORT, APM_ROLE_RESEARCHER) == APM_RULE_CONSENT);
	load_policy(&w, APM_POLICY_EXPORT, 1);
	CHECK(may(&w, APM_SCOPE_EXPORT, APM_ROLE_RESEARCHER) == APM_RULE_NONE);
	load_policy(&w, APM_POLICY_EXPORT, 2);
	CHECK(may(&w, APM_SCOPE_EXPORT, APM_ROLE_RESEARCHER) == APM_RULE_CONSENT);
	say(&w, APM_CONSENT_GRANT, own, APM_PURPOSE_RESEARCH, 0);
	CHECK(may(&w, APM_SCOPE_EXPORT, APM_ROLE_RESEARCHER) == APM_RULE_NONE);
	world_close(&w);
}

static void
test_emergency(void)
{
	World w;
	ApmTransaction tx;

	open_with_patient(&w);
	load_policy(&w, APM_POLICY_ACCESS, 2);
	CHECK(may(&w, APM_SCOPE_EMERGENCY, APM_ROLE_CLINICIAN) == APM_RULE_NONE);
	tx = query(&w, APM_SCOPE_EMERGENCY, APM_ROLE_CLINICIAN);
	tx.u.query.reason = 6; /* not on the list */
	CHECK(verdict(&w, &tx) == APM_RULE_EMERGENCY);

	/* who took it from one role did not withdraw; who took it from everybody did, until a later grant */
	say(&w, APM_CONSENT_REVOKE, own, 0, 0);
	CHECK(may(&w, APM_SCOPE_EMERGENCY, APM_ROLE_CLINICIAN) == APM_RULE_NONE);
	say(&w, APM_CONSENT_REVOKE, everybody, TREATMENT, 0);
	CHECK(may(&w, APM_SCOPE_EMERGENCY, APM_ROLE_CLINICIAN) == APM_RULE_NONE);
	say(&w, APM_CONSENT_REVOKE, everybody, APM_PURPOSE_EMERGENCY, 0);
	CHECK(may(&w, APM_SCOPE_EMERGENCY, APM_ROLE_CLINICIAN) == APM_RULE_CONSENT);
	say(&w, APM_CONSENT_GRANT, own, 0, 0);
	CHECK(may(&w, APM_SCOPE_EMERGENCY, APM_ROLE_CLINICIAN) == APM_RULE_NONE);
	say(&w, APM_CONSENT_REVOKE, own, 0, 0);
	CHECK(may(&w, APM_SCOPE_EMERGENCY, APM_ROLE_CLINICIAN) == APM_RULE_CONSENT);

	load_policy(&w, APM_POLICY_EMERGENCY, 2);
	CHECK(may(&w, APM_SCOPE_EMERGENCY, APM_ROLE_CLINICIAN) == APM_RULE_NONE);
	load_policy(&w, APM_POLICY_EMERGENCY, 0);
	CHECK(may(&w, APM_SCOPE_EMERGENCY, APM_ROLE_CLINICIAN) == APM_RULE_EMERGENCY);
	world_close(&w);
}

/* Reads rest on what is on the ledger: matches on one's own search, notes on an emergency of that patient. */
static void
test_basis(void)
{
	World w;
	ApmTransaction tx;
	ApmUuid search;
	ApmUuid emergency;

	open_with_patient(&w);
	tx = query(&w, APM_SCOPE_SEARCH, APM_ROLE_CLINICIAN);
	CHECK(take(&w, &tx) == APM_RULE_NONE);
	search = w.tid;
	tx = query(&w, APM_SCOPE_EMERGENCY, APM_ROLE_CLINICIAN);
	CHECK(take(&w, &tx) == APM_RULE_NONE);
	emergency = w.tid;

	tx = query(&w, APM_SCOPE_MATCH, APM_ROLE_CLINICIAN);
	memcpy(tx.u.query.basis, search.bytes, APM_UUID_LEN);
	CHECK(verdict(&w, &tx) == APM_RULE_NONE);
	tx.actor[0] ^= 1; /* somebody else's search */
	CHECK(verdict(&w, &tx) == APM_RULE_BASIS);
	tx.actor[0] ^= 1;
	memcpy(tx.u.query.basis, emergency.bytes, APM_UUID_LEN);
	CHECK(verdict(&w, &tx) == APM_RULE_BASIS);
	tx.u.query.basis[0] ^= 1;
	CHECK(verdict(&w, &tx) == APM_RULE_BASIS);
	memcpy(tx.u.query.basis, search.bytes, APM_UUID_LEN);
	tx.roles = 0; /* a match is a read like any other */
	CHECK(verdict(&w, &tx) == APM_RULE_CONSENT);

	tx = query(&w, APM_SCOPE_NOTE, APM_ROLE_AUDITOR);
	memcpy(tx.u.query.basis, emergency.bytes, APM_UUID_LEN);
	CHECK(verdict(&w, &tx) == APM_RULE_NONE);
	tx.roles = APM_ROLE_CLINICIAN;
	CHECK(verdict(&w, &tx) == APM_RULE_ACTOR);
	tx.roles = APM_ROLE_AUDITOR;
	memcpy(tx.u.query.basis, search.bytes, APM_UUID_LEN);
	CHECK(verdict(&w, &tx) == APM_RULE_BASIS);
	memcpy(tx.u.query.basis, emergency.bytes, APM_UUID_LEN);
	{
		ApmPatientState p;

		CHECK_OK(apm_contract_patient(w.state, sample_text(SAMPLE_APID), &p));
		CHECK_OK(apm_contract_load_patient(w.state, sample_text("r.another"), &p));
	}
	tx.u.query.apid = sample_text("r.another");
	CHECK(verdict(&w, &tx) == APM_RULE_BASIS);
	world_close(&w);
}

static ApmTransaction
review(const World *w, const ApmUuid *emergency)
{
	ApmTransaction tx = of_kind(w, APM_KIND_CONSENT);

	tx.roles = APM_ROLE_AUDITOR;
	memset(tx.actor, 0x44, APM_STAFF_LEN);
	tx.u.consent.action = APM_CONSENT_REVIEW;
	memset(tx.u.consent.grantee, 0, APM_STAFF_LEN);
	tx.u.consent.reviewed = *emergency;
	tx.u.consent.finding = APM_FINDING_JUSTIFIED;
	tx.u.consent.groups = (ApmGroups){1, other};
	return tx;
}

static void
test_review(void)
{
	World w;
	ApmTransaction tx;
	ApmUuid emergency;
	ApmUuid search;
	ApmPatientState p;

	open_with_patient(&w);
	tx = query(&w, APM_SCOPE_EMERGENCY, APM_ROLE_CLINICIAN);
	CHECK(take(&w, &tx) == APM_RULE_NONE);
	emergency = w.tid;
	tx = query(&w, APM_SCOPE_SEARCH, APM_ROLE_CLINICIAN);
	CHECK(take(&w, &tx) == APM_RULE_NONE);
	search = w.tid;

	tx = review(&w, &emergency);
	CHECK(verdict(&w, &tx) == APM_RULE_NONE);
	for (uint32_t role = 1; role <= APM_ROLE_AUDITOR; role *= 2)
	{
		tx.roles = (uint16_t) role;
		CHECK(verdict(&w, &tx) ==
			  (role == APM_ROLE_AUDITOR || role == APM_ROLE_ADMIN ? APM_RULE_NONE : APM_RULE_ACTOR));
	}
	tx = review(&w, &emergency);
	memset(tx.actor, 0x5a, APM_STAFF_LEN); /* the same actor */
	CHECK(verdict(&w, &tx) == APM_RULE_SELF);
	tx = review(&w, &emergency);
	tx.u.consent.groups = (ApmGroups){1, own}; /* could act as the role that it was */
	CHECK(verdict(&w, &tx) == APM_RULE_SELF);
	tx = review(&w, &search);
	CHECK(verdict(&w, &tx) == APM_RULE_BASIS);
	CHECK_OK(apm_contract_patient(w.state, sample_text(SAMPLE_APID), &p));
	CHECK_OK(apm_contract_load_patient(w.state, sample_text("r.another"), &p));
	tx = review(&w, &emergency);
	tx.u.consent.apid = sample_text("r.another");
	CHECK(verdict(&w, &tx) == APM_RULE_BASIS);
	tx = review(&w, &emergency);
	tx.u.consent.reviewed.bytes[15] ^= 1;
	CHECK(verdict(&w, &tx) == APM_RULE_BASIS);

	tx = review(&w, &emergency);
	CHECK(take(&w, &tx) == APM_RULE_NONE);
	CHECK(verdict(&w, &tx) == APM_RULE_BASIS); /* once is enough */
	tx = query(&w, APM_SCOPE_NOTE, APM_ROLE_AUDITOR);
	memcpy(tx.u.query.basis, emergency.bytes, APM_UUID_LEN);
	CHECK(verdict(&w, &tx) == APM_RULE_NONE); /* the note can still be read */
	world_close(&w);
}

/* Nobody grants to a role that he belongs to, by the role he acts as or by his login. */
static void
test_self(void)
{
	World w;
	ApmTransaction tx;
	uint8_t two[2 * APM_STAFF_LEN];

	open_with_patient(&w);
	memset(two, 0x11, APM_STAFF_LEN);
	memset(two + APM_STAFF_LEN, 0x22, APM_STAFF_LEN);
	tx = word(&w, APM_CONSENT_GRANT, own, 0);
	tx.u.consent.groups = (ApmGroups){2, two};
	CHECK(verdict(&w, &tx) == APM_RULE_NONE);
	for (int i = 0; i < 2; i++)
	{
		tx = word(&w, APM_CONSENT_GRANT, two + i * APM_STAFF_LEN, 0);
		tx.u.consent.groups = (ApmGroups){2, two};
		CHECK(verdict(&w, &tx) == APM_RULE_SELF);
		tx = word(&w, APM_CONSENT_REVOKE, two + i * APM_STAFF_LEN, 0);
		tx.u.consent.groups = (ApmGroups){2, two};
		CHECK(verdict(&w, &tx) == APM_RULE_NONE);
	}
	world_close(&w);
}

static void
test_cap(void)
{
	World w;

	open_with_patient(&w);
	load_policy(&w, APM_POLICY_FETCH_CAP, 3);
	w.statement = 3;
	CHECK(may(&w, APM_SCOPE_RECORDS, APM_ROLE_CLINICIAN) == APM_RULE_NONE);
	w.statement = 4;
	CHECK(may(&w, APM_SCOPE_RECORDS, APM_ROLE_CLINICIAN) == APM_RULE_CAP);
	CHECK(may(&w, APM_SCOPE_HISTORY, APM_ROLE_AUDITOR) == APM_RULE_CAP);
	CHECK(may(&w, APM_SCOPE_EMERGENCY, APM_ROLE_CLINICIAN) == APM_RULE_NONE);
	CHECK(may(&w, APM_SCOPE_EXPORT, APM_ROLE_RESEARCHER) == APM_RULE_NONE);
	load_policy(&w, APM_POLICY_FETCH_CAP, 0);
	CHECK(may(&w, APM_SCOPE_RECORDS, APM_ROLE_CLINICIAN) == APM_RULE_NONE);
	world_close(&w);

	open_with_patient(&w); /* 1000 if nobody set it */
	w.statement = 1000;
	CHECK(may(&w, APM_SCOPE_RECORDS, APM_ROLE_CLINICIAN) == APM_RULE_NONE);
	w.statement = 1001;
	CHECK(may(&w, APM_SCOPE_RECORDS, APM_ROLE_CLINICIAN) == APM_RULE_CAP);
	world_close(&w);
}

static void
test_rate(void)
{
	World w;
	ApmTransaction tx;

	open_with_patient(&w);
	load_policy(&w, APM_POLICY_QUERY_RATE, 2);
	for (int n = 0; n < 4; n++)
	{
		tx = query(&w, APM_SCOPE_EXPORT, APM_ROLE_RESEARCHER); /* counts for nothing */
		CHECK(take(&w, &tx) == APM_RULE_NONE);
		tx = query(&w, APM_SCOPE_RECORDS, APM_ROLE_CLINICIAN);
		CHECK(take(&w, &tx) == (n < 2 ? APM_RULE_NONE : APM_RULE_RATE)); /* refused ones do not count */
	}
	tx.actor[0] ^= 1;
	CHECK(verdict(&w, &tx) == APM_RULE_NONE); /* somebody else */
	CHECK(may(&w, APM_SCOPE_EMERGENCY, APM_ROLE_CLINICIAN) == APM_RULE_NONE);
	next_block(&w, HOUR - 1);
	CHECK(may(&w, APM_SCOPE_SEARCH, APM_ROLE_CLINICIAN) == APM_RULE_RATE);
	next_block(&w, 1);
	tx = query(&w, APM_SCOPE_EMERGENCY, APM_ROLE_CLINICIAN); /* not held to the rate, but a query */
	CHECK(take(&w, &tx) == APM_RULE_NONE && take(&w, &tx) == APM_RULE_NONE);
	CHECK(may(&w, APM_SCOPE_RECORDS, APM_ROLE_CLINICIAN) == APM_RULE_RATE);
	load_policy(&w, APM_POLICY_QUERY_RATE, 0);
	CHECK(may(&w, APM_SCOPE_RECORDS, APM_ROLE_CLINICIAN) == APM_RULE_NONE);
	world_close(&w);
}

static void
test_release(void)
{
	World w;
	ApmTransaction tx;

	world_open(&w);
	tx = of_kind(&w, APM_KIND_EXPORT);
	tx.roles = APM_ROLE_RESEARCHER;
	tx.u.export.release = 2;
	CHECK(verdict(&w, &tx) == APM_RULE_RELEASE);
	tx.u.export.release = 1;
	CHECK(take(&w, &tx) == APM_RULE_NONE);
	CHECK(verdict(&w, &tx) == APM_RULE_RELEASE);
	tx.u.export.release = 2;
	CHECK(take(&w, &tx) == APM_RULE_NONE);
	tx.u.export.study[0] ^= 1;
	CHECK(verdict(&w, &tx) == APM_RULE_RELEASE);
	CHECK_OK(apm_contract_load_study(w.state, tx.u.export.study, 1));
	CHECK(verdict(&w, &tx) == APM_RULE_NONE);
	world_close(&w);
}

int
main(void)
{
	test_actor();
	test_purpose();
	test_access_clinician();
	test_access_consent();
	test_purposes_of_words();
	test_end_of_grant();
	test_order();
	test_history();
	test_export_query();
	test_emergency();
	test_basis();
	test_review();
	test_self();
	test_cap();
	test_rate();
	test_release();
	return check_summary();
}
