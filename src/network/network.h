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

/* Would it refuse that many?  For who can wait until there is room. */
extern bool apm_queue_full(int n);

/*
 * The query gate: signed transactions of kind query or export (core/transaction.h) made by the
 * caller's APM.  The network server seals each as QT, writes them together, with their notes, in a
 * transaction of its own, and answers when the blocks of all are final.
 *
 * Raises the node's refusal to serve, and no worker.  The contract's verdicts are in the answers: the caller
 * gives nothing out of what was refused.  Expects no SPI; may be called in a read-only or
 * failed-later transaction; not on a standby.
 */
typedef enum ApmGateList
{
	APM_GATE_NOTHING, /* the verdict alone */
	APM_GATE_CURRENT, /* the patient's records that nothing supersedes; of a search, what it matches */
	APM_GATE_ALL	  /* superseded ones too */
} ApmGateList;

typedef struct ApmGateQuestion
{
	ApmSlice query; /* signed transaction */
	ApmSlice note;	/* of an emergency: sealed under the patient's key; empty: none */
	ApmGateList list;
	const char *rule_name; /* out, from here on: palloc'd; NULL: allowed */
	uint16 rule;
	ApmUuid tid;   /* of the transaction */
	uint64 height; /* of its block: answers are as of that */
	ApmPatientState patient;
	int nrecords;
	ApmPlace *records;
	int nmatches; /* of a search; APM_GATE_MATCHES + 1: there are more */
	ApmMatch *matches;
} ApmGateQuestion;

/* At most so many questions at once, and so many bytes of answers to them (54000): who needs more asks in parts. */
#define APM_GATE_QUESTIONS 10000
#define APM_GATE_BYTES (256 * 1024 * 1024)

/* So many records are listed for a search, of how many patients ever: the contract's cap is on patients who are read. */
#define APM_GATE_MATCHES 100000

extern void apm_gate_query(ApmGateQuestion *questions, int n, const uint8 staff[APM_STAFF_LEN],
						   const char *acting, const char *login);

/* Raises AP001, naming the rule, if the question was refused. */
extern void apm_gate_require(const ApmGateQuestion *question);
/* The same, for the question about an element (from 1) of what the caller gave; the detail names its place. */
extern void apm_gate_require_element(const ApmGateQuestion *question, int element);

#endif /* APM_NETWORK_H */
