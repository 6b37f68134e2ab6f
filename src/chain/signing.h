/*
 * signing.h
 *	  From a mined block to a signed one, such that no crash makes two.  For this room.
 */
#ifndef APM_CHAIN_SIGNING_H
#define APM_CHAIN_SIGNING_H

#include "postgres.h"

#include "chain/batch.h"
#include "chain/identity.h"
#include "worker/worker.h"

/* The block that was mined and not appended yet, as apm.candidate has it. */
typedef struct ApmCandidate
{
	ApmHeader header;
	ApmDigest hash;
	uint8 encoded[APM_HEADER_LEN];
	ApmEntry *entries;
	int n;
} ApmCandidate;

/* One of that height or above; false if there is none.  In a transaction; allocates in context. */
extern bool apm_candidate_read(uint64 height, ApmCandidate *out, MemoryContext context);

/* What is to be done, as sign-state, ledger and candidate stand to each other. */
typedef enum ApmSigningStep
{
	APM_SIGNING_GO_ON,	  /* the tip is what we signed last */
	APM_SIGNING_COMPLETE, /* the candidate is what we signed last: append it */
	APM_SIGNING_REFUSED	  /* neither, and *why says what is wrong */
} ApmSigningStep;

/* Outside any transaction; candidate may be NULL.  Takes the lock on the sign-state if all is well. */
extern ApmSigningStep apm_signing_look(const ApmDigest *chain, const ApmTip *tip,
									   const ApmCandidate *candidate, ApmRefusal *why);

/*
 * Has this node signed a block that the ledger up to tip does not have?  *height is that of the last one.  What it
 * cannot read it does not know of.
 */
extern bool apm_signing_ahead(const ApmDigest *chain, const ApmTip *tip, uint64 *height);

/* Signs the mined block and appends it, in the order that survives a crash at any step.  Outside any transaction. */
extern void apm_signing_publish(ApmNewBlock *block);

/*
 * Appends the candidate that the sign-state names: opens and judges its pool rows again.
 * False if they do not give the same block any more.  Outside any transaction.
 */
extern bool apm_signing_complete(const ApmChainIdentity *identity, const ApmTip *tip,
								 const ApmCandidate *candidate, MemoryContext context);

/*
 * Do the pool's rows still give the candidate, so that the miner will complete it?  In a transaction
 * other than a turn's.
 */
extern bool apm_signing_can_complete(const ApmDigest *chain, const ApmCandidate *candidate);

/* Deletes a candidate of that height or above.  In a transaction. */
extern void apm_candidate_drop(uint64 height);

/* Durably: this node signed this block last, here.  Needs the lock. */
extern void apm_signing_record(const ApmDigest *chain, uint64 height, const ApmDigest *hash);

#endif /* APM_CHAIN_SIGNING_H */
