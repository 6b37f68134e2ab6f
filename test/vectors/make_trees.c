/*
 * make_trees.c
 *	  Examples of Merkle trees: roots, paths and consistency, of several sizes.
 */
#include "vectors.h"

#define LEAVES 9

bool
make_trees(const char *directory)
{
	static const size_t sizes[] = {1, 2, 3, 7, 8, LEAVES};
	ApmDigest leaves[LEAVES];
	ApmDigest root;
	ApmPath path;
	ApmBuf out = {0};

	for (uint8_t i = 0; i < LEAVES; i++)
		CHECK_OK(apm_merkle_leaf(&APM_SLICE(&i, 1), 1, &leaves[i]));
	for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++)
	{
		for (size_t index = 0; index<sizes[s]; index += sizes[s]> 3 ? 3 : 1)
		{
			CHECK_OK(apm_merkle_root(leaves, sizes[s], &root));
			CHECK_OK(apm_merkle_path(leaves, sizes[s], index, &path));
			begin(&out, "path");
			apm_json_put_digests(&out, "leaves", leaves, sizes[s]);
			put_digest(&out, "root", &root);
			apm_json_put_number(&out, "index", index);
			put_path(&out, "path", &path);
			apm_json_end(&out);
		}
	}
	for (size_t old_size = 1; old_size < LEAVES; old_size++)
	{
		CHECK_OK(apm_merkle_consistency(leaves, old_size, LEAVES, &path));
		CHECK_OK(apm_merkle_root(leaves, old_size, &root));
		begin(&out, "consistency");
		apm_json_put_number(&out, "old", old_size);
		apm_json_put_number(&out, "new", LEAVES);
		put_digest(&out, "old root", &root);
		CHECK_OK(apm_merkle_root(leaves, LEAVES, &root));
		put_digest(&out, "new root", &root);
		put_path(&out, "path", &path);
		apm_json_end(&out);
	}
	finish(&out, directory, "trees.json");
	return check_failed == 0;
}
