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

typedef enum ApmRule
{
	APM_RULE_NONE = 0,		  /* valid */
	APM_RULE_TEMPLATE = 1,	  /* not a transaction of a known kind and version */
	APM_RULE_CHAIN = 2,		  /* for another chain */
	APM_RULE_ORIGIN = 3,	  /* origin not registered */
	APM_RULE_SIGNATURE = 4,	  /* origin's signature does not verify */
	APM_RULE_FRESH = 5,		  /* Tid or Rid seen before */
	APM_RULE_PATIENT = 6,	  /* patient not registered (or registered already) */
	APM_RULE_ERASED = 7,	  /* patient erased */
	APM_RULE_HOME = 8,		  /* patient registered by another origin */
	APM_RULE_TIME = 9,		  /* later than its block */
	APM_RULE_ACTOR = 10,	  /* the actor's roles do not allow it */
	APM_RULE_PURPOSE = 11,	  /* purpose missing or not on the list */
	APM_RULE_PROFILE = 12,	  /* profile version or old digest does not follow */
	APM_RULE_AMENDS = 13,	  /* amended record unknown, superseded, or another patient's */
	APM_RULE_MEMBERSHIP = 14, /* membership or contract change outside the genesis block */

	/* No verdict: memory or OpenSSL failed.  Never written down; ask again later. */
	APM_RULE_UNDECIDED = 0xffff
} ApmRule;

extern const char *apm_rule_name(uint16_t rule); /* "fresh", ...; NULL if unknown */
extern const char *apm_rule_text(uint16_t rule); /* one sentence for people */

/* Purposes on the chain: code 1.. in this order.  0: not on the list. */
extern uint16_t apm_purpose_code(
	const char *name); /* treatment, payment, operations, emergency, patient-request, audit, research */
extern const char *apm_purpose_name(uint16_t code);

typedef struct ApmPatientState
{
	bool known;
	bool erased;
	ApmDigest origin;
	uint32_t version;
	ApmDigest profile;
} ApmPatientState;

typedef struct ApmRecordState
{
	bool known;
	bool superseded;
	ApmDigest patient; /* SHA-256 of the aPid */
} ApmRecordState;

typedef struct ApmContractState ApmContractState;

extern ApmStatus apm_contract_new(const ApmDigest *chain, ApmContractState **out);
extern void apm_contract_free(ApmContractState *s);
/* Loading; all copy.  An entry loaded twice keeps the later. */
extern ApmStatus apm_contract_load_origin(ApmContractState *s, const uint8_t spki[APM_SPKI_LEN]);
extern ApmStatus apm_contract_load_node(ApmContractState *s, const uint8_t spki[APM_SPKI_LEN]);
extern ApmStatus apm_contract_load_policy(ApmContractState *s, uint16_t key, uint64_t value);
extern ApmStatus apm_contract_load_patient(ApmContractState *s, ApmSlice apid, const ApmPatientState *p);
extern ApmStatus apm_contract_load_record(ApmContractState *s, const ApmUuid *rid, const ApmRecordState *r);
extern ApmStatus apm_contract_load_tid(ApmContractState *s, const ApmUuid *tid); /* seen before */

extern uint64_t apm_contract_policy(const ApmContractState *s, uint16_t key, uint64_t otherwise);
/* borrowed; NULL when not a member */
extern const ApmEcKey *apm_contract_node(const ApmContractState *s, const ApmDigest *id);
/* what the state says; known = false when not loaded */
extern ApmStatus apm_contract_patient(const ApmContractState *s, ApmSlice apid, ApmPatientState *out);
/* digest over policies, built-in rule set version, nodes and origins, in canonical order: the header's contract digest */
extern ApmStatus apm_contract_digest(const ApmContractState *s, ApmDigest *out);

/* the ledger state that evaluating s needs */
typedef struct ApmNeeds
{
	ApmUuid tid;
	ApmSlice apid; /* empty: none */
	bool has_rid;
	ApmUuid rid;
	bool has_amends;
	ApmUuid amends;
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
extern void apm_contract_needs(const ApmOpened *t, ApmNeeds *out);

/* The verdict, rule by rule in the order of ApmRule.  height 0 admits membership and contract. */
extern ApmRule apm_contract_evaluate(const ApmContractState *s, const ApmOpened *t, uint64_t height,
									 uint64_t block_time_us);
/* Enter the effects of a valid transaction. */
extern ApmStatus apm_contract_apply(ApmContractState *s, const ApmOpened *t);

/* Header against its parent (NULL for genesis) and state: link, height, history root, time not before the parent's, bits, work, contract digest. */
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
