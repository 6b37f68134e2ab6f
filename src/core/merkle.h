/*
 * merkle.h
 *	  Merkle trees of RFC 6962, section 2.1 (leaf prefix 0x00, node prefix 0x01,
 *	  no duplicated last leaf), their inclusion and consistency proofs (RFC 9162,
 *	  2.1.3 and 2.1.4), and a frontier that keeps the root of a growing tree in
 *	  O(log n) space.
 */
#ifndef APM_CORE_MERKLE_H
#define APM_CORE_MERKLE_H

#include "bytes.h"

/* H(0x00 || parts...) */
extern ApmStatus apm_merkle_leaf(const ApmSlice *parts, size_t n, ApmDigest *out);
/* H(0x01 || left || right) */
extern ApmStatus apm_merkle_node(const ApmDigest *left, const ApmDigest *right, ApmDigest *out);
/* root of n leaf hashes; of none, SHA-256 of the empty string */
extern ApmStatus apm_merkle_root(const ApmDigest *leaves, size_t n, ApmDigest *out);

#define APM_MERKLE_MAX_PATH 64

typedef struct ApmPath
{
	uint32_t count;
	ApmDigest nodes[APM_MERKLE_MAX_PATH]; /* from the leaf up */
} ApmPath;

extern ApmStatus apm_merkle_path(const ApmDigest *leaves, size_t n, size_t index, ApmPath *out);
/*
 * All n paths of one tree at once, O(n log n): paths[i] for leaf i.  Used where a
 * statement's records share one signature.
 */
extern ApmStatus apm_merkle_all_paths(const ApmDigest *leaves, size_t n, ApmPath *paths, ApmDigest *root);
/* the root that a leaf and its path lead to; APM_ERR_VERIFY when the path has a wrong length */
extern ApmStatus apm_merkle_root_from_path(const ApmDigest *leaf, uint64_t index, uint64_t size,
										   const ApmPath *path, ApmDigest *root);
extern ApmStatus apm_merkle_consistency(const ApmDigest *leaves, size_t old_size, size_t new_size,
										ApmPath *out);
extern ApmStatus apm_merkle_verify_consistency(uint64_t old_size, uint64_t new_size,
											   const ApmDigest *old_root, const ApmDigest *new_root,
											   const ApmPath *path);

/* The roots of the perfect subtrees of a growing tree, largest first. */
typedef struct ApmFrontier
{
	uint64_t size;		 /* leaves so far */
	ApmDigest peaks[64]; /* one per set bit of size, highest bit first */
} ApmFrontier;

extern ApmStatus apm_frontier_append(ApmFrontier *f, const ApmDigest *leaf);
extern ApmStatus apm_frontier_root(const ApmFrontier *f, ApmDigest *out);
extern void apm_frontier_encode(const ApmFrontier *f, ApmBuf *out);
extern ApmStatus apm_frontier_decode(ApmSlice in, ApmFrontier *out);

#endif /* APM_CORE_MERKLE_H */
