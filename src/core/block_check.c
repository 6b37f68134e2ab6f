/*
 * block_check.c
 *	  May this block follow that one?
 *
 * The questions are asked in the order of ApmBlockFault, cheap ones before the signature,
 * and the first that fails is the answer.  A header that cannot be read at all is
 * APM_BLOCK_FORMAT before any of them.
 */
#include "contract_state.h"

#include <string.h>

static const char *const fault_names[] = {[APM_BLOCK_OK] = "ok",
										  [APM_BLOCK_CHAIN] = "chain",
										  [APM_BLOCK_HEIGHT] = "height",
										  [APM_BLOCK_LINK] = "link",
										  [APM_BLOCK_HISTORY] = "history",
										  [APM_BLOCK_TIME] = "time",
										  [APM_BLOCK_DIFFICULTY] = "difficulty",
										  [APM_BLOCK_WORK] = "work",
										  [APM_BLOCK_ROOT] = "root",
										  [APM_BLOCK_COUNT] = "count",
										  [APM_BLOCK_CONTRACT] = "contract",
										  [APM_BLOCK_SIGNER] = "signer",
										  [APM_BLOCK_SIGNATURE] = "signature",
										  [APM_BLOCK_FORMAT] = "format",
										  [APM_BLOCK_UNDECIDED] = "undecided"};

const char *
apm_block_fault_name(ApmBlockFault fault)
{
	if ((size_t) fault >= sizeof(fault_names) / sizeof(fault_names[0]))
		return NULL;
	return fault_names[fault];
}

static bool
same(const ApmDigest *a, const ApmDigest *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

/* Chain, height and link.  Genesis stands at height 0 and links to zeros. */
static ApmBlockFault
check_link(const ApmContractState *s, const ApmHeader *h, const ApmHeader *parent,
		   const ApmDigest *parent_hash)
{
	static const ApmDigest zeros;

	if (!same(&h->chain, &s->chain) || (parent != NULL && !same(&parent->chain, &s->chain)))
		return APM_BLOCK_CHAIN;
	if (h->height != (parent != NULL ? parent->height + 1 : 0))
		return APM_BLOCK_HEIGHT;
	if (parent == NULL)
		return same(&h->previous, &zeros) ? APM_BLOCK_OK : APM_BLOCK_LINK;
	return parent_hash != NULL && same(&h->previous, parent_hash) ? APM_BLOCK_OK : APM_BLOCK_LINK;
}

static ApmBlockFault
check_history(const ApmHeader *h, const ApmFrontier *frontier)
{
	static const ApmFrontier empty;
	ApmDigest root;

	if (frontier == NULL)
		frontier = &empty;
	if (frontier->size != h->height)
		return APM_BLOCK_HISTORY;
	if (apm_frontier_root(frontier, &root) != APM_OK)
		return APM_BLOCK_UNDECIDED;
	return same(&h->history, &root) ? APM_BLOCK_OK : APM_BLOCK_HISTORY;
}

/* A chain without a difficulty policy accepts no block: its genesis sets one. */
static ApmBlockFault
check_work(const ApmContractState *s, const ApmHeader *h, const ApmDigest *hash)
{
	if (h->bits != apm_contract_policy(s, APM_POLICY_DIFFICULTY) || h->bits > APM_MAX_DIFFICULTY)
		return APM_BLOCK_DIFFICULTY;
	return apm_hash_meets(hash, h->bits) ? APM_BLOCK_OK : APM_BLOCK_WORK;
}

static ApmBlockFault
check_signature(const ApmContractState *s, const ApmHeader *h, const ApmDigest *hash, const ApmSignature *sig)
{
	const ApmEcKey *node = apm_contract_block_signer(s, &h->node, h->height);
	ApmStatus status;

	if (node == NULL)
		return APM_BLOCK_SIGNER;
	if (sig == NULL)
		return APM_BLOCK_OK;
	status = apm_block_verify(node, hash, sig);
	if (status == APM_ERR_MEMORY || status == APM_ERR_CRYPTO)
		return APM_BLOCK_UNDECIDED;
	return status == APM_OK ? APM_BLOCK_OK : APM_BLOCK_SIGNATURE;
}

ApmBlockFault
apm_block_check(const ApmContractState *s, const uint8_t header[APM_HEADER_LEN], const ApmHeader *parent,
				const ApmDigest *parent_hash, const ApmFrontier *frontier, const ApmDigest *contract,
				const ApmSignature *sig)
{
	ApmHeader h;
	ApmDigest hash;
	ApmBlockFault fault;

	if (apm_header_decode(APM_SLICE(header, APM_HEADER_LEN), &h) != APM_OK)
		return APM_BLOCK_FORMAT;
	if (apm_header_hash(header, &hash) != APM_OK)
		return APM_BLOCK_UNDECIDED;

	fault = check_link(s, &h, parent, parent_hash);
	if (fault == APM_BLOCK_OK)
		fault = check_history(&h, frontier);
	if (fault == APM_BLOCK_OK && parent != NULL && h.time_us < parent->time_us)
		fault = APM_BLOCK_TIME;
	if (fault == APM_BLOCK_OK)
		fault = check_work(s, &h, &hash);
	if (fault == APM_BLOCK_OK && h.count > APM_BLOCK_MAX_LEAVES)
		fault = APM_BLOCK_COUNT;
	if (fault == APM_BLOCK_OK && contract != NULL && !same(&h.contract, contract))
		fault = APM_BLOCK_CONTRACT;
	if (fault == APM_BLOCK_OK)
		fault = check_signature(s, &h, &hash, sig);
	return fault;
}

ApmBlockFault
apm_block_check_entries(const ApmHeader *h, const ApmEntry *entries, size_t n)
{
	ApmDigest root;

	/* the count is asked first: the root of other than these many is another question */
	if (h->count != n || n > APM_BLOCK_MAX_LEAVES)
		return APM_BLOCK_COUNT;
	if (apm_entries_root(entries, n, &root) != APM_OK)
		return APM_BLOCK_UNDECIDED;
	return same(&h->root, &root) ? APM_BLOCK_OK : APM_BLOCK_ROOT;
}
