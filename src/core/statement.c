/*
 * statement.c
 *	  The origin's signature over the transactions of a statement.
 *
 * One signature stands for all transactions of a statement: it covers the root of the tree over
 * their leaves.  What it costs to check a transaction is then the way from its leaf up to the root, and
 * neighbours share most of their ways.  So of the last statements whose signatures were good the way is remembered that
 * led there; the next leaf of the same statement is followed only up to where its way joins that, and its proof must
 * be the same from there on.  Nothing that failed leaves a trace.
 */
#include "transaction.h"

#include <string.h>

#include "digest.h"

#define STATEMENTS 64
#define LEVELS 33 /* of a tree of 2^32 leaves */

/*
 * The way of one leaf to the root.  A node is known by its level and its number in that; a node that has no sibling is
 * that of the level above as well, and only there.
 */
typedef struct Way
{
	uint64_t levels; /* those where it has a node with a sibling, as bits */
	uint32_t at[LEVELS];
	ApmDigest hash[LEVELS];
	ApmDigest sibling[LEVELS];
} Way;

/* A good signature, and the last way that led to what it signs. */
typedef struct Statement
{
	bool used;
	ApmDigest key; /* its id */
	ApmSignature signature;
	uint32_t size;
	ApmDigest root;
	Way way;
} Statement;

static Statement statements[STATEMENTS];

/*
 * What is signed for a statement: SHA-256("apm origin\0" || u32 size || root).  The size is in it,
 * because a path can lead to the same root in trees of several sizes.
 */
static ApmStatus
origin_message(const ApmDigest *root, uint32_t size, ApmDigest *out)
{
	static const char label[] = "apm origin";
	uint8_t number[4] = {size >> 24, size >> 16, size >> 8, size};
	ApmSlice parts[] = {APM_SLICE(label, sizeof(label)), APM_SLICE(number, sizeof(number)),
						APM_SLICE(root->bytes, APM_DIGEST_LEN)};

	return apm_sha256_parts(parts, 3, out);
}

ApmStatus
apm_origin_sign(const ApmEcKey *key, const ApmDigest *root, uint32_t size, ApmSignature *out)
{
	ApmDigest message;
	ApmStatus status = origin_message(root, size, &message);

	return status == APM_OK ? apm_sign(key, &message, out) : status;
}

static bool
same(const ApmDigest *a, const ApmDigest *b)
{
	return memcmp(a, b, sizeof(ApmDigest)) == 0;
}

/* Is this node on the known way, and does the rest of the path follow it to the root? */
static bool
joins(const Way *known, int level, uint32_t at, const ApmDigest *hash, const ApmPath *path, uint32_t used)
{
	if ((known->levels >> level & 1) == 0 || known->at[level] != at || !same(&known->hash[level], hash))
		return false;
	for (; level < LEVELS; level++)
	{
		if ((known->levels >> level & 1) == 0)
			continue;
		if (used == path->count || !same(&known->sibling[level], &path->nodes[used]))
			return false;
		used++;
	}
	return used == path->count;
}

/* The known way from that level on is the rest of this one. */
static void
join(Way *known, int level, const Way *way)
{
	uint64_t below = ((uint64_t) 1 << level) - 1;

	for (int i = 0; i < level; i++)
	{
		known->at[i] = way->at[i];
		known->hash[i] = way->hash[i];
		known->sibling[i] = way->sibling[i];
	}
	known->levels = (known->levels & ~below) | (way->levels & below);
}

/*
 * RFC 9162, 2.1.3.2, up to where the way joins the known one (NULL: there is none), which then has this leaf's;
 * else to the root.  APM_ERR_VERIFY when the path has a wrong length.
 */
static ApmStatus
climb(const ApmDigest *leaf, const ApmOriginProof *proof, Way *known, Way *way, ApmDigest *root, bool *joined)
{
	uint32_t at = proof->index;
	uint32_t last = proof->size - 1;
	uint32_t used = 0;
	int level = 0;

	*joined = false;
	*root = *leaf;
	way->levels = 0;
	if (proof->index >= proof->size || proof->path.count >= LEVELS)
		return APM_ERR_VERIFY;
	while (last != 0)
	{
		bool right = (at & 1) != 0;
		ApmStatus status;

		if (!right && at == last) /* has no sibling */
		{
			at >>= 1;
			last >>= 1;
			level++;
			continue;
		}
		if (known != NULL && joins(known, level, at, root, &proof->path, used))
		{
			join(known, level, way);
			*joined = true;
			return APM_OK;
		}
		if (used == proof->path.count)
			return APM_ERR_VERIFY;
		way->levels |= (uint64_t) 1 << level;
		way->at[level] = at;
		way->hash[level] = *root;
		way->sibling[level] = proof->path.nodes[used++];
		status = right ? apm_merkle_node(&way->sibling[level], root, root)
					   : apm_merkle_node(root, &way->sibling[level], root);
		if (status != APM_OK)
			return status;
		at >>= 1;
		last >>= 1;
		level++;
	}
	return used == proof->path.count ? APM_OK : APM_ERR_VERIFY;
}

ApmStatus
apm_origin_verify(const ApmEcKey *key, const ApmDigest *leaf, const ApmOriginProof *proof)
{
	Statement *place = &statements[proof->signature.bytes[APM_SIGNATURE_LEN - 1] % STATEMENTS];
	ApmDigest message;
	ApmDigest root;
	ApmDigest id;
	ApmStatus status;
	bool joined;
	bool known;
	Way way;

	apm_ec_id(key, &id);
	known = place->used && same(&place->key, &id) && place->size == proof->size &&
			memcmp(&place->signature, &proof->signature, sizeof(ApmSignature)) == 0;
	status = climb(leaf, proof, known ? &place->way : NULL, &way, &root, &joined);
	if (status != APM_OK || joined)
		return status;
	if (!known || !same(&place->root, &root))
	{
		status = origin_message(&root, proof->size, &message);
		if (status == APM_OK)
			status = apm_verify_signature(key, &message, &proof->signature);
		if (status != APM_OK)
			return status;
	}
	*place = (Statement){
		.used = true, .key = id, .signature = proof->signature, .size = proof->size, .root = root};
	join(&place->way, LEVELS, &way);
	return APM_OK;
}
