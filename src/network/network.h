/*
 * network.h
 *	  What the APM asks of the network server: take sealed records, and pass a query through the gate.
 */
#ifndef APM_NETWORK_H
#define APM_NETWORK_H

#include "postgres.h"

#include "chain/chain.h"

/*
 * Queues n sealed signed transactions in the caller's transaction and wakes the network server at its
 * commit.  53400 when the queue holds apm.max_queue rows; a transaction with queued records cannot be
 * prepared (0A000).  Expects SPI and apm_privileged.
 */
extern void apm_queue_put(const ApmUuid *tids, const ApmSlice *sealed, int n);

/*
 * The query gate.  signed_query is a signed transaction of kind query (core/transaction.h) made by the
 * caller's APM.  The network server seals it as QT, writes it in a transaction of its own, and
 * answers when its block is final.  Raises: the contract's refusal (own SQLSTATE, message names the
 * rule), the node's refusal to serve, no worker.  Expects no SPI; may be called in a read-only or failed-later transaction; not on a standby.
 */
typedef struct ApmGateAnswer
{
	ApmUuid tid;   /* of the query transaction */
	uint64 height; /* its block */
	ApmPatientState patient;
	int nrecords;
	ApmPlace *records; /* palloc'd */
} ApmGateAnswer;

extern void apm_gate_query(ApmSlice signed_query, const uint8 staff[APM_STAFF_LEN], const char *acting,
						   const char *login, ApmGateAnswer *answer);

#endif /* APM_NETWORK_H */
