/*
 * proofs.h
 *	  Digests and proofs of a chain in memory.
 */
#ifndef APM_TEST_PROOFS_H
#define APM_TEST_PROOFS_H

#include "core/proof.h"
#include "story.h"

static inline ApmSlice
slice_of(const ApmBuf *buf)
{
	return APM_SLICE(buf->data, buf->len);
}

static inline ApmHead
story_head(const Story *s, size_t height)
{
	return chain_head(&s->chain, height, s->nodes[height > STORY_NODE_SUCCESSION]);
}

/* Leaves of the history tree over so many blocks. */
static inline void
history_of(const ChainBlock *blocks, size_t count, ApmDigest *leaves)
{
	for (size_t i = 0; i < count; i++)
		CHECK_OK(apm_merkle_leaf(&APM_SLICE(blocks[i].stored.hash.bytes, APM_DIGEST_LEN), 1, &leaves[i]));
}

/* The proof of an entry, which need not be one that can be proved, to the head at that height. */
static inline ApmProof
proof_of(const ChainBlock *blocks, size_t height, size_t position, size_t head)
{
	const ChainBlock *b = &blocks[height];
	ApmProof proof = {.head = head, .position = (uint32_t) position, .rule = b->entries[position].rule};
	ApmDigest leaves[STORY_BLOCKS];
	ApmDigest hashes[CHAIN_ENTRIES];

	memcpy(proof.encoded, b->encoded, APM_HEADER_LEN);
	for (size_t i = 0; i < b->stored.count; i++)
	{
		ApmEntry entry = {b->entries[i].tid, (uint8_t) b->entries[i].kind, b->entries[i].rule,
						  b->entries[i].leaf};

		CHECK_OK(apm_entry_hash(&entry, &hashes[i]));
	}
	CHECK_OK(apm_merkle_path(hashes, b->stored.count, position, &proof.path));
	history_of(blocks, head, leaves);
	if (height < head)
		CHECK_OK(apm_merkle_path(leaves, head, height, &proof.history));
	apm_put_raw(&proof.transaction, b->bodies[position].data, b->bodies[position].len);
	return proof;
}

/* The proof that the chain of one height has grown out of that of another. */
static inline ApmConsistency
consistency_of(const ChainBlock *blocks, size_t old_height, size_t new_height)
{
	ApmConsistency proof = {.old_height = old_height, .new_height = new_height};
	ApmDigest leaves[STORY_BLOCKS];

	history_of(blocks, new_height, leaves);
	if (old_height < new_height)
	{
		CHECK_OK(apm_merkle_consistency(leaves, old_height, new_height, &proof.history));
		CHECK_OK(apm_merkle_path(leaves, new_height, old_height, &proof.inclusion));
	}
	return proof;
}

#endif /* APM_TEST_PROOFS_H */
