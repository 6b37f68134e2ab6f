/*
 * contract_state.h
 *	  What contract.c keeps and rules.c and block_check.c look up.  Private to src/core;
 *	  others use contract.h.
 */
#ifndef APM_CORE_CONTRACT_STATE_H
#define APM_CORE_CONTRACT_STATE_H

#include "contract.h"
#include "map.h"

struct ApmContractState
{
	ApmDigest chain;
	ApmMap origins;	 /* origin id to ApmEcKey * */
	ApmMap nodes;	 /* node id to ApmEcKey * */
	ApmMap patients; /* SHA-256 of the aPid to ApmPatientState */
	ApmMap records;	 /* Rid to ApmRecordState */
	ApmMap tids;	 /* Tid to nothing but being there */
	uint16_t policy_count;
	ApmPolicy policies[APM_POLICY_MAX]; /* ascending by key */
};

/* borrowed; NULL when not registered */
extern const ApmEcKey *apm_contract_origin(const ApmContractState *s, const ApmDigest *id);
extern bool apm_contract_tid_seen(const ApmContractState *s, const ApmUuid *tid);
/* known = false when not loaded */
extern void apm_contract_record(const ApmContractState *s, const ApmUuid *rid, ApmRecordState *out);

#endif /* APM_CORE_CONTRACT_STATE_H */
