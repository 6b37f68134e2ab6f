/*
 * network_server.h
 *	  Inside the network room: what the stages of one turn ask of each other.
 */
#ifndef APM_NETWORK_SERVER_H
#define APM_NETWORK_SERVER_H

#include "postgres.h"

#include "chain/chain.h"
#include "worker/worker.h"

/* A sealed aPR, opened; what it borrows lives with the memory context that it was opened in. */
typedef struct ApmTemplate
{
	ApmOpened opened;
	ApmSlice plain; /* the signed transaction's bytes */
} ApmTemplate;

/*
 * TT, the transaction template: opens what the APM sealed and takes it apart.  NULL, or why
 * it is not a transaction, as a sentence for the quarantine.  Raises AP002 without PrK_NS.
 */
extern const char *apm_template_open(ApmSlice sealed, ApmTemplate *out);

/* TG, the transaction generator: the PT, or QT, of a signed transaction. */
extern ApmSlice apm_template_seal(ApmSlice plain);

/* Takes the letters that wait, if there are any; the gate's turn writes their queries. */
extern bool apm_gate_take(void);

/* What the server needs for its stages that open and seal. */
#define APM_NETWORK_KEYS_HINT \
	"The network server needs its own private key and the public keys of the APM and of the chain. See apm.key."

/* Turns of the worker; each answers as in ApmWorkerDesc.  Without keys the gate's fails every letter. */
extern int apm_gate_turn(bool have_keys);
extern int apm_validator_turn(void);
extern int apm_queue_turn(void);

/* For how many milliseconds what comes into the queue is to gather; 0: the queue's turn may be taken. */
extern int apm_queue_held(void);

/*
 * A registration is final: records that wait for their patient are ready again.  In the
 * transaction that handles its FT.
 */
extern void apm_queue_release_waiting(void);

/*
 * The transactions of a block are final.  Prepares the answers to the questions among them that somebody waits for,
 * in the transaction that handles the FT; send is called when that is committed, discard before it is begun.
 */
extern void apm_gate_discard(void);
extern void apm_gate_prepare(const ApmEntry *entries, size_t n, uint64 height);
extern void apm_gate_send(void);

#endif /* APM_NETWORK_SERVER_H */
