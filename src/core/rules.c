/*
 * rules.c
 *	  The built-in rules of the smart contract.
 *
 * A rule is a row of a table: its code, its name, a sentence for people, and a function
 * of the transaction, the state and the block's height and time, and of nothing else.
 * They are asked in the order of their codes and the first that is broken is the verdict,
 * so a rule may rely on those before it: after the template the fields can be read, after
 * the patient rule a patient that is named is known.
 *
 * A verdict is for ever and every node must give the same, so running out of memory is
 * none: a function that cannot find out says UNDECIDED, and so does the evaluation.
 */
#include "contract_state.h"

#include <string.h>

#include "digest.h"

/* Values of APM_POLICY_ACCESS */
#define ACCESS_CLINICIAN 1
#define ACCESS_CONSENT 2

typedef enum Finding
{
	HOLDS,
	BROKEN,
	UNDECIDED
} Finding;

typedef struct Case
{
	const ApmContractState *state;
	const ApmOpened *opened;
	const ApmTransaction *tx;
	uint64_t height;
	uint64_t block_time_us;
	bool has_patient; /* the transaction names a patient */
	ApmPatientState patient;
} Case;

static Finding
holds_if(bool condition)
{
	return condition ? HOLDS : BROKEN;
}

static bool
is_zeros(const ApmDigest *digest)
{
	static const ApmDigest zeros;

	return memcmp(digest, &zeros, sizeof(zeros)) == 0;
}

static bool
same(const ApmDigest *a, const ApmDigest *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

static bool
is_registration(const Case *c)
{
	return c->tx->kind == APM_KIND_PATIENT && c->tx->u.patient.version == 1;
}

/* A policy that this version does not know could not be obeyed, so it is refused. */
static bool
policy_in_bounds(const ApmPolicy *p)
{
	switch (p->key)
	{
		case APM_POLICY_DIFFICULTY:
			return p->value <= APM_MAX_DIFFICULTY;
		case APM_POLICY_ACCESS:
			return p->value == ACCESS_CLINICIAN || p->value == ACCESS_CONSENT;
		case APM_POLICY_PURPOSE:
			return p->value <= 1;
		default:
			return false;
	}
}

static Finding
judge_spki(const uint8_t spki[APM_SPKI_LEN])
{
	ApmEcKey *key;
	ApmStatus status = apm_ec_from_spki(APM_SLICE(spki, APM_SPKI_LEN), &key);

	if (status == APM_OK)
		apm_ec_free(key);
	return status == APM_ERR_MEMORY ? UNDECIDED : holds_if(status == APM_OK);
}

static Finding
judge_template(const Case *c)
{
	if (!c->opened->wellformed)
		return BROKEN;
	if (c->tx->kind == APM_KIND_MEMBERSHIP)
		return judge_spki(c->tx->u.membership.spki);
	if (c->tx->kind == APM_KIND_CONTRACT)
	{
		for (int i = 0; i < c->tx->u.contract.count; i++)
		{
			if (!policy_in_bounds(&c->tx->u.contract.policies[i]))
				return BROKEN;
		}
	}
	return HOLDS;
}

static Finding
judge_chain(const Case *c)
{
	return holds_if(same(&c->tx->chain, &c->state->chain));
}

/*
 * The genesis block has no origins before it: there a transaction that registers an
 * origin is signed by that same origin.
 */
static bool
registers_itself(const Case *c)
{
	return c->height == 0 && c->tx->kind == APM_KIND_MEMBERSHIP &&
		   c->tx->u.membership.member == APM_MEMBER_ORIGIN;
}

static Finding
judge_origin(const Case *c)
{
	ApmDigest id;

	if (apm_contract_origin(c->state, &c->tx->origin) != NULL)
		return HOLDS;
	if (!registers_itself(c))
		return BROKEN;
	if (apm_sha256(c->tx->u.membership.spki, APM_SPKI_LEN, &id) != APM_OK)
		return UNDECIDED;
	return holds_if(same(&c->tx->origin, &id));
}

static Finding
judge_signature(const Case *c)
{
	const ApmEcKey *registered = apm_contract_origin(c->state, &c->tx->origin);
	ApmEcKey *own = NULL;
	ApmStatus status = APM_OK;

	if (registered == NULL)
		status = apm_ec_from_spki(APM_SLICE(c->tx->u.membership.spki, APM_SPKI_LEN), &own);
	if (status == APM_OK)
		status =
			apm_origin_verify(registered != NULL ? registered : own, &c->opened->leaf, &c->opened->proof);
	apm_ec_free(own);
	if (status == APM_ERR_MEMORY || status == APM_ERR_CRYPTO)
		return UNDECIDED;
	return holds_if(status == APM_OK);
}

static Finding
judge_fresh(const Case *c)
{
	ApmRecordState r;

	if (apm_contract_tid_seen(c->state, &c->opened->tid))
		return BROKEN;
	if (c->tx->kind != APM_KIND_PRIMARY)
		return HOLDS;
	apm_contract_record(c->state, &c->tx->u.primary.rid, &r);
	return holds_if(!r.known);
}

static Finding
judge_patient(const Case *c)
{
	return holds_if(!c->has_patient || c->patient.known != is_registration(c));
}

static Finding
judge_erased(const Case *c)
{
	return holds_if(!c->patient.erased);
}

static Finding
judge_home(const Case *c)
{
	return holds_if(!c->patient.known || same(&c->patient.origin, &c->tx->origin));
}

static Finding
judge_time(const Case *c)
{
	return holds_if(c->tx->time_us <= c->block_time_us);
}

/*
 * Which roles may send which kind.  A clinician's record may be what registers its
 * patient, so he may send that too.  Under the consent policy nobody reads without a
 * grant, and this rule set knows no transaction that grants, so it lets no query through.
 */
static Finding
judge_actor(const Case *c)
{
	uint16_t allowed = 0;

	switch (c->tx->kind)
	{
		case APM_KIND_PATIENT:
			allowed = APM_ROLE_REGISTRAR | APM_ROLE_ADMIN | APM_ROLE_CLINICIAN;
			break;
		case APM_KIND_PRIMARY:
			allowed = APM_ROLE_CLINICIAN | APM_ROLE_ADMIN | APM_ROLE_SENSOR;
			break;
		case APM_KIND_QUERY:
			if (apm_contract_policy(c->state, APM_POLICY_ACCESS, ACCESS_CLINICIAN) == ACCESS_CLINICIAN)
				allowed = APM_ROLE_CLINICIAN;
			break;
		case APM_KIND_MEMBERSHIP:
		case APM_KIND_CONTRACT:
			allowed = APM_ROLE_ADMIN;
			break;
		case APM_KIND_CONSENT:
		case APM_KIND_ERASURE:
		case APM_KIND_EXPORT:
			break; /* no template, so never here */
	}
	return holds_if((c->tx->roles & allowed) != 0);
}

static Finding
judge_purpose(const Case *c)
{
	uint16_t purpose;

	if (c->tx->kind != APM_KIND_QUERY)
		return HOLDS;
	purpose = c->tx->u.query.purpose;
	if (purpose == 0)
		return holds_if(apm_contract_policy(c->state, APM_POLICY_PURPOSE, 0) == 0);
	return holds_if(apm_purpose_name(purpose) != NULL);
}

static Finding
judge_profile(const Case *c)
{
	const ApmPatientFields *f = &c->tx->u.patient;

	if (c->tx->kind != APM_KIND_PATIENT)
		return HOLDS;
	if (is_registration(c))
		return holds_if(is_zeros(&f->old_profile));
	return holds_if(f->version == (uint64_t) c->patient.version + 1 &&
					same(&f->old_profile, &c->patient.profile));
}

static Finding
judge_amends(const Case *c)
{
	const ApmPrimaryFields *f = &c->tx->u.primary;
	ApmRecordState r;
	ApmDigest patient;

	if (c->tx->kind != APM_KIND_PRIMARY || (f->flags & APM_PRIMARY_AMENDS) == 0)
		return HOLDS;
	apm_contract_record(c->state, &f->amends, &r);
	if (!r.known || r.superseded)
		return BROKEN;
	if (apm_sha256(f->apid.data, f->apid.len, &patient) != APM_OK)
		return UNDECIDED;
	return holds_if(same(&r.patient, &patient));
}

static Finding
judge_membership(const Case *c)
{
	return holds_if(c->height == 0 ||
					(c->tx->kind != APM_KIND_MEMBERSHIP && c->tx->kind != APM_KIND_CONTRACT));
}

typedef struct Rule
{
	ApmRule rule;
	const char *name;
	const char *text;
	Finding (*judge)(const Case *c);
} Rule;

static const Rule rules[] = {
	{APM_RULE_TEMPLATE, "template", "the transaction does not have the form of a known kind and version",
	 judge_template},
	{APM_RULE_CHAIN, "chain", "the transaction was made for another chain", judge_chain},
	{APM_RULE_ORIGIN, "origin", "the origin is not registered on the chain", judge_origin},
	{APM_RULE_SIGNATURE, "signature", "the signature of the origin does not verify", judge_signature},
	{APM_RULE_FRESH, "fresh", "the transaction or its record was seen before", judge_fresh},
	{APM_RULE_PATIENT, "patient", "the patient is not registered, or is registered already", judge_patient},
	{APM_RULE_ERASED, "erased", "the patient was erased", judge_erased},
	{APM_RULE_HOME, "home", "the patient was registered by another origin", judge_home},
	{APM_RULE_TIME, "time", "the transaction is later than its block", judge_time},
	{APM_RULE_ACTOR, "actor", "the roles of the actor do not allow it", judge_actor},
	{APM_RULE_PURPOSE, "purpose", "the purpose is missing or not on the list", judge_purpose},
	{APM_RULE_PROFILE, "profile", "the profile's version or old digest does not follow the last one",
	 judge_profile},
	{APM_RULE_AMENDS, "amends", "the amended record is unknown, already amended, or another patient's",
	 judge_amends},
	{APM_RULE_MEMBERSHIP, "membership", "members and policies change in the genesis block only",
	 judge_membership},
};

#define RULE_COUNT (sizeof(rules) / sizeof(rules[0]))

static const Rule *
find_rule(uint16_t code)
{
	for (size_t i = 0; i < RULE_COUNT; i++)
	{
		if (rules[i].rule == code)
			return &rules[i];
	}
	return NULL;
}

const char *
apm_rule_name(uint16_t rule)
{
	const Rule *found = find_rule(rule);

	return found != NULL ? found->name : NULL;
}

const char *
apm_rule_text(uint16_t rule)
{
	const Rule *found = find_rule(rule);

	return found != NULL ? found->text : NULL;
}

/* A purpose's code is its place in this list, counted from 1; the list only grows at its end. */
static const char *const purposes[] = {"treatment",		  "payment", "operations", "emergency",
									   "patient-request", "audit",	 "research"};

#define PURPOSE_COUNT (sizeof(purposes) / sizeof(purposes[0]))

/* NULL is no purpose: 0. */
uint16_t
apm_purpose_code(const char *name)
{
	for (size_t i = 0; name != NULL && i < PURPOSE_COUNT; i++)
	{
		if (strcmp(name, purposes[i]) == 0)
			return (uint16_t) (i + 1);
	}
	return 0;
}

const char *
apm_purpose_name(uint16_t code)
{
	return code >= 1 && code <= PURPOSE_COUNT ? purposes[code - 1] : NULL;
}

ApmRule
apm_contract_evaluate(const ApmContractState *s, const ApmOpened *t, uint64_t height, uint64_t block_time_us)
{
	Case c = {.state = s, .opened = t, .tx = &t->tx, .height = height, .block_time_us = block_time_us};
	ApmSlice apid = apm_transaction_apid(&t->tx);

	if (t->wellformed && apid.len > 0)
	{
		c.has_patient = true;
		if (apm_contract_patient(s, apid, &c.patient) != APM_OK)
			return APM_RULE_UNDECIDED;
	}
	for (size_t i = 0; i < RULE_COUNT; i++)
	{
		switch (rules[i].judge(&c))
		{
			case HOLDS:
				break;
			case BROKEN:
				return rules[i].rule;
			case UNDECIDED:
				return APM_RULE_UNDECIDED;
		}
	}
	return APM_RULE_NONE;
}
