/*
 * node.h
 *	  May this database's node mine and serve reads?  For this room.
 */
#ifndef APM_CHAIN_NODE_H
#define APM_CHAIN_NODE_H

#include "postgres.h"

#include "chain/identity.h"
#include "worker/worker.h"

/*
 * Asks everything that can be asked without the sign-state.  In a transaction with SPI
 * and apm_privileged.  *identity is filled in unless the answer is NO_CHAIN or STANDBY.
 */
extern ApmRefusal apm_node_check(ApmChainIdentity *identity);

#endif /* APM_CHAIN_NODE_H */
