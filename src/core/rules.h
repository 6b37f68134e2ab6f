/*
 * rules.h
 *	  What the files of built-in rules share.  Private to src/core; others use contract.h.
 */
#ifndef APM_CORE_RULES_H
#define APM_CORE_RULES_H

#include "contract_state.h"

typedef enum ApmFinding
{
	APM_HOLDS,
	APM_BROKEN,
	APM_CANNOT_TELL /* memory or OpenSSL failed */
} ApmFinding;

/* A transaction before the contract. */
typedef struct ApmCase
{
	const ApmContractState *state;
	const ApmOpened *opened;
	const ApmTransaction *tx;
	uint64_t height;
	uint64_t block_time_us;
	ApmSubjects subjects;
	const ApmMemberKey *origin; /* the key that signs; NULL: no origin's */
	ApmPatientState patient;	/* if it names one */
} ApmCase;

static inline ApmFinding
apm_holds_if(bool condition)
{
	return condition ? APM_HOLDS : APM_BROKEN;
}

static inline uint64_t
apm_case_policy(const ApmCase *c, uint16_t key)
{
	return apm_contract_policy(c->state, key);
}

/* What a status is of a check that answers APM_OK or why not. */
static inline ApmFinding
apm_finding_of(ApmStatus status)
{
	if (status == APM_ERR_MEMORY || status == APM_ERR_CRYPTO)
		return APM_CANNOT_TELL;
	return apm_holds_if(status == APM_OK);
}

/* rules_member.c: whose transaction it is */
extern ApmFinding apm_judge_origin(const ApmCase *c);
extern ApmFinding apm_judge_signature(const ApmCase *c);
extern ApmFinding apm_judge_home(const ApmCase *c);
extern ApmFinding apm_judge_membership(const ApmCase *c);

/* rules_read.c: who may read, and what for */
extern bool apm_reader_may_ask(const ApmCase *c);
extern ApmFinding apm_judge_purpose(const ApmCase *c);
extern ApmFinding apm_judge_consent(const ApmCase *c);
extern ApmFinding apm_judge_self(const ApmCase *c);
extern ApmFinding apm_judge_cap(const ApmCase *c);
extern ApmFinding apm_judge_rate(const ApmCase *c);
extern ApmFinding apm_judge_emergency(const ApmCase *c);
extern ApmFinding apm_judge_basis(const ApmCase *c);
extern ApmFinding apm_judge_release(const ApmCase *c);

/* rules_contract.c: what the contract's own items demand */
extern ApmFinding apm_judge_fields(const ApmCase *c);
extern ApmFinding apm_judge_ruleset(const ApmCase *c);
extern ApmFinding apm_judge_item(const ApmCase *c);
/* The first site rule that is broken; APM_RULE_NONE. */
extern uint16_t apm_judge_site_rules(const ApmCase *c);

#endif /* APM_CORE_RULES_H */
