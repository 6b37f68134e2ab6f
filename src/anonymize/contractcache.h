/*
 * contractcache.h
 *	  The contract in force, kept between statements.
 */
#ifndef APM_CONTRACTCACHE_H
#define APM_CONTRACTCACHE_H

#include "postgres.h"

#include "core/contract.h"

/*
 * The contract as the ledger has it now, whatever the transaction's snapshot; valid until the next
 * call.  *serial differs from that of every other contract that this process has seen, so that what is
 * derived from it can be kept as well.  Raises AP011 where there is no chain.  In a section.
 */
extern const ApmContractState *apm_contract_now(uint64 *serial);

#endif /* APM_CONTRACTCACHE_H */
