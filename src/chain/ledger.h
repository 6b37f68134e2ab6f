/*
 * ledger.h
 *	  The ledger's tables as C sees them.  For this room; others use chain.h.
 *
 * Everything here expects a transaction with SPI connected inside apm_privileged and
 * raises errors.
 */
#ifndef APM_CHAIN_LEDGER_H
#define APM_CHAIN_LEDGER_H

#include "postgres.h"

#include "chain/chain.h"

/* The last block, and the frontier of the tree over all block hashes including its own. */
typedef struct ApmTip
{
	ApmHeader header;
	ApmDigest hash;
	ApmFrontier frontier;
} ApmTip;

/* False when there is no block yet. */
extern bool apm_ledger_tip(ApmTip *out);

/* Enters a block hash into the frontier of the tree over all block hashes. */
extern void apm_history_append(ApmFrontier *frontier, const ApmDigest *hash);

/* A block with everything that the ledger keeps of it. */
typedef struct ApmNewBlock
{
	ApmHeader header;
	uint8 encoded[APM_HEADER_LEN];
	ApmDigest hash;
	ApmSignature signature;
	ApmFrontier earlier; /* over the hashes of all blocks before this one */
	int n;
	ApmEntry *entries;
	ApmOpened *opened;			 /* one for each entry */
	const TimestampTz *received; /* when the pool had them */
} ApmNewBlock;

/*
 * Appends the block, its leaves, its bodies and the state derived from them, takes the bodies away that its
 * erasures void, and moves the tip, in the caller's transaction.  The guards judge the block once more.
 */
extern void apm_ledger_append(const ApmNewBlock *block);

/* A leaf row of SPI_tuptable: its tid, kind, rule and leaf, in the four columns from column on. */
extern void apm_row_entry(uint64 row, int column, ApmEntry *out);

/* Does the ledger keep this entry's transaction?  Valid ones, and queries whatever became of them. */
extern bool apm_ledger_keeps_body(const ApmEntry *entry);

/* A contract state without anything in it; it lives as long as that memory context. */
extern ApmContractState *apm_state_empty(MemoryContext context, const ApmDigest *chain);

/*
 * A contract state in that memory context, with the members and the contract's items as of just before a
 * block of that height; while the chain has none yet it is empty.
 */
extern ApmContractState *apm_state_new(MemoryContext context, const ApmDigest *chain, uint64 height);

/* Did the block of that height change members or contract, or is it going to? */
extern bool apm_state_changes_at(uint64 height);

/* A row of ledger_record. */
typedef struct ApmRecordRow
{
	bool there;
	ApmUuid tid;
	ApmSlice apid; /* borrowed, until SPI_finish */
	ApmSlice leaf; /* likewise */
	int64 height;
	int32 position;
	bool superseded;	   /* is there a Rid in superseded_by? */
	ApmUuid superseded_by; /* whenever that came */
	bool superseded_then;  /* by a record of a block before the height that was asked for */
} ApmRecordRow;

/* The rows of these Rids, whichever block they are of, with what superseded them before a block of that height. */
extern void apm_record_rows(const ApmUuid *rids, int n, uint64 before, ApmRecordRow *out);

/*
 * Patients as of just before a block of that height: one row each of those that are known by then in SPI_tuptable, until the
 * next statement.  apm_patient_row() answers whose it is.
 */
extern uint64 apm_patient_rows(const ApmSlice *apids, int n, uint64 before);
extern ApmSlice apm_patient_row(uint64 row, ApmPatientState *out);

/*
 * Likewise the leaves that an erasure of each of these patients must void, ascending by leaf, also if they
 * have been voided meanwhile.
 */
extern uint64 apm_void_rows(const ApmSlice *apids, int n, uint64 before);
extern ApmSlice apm_void_row(uint64 row, ApmVoid *out);

/* Loads members that blocks from height from on and before height before admitted or replaced, as of the latter. */
extern void apm_state_load_members(ApmContractState *state, MemoryContext context, uint64 from,
								   uint64 before);

/* Loads the contract's items of blocks from height from on and before height before. */
extern void apm_state_load_items(ApmContractState *state, MemoryContext context, uint64 from, uint64 before);

/* A block that transactions are judged for. */
typedef struct ApmJudged
{
	uint64 height;
	uint64 time_us;
	const ApmDigest *hash; /* NULL while the ledger does not have it */
} ApmJudged;

/*
 * Loads, into the state and its memory context, what the ledger says about the needs of n transactions as of
 * just before that block.  records, unless NULL, gets two rows for each: of its Rid and of the one that it amends.
 */
extern void apm_state_load(ApmContractState *state, MemoryContext context, const ApmNeeds *needs, int n,
						   const ApmJudged *block, ApmRecordRow *records);

#endif /* APM_CHAIN_LEDGER_H */
