/*
 * stored.h
 *	  A block as a server stores it, for whoever verifies the ledger elsewhere: one line of an exported
 *	  ledger.
 *
 * What stands in the tables is written down as it stands there, also where it is wrong: finding that is the
 * verifier's work.  A line is base64 (RFC 4648, section 4) of
 *
 *		'X', 1, u64 height, [32] hash, bytes header, bytes signature, u32 count,
 *		and for each leaf row, by position:
 *		u32 position, [16] Tid, u16 kind, u16 rule, [32] leaf, u8 kept,
 *		and if kept is 1: bytes nonce, bytes transaction, bytes proof
 *
 * Lines come by height, and where two blocks have one height, by hash.
 */
#ifndef APM_CORE_STORED_H
#define APM_CORE_STORED_H

#include "bytes.h"

typedef struct ApmStoredEntry
{
	uint32_t position;
	ApmUuid tid;
	uint16_t kind;
	uint16_t rule;
	ApmDigest leaf;
	bool kept; /* its body is there */
	ApmSlice nonce;
	ApmSlice transaction;
	ApmSlice proof;
} ApmStoredEntry;

typedef struct ApmStoredBlock
{
	uint64_t height;
	ApmDigest hash;
	ApmSlice header;
	ApmSlice signature;
	size_t count;
	ApmStoredEntry *entries; /* apm_core_alloc */
} ApmStoredBlock;

/* Entries that a line may have: more than any block, so that too many can be shown. */
#define APM_STORED_ENTRIES_MAX 65536

extern void apm_stored_encode(const ApmStoredBlock *block, ApmBuf *out);
/* Slices point into the input. */
extern ApmStatus apm_stored_decode(ApmSlice in, ApmStoredBlock *out);
extern void apm_stored_free(ApmStoredBlock *block);

#endif /* APM_CORE_STORED_H */
