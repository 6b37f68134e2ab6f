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
 * none: a function that cannot find out says APM_CANNOT_TELL, and so does the evaluation.
 */
#include "rules.h"

#include <string.h>

#include "digest.h"

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
is_registration(const ApmCase *c)
{
	return c->tx->kind == APM_KIND_PATIENT && c->tx->u.patient.version == 1;
}

static ApmFinding
judge_spki(const uint8_t spki[APM_SPKI_LEN])
{
	ApmEcKey *key;
	ApmStatus status = apm_ec_from_spki(APM_SLICE(spki, APM_SPKI_LEN), &key);

	if (status == APM_OK)
		apm_ec_free(key);
	return status == APM_ERR_MEMORY ? APM_CANNOT_TELL : apm_holds_if(status == APM_OK);
}

static ApmFinding
judge_template(const ApmCase *c)
{
	ApmFinding finding;

	if (!c->opened->wellformed)
		return APM_BROKEN;
	finding = c->tx->kind == APM_KIND_MEMBERSHIP ? judge_spki(c->tx->u.membership.spki) : APM_HOLDS;
	return finding == APM_HOLDS ? apm_judge_fields(c) : finding;
}

static ApmFinding
judge_chain(const ApmCase *c)
{
	return apm_holds_if(same(&c->tx->chain, &c->state->chain));
}

/* A record of who is erased is forgotten with him, and with it that its Rid was ever used. */
static ApmFinding
judge_fresh(const ApmCase *c)
{
	ApmPatientState patient;
	ApmRecordState r;

	if (apm_contract_tid_seen(c->state, &c->opened->tid))
		return APM_BROKEN;
	if (c->tx->kind != APM_KIND_PRIMARY)
		return APM_HOLDS;
	apm_contract_record(c->state, &c->tx->u.primary.rid, &r);
	if (!r.known)
		return APM_HOLDS;
	apm_contract_patient_of(c->state, &r.patient, &patient);
	return apm_holds_if(patient.erased);
}

static ApmFinding
judge_patient(const ApmCase *c)
{
	return apm_holds_if(!c->subjects.has_patient || c->patient.known != is_registration(c));
}

static ApmFinding
judge_erased(const ApmCase *c)
{
	return apm_holds_if(!c->patient.erased);
}

static ApmFinding
judge_time(const ApmCase *c)
{
	return apm_holds_if(c->tx->time_us <= c->block_time_us);
}

/* Which roles may send which kind.  A clinician's record may be what registers its patient, so he may send that too. */
static ApmFinding
judge_actor(const ApmCase *c)
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
			return apm_holds_if(apm_reader_may_ask(c));
		case APM_KIND_CONSENT:
			allowed = c->tx->u.consent.action == APM_CONSENT_REVIEW ? APM_ROLE_AUDITOR | APM_ROLE_ADMIN
																	: APM_ROLE_REGISTRAR;
			break;
		case APM_KIND_EXPORT:
			allowed = APM_ROLE_RESEARCHER;
			break;
		case APM_KIND_MEMBERSHIP:
		case APM_KIND_CONTRACT:
			allowed = APM_ROLE_ADMIN;
			break;
		case APM_KIND_ERASURE:
			allowed = APM_ROLE_REGISTRAR | APM_ROLE_ADMIN;
			break;
	}
	return apm_holds_if((c->tx->roles & allowed) != 0);
}

static ApmFinding
judge_profile(const ApmCase *c)
{
	const ApmPatientFields *f = &c->tx->u.patient;

	if (c->tx->kind != APM_KIND_PATIENT)
		return APM_HOLDS;
	if (is_registration(c))
		return apm_holds_if(is_zeros(&f->old_profile));
	return apm_holds_if(f->version == (uint64_t) c->patient.version + 1 &&
						same(&f->old_profile, &c->patient.profile));
}

static ApmFinding
judge_amends(const ApmCase *c)
{
	const ApmPrimaryFields *f = &c->tx->u.primary;
	ApmRecordState r;
	ApmDigest patient;

	if (c->tx->kind != APM_KIND_PRIMARY || (f->flags & APM_PRIMARY_AMENDS) == 0)
		return APM_HOLDS;
	apm_contract_record(c->state, &f->amends, &r);
	if (!r.known || r.superseded)
		return APM_BROKEN;
	if (apm_patient_digest(f->apid, &patient) != APM_OK)
		return APM_CANNOT_TELL;
	return apm_holds_if(same(&r.patient, &patient));
}

/* Does it name each of these leaves, with all that a void says, and no other?  A leaf may stand in the list twice. */
static ApmFinding
names_just(const ApmErasureFields *f, const ApmLeaves *leaves)
{
	bool *named = apm_core_alloc(f->count * sizeof(bool), false);
	ApmFinding finding = APM_HOLDS;
	uint32_t count = 0;

	if (named == NULL)
		return APM_CANNOT_TELL;
	for (size_t i = 0; i < leaves->n && finding == APM_HOLDS; i++)
	{
		const ApmVoid *leaf = &leaves->v[i];
		ApmVoid voided;
		uint32_t at;

		if (!apm_erasure_find(f, &leaf->leaf, &at))
		{
			finding = APM_BROKEN;
			break;
		}
		apm_erasure_void(f, at, &voided);
		finding =
			apm_holds_if(voided.kind == leaf->kind && memcmp(voided.actor, leaf->actor, APM_STAFF_LEN) == 0 &&
						 memcmp(&voided.tid, &leaf->tid, sizeof(ApmUuid)) == 0);
		count += !named[at];
		named[at] = true;
	}
	apm_core_free(named);
	return finding == APM_HOLDS ? apm_holds_if(count == f->count) : finding;
}

static ApmFinding
judge_erasure(const ApmCase *c)
{
	const ApmErasureFields *f = &c->tx->u.erasure;
	const ApmLeaves *leaves;

	if (c->tx->kind != APM_KIND_ERASURE)
		return APM_HOLDS;
	if (apm_contract_reason_name(c->state, f->reason) == NULL || !apm_reason_fits(f->reason, true))
		return APM_BROKEN;
	leaves = apm_contract_leaves(c->state, &c->subjects.patient);
	return leaves != NULL ? names_just(f, leaves) : APM_BROKEN;
}

typedef struct Rule
{
	ApmRule rule;
	const char *name;
	const char *text;
	ApmFinding (*judge)(const ApmCase *c);
} Rule;

static const Rule rules[] = {
	{APM_RULE_TEMPLATE, "template",
	 "the transaction does not have the form of a known kind and version, or of a template in force",
	 judge_template},
	{APM_RULE_CHAIN, "chain", "the transaction was made for another chain", judge_chain},
	{APM_RULE_ORIGIN, "origin", "the key is no origin's on the chain, or was replaced too long ago",
	 apm_judge_origin},
	{APM_RULE_SIGNATURE, "signature", "the signature of the origin does not verify", apm_judge_signature},
	{APM_RULE_FRESH, "fresh", "the transaction or its record was seen before", judge_fresh},
	{APM_RULE_PATIENT, "patient", "the patient is not registered, or is registered already", judge_patient},
	{APM_RULE_ERASED, "erased", "the patient was erased", judge_erased},
	{APM_RULE_HOME, "home", "the patient was registered by another origin", apm_judge_home},
	{APM_RULE_TIME, "time", "the transaction is later than its block", judge_time},
	{APM_RULE_ACTOR, "actor", "the roles of the actor do not allow it", judge_actor},
	{APM_RULE_PURPOSE, "purpose", "the purpose is missing or not on the list", apm_judge_purpose},
	{APM_RULE_PROFILE, "profile", "the profile's version or old digest does not follow the last one",
	 judge_profile},
	{APM_RULE_AMENDS, "amends", "the amended record is unknown, already amended, or another patient's",
	 judge_amends},
	{APM_RULE_MEMBERSHIP, "membership",
	 "members come, and the difficulty is set, in the genesis block only; later a member's new key replaces "
	 "the one in force, which endorses it",
	 apm_judge_membership},
	{APM_RULE_CONSENT, "consent", "the patient withdrew, or nobody granted it", apm_judge_consent},
	{APM_RULE_SELF, "self", "nobody grants to himself or reviews his own emergency", apm_judge_self},
	{APM_RULE_CAP, "cap", "one statement asks for more patients than the policy allows", apm_judge_cap},
	{APM_RULE_RATE, "rate", "the actor asked more queries within an hour than the policy allows",
	 apm_judge_rate},
	{APM_RULE_EMERGENCY, "emergency",
	 "the policy has no emergencies, or the reason is not on the list of theirs", apm_judge_emergency},
	{APM_RULE_BASIS, "basis", "the search or emergency that it rests on is not there, or is done with",
	 apm_judge_basis},
	{APM_RULE_RULESET, "ruleset", "the record was not held to the data rules in force", apm_judge_ruleset},
	{APM_RULE_RELEASE, "release", "the release does not follow the study's last one", apm_judge_release},
	{APM_RULE_ITEM, "item", "an item of the contract cannot be applied", apm_judge_item},
	{APM_RULE_ERASURE, "erasure",
	 "the erasure does not name just what it must void, or its reason is not on the list of theirs",
	 judge_erasure},
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

uint16_t
apm_contract_evaluate(const ApmContractState *s, const ApmOpened *t, uint64_t height, uint64_t block_time_us)
{
	ApmCase c = {.state = s, .opened = t, .tx = &t->tx, .height = height, .block_time_us = block_time_us};

	if (t->wellformed && apm_transaction_subjects(&t->tx, &c.subjects) != APM_OK)
		return APM_RULE_UNDECIDED;
	if (t->wellformed)
		c.origin = apm_contract_key(s, APM_MEMBER_ORIGIN, &t->tx.origin);
	if (c.subjects.has_patient)
		apm_contract_patient_of(s, &c.subjects.patient, &c.patient);
	for (size_t i = 0; i < RULE_COUNT; i++)
	{
		switch (rules[i].judge(&c))
		{
			case APM_HOLDS:
				break;
			case APM_BROKEN:
				return rules[i].rule;
			case APM_CANNOT_TELL:
				return APM_RULE_UNDECIDED;
		}
	}
	return apm_judge_site_rules(&c);
}
