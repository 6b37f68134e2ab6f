/*
 * test_block.c
 *	  A header's one encoding and its hash, a block's entries and their root, a node's
 *	  signature.
 *
 * The known answers were computed with Python's struct and hashlib alone:
 *
 *	header = (b'B\1' + b'\1'*32 + struct.pack('>Q', 7) + b'\2'*32 + b'\3'*32
 *			  + struct.pack('>I', 5) + b'\4'*32 + b'\5'*32
 *			  + struct.pack('>QI', 1700000000123456, 16) + b'\6'*32
 *			  + struct.pack('>Q', 0x0123456789abcdef))
 *	hash = hashlib.sha256(hashlib.sha256(header).digest()).digest()
 *	refused = hashlib.sha256(b'\0apm refused' + b'\x11'*16 + b'\2' + b'\x22'*32
 *							 + struct.pack('>H', 6)).digest()
 */
#include "core/block.h"

#include "sample.h"

static ApmHeader
sample_header(void)
{
	ApmHeader h = {.chain = sample_digest(1),
				   .height = 7,
				   .previous = sample_digest(2),
				   .root = sample_digest(3),
				   .count = 5,
				   .history = sample_digest(4),
				   .contract = sample_digest(5),
				   .time_us = SAMPLE_TIME,
				   .bits = 16,
				   .node = sample_digest(6),
				   .nonce = UINT64_C(0x0123456789abcdef)};

	return h;
}

static void
test_known_answer(void)
{
	ApmHeader h = sample_header();
	ApmEntry e = {.tid = sample_uuid(0x11), .kind = APM_KIND_PRIMARY, .leaf = sample_digest(0x22)};
	uint8_t bytes[APM_HEADER_LEN];
	ApmDigest digest;

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
	CHECK_HEX(digest.bytes, APM_DIGEST_LEN,
			  "5a55f87da5612396a31477806c4dbfe5e473cd082430e9e4e53a3466d2b95dd2");

	CHECK_OK(apm_entry_hash(&e, &digest));
	CHECK(memcmp(&digest, &e.leaf, sizeof(digest)) == 0);
	e.rule = APM_RULE_PATIENT;
	CHECK_OK(apm_entry_hash(&e, &digest));
	CHECK_HEX(digest.bytes, APM_DIGEST_LEN,
			  "f5bc94cc86d4fb328d3a066ec2764cb502993547f3bc22c827184ba08c12db41");
}

/* What is decoded encodes to the same bytes, whatever bit was changed; other lengths are refused. */
static void
test_header_encoding(void)
{
	ApmHeader h = sample_header();
	ApmHeader back;
	uint8_t bytes[APM_HEADER_LEN + 1] = {0};
	uint8_t again[APM_HEADER_LEN];
	ApmDigest hash;
	ApmDigest changed;

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
	ApmDigest zeros = sample_digest(0);

	for (uint32_t n = 0; n < 256; n++)
	{
		ApmDigest d = sample_digest(0);

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
	ApmBuf buf = {0};
	ApmEntry *back;
	size_t n;

	fill_entries(entries, APM_BLOCK_MAX_LEAVES + 1);
	for (size_t i = 0; i < 4; i++)
	{
		ApmBuf again = {0};

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

	/* one more than a block holds, all there */
	apm_put_u8(&buf, 'L');
	apm_put_u8(&buf, 1);
	apm_put_u32(&buf, APM_BLOCK_MAX_LEAVES + 1);
	for (size_t i = 0; i < (APM_BLOCK_MAX_LEAVES + 1) * 51; i++)
		apm_put_u8(&buf, 0);
	CHECK_STATUS(apm_entries_decode(APM_SLICE(buf.data, buf.len), &back, &n), APM_ERR_FORMAT);
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
	ApmEntry entries[9];
	ApmDigest hashes[9];
	ApmDigest root;
	ApmDigest plain;

	fill_entries(entries, 9);
	for (size_t i = 0; i < 9; i++)
		CHECK_OK(apm_entry_hash(&entries[i], &hashes[i]));
	CHECK_OK(apm_merkle_root(hashes, 9, &plain));
	CHECK_OK(apm_entries_root(entries, 9, &root));
	CHECK(memcmp(&root, &plain, sizeof(root)) == 0);

	CHECK_OK(apm_entries_root(NULL, 0, &root));
	CHECK_OK(apm_merkle_root(NULL, 0, &plain));
	CHECK(memcmp(&root, &plain, sizeof(root)) == 0);
	CHECK_STATUS(apm_entries_root(entries, APM_BLOCK_MAX_LEAVES + 1, &root), APM_ERR_RANGE);
}

/* A signature is of one block by one node, and an origin's signature is not a node's. */
static void
test_signature(void)
{
	ApmEcKey *node = sample_key();
	ApmEcKey *other = sample_key();
	ApmDigest hash = sample_digest(0x42);
	ApmDigest another = sample_digest(0x43);
	ApmSignature sig;

	CHECK_OK(apm_block_sign(node, &hash, &sig));
	CHECK_OK(apm_block_verify(node, &hash, &sig));
	CHECK_STATUS(apm_block_verify(other, &hash, &sig), APM_ERR_VERIFY);
	CHECK_STATUS(apm_block_verify(node, &another, &sig), APM_ERR_VERIFY);
	CHECK_OK(apm_origin_sign(node, &hash, 1, &sig));
	CHECK_STATUS(apm_block_verify(node, &hash, &sig), APM_ERR_VERIFY);
	apm_ec_free(node);
	apm_ec_free(other);
}

static ApmStatus
root_of_entries(void)
{
	ApmEntry entries[5];
	ApmDigest root;

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
	CHECK_EACH_ALLOCATION(root_of_entries);
	return check_summary();
}
