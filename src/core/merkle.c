/*
 * merkle.c
 *	  Trees over leaf hashes, their proofs, and the frontier of a growing tree.
 *
 * RFC 6962 splits n leaves at k, the largest power of two below n.  Three shapes of that
 * one tree are used here: from the top down by halving, for one proof; from the bottom
 * up level by level, where the odd last hash of a level goes up unchanged, for all
 * proofs at once; and as the row of perfect subtrees that the bits of n stand for, for
 * the root alone and for a tree that grows.  test_merkle compares them with each other.
 */
#include "merkle.h"

#include <string.h>

#include "digest.h"

#define LEAF_PREFIX 0x00
#define NODE_PREFIX 0x01

#define FRONTIER_TAG 'F'
#define FRONTIER_VERSION 1

ApmStatus
apm_merkle_leaf(const ApmSlice *parts, size_t n, ApmDigest *out)
{
	return apm_sha256_prefixed(LEAF_PREFIX, parts, n, out);
}

/* out may be left or right. */
ApmStatus
apm_merkle_node(const ApmDigest *left, const ApmDigest *right, ApmDigest *out)
{
	uint8_t bytes[1 + 2 * APM_DIGEST_LEN];

	bytes[0] = NODE_PREFIX;
	memcpy(bytes + 1, left->bytes, APM_DIGEST_LEN);
	memcpy(bytes + 1 + APM_DIGEST_LEN, right->bytes, APM_DIGEST_LEN);
	return apm_sha256(bytes, sizeof(bytes), out);
}

ApmStatus
apm_merkle_root(const ApmDigest *leaves, size_t n, ApmDigest *out)
{
	ApmFrontier frontier = {0};

	for (size_t i = 0; i < n; i++)
	{
		ApmStatus status = apm_frontier_append(&frontier, &leaves[i]);

		if (status != APM_OK)
			return status;
	}
	return apm_frontier_root(&frontier, out);
}

/* The largest power of two below n, for n > 1: where RFC 6962 splits n leaves. */
static size_t
split_at(size_t n)
{
	size_t k = 1;

	while (k < n - k)
		k *= 2;
	return k;
}

static ApmStatus
path_append_root(ApmPath *path, const ApmDigest *leaves, size_t n)
{
	ApmStatus status = apm_merkle_root(leaves, n, &path->nodes[path->count]);

	if (status == APM_OK)
		path->count++;
	return status;
}

static void
path_reverse(ApmPath *path)
{
	for (uint32_t i = 0; i < path->count / 2; i++)
	{
		ApmDigest other = path->nodes[path->count - 1 - i];

		path->nodes[path->count - 1 - i] = path->nodes[i];
		path->nodes[i] = other;
	}
}

/* RFC 6962, 2.1.1.  Hashes each of the n leaves at most once.  APM_ERR_RANGE: no such leaf. */
ApmStatus
apm_merkle_path(const ApmDigest *leaves, size_t n, size_t index, ApmPath *out)
{
	ApmStatus status = APM_OK;

	out->count = 0;
	if (index >= n)
		return APM_ERR_RANGE;
	while (n > 1 && status == APM_OK)
	{
		size_t k = split_at(n);

		if (index < k)
		{
			status = path_append_root(out, leaves + k, n - k);
			n = k;
		}
		else
		{
			status = path_append_root(out, leaves, k);
			leaves += k;
			index -= k;
			n -= k;
		}
	}
	path_reverse(out);
	return status;
}

ApmStatus
apm_merkle_all_paths(const ApmDigest *leaves, size_t n, ApmPath *paths, ApmDigest *root)
{
	ApmDigest *level;
	ApmStatus status = APM_OK;
	unsigned height = 0;

	if (n == 0)
		return apm_merkle_root(NULL, 0, root);
	if (n > SIZE_MAX / sizeof(ApmDigest))
		return APM_ERR_RANGE;
	level = apm_core_alloc(n * sizeof(ApmDigest), false);
	if (level == NULL)
		return APM_ERR_MEMORY;
	memcpy(level, leaves, n * sizeof(ApmDigest));
	for (size_t i = 0; i < n; i++)
		paths[i].count = 0;

	for (size_t width = n; width > 1 && status == APM_OK; width = width / 2 + width % 2, height++)
	{
		for (size_t i = 0; i < n; i++)
		{
			size_t sibling = (i >> height) ^ 1;

			if (sibling < width)
				paths[i].nodes[paths[i].count++] = level[sibling];
		}
		for (size_t i = 0; i < width / 2 && status == APM_OK; i++)
			status = apm_merkle_node(&level[2 * i], &level[2 * i + 1], &level[i]);
		if (width % 2 == 1)
			level[width / 2] = level[width - 1];
	}
	if (status == APM_OK)
		*root = level[0];
	apm_core_free(level);
	return status;
}

/* RFC 9162, 2.1.3.2.  The caller compares the root with the one that he trusts. */
ApmStatus
apm_merkle_root_from_path(const ApmDigest *leaf, uint64_t index, uint64_t size, const ApmPath *path,
						  ApmDigest *root)
{
	uint64_t at = index;
	uint64_t last = size - 1;
	ApmDigest hash = *leaf;

	if (index >= size || path->count > APM_MERKLE_MAX_PATH)
		return APM_ERR_VERIFY;
	for (uint32_t i = 0; i < path->count; i++)
	{
		ApmStatus status;

		if (last == 0)
			return APM_ERR_VERIFY;
		if ((at & 1) != 0 || at == last)
		{
			status = apm_merkle_node(&path->nodes[i], &hash, &hash);
			/* a right edge has no sibling on the levels where it only goes up */
			while ((at & 1) == 0 && at != 0)
			{
				at >>= 1;
				last >>= 1;
			}
		}
		else
			status = apm_merkle_node(&hash, &path->nodes[i], &hash);
		if (status != APM_OK)
			return status;
		at >>= 1;
		last >>= 1;
	}
	if (last != 0)
		return APM_ERR_VERIFY;
	*root = hash;
	return APM_OK;
}

/*
 * RFC 6962, 2.1.2: the proof that the tree of the first old_size leaves is a beginning of
 * the tree of new_size leaves.  Empty from size 0 and between equal sizes.
 */
ApmStatus
apm_merkle_consistency(const ApmDigest *leaves, size_t old_size, size_t new_size, ApmPath *out)
{
	ApmStatus status = APM_OK;
	bool whole = true; /* the old tree is one the verifier knows the root of */

	out->count = 0;
	if (old_size > new_size)
		return APM_ERR_RANGE;
	if (old_size == 0)
		return APM_OK;
	while (old_size < new_size && status == APM_OK)
	{
		size_t k = split_at(new_size);

		if (old_size <= k)
		{
			status = path_append_root(out, leaves + k, new_size - k);
			new_size = k;
		}
		else
		{
			status = path_append_root(out, leaves, k);
			leaves += k;
			old_size -= k;
			new_size -= k;
			whole = false;
		}
	}
	if (!whole && status == APM_OK)
		status = path_append_root(out, leaves, new_size);
	path_reverse(out);
	return status;
}

/* One step of RFC 9162, 2.1.4.2: enters a node into the old and the new root as far as they contain it. */
static ApmStatus
consistency_step(uint64_t *at, uint64_t *last, const ApmDigest *node, ApmDigest *old_hash,
				 ApmDigest *new_hash)
{
	ApmStatus status;

	if (*last == 0)
		return APM_ERR_VERIFY;
	if ((*at & 1) != 0 || *at == *last)
	{
		status = apm_merkle_node(node, old_hash, old_hash);
		if (status == APM_OK)
			status = apm_merkle_node(node, new_hash, new_hash);
		while ((*at & 1) == 0 && *at != 0)
		{
			*at >>= 1;
			*last >>= 1;
		}
	}
	else
		status = apm_merkle_node(new_hash, node, new_hash);
	*at >>= 1;
	*last >>= 1;
	return status;
}

/* The two cases whose proof is empty: nothing is a beginning of anything, and a tree is one of itself. */
static ApmStatus
verify_without_nodes(uint64_t old_size, uint64_t new_size, const ApmDigest *old_root,
					 const ApmDigest *new_root, const ApmPath *path)
{
	ApmDigest empty;
	ApmStatus status;

	if (path->count != 0)
		return APM_ERR_VERIFY;
	if (old_size == new_size && !apm_equal(old_root, new_root, sizeof(ApmDigest)))
		return APM_ERR_VERIFY;
	if (old_size > 0)
		return APM_OK;
	status = apm_merkle_root(NULL, 0, &empty);
	if (status == APM_OK && !apm_equal(&empty, old_root, sizeof(ApmDigest)))
		status = APM_ERR_VERIFY;
	return status;
}

/* Everything but a proven beginning is APM_ERR_VERIFY. */
ApmStatus
apm_merkle_verify_consistency(uint64_t old_size, uint64_t new_size, const ApmDigest *old_root,
							  const ApmDigest *new_root, const ApmPath *path)
{
	uint64_t at = old_size - 1;
	uint64_t last = new_size - 1;
	uint32_t i = 0;
	ApmDigest old_hash;
	ApmDigest new_hash;

	if (old_size > new_size || path->count > APM_MERKLE_MAX_PATH)
		return APM_ERR_VERIFY;
	if (old_size == 0 || old_size == new_size)
		return verify_without_nodes(old_size, new_size, old_root, new_root, path);

	while ((at & 1) != 0)
	{
		at >>= 1;
		last >>= 1;
	}
	/* an old tree that is perfect is its own first node, and not in the proof */
	if (at == 0)
		old_hash = *old_root;
	else if (path->count > 0)
		old_hash = path->nodes[i++];
	else
		return APM_ERR_VERIFY;
	new_hash = old_hash;
	for (; i < path->count; i++)
	{
		ApmStatus status = consistency_step(&at, &last, &path->nodes[i], &old_hash, &new_hash);

		if (status != APM_OK)
			return status;
	}
	if (last != 0 || !apm_equal(&old_hash, old_root, sizeof(ApmDigest)) ||
		!apm_equal(&new_hash, new_root, sizeof(ApmDigest)))
		return APM_ERR_VERIFY;
	return APM_OK;
}

/* The number of perfect subtrees in a tree of this size. */
static unsigned
peak_count(uint64_t size)
{
	unsigned n = 0;

	for (; size != 0; size &= size - 1)
		n++;
	return n;
}

/* On failure the frontier is as before. */
ApmStatus
apm_frontier_append(ApmFrontier *f, const ApmDigest *leaf)
{
	unsigned n = peak_count(f->size);
	ApmDigest hash = *leaf;

	if (f->size == UINT64_MAX)
		return APM_ERR_RANGE;
	/* as in adding one to a binary number: each trailing one is a subtree of the carry's size */
	for (uint64_t carry = f->size; (carry & 1) != 0; carry >>= 1)
	{
		ApmStatus status = apm_merkle_node(&f->peaks[n - 1], &hash, &hash);

		if (status != APM_OK)
			return status;
		n--;
	}
	f->peaks[n] = hash;
	f->size++;
	return APM_OK;
}

ApmStatus
apm_frontier_root(const ApmFrontier *f, ApmDigest *out)
{
	unsigned n = peak_count(f->size);
	ApmDigest hash;

	if (n == 0)
		return apm_sha256(NULL, 0, out);
	hash = f->peaks[n - 1];
	for (unsigned i = n - 1; i > 0; i--)
	{
		ApmStatus status = apm_merkle_node(&f->peaks[i - 1], &hash, &hash);

		if (status != APM_OK)
			return status;
	}
	*out = hash;
	return APM_OK;
}

/* u8 tag 'F', u8 version 1, u64 size, and a hash for each bit of size that is set. */
void
apm_frontier_encode(const ApmFrontier *f, ApmBuf *out)
{
	apm_put_u8(out, FRONTIER_TAG);
	apm_put_u8(out, FRONTIER_VERSION);
	apm_put_u64(out, f->size);
	apm_put_raw(out, f->peaks, peak_count(f->size) * sizeof(ApmDigest));
}

ApmStatus
apm_frontier_decode(ApmSlice in, ApmFrontier *out)
{
	ApmReader r;
	ApmFrontier got = {0};

	apm_reader_init(&r, in);
	apm_expect_u8(&r, FRONTIER_TAG);
	apm_expect_u8(&r, FRONTIER_VERSION);
	got.size = apm_get_u64(&r);
	apm_get_raw(&r, got.peaks, peak_count(got.size) * sizeof(ApmDigest));
	if (!apm_reader_done(&r))
		return APM_ERR_FORMAT;
	*out = got;
	return APM_OK;
}
