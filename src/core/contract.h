/*
 * contract.h
 *	  The smart contract's rules: pure functions of a transaction and of state derived
 *	  from the ledger.  No clock, no setting, no local role: every node gives the same
 *	  validation result (VR), and so does a verifier without PostgreSQL.
 *
 * The state is a set of hash tables.  Whoever evaluates loads into it what the ledger
 * says about the keys in question as of the block before (apm_contract_needs tells
 * which), and apm_contract_apply enters the effects of a valid transaction, so that
 * the next one in the same block sees them.
 */
#ifndef APM_CORE_CONTRACT_H
#define APM_CORE_CONTRACT_H

#include "block.h"
#include "item.h"
#include "predicate.h"

typedef enum ApmRule
{
	APM_RULE_NONE = 0,		/* valid */
	APM_RULE_TEMPLATE = 1,	/* not a transaction of a known kind and version */
	APM_RULE_CHAIN = 2,		/* for another chain */
	APM_RULE_ORIGIN = 3,	/* origin not registered */
	APM_RULE_SIGNATURE = 4, /* origin's signature does not verify */
	APM_RULE_FRESH = 5,		/* Tid or Rid seen before */
	APM_RULE_PATIENT = 6,	/* patient not registered (or registered already) */
	APM_RULE_ERASED = 7,	/* patient erased */
	APM_RULE_HOME = 8,		/* patient registered by another origin */
	APM_RULE_TIME = 9,		/* later than its block */
	APM_RULE_ACTOR = 10,	/* the actor's roles do not allow it */
	APM_RULE_PURPOSE = 11,	/* purpose missing or not on the list */
	APM_RULE_PROFILE = 12,	/* profile version or old digest does not follow */
	APM_RULE_AMENDS = 13,	/* amended record unknown, superseded, or another patient's */
	APM_RULE_MEMBERSHIP =
		14, /* a member, or a difficulty, outside the genesis block; a key that replaces none */
	APM_RULE_CONSENT = 15,	 /* the patient withdrew, or nobody granted it */
	APM_RULE_SELF = 16,		 /* benefits, or is reviewed by, its own actor */
	APM_RULE_CAP = 17,		 /* more patients at once than the policy allows */
	APM_RULE_RATE = 18,		 /* more queries in an hour than the policy allows */
	APM_RULE_EMERGENCY = 19, /* the policy has no emergencies, or the reason is not on the list */
	APM_RULE_BASIS = 20,	 /* what it rests on (search, emergency) is not there, or is done with */
	APM_RULE_RULESET = 21,	 /* was not held to the data rules in force */
	APM_RULE_RELEASE = 22,	 /* not the next release of its study */
	APM_RULE_ITEM = 23,		 /* an item of the contract that cannot be applied */
	APM_RULE_ERASURE = 24,	 /* does not name just the leaves that it must void, or no reason for it */

	/* APM_SITE_RULE (item.h) and above: rules that a contract transaction added */

	/* No verdict: memory or OpenSSL failed.  Never written down; ask again later. */
	APM_RULE_UNDECIDED = 0xffff
} ApmRule;

extern const char *apm_rule_name(uint16_t rule); /* built-in: "fresh", ...; NULL for others */
extern const char *apm_rule_text(uint16_t rule); /* one sentence for people */

/*
 * What the genesis block lists as purposes (treatment, payment, operations, emergency, patient-request,
 * audit, research) and reasons, names by code from 1 on; NULL behind the last.  Reasons 1 to 5
 * (unconscious, life-threatening, danger-to-others, disaster, other-emergency) are for emergencies alone,
 * 6 to 10 (no-longer-needed, consent-withdrawn, objection, unlawful, legal-obligation: GDPR, Article 17(1)(a)
 * to (e)) for erasures alone; those that a chain adds are for both.
 */
extern const char *apm_genesis_purpose(uint16_t code);
extern const char *apm_genesis_reason(uint16_t code);
/* Is a listed reason with this code one for erasures (else: for emergencies)? */
extern bool apm_reason_fits(uint16_t code, bool erasure);
#define APM_PURPOSE_EMERGENCY 4
#define APM_PURPOSE_PATIENT_REQUEST 5
#define APM_PURPOSE_RESEARCH 7

typedef struct ApmPatientState
{
	bool known;
	bool erased;
	ApmDigest origin; /* id of the first key of the origin that registered him */
	uint32_t version;
	ApmDigest profile; /* of one who is erased: zeros */
} ApmPatientState;

/*
 * A key that signs, or signed, for a member.  A member is known by the id of his first key.  A node's key is good
 * up to the block that replaces it; an origin's for APM_QUEUED_GRACE_US of block time longer, for what was signed and
 * waits.
 */
typedef struct ApmMemberState
{
	uint8_t member; /* ApmMember */
	uint8_t spki[APM_SPKI_LEN];
	ApmDigest home; /* id of the member's first key */
	bool ended;
	uint64_t ended_us; /* time of the block that replaced it */
} ApmMemberState;

typedef struct ApmRecordState
{
	bool known;
	bool superseded;
	ApmDigest patient; /* SHA-256 of the aPid */
} ApmRecordState;

/*
 * A grant or a revocation.  Of one patient, grantee and purpose the last grant and the last revocation are
 * both kept and both loaded: when a grant ends, an earlier revocation still stands.
 */
typedef struct ApmConsentState
{
	bool granted;
	uint64_t until_us; /* of a grant; 0: no end */
	uint64_t order;	   /* apm_order() of its transaction: the later word counts */
} ApmConsentState;

/* A place in the chain as a number that grows with it. */
static inline uint64_t
apm_order(uint64_t height, uint32_t position)
{
	return height << 16 | position;
}

/* A valid query that others rest on: a search, an emergency. */
typedef struct ApmQueryState
{
	bool known;
	uint8_t scope;
	bool reviewed;
	uint8_t actor[APM_STAFF_LEN];
	uint8_t acting[APM_STAFF_LEN];
	ApmDigest patient; /* SHA-256 of the aPid; zeros in a search */
} ApmQueryState;

typedef struct ApmContractState ApmContractState;

extern ApmStatus apm_contract_new(const ApmDigest *chain, ApmContractState **out);
extern void apm_contract_free(ApmContractState *s);
/*
 * Keeps members, items and, up to so many, patients, as the transactions entered so far left them; what else was loaded
 * or entered goes.
 */
#define APM_PATIENTS_KEPT 32768
extern void apm_contract_forget(ApmContractState *s);
/* Lets the patients go as well: there are blocks between whose transactions were not entered. */
extern void apm_contract_forget_patients(ApmContractState *s);
/* Loading; all copy.  An entry loaded twice keeps the later. */
extern ApmStatus apm_contract_load_member(ApmContractState *s, const ApmMemberState *m);
/*
 * The items of the contract's transactions in earlier blocks, in the order of the chain.  time_us is that of
 * the block which they stand in.  APM_ERR_RANGE if it cannot be applied.
 */
extern ApmStatus apm_contract_load_item(ApmContractState *s, const ApmItem *item, uint64_t time_us);
extern ApmStatus apm_contract_load_patient(ApmContractState *s, ApmSlice apid, const ApmPatientState *p);
extern ApmStatus apm_contract_load_record(ApmContractState *s, const ApmUuid *rid, const ApmRecordState *r);
extern ApmStatus apm_contract_load_tid(ApmContractState *s, const ApmUuid *tid); /* seen before */
/* One of the leaves that an erasure of the patient must void. */
extern ApmStatus apm_contract_load_leaf(ApmContractState *s, ApmSlice apid, const ApmVoid *leaf);
/* The last grant and the last revocation of each grantee and purpose, in any order; earlier ones do no harm. */
extern ApmStatus apm_contract_load_consent(ApmContractState *s, ApmSlice apid,
										   const uint8_t grantee[APM_STAFF_LEN], uint16_t purpose,
										   const ApmConsentState *c);
extern ApmStatus apm_contract_load_query(ApmContractState *s, const ApmUuid *tid, const ApmQueryState *q);
/* how many releases the study has */
extern ApmStatus apm_contract_load_study(ApmContractState *s, const uint8_t study[APM_STUDY_LEN],
										 uint32_t releases);
/*
 * A counter stood at total after the block with that time.  What is asked is always a difference of two such
 * points, so loading the newest one, and the newest one not after the begin of each window, is enough.
 */
extern ApmStatus apm_contract_load_count(ApmContractState *s, uint8_t counter, const ApmDigest *subject,
										 uint64_t time_us, uint64_t total);

/*
 * What a transaction was made under may have changed when it is judged.  Templates and data rules are
 * therefore those that were in force at any moment from so long before the transaction's own time on.  Who
 * sends a query hears the verdict and asks again.  What goes through the queue is acknowledged before
 * it is judged: nothing of it may be lost because the block of a change was long in coming.
 */
#define APM_QUERY_GRACE_US (60 * UINT64_C(1000000))
#define APM_QUEUED_GRACE_US (24 * 3600 * UINT64_C(1000000))
#define APM_SITE_RULES_MAX 32 /* in force, with at most APM_COUNTS_MAX - 1 different counters */
#define APM_TEMPLATES_MAX 64  /* in force */
#define APM_DATA_RULES_MAX 64 /* in force */

/* May a template give transactions of this kind public fields? */
extern bool apm_kind_has_fields(ApmKind kind);
/* May a site rule judge transactions of this kind?  Not those that could drop it. */
extern bool apm_kind_has_rules(ApmKind kind);

/* The policy in force, or its default; that of the difficulty is UINT64_MAX, which no block has. */
extern uint64_t apm_contract_policy(const ApmContractState *s, uint16_t key);
/* 0 or NULL: not on the list of the chain */
extern uint16_t apm_contract_purpose_code(const ApmContractState *s, const char *name);
extern const char *apm_contract_purpose_name(const ApmContractState *s, uint16_t code);
extern uint16_t apm_contract_reason_code(const ApmContractState *s, const char *name);
extern const char *apm_contract_reason_name(const ApmContractState *s, uint16_t code);
/* name of a built-in or site rule, the latter also if it is no longer in force; NULL if unknown */
extern const char *apm_contract_rule_name(const ApmContractState *s, uint16_t rule);
/*
 * SHA-256 over the data rules in force, as apm_contract_load_item() got them, in the order of
 * their names: what a primary transaction names as the rules that it was held to.  Zeros: there are none.
 */
extern ApmStatus apm_contract_ruleset(const ApmContractState *s, ApmDigest *out);
/*
 * Items in force, one after the other: policies by key, purposes and reasons by code, templates, rules and
 * data rules by name.  Start with *at = 0; false at the end.
 */
extern bool apm_contract_next_item(const ApmContractState *s, size_t *at, ApmItem *out);
/* Could this item be applied to what is in force?  APM_ERR_RANGE if not. */
extern ApmStatus apm_contract_try_item(const ApmContractState *s, const ApmItem *item);
/* borrowed; NULL when it is not the key of a node, or not any more */
extern const ApmEcKey *apm_contract_node(const ApmContractState *s, const ApmDigest *id);
/* The key in force of the member whose first key has this id; false when there is no such member. */
extern bool apm_contract_current(const ApmContractState *s, ApmMember member, const ApmDigest *home,
								 ApmDigest *id);
/* The member (his first key) whom a key belongs or belonged to; false when it is nobody's. */
extern bool apm_contract_home(const ApmContractState *s, ApmMember member, const ApmDigest *id,
							  ApmDigest *home);
/* what the state says; known = false when not loaded */
extern ApmStatus apm_contract_patient(const ApmContractState *s, ApmSlice apid, ApmPatientState *out);
/*
 * digest over built-in rule set version, items in force, nodes and origins, in canonical order: the header's
 * contract digest
 */
extern ApmStatus apm_contract_digest(const ApmContractState *s, ApmDigest *out);

/* A counter of a subject in the seconds before the block's time (0: ever). */
typedef struct ApmCountNeed
{
	uint8_t counter;
	uint32_t seconds;
	ApmDigest subject; /* the actor, filled up with zeros, or SHA-256 of the aPid */
} ApmCountNeed;

#define APM_COUNTS_MAX 16

/* The counters that a valid transaction moves by one; returns how many. */
extern int apm_contract_counters(const ApmTransaction *tx, uint8_t counters[APM_COUNTERS]);

/* the ledger state that evaluating s needs */
typedef struct ApmNeeds
{
	ApmUuid tid;
	ApmSlice apid; /* empty: none */
	bool has_rid;
	ApmUuid rid;
	bool has_amends;
	ApmUuid amends;
	bool has_query; /* the query that it rests on */
	ApmUuid query;
	bool consents; /* the grants and revocations of apid */
	bool leaves;   /* the leaves that an erasure of apid must void */
	bool has_study;
	uint8_t study[APM_STUDY_LEN];
	int ncounts;
	ApmCountNeed counts[APM_COUNTS_MAX];
} ApmNeeds;

/* A signed transaction, taken apart once: everything later steps ask of it. */
typedef struct ApmOpened
{
	ApmSigned envelope; /* borrowed slices */
	ApmTransaction tx;	/* borrowed slices */
	ApmOriginProof proof;
	ApmDigest leaf;
	ApmUuid tid;
	bool wellformed; /* tx and proof decoded */
} ApmOpened;

/* APM_ERR_FORMAT only if the outer layout is not a signed transaction: poison, nothing to judge */
extern ApmStatus apm_open_signed(ApmSlice in, ApmOpened *out);
/* The same for one that is in parts already; its slices must stay. */
extern ApmStatus apm_open_envelope(const ApmSigned *envelope, ApmOpened *out);
/* s has the contract's items: its rules say which counters. */
extern ApmStatus apm_contract_needs(const ApmContractState *s, const ApmOpened *t, ApmNeeds *out);

/*
 * The verdict, rule by rule in the order of ApmRule, site rules last.  height 0 admits members.
 *
 * What a contract transaction changes holds for the transactions after it, in its own block
 * too; only a site rule begins and ends with the block after, because the counters that it asks for are
 * loaded for a block as a whole.
 */
extern uint16_t apm_contract_evaluate(const ApmContractState *s, const ApmOpened *t, uint64_t height,
									  uint64_t block_time_us);
/* Enter the effects of a valid transaction, at its place in the chain. */
extern ApmStatus apm_contract_apply(ApmContractState *s, const ApmOpened *t, uint64_t height,
									uint32_t position, uint64_t block_time_us);

/*
 * Enters what is left of a valid transaction that an erasure further on voided, at its place in the chain: its Tid is
 * seen, and the patient is known, with one version more, or has one record more.  home is the member (his first key)
 * whom the key that signed the erasure belongs to; that key may not be in the chain yet.
 */
extern ApmStatus apm_contract_apply_void(ApmContractState *s, ApmSlice apid, const ApmDigest *home,
										 const ApmVoid *voided, uint64_t block_time_us);

/*
 * Header against its parent (NULL for genesis) and state: link, height, history root, time not before the
 * parent's, bits, work, contract digest.
 */
typedef enum ApmBlockFault
{
	APM_BLOCK_OK = 0,
	APM_BLOCK_CHAIN,
	APM_BLOCK_HEIGHT,
	APM_BLOCK_LINK,
	APM_BLOCK_HISTORY,
	APM_BLOCK_TIME,
	APM_BLOCK_DIFFICULTY,
	APM_BLOCK_WORK,
	APM_BLOCK_ROOT,
	APM_BLOCK_COUNT,
	APM_BLOCK_CONTRACT,
	APM_BLOCK_SIGNER,
	APM_BLOCK_SIGNATURE,
	APM_BLOCK_FORMAT,
	APM_BLOCK_UNDECIDED /* no verdict: memory or OpenSSL failed; ask again later */
} ApmBlockFault;

extern const char *apm_block_fault_name(ApmBlockFault fault); /* "link", "work", ...; NULL if unknown */

/*
 * Everything that can be said of a header without its leaves; parent_hash and frontier
 * (of all blocks before this one) are NULL only for genesis, contract may be NULL to
 * leave the contract digest unchecked, sig may be NULL for a candidate.
 */
extern ApmBlockFault apm_block_check(const ApmContractState *s, const uint8_t header[APM_HEADER_LEN],
									 const ApmHeader *parent, const ApmDigest *parent_hash,
									 const ApmFrontier *frontier, const ApmDigest *contract,
									 const ApmSignature *sig);
/* The header's root and count against its entries: APM_BLOCK_OK, _ROOT, _COUNT or _UNDECIDED. */
extern ApmBlockFault apm_block_check_entries(const ApmHeader *h, const ApmEntry *entries, size_t n);

#endif /* APM_CORE_CONTRACT_H */
