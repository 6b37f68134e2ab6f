/*
 * inforce.h
 *	  The contract's items that are in force, and those that were.  Private to src/core.
 *
 * Items come in the order of the chain.  One of a kind and name (a policy: key) is in
 * force at a time; what replaces or drops a template, a rule or a data rule puts it with
 * the past ones, since transactions that were made under it may still come.
 */
#ifndef APM_CORE_INFORCE_H
#define APM_CORE_INFORCE_H

#include "contract.h"

#define APM_FOREVER UINT64_MAX

typedef struct ApmHeld
{
	ApmItem item; /* slices point into bytes */
	char name[APM_ITEM_NAME_MAX + 1];
	uint64_t from_us;	  /* time of the block that brought it */
	uint64_t until_us;	  /* and of the one that ended it; APM_FOREVER */
	uint64_t from_height; /* heights of the two */
	uint64_t until_height;
	uint16_t number; /* of a rule */
	int nterms;		 /* counters that it asks for */
	ApmCounterTerm terms[APM_PREDICATE_COUNTERS];
	size_t len;
	uint8_t bytes[]; /* the item, encoded */
} ApmHeld;

typedef struct ApmHeldList
{
	ApmHeld **v;
	size_t n;
	size_t capacity;
} ApmHeldList;

#define APM_HELD_TYPES (APM_ITEM_DATA_RULE + 1) /* drops are not held */

typedef struct ApmRuleset
{
	ApmDigest digest; /* zeros: no data rule */
	uint64_t from_us; /* until the next one's */
} ApmRuleset;

typedef struct ApmInForce
{
	ApmHeldList now[APM_HELD_TYPES];  /* by item type; ascending by key or code, or by name */
	ApmHeldList past[APM_HELD_TYPES]; /* in the order in which they ended */
	uint16_t rules_admitted;
	ApmRuleset *rulesets; /* in the order of time; before the first there was no data rule */
	size_t nrulesets;
	size_t rulesets_capacity;
} ApmInForce;

/* Zeros are an empty one. */
extern void apm_inforce_free(ApmInForce *f);
/* What is in force now, alone; out is empty before and after a failure. */
extern ApmStatus apm_inforce_copy(const ApmInForce *f, ApmInForce *out);
/* Enters the next item of the chain.  APM_ERR_RANGE, and nothing changed, if it cannot be applied. */
extern ApmStatus apm_inforce_enter(ApmInForce *f, const ApmItem *item, uint64_t height, uint64_t time_us);

/* NULL when none is in force */
extern const ApmHeld *apm_inforce_policy(const ApmInForce *f, uint16_t key);
extern const ApmHeld *apm_inforce_code(const ApmInForce *f, ApmItemType list, uint16_t code);
/*
 * The site rule with the lowest number above after that judges transactions of a block of that height, of
 * this kind (0: of any); NULL when there is none any more.
 */
extern const ApmHeld *apm_inforce_next_rule(const ApmInForce *f, ApmKind kind, uint64_t height,
											uint16_t after);
/* The site rule of this number, in force or not; NULL when none had it. */
extern const ApmHeld *apm_inforce_rule(const ApmInForce *f, uint16_t number);
/* In force now. */
extern void apm_inforce_ruleset(const ApmInForce *f, ApmDigest *out);
/* Was this the digest of the data rules at some moment since then? */
extern bool apm_inforce_had_ruleset(const ApmInForce *f, const ApmDigest *ruleset, uint64_t since_us);

#endif /* APM_CORE_INFORCE_H */
