/*
 * chain.h
 *	  What the rooms above ask of the chain.
 *
 * All functions that read or write tables expect a transaction with SPI connected inside
 * apm_privileged (a worker's turn, or a backend's section); they raise errors.
 */
#ifndef APM_CHAIN_H
#define APM_CHAIN_H

#include "postgres.h"

#include "core/contract.h"
#include "core/head.h"

/* The chain of this database and the id of the key that this APM signs with now; false when apm_setup was not called. */
extern bool apm_chain_identity(ApmDigest *chain, ApmDigest *origin);
/*
 * Grows whenever a block has changed members or contract, seen from the time on at which this process has asked for the
 * chain's identity.  A restore does not tell.
 */
extern uint64 apm_chain_changes(void);

/* The id of the first key of our origin, or of our node: whom the chain knows it as.  False as above. */
extern bool apm_chain_home(ApmMember member, ApmDigest *home);

/*
 * The head of the chain, checked as whoever keeps it will check it; false while there is no block.  Raises AP005 if
 * what the ledger ends with is not a block that its node signed.
 */
extern bool apm_chain_head(ApmHead *out);

/* Is this the id of our origin, or of our node, by any of its keys? */
extern bool apm_chain_is_ours(ApmMember member, const ApmDigest *id);

/*
 * Was a table written past our code, or does a guard sleep?  Then this may be half of a
 * restore, and what is there must stay where it is until apm_accept_rollback().  A worker
 * that takes rows asks after it has read them and before it writes anything: what a load has
 * committed comes with its notice.
 */
extern bool apm_chain_loaded(void);

/*
 * Into the pool: n sealed PTs or QTs with their Tids; a Tid that is in the pool or in the ledger
 * already is left out.  Wakes the miner at commit.
 */
extern void apm_pool_put(const ApmUuid *tids, const ApmSlice *pts, int n);

/*
 * Takes up to max_blocks FT envelopes from the queue, in order.  The chain room writes them, sealed for
 * PK_NS; the network server opens them (apm_final_decode).
 */
typedef struct ApmFinalBlock
{
	int64 id; /* of apm.final_queue */
	int64 height;
	int tries;
	ApmSlice sealed; /* palloc'd */
} ApmFinalBlock;

extern int apm_final_peek(ApmFinalBlock *out, int max_blocks);
extern void apm_final_done(const int64 *ids, int n); /* delete them */

/*
 * FT, opened: what became of each transaction of one block.  Canonical: u8 tag 'F', u8 version 1,
 * block hash, u64 height, entries as apm_entries_encode.
 */
extern ApmStatus apm_final_decode(ApmSlice in, ApmDigest *block, uint64 *height, ApmEntry **entries,
								  size_t *n);

/* Bodies (nonce, transaction) of n Tids, in that order; data palloc'd; transaction.len = 0 where there is none. */
typedef struct ApmBody
{
	uint8 nonce[APM_NONCE_LEN];
	ApmSlice transaction;
	ApmSlice proof;
} ApmBody;

extern void apm_ledger_bodies(const ApmUuid *tids, int n, ApmBody *out);

/*
 * What an erasure of a patient must void as of now: his registration, its changes and his records, ascending by
 * leaf; palloc'd.
 */
extern int apm_ledger_voids(ApmSlice apid, ApmVoid **out);
/* Patients of our origin who are erased in the ledger, up to limit with their Tids, beginning after that aPid; palloc'd. */
extern int apm_ledger_erased(ApmSlice after, int limit, ApmSlice **apids, ApmUuid **tids);
/* Which of n Tids are of transactions that an erasure voided? */
extern void apm_ledger_are_void(const ApmUuid *tids, int n, bool *voided);

/* What the chain says of n patients as of block height. */
extern void apm_ledger_patients(const ApmSlice *apids, int n, uint64 height, ApmPatientState *out);

/* Where a record is, for whoever is to find it and check it. */
typedef struct ApmPlace
{
	ApmUuid rid;
	ApmDigest leaf;
	bool superseded;
	ApmUuid superseded_by;
} ApmPlace;

/* A record that a search found. */
typedef struct ApmMatch
{
	ApmPlace place;
	ApmSlice apid;
} ApmMatch;

/* A patient's records. */
typedef struct ApmRecordList
{
	ApmSlice apid;
	bool all; /* also those that others supersede */
	int n;
	ApmPlace *places; /* if n is not 0 */
} ApmRecordList;

/* Fills n lists with the current records as of block height, each in the order of the chain; palloc'd. */
extern void apm_ledger_records(ApmRecordList *lists, int n, uint64 height);

/*
 * The current records as of block height that have all these tokens (count > 0), in the order of the chain;
 * what is set in each place is palloc'd, its aPid as well.  At most limit of them; the answer is one more if
 * there are more.
 */
extern int apm_ledger_matches(const ApmTokens *tokens, uint64 height, int limit, ApmMatch **out);

/* Which of n Rids has the ledger, in any version, with all these tokens?  The caller's snapshot plays no part. */
extern void apm_ledger_have_tokens(const ApmTokens *tokens, const ApmUuid *rids, int n, bool *have);

/*
 * The contract as the ledger has it now: items, origins, nodes; a state to ask for names, policies and the digest of
 * the data rules.  Lives in that memory context.
 */
extern ApmContractState *apm_chain_contract(MemoryContext context);

/* A query, as the ledger has it. */
typedef struct ApmQueryRow
{
	ApmUuid tid;
	uint64 height;
	uint32 position;
	uint16 rule; /* 0: allowed */
	ApmDigest leaf;
	ApmDigest block;
	bool reviewed;	   /* of an emergency */
	ApmTransaction tx; /* checked against its leaf */
} ApmQueryRow;

/*
 * All queries for a patient up to a block, allowed or not, in the order of the chain; they live until SPI is left.
 * Each is taken from its body, and the body is checked against the leaf: AP005 if it is not the one.  The
 * caller's snapshot plays no part.
 */
extern int apm_ledger_queries(ApmSlice apid, uint64 height, ApmQueryRow **out);
/* The query of a Tid, likewise; false when the ledger has none. */
extern bool apm_ledger_query(const ApmUuid *tid, ApmQueryRow *out);
/* Emergencies that the contract allowed and nobody has reviewed, likewise. */
extern int apm_ledger_unreviewed(ApmQueryRow **out);
/* Which of n aPids are registered in the ledger? */
extern void apm_ledger_known_patients(const ApmSlice *apids, int n, bool *known);

#endif /* APM_CHAIN_H */
