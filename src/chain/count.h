/*
 * count.h
 *	  Counters of the ledger's state, loaded for the contract.  For state.c.
 */
#ifndef APM_CHAIN_COUNT_H
#define APM_CHAIN_COUNT_H

#include "postgres.h"

#include "chain/chain.h"

/*
 * Loads the counters that n transactions need, as of just before a block of that height and time.
 * Expects SPI and apm_privileged.
 */
extern void apm_state_load_counts(ApmContractState *state, MemoryContext context, const ApmNeeds *needs,
								  int n, uint64 height, uint64 time_us);

#endif /* APM_CHAIN_COUNT_H */
