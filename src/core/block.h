/*
 * block.h
 *	  The block: a header of fixed length, leaves, and a node's signature.
 *
 * The header is u8 tag 'B', u8 version 1, chain id, u64 height, previous hash, Merkle
 * root of the block's leaves, u32 leaf count, root over the hashes of all earlier
 * blocks (RFC 6962 tree, leaf data = block hash), contract digest, u64 time in
 * microseconds, u32 difficulty bits, node id, u64 nonce.  The nonce comes last, so
 * that a search keeps the SHA-256 midstate of everything before it.
 *
 * Block hash: SHA-256(SHA-256(header)).  It meets b bits when its first b bits are
 * zero.  The work of a block is 2^b.
 *
 * A valid transaction stands in the block's tree with its own leaf.  A refused one
 * stands there as H(0x00 || "apm refused" || Tid || u8 kind || its leaf || u16 rule), so that
 * a ledger row (Tid, kind, leaf, rule) without nonce and transaction proves what was refused.
 */
#ifndef APM_CORE_BLOCK_H
#define APM_CORE_BLOCK_H

#include "bytes.h"
#include "merkle.h"
#include "signature.h"
#include "transaction.h"

#define APM_HEADER_LEN 226
#define APM_HEADER_NONCE_AT (APM_HEADER_LEN - 8)
#define APM_BLOCK_MAX_LEAVES 4096
#define APM_MAX_DIFFICULTY 48

typedef struct ApmHeader
{
	ApmDigest chain;
	uint64_t height;	/* genesis: 0 */
	ApmDigest previous; /* genesis: zeros */
	ApmDigest root;
	uint32_t count;
	ApmDigest history; /* root over blocks 0 .. height-1 */
	ApmDigest contract;
	uint64_t time_us;
	uint32_t bits;
	ApmDigest node; /* SHA-256 of the node key's SPKI */
	uint64_t nonce;
} ApmHeader;

extern void apm_header_encode(const ApmHeader *h, uint8_t out[APM_HEADER_LEN]);
extern ApmStatus apm_header_decode(ApmSlice in, ApmHeader *out);
extern ApmStatus apm_header_hash(const uint8_t header[APM_HEADER_LEN], ApmDigest *out);
extern bool apm_hash_meets(const ApmDigest *hash, uint32_t bits);

/* one entry of a block, in order */
typedef struct ApmEntry
{
	ApmUuid tid;
	uint8_t kind;
	uint16_t rule; /* 0: valid, else the rule that refused (contract.h) */
	ApmDigest leaf;
} ApmEntry;

/* what stands in the block's tree for an entry */
extern ApmStatus apm_entry_hash(const ApmEntry *e, ApmDigest *out);
extern ApmStatus apm_entries_root(const ApmEntry *entries, size_t n, ApmDigest *out);
extern void apm_entries_encode(const ApmEntry *entries, size_t n, ApmBuf *out);
/* allocates *entries with apm_core_alloc */
extern ApmStatus apm_entries_decode(ApmSlice in, ApmEntry **entries, size_t *n);

/* Signature over SHA-256("apm block\0" || block hash). */
extern ApmStatus apm_block_sign(const ApmEcKey *node, const ApmDigest *hash, ApmSignature *out);
extern ApmStatus apm_block_verify(const ApmEcKey *node, const ApmDigest *hash, const ApmSignature *sig);

#endif /* APM_CORE_BLOCK_H */
