/*
 * derive.h
 *	  What follows from the ledger and is kept beside it.  For this room.
 *
 * Everything here expects a transaction with SPI connected inside apm_privileged and
 * raises errors.
 */
#ifndef APM_CHAIN_DERIVE_H
#define APM_CHAIN_DERIVE_H

#include "postgres.h"

#include "chain/chain.h"

/*
 * Transactions of a block, or of a part of it.  Of those that the ledger keeps no body of, opened is not looked
 * at.
 */
typedef struct ApmContents
{
	uint64 height;
	uint64 time_us;
	int first; /* position of the first of them in the block */
	int n;
	const ApmEntry *entries;
	const ApmOpened *opened; /* one for each entry */
	const ApmVoid
		*voids; /* likewise what an erasure left of it, of kind 0 if it is not void; NULL: none is */
} ApmContents;

static inline bool
apm_is_void(const ApmContents *block, int i)
{
	return block->voids != NULL && block->voids[i].kind != 0;
}

/* Is entry i a valid transaction of this kind that is there? */
static inline bool
apm_is_valid(const ApmContents *block, int i, ApmKind kind)
{
	return block->entries[i].rule == APM_RULE_NONE && block->entries[i].kind == kind &&
		   !apm_is_void(block, i);
}

/* Writes what follows from a block: members and the contract, and then everything else. */
extern void apm_derive_contract(const ApmContents *block);
extern void apm_derive(const ApmContents *block);

/* The voids of an erasure as arrays for unnest: Tids, kinds, actors, leaves. */
extern void apm_void_arrays(const ApmErasureFields *fields, Datum args[4]);

/* Tables that rows are only added to (derive_rows.c); those of an erased patient leave the first two. */
typedef enum ApmDerived
{
	APM_DERIVED_PROFILE,
	APM_DERIVED_TOKEN,
	APM_DERIVED_ITEM,
	APM_DERIVED_QUERY,
	APM_DERIVED_CONSENT,
	APM_DERIVED_EXPORT,
	APM_DERIVED_COUNT,
	APM_DERIVED_TABLES
} ApmDerived;

extern const char *apm_derived_name(ApmDerived table);
/* Adds the rows that the block leaves in the table. */
extern void apm_derived_add(ApmDerived table, const ApmContents *block);
/*
 * How many rows the block must have left in the table.  *missing is the position of a transaction
 * of which one is not there or is another than it left; -1 if all are as they must be.
 */
extern int apm_derived_check(ApmDerived table, const ApmContents *block, int32 *missing);
/* How many rows the table has. */
extern int64 apm_derived_total(ApmDerived table);

#endif /* APM_CHAIN_DERIVE_H */
