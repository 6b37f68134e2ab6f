/*
 * test_merkle.c
 *	  Trees and proofs against the test tree of the Certificate Transparency project (eight
 *	  leaves), and the ways to build a tree against each other for every size up to 70.
 */
#include "check.h"
#include "core/digest.h"
#include "core/merkle.h"

#define MANY 70

static const char *const ct_leaves[8] = {
	"", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"};

static const char *const ct_roots[9] = {
	"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
	"6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
	"fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
	"aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
	"d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
	"4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
	"76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
	"ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
	"5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
};

/* from: the leaf's index, or the old size */
typedef struct ProofVector
{
	size_t from;
	size_t size;
	const char *nodes;
} ProofVector;

static const ProofVector ct_paths[] = {
	{0, 1, ""},
	{0, 8,
	 "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7"
	 "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e"
	 "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"},
	{5, 8,
	 "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"
	 "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0"
	 "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"},
	{2, 3, "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"},
	{1, 5,
	 "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
	 "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e"
	 "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"},
};

static const ProofVector ct_consistency[] = {
	{1, 1, ""},
	{1, 8,
	 "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7"
	 "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e"
	 "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"},
	{6, 8,
	 "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a"
	 "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0"
	 "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"},
	{2, 5,
	 "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e"
	 "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"},
	{6, 7,
	 "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a"
	 "b08693ec2e721597130641e8211e7eedccb4c26413963eee6c1e2ed16ffb1a5f"
	 "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"},
};

static ApmDigest leaves[MANY];
static ApmDigest roots[MANY + 1];

static void
make_ct_leaves(void)
{
	for (int i = 0; i < 8; i++)
	{
		ApmSlice data = check_unhex(ct_leaves[i]);

		CHECK_OK(apm_merkle_leaf(&data, 1, &leaves[i]));
	}
}

static void
test_ct_tree(void)
{
	ApmPath path;
	ApmDigest root;

	make_ct_leaves();
	for (size_t n = 0; n <= 8; n++)
	{
		CHECK_OK(apm_merkle_root(leaves, n, &root));
		CHECK_HEX(root.bytes, 32, ct_roots[n]);
	}
	for (size_t i = 0; i < sizeof(ct_paths) / sizeof(ct_paths[0]); i++)
	{
		const ProofVector *v = &ct_paths[i];

		CHECK_OK(apm_merkle_path(leaves, v->size, v->from, &path));
		CHECK_HEX(path.nodes, 32 * path.count, v->nodes);
		CHECK_OK(apm_merkle_root_from_path(&leaves[v->from], v->from, v->size, &path, &root));
		CHECK_HEX(root.bytes, 32, ct_roots[v->size]);
	}
	for (size_t i = 0; i < sizeof(ct_consistency) / sizeof(ct_consistency[0]); i++)
	{
		const ProofVector *v = &ct_consistency[i];

		CHECK_OK(apm_merkle_consistency(leaves, v->from, v->size, &path));
		CHECK_HEX(path.nodes, 32 * path.count, v->nodes);
	}
}

static void
make_many_leaves(void)
{
	for (uint8_t i = 0; i < MANY; i++)
	{
		ApmSlice parts[2] = {APM_SLICE("leaf", 4), APM_SLICE(&i, 1)};

		CHECK_OK(apm_merkle_leaf(parts, 2, &leaves[i]));
	}
	for (size_t n = 0; n <= MANY; n++)
		CHECK_OK(apm_merkle_root(leaves, n, &roots[n]));
}

/* Is everything that differs from the right proof of this leaf refused? */
static void
refuse_wrong_paths(size_t index, size_t n, const ApmPath *good)
{
	ApmPath path = *good;
	ApmDigest root;
	bool refused = true;

	for (uint32_t i = 0; i < path.count; i++)
	{
		path.nodes[i].bytes[i % 32] ^= 0x01;
		refused = refused && (apm_merkle_root_from_path(&leaves[index], index, n, &path, &root) != APM_OK ||
							  memcmp(&root, &roots[n], sizeof(root)) != 0);
		path.nodes[i].bytes[i % 32] ^= 0x01;
	}
	path.nodes[path.count] = roots[n];
	path.count++;
	refused = refused && apm_merkle_root_from_path(&leaves[index], index, n, &path, &root) == APM_ERR_VERIFY;
	path.count--;
	if (path.count > 0)
	{
		path.count--;
		refused =
			refused && apm_merkle_root_from_path(&leaves[index], index, n, &path, &root) == APM_ERR_VERIFY;
		path.count++;
	}
	refused = refused && apm_merkle_root_from_path(&leaves[index], n, n, &path, &root) == APM_ERR_VERIFY;
	CHECK(refused);
}

/* A path per leaf, the paths of all leaves at once, and the root that each leads to. */
static void
test_paths(void)
{
	static ApmPath all[MANY];
	ApmPath path;
	ApmDigest root;

	for (size_t n = 1; n <= MANY; n++)
	{
		CHECK_OK(apm_merkle_all_paths(leaves, n, all, &root));
		CHECK(memcmp(&root, &roots[n], sizeof(root)) == 0);
		for (size_t i = 0; i < n; i++)
		{
			CHECK_OK(apm_merkle_path(leaves, n, i, &path));
			CHECK(path.count == all[i].count &&
				  memcmp(path.nodes, all[i].nodes, path.count * sizeof(ApmDigest)) == 0);
			CHECK_OK(apm_merkle_root_from_path(&leaves[i], i, n, &path, &root));
			CHECK(memcmp(&root, &roots[n], sizeof(root)) == 0);
			if (n <= 17)
				refuse_wrong_paths(i, n, &path);
		}
	}
	CHECK_STATUS(apm_merkle_path(leaves, 5, 5, &path), APM_ERR_RANGE);
	CHECK_STATUS(apm_merkle_path(leaves, 0, 0, &path), APM_ERR_RANGE);
	CHECK_OK(apm_merkle_all_paths(NULL, 0, NULL, &root));
	CHECK(memcmp(&root, &roots[0], sizeof(root)) == 0);
	path.count = APM_MERKLE_MAX_PATH + 1;
	CHECK_STATUS(apm_merkle_root_from_path(&leaves[0], 0, 1, &path, &root), APM_ERR_VERIFY);
	path.count = 0;
	CHECK_STATUS(apm_merkle_root_from_path(&leaves[0], 0, 0, &path, &root), APM_ERR_VERIFY);
}

/* Doubling the last leaf must not lead to the same root (CVE-2012-2459). */
static void
test_no_doubled_leaf(void)
{
	ApmDigest doubled[4] = {leaves[0], leaves[1], leaves[2], leaves[2]};
	ApmDigest root;

	CHECK_OK(apm_merkle_root(doubled, 4, &root));
	CHECK(memcmp(&root, &roots[3], sizeof(root)) != 0);
}

static bool
consistent(size_t m, size_t n, const ApmPath *path)
{
	return apm_merkle_verify_consistency(m, n, &roots[m], &roots[n], path) == APM_OK;
}

static void
test_consistency(void)
{
	ApmPath path;
	ApmDigest wrong;

	for (size_t n = 0; n <= MANY; n++)
		for (size_t m = 0; m <= n; m++)
		{
			bool refused = true;

			CHECK_OK(apm_merkle_consistency(leaves, m, n, &path));
			CHECK(consistent(m, n, &path));
			for (uint32_t i = 0; i < path.count; i++)
			{
				path.nodes[i].bytes[31] ^= 0x80;
				refused = refused && !consistent(m, n, &path);
				path.nodes[i].bytes[31] ^= 0x80;
			}
			wrong = roots[m];
			wrong.bytes[0] ^= 0x01;
			refused =
				refused && apm_merkle_verify_consistency(m, n, &wrong, &roots[n], &path) == APM_ERR_VERIFY;
			wrong = roots[n];
			wrong.bytes[0] ^= 0x01;
			/* of a beginning from nothing there is nothing to prove */
			refused = refused && (m == 0 || apm_merkle_verify_consistency(m, n, &roots[m], &wrong, &path) ==
												APM_ERR_VERIFY);
			path.nodes[path.count] = roots[n];
			path.count++;
			refused = refused && !consistent(m, n, &path);
			if (path.count > 1)
			{
				path.count -= 2;
				refused = refused && !consistent(m, n, &path);
			}
			CHECK(refused);
		}
	CHECK_STATUS(apm_merkle_consistency(leaves, 3, 2, &path), APM_ERR_RANGE);
	path.count = 0;
	CHECK(!consistent(3, 2, &path));
	path.count = APM_MERKLE_MAX_PATH + 1;
	CHECK(!consistent(2, 3, &path));
}

static void
test_frontier(void)
{
	ApmFrontier f = {0};
	ApmFrontier read;
	ApmDigest root;
	ApmBuf buf = {0};

	for (size_t n = 0; n <= MANY; n++)
	{
		CHECK_OK(apm_frontier_root(&f, &root));
		CHECK(f.size == n && memcmp(&root, &roots[n], sizeof(root)) == 0);
		apm_buf_reset(&buf);
		apm_frontier_encode(&f, &buf);
		CHECK_OK(apm_buf_status(&buf));
		CHECK_OK(apm_frontier_decode(APM_SLICE(buf.data, buf.len), &read));
		CHECK_OK(apm_frontier_root(&read, &root));
		CHECK(read.size == n && memcmp(&root, &roots[n], sizeof(root)) == 0);
		CHECK_STATUS(apm_frontier_decode(APM_SLICE(buf.data, buf.len - 1), &read), APM_ERR_FORMAT);
		apm_put_u8(&buf, 0);
		CHECK_STATUS(apm_frontier_decode(APM_SLICE(buf.data, buf.len), &read), APM_ERR_FORMAT);
		buf.data[0] ^= 0x01;
		CHECK_STATUS(apm_frontier_decode(APM_SLICE(buf.data, buf.len - 1), &read), APM_ERR_FORMAT);
		if (n < MANY)
			CHECK_OK(apm_frontier_append(&f, &leaves[n]));
	}
	apm_buf_reset(&buf);

	/* the largest sizes keep within the peaks */
	memset(&f, 0, sizeof(f));
	f.size = UINT64_MAX - 1;
	CHECK_OK(apm_frontier_append(&f, &leaves[0]));
	CHECK_OK(apm_frontier_root(&f, &root));
	CHECK_STATUS(apm_frontier_append(&f, &leaves[0]), APM_ERR_RANGE);
	CHECK(f.size == UINT64_MAX);
}

static ApmStatus
all_paths_body(void)
{
	static ApmPath all[5];
	ApmDigest root;

	return apm_merkle_all_paths(leaves, 5, all, &root);
}

int
main(void)
{
	test_ct_tree();
	make_many_leaves();
	test_paths();
	test_no_doubled_leaf();
	test_consistency();
	test_frontier();
	CHECK_EACH_ALLOCATION(all_paths_body);
	return check_summary();
}
