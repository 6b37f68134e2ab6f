/*
 * test_block.c
 *	  A header's one encoding and its hash, a block's entries, and the check of a block
 *	  against its parent with each fault in turn.
 *
 * The known answers were computed with Python's struct and hashlib alone:
 *
 *	header = (b'B\1' + b'\1'*32 + struct.pack('>Q', 7) + b'\2'*32 + b'\3'*32
 *			  + struct.pack('>I', 5) + b'\4'*32 + b'\5'*32
 *			  + struct.pack('>QI', 1700000000123456, 16) + b'\6'*32
 *			  + struct.pack('>Q', 0x0123456789abcdef))
 *	hash = hashlib.sha256(hashlib.sha256(header).digest()).digest()
 *	refused = hashlib.sha256(b'\0apm refused' + b'\x11'*16 + b'\x22'*32
 *							 + struct.pack('>H', 6)).digest()
 */
#include "core/block.h"

#include "core/pow.h"
#include "sample.h"

static ApmHeader
sample_header(void)
{
	ApmHeader	h = {
		.chain = sample_digest(1),
		.height = 7,
		.previous = sample_digest(2),
		.root = sample_digest(3),
		.count = 5,
		.history = sample_digest(4),
		.contract = sample_digest(5),
		.time_us = SAMPLE_TIME,
		.bits = 16,
		.node = sample_digest(6),
		.nonce = UINT64_C(0x0123456789abcdef)
	};

	return h;
}

static void
test_known_answer(void)
{
	ApmHeader	h = sample_header();
	ApmEntry	e = {.tid = sample_uuid(0x11), .kind = APM_KIND_PRIMARY, .leaf = sample_digest(0x22)};
	uint8_t		bytes[APM_HEADER_LEN];
	ApmDigest	digest;

	apm_header_encode(&h, bytes);
	CHECK_HEX(bytes, sizeof(bytes),
			  "4201010101010101010101010101010101010101010101010101010101010101"
			  "0101000000000000000702020202020202020202020202020202020202020202"
			  "0202020202020202020203030303030303030303030303030303030303030303"
			  "0303030303030303030300000005040404040404040404040404040404040404"
			  "0404040404040404040404040404050505050505050505050505050505050505"
			  "050505050505050505050505050500060a241820224000000010060606060606"
			  "06060606060606060606060606060606060606060606060606060123456789ab"
			  "cdef");
	CHECK_OK(apm_header_hash(bytes, &digest));
	CHECK_HEX(digest.bytes, APM_DIGEST_LEN, "5a55f87da5612396a31477806c4dbfe5e473cd082430e9e4e53a3466d2b95dd2");

	CHECK_OK(apm_entry_hash(&e, &digest));
	CHECK(memcmp(&digest, &e.leaf, sizeof(digest)) == 0);
	e.rule = APM_RULE_PATIENT;
	CHECK_OK(apm_entry_hash(&e, &digest));
	CHECK_HEX(digest.bytes, APM_DIGEST_LEN, "633a48d21af682d5d746d6c45c9703ed302cd20a1dc6b8ae6c51a6beadb21127");
}

/* What is decoded encodes to the same bytes, whatever bit was changed; other lengths are refused. */
static void
test_header_encoding(void)
{
	ApmHeader	h = sample_header();
	ApmHeader	back;
	uint8_t		bytes[APM_HEADER_LEN + 1] = {0};
	uint8_t		again[APM_HEADER_LEN];
	ApmDigest	hash;
	ApmDigest	changed;

	apm_header_encode(&h, bytes);
	CHECK_OK(apm_header_hash(bytes, &hash));
	for (size_t len = 0; len <= sizeof(bytes); len++)
		CHECK((apm_header_decode(APM_SLICE(bytes, len), &back) == APM_OK) == (len == APM_HEADER_LEN));
	for (size_t bit = 0; bit < APM_HEADER_LEN * 8; bit++)
	{
		bytes[bit / 8] ^= (uint8_t) (1 << bit % 8);
		CHECK_OK(apm_header_hash(bytes, &changed));
		CHECK(memcmp(&changed, &hash, sizeof(hash)) != 0);
		/* tag, version, and the signs of height and time */
		if (bit / 8 < 2 || bit == 34 * 8 + 7 || bit == 174 * 8 + 7)
			CHECK_STATUS(apm_header_decode(APM_SLICE(bytes, APM_HEADER_LEN), &back), APM_ERR_FORMAT);
		else
		{
			CHECK_OK(apm_header_decode(APM_SLICE(bytes, APM_HEADER_LEN), &back));
			apm_header_encode(&back, again);
			CHECK(memcmp(again, bytes, APM_HEADER_LEN) == 0);
		}
		bytes[bit / 8] ^= (uint8_t) (1 << bit % 8);
	}

	h.height = UINT64_C(1) << 63;
	apm_header_encode(&h, bytes);
	CHECK_STATUS(apm_header_decode(APM_SLICE(bytes, APM_HEADER_LEN), &back), APM_ERR_FORMAT);
	h = sample_header();
	h.time_us = UINT64_C(1) << 63;
	apm_header_encode(&h, bytes);
	CHECK_STATUS(apm_header_decode(APM_SLICE(bytes, APM_HEADER_LEN), &back), APM_ERR_FORMAT);
}

/* A hash whose first set bit is bit n meets n bits and no more. */
static void
test_difficulty(void)
{
	ApmDigest	zeros = sample_digest(0);

	for (uint32_t n = 0; n < 256; n++)
	{
		ApmDigest	d = sample_digest(0);

		d.bytes[n / 8] = (uint8_t) (0x80 >> n % 8);
		for (uint32_t bits = 0; bits <= 260; bits++)
			if (apm_hash_meets(&d, bits) != (bits <= n))
				CHECK(!"a wrong count of leading zeros");
	}
	CHECK(apm_hash_meets(&zeros, 256));
	CHECK(!apm_hash_meets(&zeros, 257));
}

static void
fill_entries(ApmEntry *entries, size_t n)
{
	for (size_t i = 0; i < n; i++)
	{
		entries[i].tid = sample_uuid((uint8_t) i);
		entries[i].kind = APM_KIND_PRIMARY;
		entries[i].rule = i % 3 == 2 ? APM_RULE_TIME : APM_RULE_NONE;
		entries[i].leaf = sample_digest((uint8_t) (i + 1));
	}
}

static void
test_entries(void)
{
	static ApmEntry entries[APM_BLOCK_MAX_LEAVES + 1];
	static const size_t sizes[] = {0, 1, 5, APM_BLOCK_MAX_LEAVES};
	ApmBuf		buf = {0};
	ApmEntry   *back;
	size_t		n;

	fill_entries(entries, APM_BLOCK_MAX_LEAVES + 1);
	for (size_t i = 0; i < 4; i++)
	{
		ApmBuf		again = {0};

		apm_entries_encode(entries, sizes[i], &buf);
		CHECK_OK(apm_entries_decode(APM_SLICE(buf.data, buf.len), &back, &n));
		CHECK(n == sizes[i] && (n > 0) == (back != NULL));
		apm_entries_encode(back, n, &again);
		CHECK(again.len == buf.len && memcmp(again.data, buf.data, buf.len) == 0);
		apm_core_free(back);
		CHECK_STATUS(apm_entries_decode(APM_SLICE(buf.data, buf.len - 1), &back, &n), APM_ERR_FORMAT);
		apm_put_u8(&buf, 0);
		CHECK_STATUS(apm_entries_decode(APM_SLICE(buf.data, buf.len), &back, &n), APM_ERR_FORMAT);
		apm_buf_reset(&buf);
		apm_buf_reset(&again);
	}
	apm_entries_encode(entries, APM_BLOCK_MAX_LEAVES + 1, &buf);
	CHECK(buf.failed);
	apm_buf_reset(&buf);

	/* a count of 4 billion with nothing behind it allocates nothing */
	apm_put_u8(&buf, 'L');
	apm_put_u8(&buf, 1);
	apm_put_u32(&buf, UINT32_MAX);
	CHECK_STATUS(apm_entries_decode(APM_SLICE(buf.data, buf.len), &back, &n), APM_ERR_FORMAT);
	apm_buf_reset(&buf);
}

/* The root is that of the leaves as they stand in the tree, and tells valid from refused. */
static void
test_root(void)
{
	ApmEntry	entries[9];
	ApmDigest	hashes[9];
	ApmDigest	root;
	ApmDigest	plain;
	ApmHeader	h = sample_header();

	fill_entries(entries, 9);
	for (size_t i = 0; i < 9; i++)
		CHECK_OK(apm_entry_hash(&entries[i], &hashes[i]));
	CHECK_OK(apm_merkle_root(hashes, 9, &plain));
	CHECK_OK(apm_entries_root(entries, 9, &root));
	CHECK(memcmp(&root, &plain, sizeof(root)) == 0);

	h.root = root;
	h.count = 9;
	CHECK(apm_block_check_entries(&h, entries, 9) == APM_BLOCK_OK);
	CHECK(apm_block_check_entries(&h, entries, 8) == APM_BLOCK_COUNT);
	entries[0].rule = APM_RULE_FRESH;
	CHECK(apm_block_check_entries(&h, entries, 9) == APM_BLOCK_ROOT);
	entries[0].rule = APM_RULE_NONE;
	entries[2].rule = APM_RULE_NONE;
	CHECK(apm_block_check_entries(&h, entries, 9) == APM_BLOCK_ROOT);
	entries[2].rule = APM_RULE_TIME;
	entries[2].tid.bytes[15] ^= 1;
	CHECK(apm_block_check_entries(&h, entries, 9) == APM_BLOCK_ROOT);
	entries[2].tid.bytes[15] ^= 1;
	CHECK(apm_block_check_entries(&h, entries, 9) == APM_BLOCK_OK);

	CHECK_OK(apm_entries_root(NULL, 0, &root));
	CHECK_OK(apm_merkle_root(NULL, 0, &plain));
	CHECK(memcmp(&root, &plain, sizeof(root)) == 0);
	CHECK_STATUS(apm_entries_root(entries, APM_BLOCK_MAX_LEAVES + 1, &root), APM_ERR_RANGE);
}

/* A signature is of one block by one node, and an origin's signature is not a node's. */
static void
test_signature(void)
{
	ApmEcKey   *node = sample_key();
	ApmEcKey   *other = sample_key();
	ApmDigest	hash = sample_digest(0x42);
	ApmDigest	another = sample_digest(0x43);
	ApmSignature sig;

	CHECK_OK(apm_block_sign(node, &hash, &sig));
	CHECK_OK(apm_block_verify(node, &hash, &sig));
	CHECK_STATUS(apm_block_verify(other, &hash, &sig), APM_ERR_VERIFY);
	CHECK_STATUS(apm_block_verify(node, &another, &sig), APM_ERR_VERIFY);
	CHECK_OK(apm_origin_sign(node, &hash, &sig));
	CHECK_STATUS(apm_block_verify(node, &hash, &sig), APM_ERR_VERIFY);
	apm_ec_free(node);
	apm_ec_free(other);
}

#define CHAIN_BITS 4

/* A genesis block and a block on it, with what is needed to check them. */
typedef struct Chain
{
	ApmEcKey   *node;
	ApmContractState *state;
	ApmFrontier frontier;		/* of the genesis block */
	ApmDigest	contract;
	ApmHeader	genesis;
	ApmDigest	genesis_hash;
	ApmHeader	block;
} Chain;

/* Writes h into bytes with a nonce that meets its bits (as far as a search goes), and signs it. */
static void
mine(const Chain *c, const ApmHeader *h, uint8_t bytes[APM_HEADER_LEN], ApmDigest *hash, ApmSignature *sig)
{
	ApmHeader	complete = *h;

	apm_header_encode(&complete, bytes);
	CHECK_OK(apm_pow_search(bytes, h->bits < 16 ? h->bits : 0, 0, 1 << 20, &complete.nonce, hash));
	apm_header_encode(&complete, bytes);
	CHECK_OK(apm_block_sign(c->node, hash, sig));
}

static void
chain_open(Chain *c)
{
	uint8_t		bytes[APM_HEADER_LEN];
	uint8_t		spki[APM_SPKI_LEN];
	ApmSignature sig;
	ApmDigest	chain = sample_digest(0xc0);

	memset(c, 0, sizeof(*c));
	c->node = sample_key();
	apm_ec_spki(c->node, spki);
	CHECK_OK(apm_contract_new(&chain, &c->state));
	CHECK_OK(apm_contract_load_node(c->state, spki));
	CHECK_OK(apm_contract_load_policy(c->state, APM_POLICY_DIFFICULTY, CHAIN_BITS));
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
	CHECK_OK(apm_frontier_append(&c->frontier, &c->genesis_hash));

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
	uint8_t		bytes[APM_HEADER_LEN];
	ApmDigest	hash;
	ApmSignature sig;

	mine(c, h, bytes, &hash, &sig);
	return apm_block_check(c->state, bytes, &c->genesis, &c->genesis_hash, &c->frontier, &c->contract, &sig);
}

#define CHECK_FAULT(chain, change, fault) \
	do { \
		ApmHeader	h = (chain)->block; \
		change; \
		CHECK(fault_of((chain), &h) == (fault)); \
	} while (0)

static void
test_faults_of_header(void)
{
	Chain		c;

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
	Chain		c;
	uint8_t		bytes[APM_HEADER_LEN];
	ApmDigest	hash;
	ApmSignature sig;
	ApmFrontier empty = {0};
	ApmHeader	stranger;

	chain_open(&c);
	mine(&c, &c.block, bytes, &hash, &sig);
	CHECK(apm_block_check(c.state, bytes, NULL, NULL, NULL, &c.contract, &sig) == APM_BLOCK_HEIGHT);
	CHECK(apm_block_check(c.state, bytes, &c.genesis, NULL, &c.frontier, &c.contract, &sig) == APM_BLOCK_LINK);
	CHECK(apm_block_check(c.state, bytes, &c.genesis, &c.genesis_hash, &empty, NULL, &sig) == APM_BLOCK_HISTORY);
	CHECK(apm_block_check(c.state, bytes, &c.genesis, &c.genesis_hash, NULL, NULL, &sig) == APM_BLOCK_HISTORY);
	stranger = c.genesis;
	stranger.chain.bytes[0] ^= 1;
	CHECK(apm_block_check(c.state, bytes, &stranger, &c.genesis_hash, &c.frontier, NULL, &sig) == APM_BLOCK_CHAIN);
	CHECK(apm_block_check(c.state, bytes, &c.genesis, &c.genesis_hash, &c.frontier, NULL, NULL) == APM_BLOCK_OK);
	sig.bytes[63] ^= 1;
	CHECK(apm_block_check(c.state, bytes, &c.genesis, &c.genesis_hash, &c.frontier, NULL, &sig) ==
		  APM_BLOCK_SIGNATURE);

	/* one more than the first nonce that works: go on until one does not */
	do
	{
		ApmHeader	h;

		CHECK_OK(apm_header_decode(APM_SLICE(bytes, sizeof(bytes)), &h));
		h.nonce++;
		apm_header_encode(&h, bytes);
		CHECK_OK(apm_header_hash(bytes, &hash));
	} while (apm_hash_meets(&hash, CHAIN_BITS));
	CHECK_OK(apm_block_sign(c.node, &hash, &sig));
	CHECK(apm_block_check(c.state, bytes, &c.genesis, &c.genesis_hash, &c.frontier, NULL, &sig) == APM_BLOCK_WORK);
	bytes[0] ^= 1;
	CHECK(apm_block_check(c.state, bytes, &c.genesis, &c.genesis_hash, &c.frontier, NULL, &sig) == APM_BLOCK_FORMAT);
	chain_close(&c);
}

/* Genesis links to zeros, has no history, and needs a difficulty policy to be measured by. */
static void
test_faults_of_genesis(void)
{
	Chain		c;
	uint8_t		bytes[APM_HEADER_LEN];
	ApmDigest	hash;
	ApmSignature sig;
	ApmHeader	h;
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
	CHECK_OK(apm_contract_load_policy(bare, APM_POLICY_DIFFICULTY, CHAIN_BITS));
	CHECK(apm_block_check(bare, bytes, NULL, NULL, NULL, NULL, &sig) == APM_BLOCK_SIGNER);
	apm_contract_free(bare);
	chain_close(&c);
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

static ApmStatus
root_of_entries(void)
{
	ApmEntry	entries[5];
	ApmDigest	root;

	fill_entries(entries, 5);
	return apm_entries_root(entries, 5, &root);
}

int
main(void)
{
	test_known_answer();
	test_header_encoding();
	test_difficulty();
	test_entries();
	test_root();
	test_signature();
	test_faults_of_header();
	test_faults_beside_header();
	test_faults_of_genesis();
	test_fault_names();
	CHECK_EACH_ALLOCATION(root_of_entries);
	return check_summary();
}
