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
#include "core/fault.h"

#define APM_FAULT_LEN 160

/* What was found. */
typedef struct ApmVerification
{
	bool ok;
	ApmFaultRule rule; /* of the first fault */
	int64 height;	   /* -1: of no block */
	int32 position;	   /* within the block; -1: of the block */
	char fault[APM_FAULT_LEN];
	int64 blocks; /* verified with their transactions */
	int64 transactions;
	int64 not_rerun; /* refused ones whose transaction was not kept */
	int64 erased;	 /* voided ones whose transaction is gone */
	bool to_end;	 /* the last block is that of the ledger */
	int64 last;		 /* its height */
	ApmDigest hash;	 /* and hash, of a good one */
} ApmVerification;

/* A block that the chain is known to have had. */
typedef struct ApmKnownBlock
{
	int64 height;
	ApmDigest hash;
} ApmKnownBlock;

/* What is to be verified. */
typedef struct ApmVerifyRequest
{
	int64
		from; /* transactions of blocks from this height on, which must be there unless known is the one before */
	int64 to;					/* up to this block, which must be there; -1: to the end */
	const ApmKnownBlock *known; /* must be there; NULL: none */
} ApmVerifyRequest;

/*
 * Verifies the ledger, and tells every few seconds how far it is (NOTICE).  Raises if no chain was set up.  Expects SPI
 * and apm_privileged; writes nothing.
 */
extern void apm_verify_ledger(const ApmVerifyRequest *request, ApmVerification *out);

/*
 * Remembers in apm.verified that the ledger was found good as a whole, for a verification that goes on from there.  Does
 * nothing where nothing can be written.  Expects SPI and apm_privileged.
 */
extern void apm_verify_remember(const ApmVerification *good);

/* The rest is between verify.c and its parts. */

/* What a walk has counted. */
typedef struct ApmWalkCounts
{
	int64 blocks; /* as in ApmVerification */
	int64 transactions;
	int64 not_rerun;
	int64 erased;
	int64 leaves; /* what must be there */
	int64 bodies;
	int64 patients;
	int64 profile_versions;
	int64 erased_patients;
	int64 records;
	int64 amendments;
	int64 members;
	int64 replaced_members;
	int64 derived[APM_DERIVED_TABLES]; /* rows of the other derived tables */
} ApmWalkCounts;

/* What several walks share that look at a part of the blocks each (verify_parallel.c). */
typedef struct ApmWalkShare ApmWalkShare;

/* A walk along the chain. */
typedef struct ApmWalk
{
	MemoryContext context; /* lives as long as the walk */
	ApmChainIdentity identity;
	int64 tip_height; /* apm.tip, as it is stored */
	ApmSlice tip_hash;
	ApmSlice tip_frontier;
	int64 last; /* height of the last block that is stored; -1: there is none */
	int64 from;
	int64 to;
	const ApmKnownBlock *known;
	TimestampTz told_at;	 /* when the caller last heard how far it is */
	int64 at;				 /* the height in hand */
	ApmContractState *state; /* as of before the block in hand; NULL before genesis */
	ApmDigest contract;		 /* digest of the state's contract */
	int64 *changes;			 /* heights at which the contract or its members changed, ascending */
	int nchanges;
	int passed;			  /* of them, before the one in hand */
	ApmFrontier frontier; /* of the blocks passed */
	ApmHeader parent;
	ApmDigest parent_hash;
	bool has_voids;					/* is there any row in ledger_void? */
	HTAB *erasures;					/* erasures that were looked at, by Tid (verify_void.c) */
	MemoryContext erasures_context; /* they live here */
	ApmWalkCounts counts;
	ApmWalkShare *share; /* of one of several walks; NULL: it is alone */
	bool leads;			 /* the one that goes on to the end */
	int64 run_from;		 /* the blocks that are its own, which it claimed last */
	int64 run_before;
	ApmVerification *result;
} ApmWalk;

/* Notes the first fault, with the sentence that the rule has, and returns false. */
extern bool apm_walk_fault(ApmWalk *walk, ApmFaultRule rule, int64 height, int32 position);
/* The same with a sentence of its own. */
extern bool apm_walk_fault_detail(ApmWalk *walk, ApmFaultRule rule, int64 height, int32 position,
								  const char *format, ...) pg_attribute_printf(5, 6);

/* An erasure as the ledger has it. */
typedef struct ApmWalkErasure
{
	ApmUuid tid; /* hash key */
	bool found;	 /* a valid erasure of this Tid stands in the ledger, with its body */
	int64 height;
	int32 position;
	ApmErasureFields fields;
	ApmDigest home; /* of the origin that signed it */
} ApmWalkErasure;

/* A block's entries with what the ledger keeps of their transactions. */
typedef struct ApmEntries
{
	MemoryContext context; /* everything here lives in it: SPI's own */
	ApmJudged block;
	int n;
	ApmEntry *entries;
	ApmOpened *opened;
	bool *kept;						 /* is opened filled in? */
	ApmRecordRow *records;			 /* two for each entry that is kept: its own, what it amends */
	ApmVoid *voids;					 /* kind 0: not void */
	const ApmWalkErasure **erasures; /* that voided it */
	struct ApmVoidRow *void_rows;	 /* of ledger_void */
} ApmEntries;

/* Verifies from walk->at on, up to walk->to or, if that is one of several walks, as far as it has to go.  False after a fault. */
extern bool apm_verify_blocks(ApmWalk *walk);
/* Reads what the walk is held against, and where the chain ends.  False after a fault. */
extern bool apm_verify_begin(ApmWalk *walk);
/* Is this error what a damaged ledger, or damaged storage, raises? */
extern bool apm_verify_is_damage(int sqlstate);

/*
 * Verifies all blocks of the walk by several backends, if there are enough of both.  False: it did not, or something
 * is wrong somewhere; then the walk is as it was.
 */
extern bool apm_verify_in_parallel(ApmWalk *walk);
/* Is the block in hand its own?  Claims a next run of blocks when it is behind its last. */
extern bool apm_share_owns(ApmWalk *walk);
/* Has one of several walks to go on? */
extern bool apm_share_goes_on(const ApmWalk *walk);
/* How many blocks have been verified by all of them; counts one more first if that is wished. */
extern int64 apm_share_done(ApmWalk *walk, bool one_more);

/* Reads one block's leaves and bodies and holds them against each other and the header.  False after a fault. */
extern bool apm_verify_read(ApmWalk *walk, const ApmHeader *header, ApmEntries *e);
/* The contract's verdicts once more; walk->state is that after the block then.  False after a fault. */
extern bool apm_verify_judge(ApmWalk *walk, ApmEntries *e);

/* Makes walk->state, empty, for the chain of the genesis block. */
extern void apm_verify_begin_contract(ApmWalk *walk, const ApmDigest *chain);
/* Enters what a block before walk->from changed in the contract and its members. */
extern bool apm_verify_pass_contract(ApmWalk *walk, const ApmHeader *header);
/* walk->contract from walk->state. */
extern void apm_verify_digest_contract(ApmWalk *walk);
/* The members and the contract that genesis made against their tables. */
extern bool apm_verify_genesis(ApmWalk *walk, const ApmHeader *header);
/* What the block's valid memberships must have left in apm.member. */
extern bool apm_verify_members(ApmWalk *walk, const ApmEntries *e);

/* Fills in which entries are void; what ledger_void says of them is looked at by apm_verify_void_rows(). */
extern void apm_verify_find_voids(ApmWalk *walk, ApmEntries *e);
/*
 * The fault of an entry that is valid and not void by ledger_void, if it has no body, or has one though ledger_void has
 * a row of it; APM_FAULT_DERIVED if only ledger_void is wrong.
 */
extern ApmFaultRule apm_verify_why_not_void(ApmWalk *walk, const ApmEntries *e, int i);
/* Did all that a valid erasure names stand before it, and did no other have it?  False after a fault. */
extern bool apm_verify_voided(ApmWalk *walk, const ApmEntries *e, int i);
/* After a fault in what a block left in the derived tables: names one in the ledger itself instead, if that is what it is. */
extern void apm_verify_put_back(ApmWalk *walk, const ApmEntries *e);
/* Rows of ledger_void of the block's entries, and what its erasures must have left.  False after a fault. */
extern bool apm_verify_void_rows(ApmWalk *walk, const ApmEntries *e);

/* What the block's valid transactions must have left in the derived tables.  False after a fault. */
extern bool apm_verify_derived(ApmWalk *walk, const ApmEntries *e);
/* Makes a fault that may come from a derived table one of it, if the blocks alone have none so far. */
extern void apm_verify_by_replay(ApmWalk *walk);
/* Rows that no block accounts for, after a walk over the whole chain. */
extern bool apm_verify_totals(ApmWalk *walk);

#endif /* APM_CHAIN_VERIFY_H */
