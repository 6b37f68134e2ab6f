/*
 * make.h
 *	  Putting a block together and searching its nonce.  For this room.
 *
 * Nothing here touches a table; mining is meant to happen outside any transaction.
 */
#ifndef APM_CHAIN_MAKE_H
#define APM_CHAIN_MAKE_H

#include "postgres.h"

#include "apm_time.h"
#include "chain/batch.h"
#include "chain/identity.h"

/*
 * The time of a block after parent (NULL: genesis) with these transactions: now, but not
 * before the parent and not before its newest transaction, unless that one is far ahead
 * of our clock, which the contract then refuses.
 */
extern uint64 apm_block_time(const ApmHeader *parent, const ApmOpened *opened, int n);

/*
 * Fills in the block that follows tip (NULL: genesis) with the batch's entries, without
 * nonce and signature.  The batch's state must be that after its transactions.
 */
extern void apm_block_fill(ApmNewBlock *block, const ApmChainIdentity *identity, const ApmTip *tip,
						   const ApmBatch *batch);

/* Searches the nonce; checks for interrupts all the while. */
extern void apm_block_mine(ApmNewBlock *block);

#endif /* APM_CHAIN_MAKE_H */
