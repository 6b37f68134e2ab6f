/*
 * keyload.h
 *	  A key as its source gives it becomes one that can be used.  Private to the room.
 */
#ifndef APM_KEYLOAD_H
#define APM_KEYLOAD_H

#include "postgres.h"

#include "keys/keykind.h"

typedef struct ApmKey
{
	uint32 generation;
	ApmKeyId id;
	uint8_t *secret; /* one of the three, as the kind's form says */
	ApmRsa *rsa;
	ApmEcKey *ec;
	bool has_private;
} ApmKey;

/*
 * One generation of a kind, its private half if that is here, in that memory context.  False if there is neither half;
 * *retired as in keycommand.h.  Raises AP003 for what is not accepted.
 */
extern bool apm_key_load(const ApmKeyKind *kind, uint32 generation, MemoryContext context, ApmKey *out,
						 bool *retired);
extern void apm_key_release(ApmKey *key);

#endif /* APM_KEYLOAD_H */
