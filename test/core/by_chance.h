/*
 * by_chance.h
 *	  Transactions made by chance, out of everything that leaves a trace for others: registrations and
 *	  changes, records and amendments, words of patients, searches, emergencies, reviews and notes, releases,
 *	  policies, templates, data rules, site rules with counters, erasures, and keys that follow one another.
 *
 * What was valid so far is the ledger, which they refer to, not always rightly.
 */
#ifndef APM_TEST_BY_CHANCE_H
#define APM_TEST_BY_CHANCE_H

#include "core/contract.h"
#include "core/field.h"
#include "predicates.h"
#include "world.h"

#define CHAINS 40
#define BLOCKS 40
#define BATCH 12
#define PATIENTS 4 /* at a time; who is erased comes back under another name */
#define COMEBACKS 16
#define ROLES 4
#define LEDGER_MAX (BLOCKS * BATCH + 4)
#define KEYS_MAX 128

typedef struct Entry
{
	ApmBuf bytes; /* signed form, which opened points into */
	ApmOpened opened;
	uint64_t height;
	uint32_t position; /* among the valid ones of its block */
	uint64_t time_us;
	uint16_t rule;
	bool voided;	/* by an erasure further on */
	ApmVoid leaf;	/* what that says of it */
	ApmDigest home; /* and whose it is */
} Entry;

/* Keys of one member, the first one first, with the time of the block that ended each. */
typedef struct Keys
{
	ApmEcKey *v[KEYS_MAX];
	ApmDigest ids[KEYS_MAX];
	uint64_t ended_us[KEYS_MAX];
	int n;
} Keys;

static Entry ledger[LEDGER_MAX]; /* what was valid */
static size_t ledger_count;
static Keys origin;
static Keys node;
static Keys other;						   /* another origin, which keeps its key */
static Keys spares[APM_MEMBER_ORIGIN + 1]; /* by ApmMember: a key that waits for its turn */
static int comebacks[PATIENTS];

static int
pick(int n)
{
	return (int) (random() % n);
}

static void
add_key(Keys *keys, ApmEcKey *key)
{
	keys->v[keys->n] = key;
	apm_ec_id(key, &keys->ids[keys->n++]);
}

/* The name of a patient; sometimes his last one, under which he was erased. */
static ApmSlice
patient(int n)
{
	static char names[PATIENTS][COMEBACKS][16];
	int turn = comebacks[n] % COMEBACKS;

	if (turn > 0 && pick(5) == 0)
		turn--;
	snprintf(names[n][turn], sizeof(names[n][turn]), "r.%d.%d", n, turn);
	return sample_text(names[n][turn]);
}

/* Roles as their staff pseudonyms, ascending; somebody belongs to one. */
static const uint8_t *
role(int n)
{
	static uint8_t ids[ROLES][APM_STAFF_LEN];

	for (int i = 0; i < ROLES; i++)
		memset(ids[i], i + 1, APM_STAFF_LEN);
	return ids[n];
}

/* Mostly our origin's key in force, sometimes one that was before, or the other origin's. */
static ApmDigest
some_sender(void)
{
	if (pick(12) == 0)
		return other.ids[0];
	return origin.ids[pick(4) == 0 ? pick(origin.n) : origin.n - 1];
}

static const ApmEcKey *
key_of(const ApmDigest *sender)
{
	for (int i = 0; i < origin.n; i++)
	{
		if (memcmp(&origin.ids[i], sender, sizeof(*sender)) == 0)
			return origin.v[i];
	}
	return other.v[0];
}

static ApmTransaction
start(ApmKind kind, uint16_t roles, uint64_t time_us)
{
	ApmTransaction tx = sample_transaction(kind);

	tx.origin = some_sender();
	tx.roles = roles;
	tx.time_us = time_us - (uint64_t) pick(3) * 700 * SECOND;
	memset(tx.actor, pick(2) + 1, APM_STAFF_LEN);
	return tx;
}

/* A Tid of the ledger that may be what is looked for. */
static ApmUuid
some_tid(uint8_t scope)
{
	for (int tries = 0; tries < 30 && ledger_count > 0; tries++)
	{
		const Entry *e = &ledger[pick((int) ledger_count)];

		if (e->opened.tx.kind == APM_KIND_QUERY && e->opened.tx.u.query.scope == scope)
			return e->opened.tid;
	}
	return sample_uuid(7);
}

static ApmTransaction
some_query(uint64_t time_us)
{
	static const ApmScope scopes[] = {APM_SCOPE_RECORDS,   APM_SCOPE_RECORDS, APM_SCOPE_HISTORY,
									  APM_SCOPE_SEARCH,	   APM_SCOPE_MATCH,	  APM_SCOPE_EXPORT,
									  APM_SCOPE_EMERGENCY, APM_SCOPE_NOTE};
	static const uint16_t roles[] = {APM_ROLE_CLINICIAN, APM_ROLE_AUDITOR | APM_ROLE_CLINICIAN,
									 APM_ROLE_RESEARCHER, 0};
	static const uint8_t ward[] = {1, 0, 0, 0, 4, 'w', 'a', 'r', 'd', APM_FIELD_BOOLEAN,
								   0, 0, 0, 0, 0, 0,   0,	1};
	ApmTransaction tx = start(APM_KIND_QUERY, roles[pick(4)], time_us);
	ApmQueryFields *q = &tx.u.query;
	ApmUuid basis;

	if (pick(4) == 0)
		tx.fields = APM_SLICE(ward, sizeof(ward));

	q->scope = (uint8_t) scopes[pick(8)];
	q->apid = patient(pick(PATIENTS));
	q->purpose = (uint16_t) pick(3);
	q->groups = (ApmGroups){1, role(pick(ROLES))};
	memcpy(q->acting, q->groups.ids, APM_STAFF_LEN);
	if (q->scope == APM_SCOPE_SEARCH)
	{
		q->apid = APM_SLICE(NULL, 0);
		q->tokens = (ApmTokens){1, role(0)};
	}
	else if (q->scope == APM_SCOPE_EMERGENCY)
	{
		q->purpose = APM_PURPOSE_EMERGENCY;
		q->reason = 1;
	}
	else if (q->scope == APM_SCOPE_EXPORT)
		q->purpose = APM_PURPOSE_RESEARCH;
	if (q->scope == APM_SCOPE_MATCH || q->scope == APM_SCOPE_NOTE || q->scope == APM_SCOPE_EXPORT)
	{
		basis = some_tid(q->scope == APM_SCOPE_MATCH ? APM_SCOPE_SEARCH : APM_SCOPE_EMERGENCY);
		memcpy(q->basis, basis.bytes, APM_UUID_LEN);
	}
	return tx;
}

static ApmTransaction
some_consent(uint64_t time_us)
{
	ApmTransaction tx = start(APM_KIND_CONSENT, APM_ROLE_REGISTRAR | APM_ROLE_AUDITOR, time_us);
	ApmConsentFields *c = &tx.u.consent;

	c->action = (uint8_t) (pick(3) + 1);
	c->apid = patient(pick(PATIENTS));
	c->groups = (ApmGroups){1, role(pick(ROLES))};
	memcpy(c->grantee, role(pick(ROLES)), APM_STAFF_LEN);
	c->purpose = (uint16_t) pick(3);
	if (c->action == APM_CONSENT_GRANT && pick(2) == 0)
		c->until_us = time_us + (uint64_t) pick(5) * 1000 * SECOND;
	if (c->action == APM_CONSENT_REVOKE && pick(3) == 0)
		memset(c->grantee, 0, APM_STAFF_LEN);
	if (c->action == APM_CONSENT_REVIEW)
	{
		memset(c->grantee, 0, APM_STAFF_LEN);
		c->purpose = 0;
		c->reviewed = some_tid(APM_SCOPE_EMERGENCY);
		c->finding = APM_FINDING_JUSTIFIED;
	}
	return tx;
}

static ApmTransaction
some_record(const ApmContractState *state, uint64_t time_us)
{
	ApmTransaction tx = start(APM_KIND_PRIMARY, APM_ROLE_CLINICIAN, time_us);

	tx.u.primary.apid = patient(pick(PATIENTS));
	tx.u.primary.rid = sample_uuid((uint8_t) pick(200));
	if (pick(4) == 0)
	{
		tx.u.primary.flags = APM_PRIMARY_AMENDS;
		tx.u.primary.amends = sample_uuid((uint8_t) pick(200));
	}
	if (pick(4) != 0)
		CHECK_OK(apm_contract_ruleset(state, &tx.u.primary.ruleset));
	return tx;
}

/* A registration, or a change. */
static ApmTransaction
some_profile(const ApmContractState *state, uint64_t time_us)
{
	ApmTransaction tx = start(APM_KIND_PATIENT, APM_ROLE_REGISTRAR, time_us);
	ApmPatientFields *f = &tx.u.patient;
	ApmPatientState p;

	f->apid = patient(pick(PATIENTS));
	f->profile = sample_digest((uint8_t) pick(256));
	CHECK_OK(apm_contract_patient(state, f->apid, &p));
	if (p.known && pick(4) != 0)
	{
		f->version = p.version + 1;
		f->old_profile = p.profile;
	}
	return tx;
}

static int
compare_leaves(const void *a, const void *b)
{
	return memcmp(&((const ApmVoid *) a)->leaf, &((const ApmVoid *) b)->leaf, sizeof(ApmDigest));
}

/* Of everything that the ledger has of a patient; sometimes one too few, or with a slip. */
static ApmTransaction
some_erasure(uint64_t time_us)
{
	static ApmVoid voids[LEDGER_MAX];
	ApmTransaction tx = start(APM_KIND_ERASURE, APM_ROLE_REGISTRAR, time_us);
	uint32_t n = 0;

	tx.u.erasure.apid = patient(pick(PATIENTS));
	for (size_t i = 0; i < ledger_count; i++)
	{
		const ApmTransaction *entry = &ledger[i].opened.tx;

		if ((entry->kind == APM_KIND_PATIENT || entry->kind == APM_KIND_PRIMARY) &&
			apm_slices_equal(apm_transaction_apid(entry), tx.u.erasure.apid))
			voids[n++] = ledger[i].leaf;
	}
	qsort(voids, n, sizeof(ApmVoid), compare_leaves);
	if (n == 0 || pick(6) == 0)
		voids[n > 0 ? n - 1 : n++] = (ApmVoid){.leaf = sample_digest(0xff), .kind = APM_KIND_PRIMARY};
	if (n > 1 && pick(6) == 0)
		n--;
	sample_voids(voids, n, &tx.u.erasure);
	return tx;
}

/* A new key for our origin or our node; sometimes one that was there before, or for one that is none any more. */
static ApmTransaction
some_membership(uint64_t time_us)
{
	ApmMember member = pick(2) == 0 ? APM_MEMBER_ORIGIN : APM_MEMBER_NODE;
	const Keys *keys = member == APM_MEMBER_ORIGIN ? &origin : &node;
	const ApmEcKey *replaced = keys->v[pick(5) == 0 ? pick(keys->n) : keys->n - 1];
	const ApmEcKey *key = pick(5) == 0 ? keys->v[pick(keys->n)] : spares[member].v[0];
	ApmTransaction start_of = start(APM_KIND_MEMBERSHIP, APM_ROLE_ADMIN, time_us);
	ApmTransaction tx = sample_succession(member, replaced, key);

	start_of.u = tx.u;
	return start_of;
}

static ApmTransaction
some_release(uint64_t time_us)
{
	ApmTransaction tx = start(APM_KIND_EXPORT, APM_ROLE_RESEARCHER, time_us);

	memset(tx.u.export.study, pick(2) + 1, APM_STUDY_LEN);
	tx.u.export.release = (uint32_t) pick(3) + 1;
	return tx;
}

/* A change of the contract, of one item. */
static ApmTransaction
some_change(uint64_t time_us)
{
	static const char *const names[] = {"a", "b"};
	static const ApmPolicy policies[] = {{APM_POLICY_ACCESS, 1},	 {APM_POLICY_ACCESS, 2},
										 {APM_POLICY_EMERGENCY, 2},	 {APM_POLICY_EMERGENCY, 1},
										 {APM_POLICY_QUERY_RATE, 3}, {APM_POLICY_QUERY_RATE, 0}};
	ApmTransaction tx = start(APM_KIND_CONTRACT, APM_ROLE_ADMIN, time_us);
	ApmItem item = {.type = (uint8_t) (pick(9) + 1), .name = sample_text(names[pick(2)])};
	ApmFieldSpec spec = {.name = sample_text("ward"), .type = APM_FIELD_BOOLEAN};
	const ApmPolicy *policy = &policies[pick(6)];
	ApmBuf body = {0};

	switch (item.type)
	{
		case APM_ITEM_POLICY:
			item.key = policy->key;
			item.value = policy->value;
			break;
		case APM_ITEM_PURPOSE:
		case APM_ITEM_REASON:
			item.key = pick(2) == 0 ? APM_ITEM_NEXT_CODE : (uint16_t) (pick(5) + 8);
			break;
		case APM_ITEM_TEMPLATE:
			item.kind = APM_KIND_QUERY;
			spec.required = pick(4) == 0;
			CHECK_OK(apm_specs_encode(&spec, 1, &body));
			break;
		case APM_ITEM_RULE:
			item.kind = pick(2) == 0 ? APM_KIND_QUERY : APM_KIND_PRIMARY;
			p_limit(&body, (ApmCounter) (pick(APM_COUNTERS) + 1), (uint32_t) pick(4) * 500, pick(4) + 2);
			break;
		case APM_ITEM_DATA_RULE:
			item.attribute = sample_text("pulse");
			apm_put_raw(&body, pick(2) == 0 ? "1" : "2", 1);
			item.violation = APM_VIOLATION_FLAG;
			break;
		default:
			break;
	}
	item.body = p_slice(&body);
	sample_items(&item, 1, &tx.u.contract);
	apm_buf_reset(&body);
	return tx;
}

static ApmTransaction
some_transaction(const ApmContractState *state, uint64_t time_us)
{
	int n = pick(24);

	if (n < 8)
		return some_query(time_us);
	if (n < 12)
		return some_record(state, time_us);
	if (n < 15)
		return some_consent(time_us);
	if (n < 19)
		return some_profile(state, time_us);
	if (n < 20)
		return some_erasure(time_us);
	if (n < 21)
		return some_membership(time_us);
	return n < 22 ? some_release(time_us) : some_change(time_us);
}

#endif /* APM_TEST_BY_CHANCE_H */
