/*
 * verify.h
 *	  Verification of the whole ledger.  For this room.
 */
#ifndef APM_CHAIN_VERIFY_H
#define APM_CHAIN_VERIFY_H

#include "postgres.h"

#include "utils/hsearch.h"

#include "chain/derive.h"
#include "chain/identity.h"
#include "chain/ledger.h"

#define APM_FAULT_LEN 160

/* What was found. */
typedef struct ApmVerification
{
	bool ok;
	int64 height;	/* of the first fault; -1: of no block */
	int32 position; /* within the block; -1: of the block */
	char fault[APM_FAULT_LEN];
	int64 blocks; /* verified with their transactions */
	int64 transactions;
	int64 not_rerun; /* refused ones whose transaction was not kept */
} ApmVerification;

/*
 * Verifies the ledger up to height to (-1: the tip), the transactions from height from on.
 * Raises if no chain was set up.  Expects SPI and apm_privileged; writes nothing.
 */
extern void apm_verify_ledger(int64 from, int64 to, ApmVerification *out);

/* The rest is between verify.c and its parts. */

/* A walk along the chain. */
typedef struct ApmWalk
{
	MemoryContext context; /* lives as long as the walk */
	ApmChainIdentity identity;
	int64 tip_height; /* apm.tip, as it is stored */
	ApmSlice tip_hash;
	ApmSlice tip_frontier;
	int64 from;
	int64 to;
	int64 at;				 /* the height in hand */
	ApmContractState *state; /* as of before the block in hand */
	ApmDigest contract;		 /* digest of the state's contract */
	int64 *changes;			 /* heights before from at which the contract changed, ascending */
	int nchanges;
	int passed;			  /* of them */
	ApmFrontier frontier; /* of the blocks passed */
	ApmHeader parent;
	ApmDigest parent_hash;
	HTAB *profiles; /* of patients whose profile changed ever: their version at this place */
	int64 leaves;
	int64 bodies;
	int64 registrations;
	int64 profile_versions;
	int64 records;
	int64 amendments;
	int64 derived[APM_DERIVED_TABLES]; /* rows of the other derived tables */
	ApmVerification *result;
} ApmWalk;

/* Notes the first fault and returns false. */
extern bool apm_walk_fault(ApmWalk *walk, int64 height, int32 position, const char *format, ...)
	pg_attribute_printf(4, 5);

/* One block's leaves and bodies.  False after a fault. */
extern bool apm_verify_entries(ApmWalk *walk, const ApmHeader *header, const ApmDigest *hash);

/* A block's entries with what the ledger keeps of their transactions. */
typedef struct ApmEntries
{
	uint64 height;
	uint64 time_us;
	int n;
	ApmEntry *entries;
	ApmOpened *opened;
	bool *kept; /* is opened filled in? */
} ApmEntries;

/* Makes walk->state, empty. */
extern void apm_verify_begin_contract(ApmWalk *walk);
/* Enters what a block before walk->from changed in the contract. */
extern bool apm_verify_pass_contract(ApmWalk *walk, const ApmHeader *header);
/* walk->contract from walk->state. */
extern void apm_verify_digest_contract(ApmWalk *walk);

/* Enters into walk->state the versions of then of the patients that the block's transactions change. */
extern void apm_verify_load_profiles(ApmWalk *walk, const ApmEntries *e);
/* What the block's valid transactions must have left in the derived tables.  False after a fault. */
extern bool apm_verify_derived(ApmWalk *walk, const ApmEntries *e);
/* The members and the contract that genesis made against their tables. */
extern bool apm_verify_members(ApmWalk *walk);
/* Rows that no block accounts for, after a walk over the whole chain. */
extern bool apm_verify_totals(ApmWalk *walk);
/* Makes walk->profiles, as of before the walk's first block. */
extern void apm_verify_begin_profiles(ApmWalk *walk);

#endif /* APM_CHAIN_VERIFY_H */
