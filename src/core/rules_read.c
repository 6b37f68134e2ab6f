/*
 * rules_read.c
 *	  The rules about reading, and about the consents, reviews and releases around it.
 *
 * What a patient said is a list of words: grants to a role, revocations from a role or from
 * everybody, each for one purpose or for all.  The latest revocation that concerns the
 * reader and what he asks for is the bar; a grant that came later than the bar and has not
 * ended lets him read.  So the later word counts, a withdrawal beats every role that one may
 * have, and the way back is another grant.  Revocations do not end: when a grant does, the
 * bar that it stood above is there again.
 */
#include "rules.h"

#include <string.h>

#include "policy.h"

static bool
has_role(const ApmCase *c, uint16_t roles)
{
	return (c->tx->roles & roles) != 0;
}

/* Registrars enter consents and sensors only send: neither reads. */
bool
apm_reader_may_ask(const ApmCase *c)
{
	if (has_role(c, APM_ROLE_REGISTRAR) || (has_role(c, APM_ROLE_SENSOR) && !has_role(c, APM_ROLE_CLINICIAN)))
		return false;
	switch ((ApmScope) c->tx->u.query.scope)
	{
		case APM_SCOPE_RECORDS:
		case APM_SCOPE_MATCH:
		case APM_SCOPE_HISTORY:
			return true; /* whom the patient lets; that is another rule */
		case APM_SCOPE_SEARCH:
			return has_role(c, APM_ROLE_CLINICIAN | APM_ROLE_RESEARCHER);
		case APM_SCOPE_EXPORT:
			return has_role(c, APM_ROLE_RESEARCHER);
		case APM_SCOPE_EMERGENCY:
			return has_role(c, APM_ROLE_CLINICIAN);
		case APM_SCOPE_NOTE:
			return has_role(c, APM_ROLE_AUDITOR);
	}
	return false;
}

static bool
purpose_listed(const ApmCase *c, uint16_t purpose)
{
	return apm_contract_purpose_name(c->state, purpose) != NULL;
}

ApmFinding
apm_judge_purpose(const ApmCase *c)
{
	const ApmQueryFields *query = &c->tx->u.query;

	if (c->tx->kind == APM_KIND_CONSENT)
		return apm_holds_if(c->tx->u.consent.purpose == 0 || purpose_listed(c, c->tx->u.consent.purpose));
	if (c->tx->kind != APM_KIND_QUERY)
		return APM_HOLDS;
	if (query->scope == APM_SCOPE_EMERGENCY)
		return apm_holds_if(query->purpose == APM_PURPOSE_EMERGENCY && purpose_listed(c, query->purpose));
	if (query->scope == APM_SCOPE_EXPORT)
		return apm_holds_if(query->purpose == APM_PURPOSE_RESEARCH && purpose_listed(c, query->purpose));
	if (query->purpose == 0)
		return apm_holds_if(apm_case_policy(c, APM_POLICY_PURPOSE) == 0);
	return apm_holds_if(purpose_listed(c, query->purpose));
}

/* What a patient's words come to for one reader and one purpose. */
typedef struct Standing
{
	bool barred;
	uint64_t bar;	/* order of the latest revocation that concerns them */
	bool everybody; /* one of them was for everybody */
	bool granted;	/* by a grant later than the bar */
} Standing;

static bool
is_everybody(const uint8_t grantee[APM_STAFF_LEN])
{
	static const uint8_t zeros[APM_STAFF_LEN];

	return memcmp(grantee, zeros, APM_STAFF_LEN) == 0;
}

static bool
concerns_purpose(const ApmWord *word, uint16_t purpose)
{
	return word->purpose == 0 || word->purpose == purpose;
}

static void
note_revocation(Standing *standing, const ApmWord *word, bool everybody)
{
	if (!standing->barred || word->revocation > standing->bar)
		standing->bar = word->revocation;
	standing->barred = true;
	if (everybody)
		standing->everybody = true;
}

static bool
grant_counts(const ApmCase *c, const Standing *standing, const ApmWord *word)
{
	if (!word->granted || (word->grant.until_us != 0 && word->grant.until_us <= c->block_time_us))
		return false;
	return !standing->barred || word->grant.order > standing->bar;
}

static Standing
standing_of(const ApmCase *c, uint16_t purpose)
{
	const ApmWords *words = apm_contract_words(c->state, &c->subjects.patient);
	const ApmGroups *groups = &c->tx->u.query.groups;
	Standing standing = {0};

	for (size_t i = 0; words != NULL && i < words->n; i++)
	{
		const ApmWord *word = &words->v[i];
		bool everybody = is_everybody(word->grantee);

		if (word->revoked && concerns_purpose(word, purpose) &&
			(everybody || apm_groups_have(groups, word->grantee)))
			note_revocation(&standing, word, everybody);
	}
	for (size_t i = 0; words != NULL && i < words->n && !standing.granted; i++)
	{
		const ApmWord *word = &words->v[i];

		standing.granted = concerns_purpose(word, purpose) && apm_groups_have(groups, word->grantee) &&
						   grant_counts(c, &standing, word);
	}
	return standing;
}

static ApmFinding
may_read(const ApmCase *c, uint16_t purpose, bool without_grant)
{
	Standing standing = standing_of(c, purpose);

	return apm_holds_if(standing.granted || (without_grant && !standing.barred));
}

static ApmFinding
may_read_in_emergency(const ApmCase *c)
{
	Standing standing;

	if (apm_case_policy(c, APM_POLICY_EMERGENCY) != APM_EMERGENCY_UNLESS_WITHDRAWN)
		return APM_HOLDS;
	standing = standing_of(c, APM_PURPOSE_EMERGENCY);
	return apm_holds_if(!standing.everybody || standing.granted);
}

ApmFinding
apm_judge_consent(const ApmCase *c)
{
	const ApmQueryFields *query = &c->tx->u.query;

	if (c->tx->kind != APM_KIND_QUERY)
		return APM_HOLDS;
	switch ((ApmScope) query->scope)
	{
		case APM_SCOPE_RECORDS:
		case APM_SCOPE_MATCH:
			return may_read(c, query->purpose,
							has_role(c, APM_ROLE_CLINICIAN) &&
								apm_case_policy(c, APM_POLICY_ACCESS) == APM_ACCESS_CLINICIAN);
		case APM_SCOPE_HISTORY:
			return has_role(c, APM_ROLE_AUDITOR) ? APM_HOLDS
												 : may_read(c, APM_PURPOSE_PATIENT_REQUEST, false);
		case APM_SCOPE_EXPORT:
			return may_read(c, query->purpose,
							apm_case_policy(c, APM_POLICY_EXPORT) == APM_EXPORT_UNLESS_WITHDRAWN);
		case APM_SCOPE_EMERGENCY:
			return may_read_in_emergency(c);
		case APM_SCOPE_SEARCH:
		case APM_SCOPE_NOTE:
			break; /* without a patient; for auditors alone */
	}
	return APM_HOLDS;
}

/* Nobody lets himself read, and nobody reviews his own emergency. */
ApmFinding
apm_judge_self(const ApmCase *c)
{
	const ApmConsentFields *consent = &c->tx->u.consent;
	ApmQueryState emergency;

	if (c->tx->kind != APM_KIND_CONSENT)
		return APM_HOLDS;
	if (consent->action == APM_CONSENT_GRANT)
		return apm_holds_if(!apm_groups_have(&consent->groups, consent->grantee));
	if (consent->action != APM_CONSENT_REVIEW)
		return APM_HOLDS;
	apm_contract_query(c->state, &consent->reviewed, &emergency);
	return apm_holds_if(!emergency.known || (memcmp(emergency.actor, c->tx->actor, APM_STAFF_LEN) != 0 &&
											 !apm_groups_have(&consent->groups, emergency.acting)));
}

static bool
is_limited_query(const ApmCase *c)
{
	return c->tx->kind == APM_KIND_QUERY && apm_query_limited(&c->tx->u.query);
}

/* One statement's queries stand under one signature, which says how many there are. */
ApmFinding
apm_judge_cap(const ApmCase *c)
{
	uint64_t cap = apm_case_policy(c, APM_POLICY_FETCH_CAP);

	return apm_holds_if(!is_limited_query(c) || cap == 0 || c->opened->proof.size <= cap);
}

ApmFinding
apm_judge_rate(const ApmCase *c)
{
	uint64_t rate = apm_case_policy(c, APM_POLICY_QUERY_RATE);

	if (!is_limited_query(c) || rate == 0)
		return APM_HOLDS;
	return apm_holds_if(apm_tally_count(&c->state->tallies[APM_COUNT_ACTOR_QUERIES], &c->subjects.actor,
										APM_RATE_SECONDS, c->block_time_us) < rate);
}

ApmFinding
apm_judge_emergency(const ApmCase *c)
{
	if (c->tx->kind != APM_KIND_QUERY || c->tx->u.query.scope != APM_SCOPE_EMERGENCY)
		return APM_HOLDS;
	return apm_holds_if(apm_case_policy(c, APM_POLICY_EMERGENCY) != APM_EMERGENCY_NONE &&
						apm_contract_reason_name(c->state, c->tx->u.query.reason) != NULL &&
						apm_reason_fits(c->tx->u.query.reason, false));
}

static bool
same_patient(const ApmCase *c, const ApmQueryState *query)
{
	return memcmp(&query->patient, &c->subjects.patient, sizeof(ApmDigest)) == 0;
}

ApmFinding
apm_judge_basis(const ApmCase *c)
{
	ApmQueryState basis;
	ApmUuid tid;

	if (!apm_transaction_basis(c->tx, &tid))
		return APM_HOLDS;
	apm_contract_query(c->state, &tid, &basis);
	if (!basis.known)
		return APM_BROKEN;
	if (c->tx->kind == APM_KIND_QUERY && c->tx->u.query.scope == APM_SCOPE_MATCH)
		return apm_holds_if(basis.scope == APM_SCOPE_SEARCH &&
							memcmp(basis.actor, c->tx->actor, APM_STAFF_LEN) == 0);
	if (basis.scope != APM_SCOPE_EMERGENCY || !same_patient(c, &basis))
		return APM_BROKEN;
	return apm_holds_if(c->tx->kind == APM_KIND_QUERY || !basis.reviewed);
}

ApmFinding
apm_judge_release(const ApmCase *c)
{
	const ApmExportFields *export = &c->tx->u.export;

	if (c->tx->kind != APM_KIND_EXPORT)
		return APM_HOLDS;
	return apm_holds_if(export->release == (uint64_t) apm_contract_releases(c->state, export->study) + 1);
}
