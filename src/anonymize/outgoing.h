/*
 * outgoing.h
 *	  Transactions on their way out of the APM: nonce, leaf, Tid, one signature over all,
 *	  and the sealed form that the network server takes.
 */
#ifndef APM_OUTGOING_H
#define APM_OUTGOING_H

#include "postgres.h"

#include "anonymize/acting.h"

typedef struct ApmOutgoingItem
{
	uint8 nonce[APM_NONCE_LEN];
	ApmBuf transaction; /* encoded */
	ApmDigest leaf;
	ApmUuid tid;
	bool withdrawn; /* not to be sent after all */
} ApmOutgoingItem;

/* Lives in the memory context that is current at its start. */
typedef struct ApmOutgoing
{
	const ApmActing *who;
	ApmDigest chain;
	ApmDigest origin;
	int n;
	int capacity;
	ApmOutgoingItem *items;
} ApmOutgoing;

/* Raises AP011 where there is no chain yet.  who may be NULL if every transaction brings its actor and time. */
extern void apm_outgoing_start(ApmOutgoing *out, const ApmActing *who);

/*
 * Adds a transaction of which kind and fields are set; chain and origin are filled in, and
 * actor, roles and time too unless time is set already.  Answers its place.
 */
extern int apm_outgoing_add(ApmOutgoing *out, ApmTransaction *tx);

/* Signs all of them with one signature and queues them, in the caller's transaction.  In a section. */
extern void apm_outgoing_send(ApmOutgoing *out);

/* Signs all of them with one signature and appends the signed form of each to one of as many buffers. */
extern void apm_outgoing_signed(const ApmOutgoing *out, ApmBuf *signed_forms);

#endif /* APM_OUTGOING_H */
