/*
 * identity.h
 *	  Which chain this database takes part in, and as whom.  For this room; others use
 *	  apm_chain_identity().
 */
#ifndef APM_CHAIN_IDENTITY_H
#define APM_CHAIN_IDENTITY_H

#include "postgres.h"

#include "chain/chain.h"

typedef struct ApmChainIdentity
{
	ApmDigest chain;
	ApmDigest node;	  /* id of the key that signs this node's blocks */
	ApmDigest origin; /* id of the key that signs this APM's transactions */
} ApmChainIdentity;

/* False when apm_setup() was not called.  Expects SPI and apm_privileged. */
extern bool apm_chain_read(ApmChainIdentity *out);

#endif /* APM_CHAIN_IDENTITY_H */
