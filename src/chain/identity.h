/*
 * identity.h
 *	  Which chain this database takes part in, and as whom.  For this room; others use
 *	  apm_chain_identity(), apm_chain_home() and apm_chain_is_ours().
 */
#ifndef APM_CHAIN_IDENTITY_H
#define APM_CHAIN_IDENTITY_H

#include "postgres.h"

#include "chain/chain.h"

typedef struct ApmChainIdentity
{
	ApmDigest chain;
	ApmDigest node;		   /* id of the key that signs this node's blocks now */
	ApmDigest origin;	   /* id of the key that signs this APM's transactions now */
	ApmDigest node_home;   /* ids of the first keys of either: whom the chain knows them as */
	ApmDigest origin_home; /* (apm.chain) */
} ApmChainIdentity;

/* False when apm_setup() was not called.  Expects SPI and apm_privileged. */
extern bool apm_chain_read(ApmChainIdentity *out);
/* The same; raises AP011 when it was not. */
extern void apm_chain_require(ApmChainIdentity *out);

/* A key of ours may have been replaced, or the contract has changed: all processes hear of it once this transaction has committed. */
extern void apm_chain_identity_changed(void);

#endif /* APM_CHAIN_IDENTITY_H */
