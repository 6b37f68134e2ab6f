/*
 * contract_state.h
 *	  What contract.c keeps and the rules and block_check.c look up.  Private to src/core;
 *	  others use contract.h.
 */
#ifndef APM_CORE_CONTRACT_STATE_H
#define APM_CORE_CONTRACT_STATE_H

#include "contract.h"
#include "inforce.h"
#include "map.h"
#include "tally.h"

/* The last words of a patient about one grantee and one purpose. */
typedef struct ApmWord
{
	uint8_t grantee[APM_STAFF_LEN]; /* zeros: everybody */
	uint16_t purpose;				/* 0: every one */
	bool granted;
	bool revoked;
	ApmConsentState grant; /* if granted: the last one */
	uint64_t revocation;   /* if revoked: the order of the last one */
} ApmWord;

typedef struct ApmWords
{
	ApmWord *v;
	size_t n;
	size_t capacity;
} ApmWords;

/* A key that signs for a member, or did. */
typedef struct ApmMemberKey
{
	ApmEcKey *key;
	ApmDigest home;		  /* id of the member's first key */
	uint64_t from_height; /* of the block that brought it */
	bool ended;
	uint64_t ended_us;	   /* time of the block that replaced it */
	uint64_t ended_height; /* and its height */
} ApmMemberKey;

#define APM_MEMBERS APM_MEMBER_ORIGIN

/* What an erasure of a patient must void, in no order. */
typedef struct ApmLeaves
{
	ApmVoid *v;
	size_t n;
	size_t capacity;
} ApmLeaves;

struct ApmContractState
{
	ApmDigest chain;
	ApmMap members[APM_MEMBERS + 1];	/* by ApmMember: key id to ApmMemberKey */
	ApmMap patients;					/* SHA-256 of the aPid to ApmPatientState */
	ApmMap records;						/* Rid to ApmRecordState */
	ApmMap tids;						/* Tid to nothing but being there */
	ApmMap leaves;						/* SHA-256 of the aPid to ApmLeaves; none of who is erased */
	ApmMap words;						/* SHA-256 of the aPid to ApmWords */
	ApmMap queries;						/* Tid to ApmQueryState */
	ApmMap studies;						/* study to uint32_t, its releases */
	ApmTally tallies[APM_COUNTERS + 1]; /* by ApmCounter */
	ApmInForce items;
};

/* member.c.  The state of members outlives apm_contract_forget(). */
extern ApmStatus apm_members_init(ApmContractState *s);
extern void apm_members_free(ApmContractState *s);
extern ApmStatus apm_members_apply(ApmContractState *s, const ApmMembershipFields *f, uint64_t height,
								   uint64_t time_us);
extern ApmStatus apm_members_put(const ApmContractState *s, ApmMember member, ApmBuf *out);
/* borrowed; NULL when it is nobody's, and never was */
extern const ApmMemberKey *apm_contract_key(const ApmContractState *s, ApmMember member, const ApmDigest *id);
/* borrowed; NULL unless it is a node's key that may sign a block of that height, also with that block applied */
extern const ApmEcKey *apm_contract_block_signer(const ApmContractState *s, const ApmDigest *id,
												 uint64_t height);

extern bool apm_contract_tid_seen(const ApmContractState *s, const ApmUuid *tid);
/* known = false when not loaded */
extern void apm_contract_patient_of(const ApmContractState *s, const ApmDigest *patient,
									ApmPatientState *out); /* SHA-256 of the aPid */
extern void apm_contract_record(const ApmContractState *s, const ApmUuid *rid, ApmRecordState *out);
extern void apm_contract_query(const ApmContractState *s, const ApmUuid *tid, ApmQueryState *out);
/* what an erasure of the patient must void; patient is SHA-256 of the aPid; NULL for nothing */
extern const ApmLeaves *apm_contract_leaves(const ApmContractState *s, const ApmDigest *patient);
extern ApmStatus apm_contract_enter_leaf(ApmContractState *s, const ApmDigest *patient, const ApmVoid *leaf);
extern void apm_contract_drop_leaves(ApmContractState *s, const ApmDigest *patient);
/* what the patient said; patient is SHA-256 of the aPid; NULL for nothing */
extern const ApmWords *apm_contract_words(const ApmContractState *s, const ApmDigest *patient);
extern uint32_t apm_contract_releases(const ApmContractState *s, const uint8_t study[APM_STUDY_LEN]);

/* Whom a transaction's counters are about. */
typedef struct ApmSubjects
{
	ApmDigest actor; /* filled up with zeros */
	bool has_patient;
	ApmDigest patient; /* SHA-256 of the aPid */
} ApmSubjects;

/* SHA-256 of an aPid */
extern ApmStatus apm_patient_digest(ApmSlice apid, ApmDigest *out);
extern ApmStatus apm_transaction_subjects(const ApmTransaction *tx, ApmSubjects *out);
/* NULL: the counter is about a patient, and the transaction has none */
extern const ApmDigest *apm_subject_of(const ApmSubjects *subjects, uint8_t counter);

/* Queries of one actor are counted over so many seconds for APM_POLICY_QUERY_RATE. */
#define APM_RATE_SECONDS 3600
/* Is the query held to cap and rate? */
extern bool apm_query_limited(const ApmQueryFields *query);
/* Tid of the query that the transaction rests on; false if it rests on none. */
extern bool apm_transaction_basis(const ApmTransaction *tx, ApmUuid *tid);

#endif /* APM_CORE_CONTRACT_STATE_H */
