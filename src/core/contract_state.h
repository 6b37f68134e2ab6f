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

struct ApmContractState
{
	ApmDigest chain;
	ApmMap origins;						/* origin id to ApmEcKey * */
	ApmMap nodes;						/* node id to ApmEcKey * */
	ApmMap patients;					/* SHA-256 of the aPid to ApmPatientState */
	ApmMap records;						/* Rid to ApmRecordState */
	ApmMap tids;						/* Tid to nothing but being there */
	ApmMap words;						/* SHA-256 of the aPid to ApmWords */
	ApmMap queries;						/* Tid to ApmQueryState */
	ApmMap studies;						/* study to uint32_t, its releases */
	ApmTally tallies[APM_COUNTERS + 1]; /* by ApmCounter */
	ApmInForce items;
};

/* borrowed; NULL when not registered */
extern const ApmEcKey *apm_contract_origin(const ApmContractState *s, const ApmDigest *id);
extern bool apm_contract_tid_seen(const ApmContractState *s, const ApmUuid *tid);
/* known = false when not loaded */
extern void apm_contract_patient_of(const ApmContractState *s, const ApmDigest *patient,
									ApmPatientState *out); /* SHA-256 of the aPid */
extern void apm_contract_record(const ApmContractState *s, const ApmUuid *rid, ApmRecordState *out);
extern void apm_contract_query(const ApmContractState *s, const ApmUuid *tid, ApmQueryState *out);
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
