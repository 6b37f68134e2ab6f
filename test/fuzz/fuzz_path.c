/*
 * fuzz_path.c
 *	  The verifiers of inclusion and consistency proofs: of a tree that is known, only the
 *	  right proof is accepted.
 *
 * Input: u64 index or old size, u64 size, then nodes.  A node is 32 bytes, or, when
 * its first byte is zero, the root over a range of the known leaves that its next two bytes
 * name, so that proofs which are almost right are reached.
 */
#include <stdlib.h>
#include <string.h>

#include "core/merkle.h"

#define KNOWN 16

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static ApmDigest leaves[KNOWN];
static ApmDigest roots[KNOWN + 1];

static void
make_tree(void)
{
	static bool made = false;

	for (uint8_t i = 0; i < KNOWN && !made; i++)
	{
		ApmSlice part = {&i, 1};

		if (apm_merkle_leaf(&part, 1, &leaves[i]) != APM_OK)
			abort();
	}
	for (size_t n = 0; n <= KNOWN && !made; n++)
		if (apm_merkle_root(leaves, n, &roots[n]) != APM_OK)
			abort();
	made = true;
}

static void
read_nodes(ApmReader *r, ApmPath *path)
{
	path->count = 0;
	while (!apm_reader_done(r) && !r->failed && path->count < APM_MERKLE_MAX_PATH)
	{
		ApmDigest *node = &path->nodes[path->count];

		if (*r->pos == 0)
		{
			size_t from;
			size_t count;

			apm_get_u8(r);
			from = apm_get_u8(r) % KNOWN;
			count = apm_get_u8(r) % (KNOWN - from + 1);
			if (apm_merkle_root(leaves + from, count, node) != APM_OK)
				abort();
		}
		else
			apm_get_raw(r, node, sizeof(*node));
		if (!r->failed)
			path->count++;
	}
}

static bool
same_path(const ApmPath *a, const ApmPath *b)
{
	return a->count == b->count && memcmp(a->nodes, b->nodes, a->count * sizeof(ApmDigest)) == 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	ApmReader r;
	ApmPath path;
	ApmPath right;
	ApmDigest root;
	uint64_t first;
	uint64_t last;

	make_tree();
	apm_reader_init(&r, APM_SLICE(data, size));
	first = apm_get_u64(&r);
	last = apm_get_u64(&r);
	read_nodes(&r, &path);

	if (apm_merkle_root_from_path(&leaves[first % KNOWN], first, last, &path, &root) == APM_OK &&
		last <= KNOWN && memcmp(&root, &roots[last], sizeof(root)) == 0)
	{
		if (apm_merkle_path(leaves, last, first, &right) != APM_OK || !same_path(&path, &right))
			abort();
	}
	if (apm_merkle_verify_consistency(first, last, &roots[first % (KNOWN + 1)], &roots[last % (KNOWN + 1)],
									  &path) == APM_OK &&
		last <= KNOWN)
	{
		if (apm_merkle_consistency(leaves, first, last, &right) != APM_OK || !same_path(&path, &right))
			abort();
	}
	return 0;
}
