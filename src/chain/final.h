/*
 * final.h
 *	  Writing the final transactions of a block.  For this room; others use chain.h.
 */
#ifndef APM_CHAIN_FINAL_H
#define APM_CHAIN_FINAL_H

#include "chain/ledger.h"

/* Queues the block's FTs, sealed for the network server, and wakes it at commit. */
extern void apm_final_put(const ApmNewBlock *block);

#endif /* APM_CHAIN_FINAL_H */
