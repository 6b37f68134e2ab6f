/*
 * test_block_check.c
 *	  A block that may follow its parent, and each fault in turn in one that may not.
 */
#include "core/contract.h"

#include "core/pow.h"
#include "sample.h"

#define CHAIN_BITS 4

/* A genesis block and a block on it, with what is needed to check them. */
typedef struct Chain
{
	ApmEcKey *node;
	ApmContractState *state;
	ApmFrontier frontier; /* of the genesis block */
	ApmDigest contract;
	ApmHeader genesis;
	ApmDigest genesis_hash;
	ApmHeader block;
} Chain;

static const ApmItem difficulty = {
	.type = APM_ITEM_POLICY, .key = APM_POLICY_DIFFICULTY, .value = CHAIN_BITS};

/* Writes h into bytes with a nonce that meets its bits (as far as a search goes), and signs it. */
static void
mine(const Chain *c, const ApmHeader *h, uint8_t bytes[APM_HEADER_LEN], ApmDigest *hash, ApmSignature *sig)
{
	ApmHeader complete = *h;

	apm_header_encode(&complete, bytes);
	CHECK_OK(apm_pow_search(bytes, h->bits < 16 ? h->bits : 0, 0, 1 << 20, &complete.nonce, hash));
	apm_header_encode(&complete, bytes);
	CHECK_OK(apm_block_sign(c->node, hash, sig));
}

static void
chain_open(Chain *c)
{
	static const ApmItem difficulty = {
		.type = APM_ITEM_POLICY, .key = APM_POLICY_DIFFICULTY, .value = CHAIN_BITS};
	uint8_t bytes[APM_HEADER_LEN];
	ApmSignature sig;
	ApmDigest chain = sample_digest(0xc0);
	ApmSlice hash_of_genesis = APM_SLICE(c->genesis_hash.bytes, APM_DIGEST_LEN);
	ApmDigest leaf;

	memset(c, 0, sizeof(*c));
	c->node = sample_key();
	CHECK_OK(apm_contract_new(&chain, &c->state));
	load_member(c->state, APM_MEMBER_NODE, c->node);
	CHECK_OK(apm_contract_load_item(c->state, &difficulty, 0));
	CHECK_OK(apm_contract_digest(c->state, &c->contract));

	c->genesis.chain = chain;
	c->genesis.time_us = SAMPLE_TIME;
	c->genesis.bits = CHAIN_BITS;
	c->genesis.contract = c->contract;
	apm_ec_id(c->node, &c->genesis.node);
	CHECK_OK(apm_entries_root(NULL, 0, &c->genesis.root));
	CHECK_OK(apm_merkle_root(NULL, 0, &c->genesis.history));
	mine(c, &c->genesis, bytes, &c->genesis_hash, &sig);
	CHECK(apm_block_check(c->state, bytes, NULL, NULL, NULL, &c->contract, &sig) == APM_BLOCK_OK);
	CHECK_OK(apm_merkle_leaf(&hash_of_genesis, 1, &leaf));
	CHECK_OK(apm_frontier_append(&c->frontier, &leaf));

	c->block = c->genesis;
	c->block.height = 1;
	c->block.previous = c->genesis_hash;
	c->block.time_us++;
	CHECK_OK(apm_frontier_root(&c->frontier, &c->block.history));
}

static void
chain_close(Chain *c)
{
	apm_contract_free(c->state);
	apm_ec_free(c->node);
}

/* The fault of h, mined and signed as well as it can be, as a block on the genesis block. */
static ApmBlockFault
fault_of(const Chain *c, const ApmHeader *h)
{
	uint8_t bytes[APM_HEADER_LEN];
	ApmDigest hash;
	ApmSignature sig;

	mine(c, h, bytes, &hash, &sig);
	return apm_block_check(c->state, bytes, &c->genesis, &c->genesis_hash, &c->frontier, &c->contract, &sig);
}

#define CHECK_FAULT(chain, change, fault)        \
	do                                           \
	{                                            \
		ApmHeader h = (chain)->block;            \
		change;                                  \
		CHECK(fault_of((chain), &h) == (fault)); \
	} while (0)

static void
test_faults_of_header(void)
{
	Chain c;

	chain_open(&c);
	CHECK_FAULT(&c, (void) h, APM_BLOCK_OK);
	CHECK_FAULT(&c, h.chain.bytes[31] ^= 1, APM_BLOCK_CHAIN);
	CHECK_FAULT(&c, h.height = 0, APM_BLOCK_HEIGHT);
	CHECK_FAULT(&c, h.height = 2, APM_BLOCK_HEIGHT);
	CHECK_FAULT(&c, h.height = INT64_MAX, APM_BLOCK_HEIGHT);
	CHECK_FAULT(&c, h.height = UINT64_MAX, APM_BLOCK_FORMAT);
	CHECK_FAULT(&c, h.previous.bytes[0] ^= 1, APM_BLOCK_LINK);
	CHECK_FAULT(&c, h.history.bytes[0] ^= 1, APM_BLOCK_HISTORY);
	CHECK_FAULT(&c, h.time_us = SAMPLE_TIME - 1, APM_BLOCK_TIME);
	CHECK_FAULT(&c, h.time_us = SAMPLE_TIME, APM_BLOCK_OK);
	CHECK_FAULT(&c, h.time_us = 0, APM_BLOCK_TIME);
	CHECK_FAULT(&c, h.time_us = UINT64_MAX, APM_BLOCK_FORMAT);
	CHECK_FAULT(&c, h.bits = CHAIN_BITS - 1, APM_BLOCK_DIFFICULTY);
	CHECK_FAULT(&c, h.bits = CHAIN_BITS + 1, APM_BLOCK_DIFFICULTY);
	CHECK_FAULT(&c, h.bits = UINT32_MAX, APM_BLOCK_DIFFICULTY);
	CHECK_FAULT(&c, h.count = APM_BLOCK_MAX_LEAVES + 1, APM_BLOCK_COUNT);
	CHECK_FAULT(&c, h.contract.bytes[0] ^= 1, APM_BLOCK_CONTRACT);
	CHECK_FAULT(&c, h.node.bytes[0] ^= 1, APM_BLOCK_SIGNER);
	chain_close(&c);
}

/* Faults that lie beside the header: its work, its signature, what it is checked against. */
static void
test_faults_beside_header(void)
{
	Chain c;
	uint8_t bytes[APM_HEADER_LEN];
	ApmDigest hash;
	ApmSignature sig;
	ApmFrontier empty = {0};
	ApmFrontier longer;
	ApmDigest any_leaf = sample_digest(0);
	ApmHeader stranger;

	chain_open(&c);
	longer = c.frontier;
	CHECK_OK(apm_frontier_append(&longer, &any_leaf));
	CHECK_OK(apm_frontier_root(&longer, &c.block.history));
	mine(&c, &c.block, bytes, &hash, &sig);
	CHECK(apm_block_check(c.state, bytes, &c.genesis, &c.genesis_hash, &longer, NULL, &sig) ==
		  APM_BLOCK_HISTORY);
	CHECK_OK(apm_frontier_root(&c.frontier, &c.block.history));
	mine(&c, &c.block, bytes, &hash, &sig);
	CHECK(apm_block_check(c.state, bytes, NULL, NULL, NULL, &c.contract, &sig) == APM_BLOCK_HEIGHT);
	CHECK(apm_block_check(c.state, bytes, &c.genesis, NULL, &c.frontier, &c.contract, &sig) ==
		  APM_BLOCK_LINK);
	CHECK(apm_block_check(c.state, bytes, &c.genesis, &c.genesis_hash, &empty, NULL, &sig) ==
		  APM_BLOCK_HISTORY);
	CHECK(apm_block_check(c.state, bytes, &c.genesis, &c.genesis_hash, NULL, NULL, &sig) ==
		  APM_BLOCK_HISTORY);
	stranger = c.genesis;
	stranger.chain.bytes[0] ^= 1;
	CHECK(apm_block_check(c.state, bytes, &stranger, &c.genesis_hash, &c.frontier, NULL, &sig) ==
		  APM_BLOCK_CHAIN);
	CHECK(apm_block_check(c.state, bytes, &c.genesis, &c.genesis_hash, &c.frontier, NULL, NULL) ==
		  APM_BLOCK_OK);
	sig.bytes[63] ^= 1;
	CHECK(apm_block_check(c.state, bytes, &c.genesis, &c.genesis_hash, &c.frontier, NULL, &sig) ==
		  APM_BLOCK_SIGNATURE);

	/* one more than the first nonce that works: go on until one does not */
	do
	{
		ApmHeader h;

		CHECK_OK(apm_header_decode(APM_SLICE(bytes, sizeof(bytes)), &h));
		h.nonce++;
		apm_header_encode(&h, bytes);
		CHECK_OK(apm_header_hash(bytes, &hash));
	} while (apm_hash_meets(&hash, CHAIN_BITS));
	CHECK_OK(apm_block_sign(c.node, &hash, &sig));
	CHECK(apm_block_check(c.state, bytes, &c.genesis, &c.genesis_hash, &c.frontier, NULL, &sig) ==
		  APM_BLOCK_WORK);
	bytes[0] ^= 1;
	CHECK(apm_block_check(c.state, bytes, &c.genesis, &c.genesis_hash, &c.frontier, NULL, &sig) ==
		  APM_BLOCK_FORMAT);
	chain_close(&c);
}

/* Genesis links to zeros, has no history, and needs a difficulty policy to be measured by. */
static void
test_faults_of_genesis(void)
{
	Chain c;
	uint8_t bytes[APM_HEADER_LEN];
	ApmDigest hash;
	ApmSignature sig;
	ApmHeader h;
	ApmContractState *bare;

	chain_open(&c);
	h = c.genesis;
	h.previous.bytes[0] = 1;
	mine(&c, &h, bytes, &hash, &sig);
	CHECK(apm_block_check(c.state, bytes, NULL, NULL, NULL, NULL, &sig) == APM_BLOCK_LINK);
	h = c.genesis;
	h.history.bytes[0] ^= 1;
	mine(&c, &h, bytes, &hash, &sig);
	CHECK(apm_block_check(c.state, bytes, NULL, NULL, NULL, NULL, &sig) == APM_BLOCK_HISTORY);
	mine(&c, &c.genesis, bytes, &hash, &sig);
	CHECK_OK(apm_contract_new(&c.genesis.chain, &bare));
	CHECK(apm_block_check(bare, bytes, NULL, NULL, NULL, NULL, &sig) == APM_BLOCK_DIFFICULTY);
	CHECK_OK(apm_contract_load_item(bare, &difficulty, 0));
	CHECK(apm_block_check(bare, bytes, NULL, NULL, NULL, NULL, &sig) == APM_BLOCK_SIGNER);
	apm_contract_free(bare);
	chain_close(&c);
}

/* Another count, another verdict, another Tid of a refused one: each is another block. */
static void
test_faults_of_entries(void)
{
	ApmEntry entries[5];
	ApmHeader h;

	memset(&h, 0, sizeof(h));
	memset(entries, 0, sizeof(entries));
	for (uint8_t i = 0; i < 5; i++)
	{
		entries[i].tid = sample_uuid(i);
		entries[i].kind = APM_KIND_PRIMARY;
		entries[i].leaf = sample_digest(i);
	}
	entries[2].rule = APM_RULE_TIME;
	h.count = 5;
	CHECK_OK(apm_entries_root(entries, 5, &h.root));
	CHECK(apm_block_check_entries(&h, entries, 5) == APM_BLOCK_OK);
	CHECK(apm_block_check_entries(&h, entries, 4) == APM_BLOCK_COUNT);
	CHECK(apm_block_check_entries(&h, entries, APM_BLOCK_MAX_LEAVES + 1) == APM_BLOCK_COUNT);
	entries[0].rule = APM_RULE_FRESH;
	CHECK(apm_block_check_entries(&h, entries, 5) == APM_BLOCK_ROOT);
	entries[0].rule = APM_RULE_NONE;
	entries[2].rule = APM_RULE_NONE;
	CHECK(apm_block_check_entries(&h, entries, 5) == APM_BLOCK_ROOT);
	entries[2].rule = APM_RULE_TIME;
	entries[2].tid.bytes[15] ^= 1;
	CHECK(apm_block_check_entries(&h, entries, 5) == APM_BLOCK_ROOT);
	entries[2].tid.bytes[15] ^= 1;
	CHECK(apm_block_check_entries(&h, entries, 5) == APM_BLOCK_OK);
}

static void
test_fault_names(void)
{
	CHECK(strcmp(apm_block_fault_name(APM_BLOCK_LINK), "link") == 0);
	CHECK(strcmp(apm_block_fault_name(APM_BLOCK_WORK), "work") == 0);
	for (int fault = APM_BLOCK_OK; fault <= APM_BLOCK_UNDECIDED; fault++)
		CHECK(apm_block_fault_name((ApmBlockFault) fault) != NULL);
	CHECK(apm_block_fault_name((ApmBlockFault) (APM_BLOCK_UNDECIDED + 1)) == NULL);
}

int
main(void)
{
	test_faults_of_header();
	test_faults_beside_header();
	test_faults_of_genesis();
	test_faults_of_entries();
	test_fault_names();
	return check_summary();
}
