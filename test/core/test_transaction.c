/*
 * test_transaction.c
 *	  One encoding a transaction, a leaf and a Tid that follow from it, and an origin's
 *	  proof that holds for nothing else.
 *
 * The known answers were computed with Python's struct and hashlib alone:
 *
 *	tx = (b'T\1\3' + b'\xc0'*32 + b'\x0a'*32 + struct.pack('>Q', 1700000000123456)
 *		  + b'\x5a'*16 + struct.pack('>HI', 5, 60)
 *		  + b'$2b$12$abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0'
 *		  + struct.pack('>H', 1))
 *	leaf = hashlib.sha256(b'\0' + b'\x77'*32 + tx).digest()
 *	bits = int.from_bytes(leaf[:10], 'big') >> 6
 *	tid = 1700000000123 << 80 | 7 << 76 | (bits >> 62) << 64 | 2 << 62 | bits & 2**62-1
 *	profile = hashlib.sha256(b'\0apm profile' + struct.pack('>II', 3, 6) + b'sealed').digest()
 */
#include "core/transaction.h"

#include "sample.h"

static const ApmKind kinds[] = {APM_KIND_PATIENT, APM_KIND_PRIMARY, APM_KIND_QUERY, APM_KIND_MEMBERSHIP,
								APM_KIND_CONTRACT};

#define KIND_COUNT (sizeof(kinds) / sizeof(kinds[0]))

static ApmTransaction
good(ApmKind kind)
{
	ApmTransaction tx = sample_transaction(kind);

	if (kind == APM_KIND_MEMBERSHIP)
		tx.u.membership.member = APM_MEMBER_NODE;
	return tx;
}

static void
test_known_answer(void)
{
	ApmTransaction tx = sample_transaction(APM_KIND_QUERY);
	uint8_t nonce[APM_NONCE_LEN];
	ApmBuf buf = {0};
	ApmDigest digest;
	ApmUuid tid;

	CHECK_OK(apm_transaction_encode(&tx, &buf));
	CHECK_HEX(buf.data, buf.len,
			  "540103c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0"
			  "c0c0c00a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a"
			  "0a0a0a00060a24182022405a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a0005000000"
			  "3c243262243132246162636465666768696a6b6c6d6e6f707172737475767778"
			  "797a4142434445464748494a4b4c4d4e4f505152535455565758595a300001");
	memset(nonce, 0x77, sizeof(nonce));
	CHECK_OK(apm_transaction_leaf(nonce, APM_SLICE(buf.data, buf.len), &digest));
	CHECK_HEX(digest.bytes, APM_DIGEST_LEN,
			  "18cac6d7576e2dc153e4f72ca49065ee94da3671bdf9c8b636681afb9c126b4e");
	apm_transaction_tid(tx.time_us, &digest, &tid);
	CHECK_HEX(tid.bytes, APM_UUID_LEN, "018bcfe5687b718cab1b5d5db8b7054f");
	CHECK_OK(apm_profile_digest(3, sample_text("sealed"), &digest));
	CHECK_HEX(digest.bytes, APM_DIGEST_LEN,
			  "017b0556d5d0a54ddbdf623a5c3aec0523241eab9e200ece0e8f840df5b06e37");
	apm_buf_reset(&buf);
}

/* Encoding, decoding and encoding again gives the same bytes; a byte less or more is refused. */
static void
test_round_trip(void)
{
	for (size_t k = 0; k < KIND_COUNT; k++)
	{
		ApmTransaction tx = good(kinds[k]);
		ApmTransaction back;
		ApmBuf first = {0};
		ApmBuf second = {0};

		CHECK_OK(apm_transaction_encode(&tx, &first));
		CHECK_OK(apm_transaction_decode(APM_SLICE(first.data, first.len), &back));
		CHECK_OK(apm_transaction_encode(&back, &second));
		CHECK(first.len == second.len && memcmp(first.data, second.data, first.len) == 0);
		for (size_t len = 0; len < first.len; len++)
			CHECK_STATUS(apm_transaction_decode(APM_SLICE(first.data, len), &back), APM_ERR_FORMAT);
		apm_put_u8(&first, 0);
		CHECK_STATUS(apm_transaction_decode(APM_SLICE(first.data, first.len), &back), APM_ERR_FORMAT);
		apm_buf_reset(&first);
		apm_buf_reset(&second);
	}
}

static void
refused(const ApmTransaction *tx)
{
	ApmBuf buf = {0};

	CHECK_STATUS(apm_transaction_encode(tx, &buf), APM_ERR_RANGE);
	CHECK(buf.len == 0);
	apm_buf_reset(&buf);
}

/* A writer refuses every field that is out of its bounds. */
static void
test_bounds(void)
{
	static const uint8_t odd[] = {' ', 0, '\n', 0x7f, 0x80, 0xff};
	char apid[APM_DIGEST_LEN * 3];
	ApmTransaction tx;

	for (int kind = 0; kind < 12; kind++)
	{
		bool has_template = false;

		for (size_t k = 0; k < KIND_COUNT; k++)
			has_template = has_template || kinds[k] == (ApmKind) kind;
		tx = good(APM_KIND_QUERY);
		tx.kind = (ApmKind) kind;
		if (!has_template)
			refused(&tx);
		CHECK((apm_kind_name((ApmKind) kind) != NULL) == (kind >= 1 && kind <= 8));
	}
	tx = good(APM_KIND_QUERY);
	tx.time_us = UINT64_MAX;
	refused(&tx);
	tx = good(APM_KIND_QUERY);
	tx.roles = 0x0040;
	refused(&tx);

	memset(apid, 'a', sizeof(apid));
	tx = good(APM_KIND_QUERY);
	tx.u.query.apid = APM_SLICE(apid, 0);
	refused(&tx);
	tx.u.query.apid = APM_SLICE(apid, 65);
	refused(&tx);
	tx.u.query.apid = APM_SLICE(apid, 64);
	for (size_t i = 0; i < sizeof(odd); i++)
	{
		apid[63] = (char) odd[i];
		refused(&tx);
	}

	tx = good(APM_KIND_PATIENT);
	tx.u.patient.version = 0;
	refused(&tx);
	tx = good(APM_KIND_PRIMARY);
	tx.u.primary.flags = 0x02;
	refused(&tx);
	tx = good(APM_KIND_PRIMARY);
	tx.u.primary.amends = sample_uuid(1);
	refused(&tx);
	tx = good(APM_KIND_PRIMARY);
	tx.u.primary.record.len = 0;
	refused(&tx);
	tx.u.primary.record.len = (size_t) APM_PRIMARY_MAX + 1;
	refused(&tx);
	tx = good(APM_KIND_MEMBERSHIP);
	tx.u.membership.member = 3;
	refused(&tx);
	tx = good(APM_KIND_CONTRACT);
	tx.u.contract.count = 0;
	refused(&tx);
	tx.u.contract.count = APM_POLICY_MAX + 1;
	refused(&tx);
	tx = good(APM_KIND_CONTRACT);
	tx.u.contract.policies[1].key = APM_POLICY_DIFFICULTY;
	refused(&tx);
	tx.u.contract.policies[1].key = APM_POLICY_PURPOSE + 1;
	refused(&tx);
}

/* Whatever byte stands in any place, what a reader takes is what a writer writes. */
static void
test_every_byte(void)
{
	for (size_t k = 0; k < KIND_COUNT; k++)
	{
		ApmTransaction tx = good(kinds[k]);
		ApmBuf buf = {0};

		CHECK_OK(apm_transaction_encode(&tx, &buf));
		for (size_t i = 0; i < buf.len; i++)
		{
			uint8_t was = buf.data[i];

			for (int value = 0; value < 256; value++)
			{
				ApmTransaction got;
				ApmBuf again = {0};

				buf.data[i] = (uint8_t) value;
				if (apm_transaction_decode(APM_SLICE(buf.data, buf.len), &got) != APM_OK)
					continue;
				if (apm_transaction_encode(&got, &again) != APM_OK || again.len != buf.len ||
					memcmp(again.data, buf.data, buf.len) != 0)
					CHECK(!"a second encoding of one transaction");
				apm_buf_reset(&again);
			}
			buf.data[i] = was;
		}
		apm_buf_reset(&buf);
	}
}

/* Every flipped bit of a signed transaction makes it unreadable or its signature bad. */
static void
test_every_bit(void)
{
	ApmEcKey *key = sample_key();
	ApmTransaction tx = good(APM_KIND_PRIMARY);
	ApmBuf buf = {0};
	ApmOpened opened;
	ApmDigest leaf;
	size_t sealed_to;
	long accepted = 0;

	tx.u.primary.flags = APM_PRIMARY_AMENDS;
	tx.u.primary.amends = sample_uuid(0x22);
	sample_sign(key, &tx, &buf);
	CHECK_OK(apm_open_signed(APM_SLICE(buf.data, buf.len), &opened));
	CHECK(opened.wellformed);
	CHECK_OK(apm_origin_verify(key, &opened.leaf, &opened.proof));
	leaf = opened.leaf;
	sealed_to = (size_t) (opened.envelope.proof.data - buf.data) - 4;

	for (size_t bit = 0; bit < buf.len * 8; bit++)
	{
		buf.data[bit / 8] ^= (uint8_t) (1 << bit % 8);
		if (apm_open_signed(APM_SLICE(buf.data, buf.len), &opened) == APM_OK)
		{
			if (opened.wellformed && apm_origin_verify(key, &opened.leaf, &opened.proof) == APM_OK)
				accepted++;
			if (bit / 8 < sealed_to)
				CHECK(memcmp(&opened.leaf, &leaf, sizeof(leaf)) != 0);
		}
		buf.data[bit / 8] ^= (uint8_t) (1 << bit % 8);
	}
	CHECK(accepted == 0);
	CHECK_OK(apm_open_signed(APM_SLICE(buf.data, buf.len), &opened));
	CHECK_OK(apm_origin_verify(key, &opened.leaf, &opened.proof));
	apm_buf_reset(&buf);
	apm_ec_free(key);
}

static void
check_statement(const ApmEcKey *key, const ApmDigest *leaves, uint32_t n)
{
	ApmPath paths[40];
	ApmOriginProof proof;
	ApmOriginProof back;
	ApmDigest root;

	memset(&proof, 0, sizeof(proof));
	CHECK_OK(apm_merkle_all_paths(leaves, n, paths, &root));
	CHECK_OK(apm_origin_sign(key, &root, n, &proof.signature));
	proof.size = n;
	for (uint32_t i = 0; i < n; i++)
	{
		ApmBuf buf = {0};

		proof.index = i;
		proof.path = paths[i];
		apm_origin_proof_encode(&proof, &buf);
		CHECK_OK(apm_buf_status(&buf));
		CHECK_OK(apm_origin_proof_decode(APM_SLICE(buf.data, buf.len), &back));
		CHECK_OK(apm_origin_verify(key, &leaves[i], &back));
		CHECK_STATUS(apm_origin_verify(key, &leaves[(i + 1) % 40], &back), APM_ERR_VERIFY);
		back.size++;
		CHECK_STATUS(apm_origin_verify(key, &leaves[i], &back), APM_ERR_VERIFY);
		CHECK_STATUS(apm_origin_proof_decode(APM_SLICE(buf.data, buf.len - 1), &back), APM_ERR_FORMAT);
		apm_buf_reset(&buf);
	}
}

/* Statements of every size up to 40: each record's proof holds for it and for no other. */
static void
test_statements(void)
{
	ApmEcKey *key = sample_key();
	ApmDigest leaves[40];

	for (uint8_t i = 0; i < 40; i++)
		leaves[i] = sample_digest(i);
	for (uint32_t n = 1; n <= 40; n++)
		check_statement(key, leaves, n);
	apm_ec_free(key);
}

/* A proof whose path cannot belong to its place has no encoding, and the largest place has one. */
static void
test_proof_bounds(void)
{
	ApmOriginProof proof;
	ApmOriginProof back;
	ApmBuf buf = {0};

	memset(&proof, 0, sizeof(proof));
	apm_origin_proof_encode(&proof, &buf); /* index 0 of 0 */
	CHECK(buf.failed);
	apm_buf_reset(&buf);
	proof.size = 2; /* needs a path of one */
	apm_origin_proof_encode(&proof, &buf);
	CHECK(buf.failed);
	apm_buf_reset(&buf);
	proof.index = 3; /* beyond the last, with the path that the formula would give it */
	proof.path.count = 2;
	apm_origin_proof_encode(&proof, &buf);
	CHECK(buf.failed);
	apm_buf_reset(&buf);
	apm_put_u8(&buf, 'O');
	apm_put_u8(&buf, 1);
	apm_put_raw(&buf, proof.signature.bytes, APM_SIGNATURE_LEN);
	apm_put_u32(&buf, 3);
	apm_put_u32(&buf, 2);
	apm_put_raw(&buf, proof.path.nodes, 2 * sizeof(ApmDigest));
	CHECK_STATUS(apm_origin_proof_decode(APM_SLICE(buf.data, buf.len), &back), APM_ERR_FORMAT);
	apm_buf_reset(&buf);

	proof.size = UINT32_MAX;
	proof.index = 1;
	proof.path.count = 32;
	apm_origin_proof_encode(&proof, &buf);
	CHECK_OK(apm_buf_status(&buf));
	CHECK_OK(apm_origin_proof_decode(APM_SLICE(buf.data, buf.len), &back));
	CHECK(back.path.count == 32);
	apm_buf_reset(&buf);
}

/* What was good once stays bound to its key, its root and its signature. */
static void
test_remembered_signatures(void)
{
	ApmEcKey *key = sample_key();
	ApmEcKey *other = sample_key();
	ApmOriginProof proof;
	ApmDigest leaf = sample_digest(1);
	ApmDigest another = sample_digest(2);

	memset(&proof, 0, sizeof(proof));
	proof.size = 1;
	CHECK_OK(apm_origin_sign(key, &leaf, 1, &proof.signature));
	CHECK_STATUS(apm_origin_verify(other, &leaf, &proof), APM_ERR_VERIFY);
	CHECK_OK(apm_origin_verify(key, &leaf, &proof));
	CHECK_OK(apm_origin_verify(key, &leaf, &proof));
	CHECK_STATUS(apm_origin_verify(other, &leaf, &proof), APM_ERR_VERIFY);
	CHECK_STATUS(apm_origin_verify(key, &another, &proof), APM_ERR_VERIFY);
	proof.signature.bytes[40] ^= 1;
	CHECK_STATUS(apm_origin_verify(key, &leaf, &proof), APM_ERR_VERIFY);
	apm_ec_free(key);
	apm_ec_free(other);
}

/* Lengths of 4 GB and of more than the input are refused before anything is read. */
static void
test_crafted_lengths(void)
{
	static const uint32_t lengths[] = {0xffffffff, 0x80000000, 0x7fffffff, 0x04000200, 200};

	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++)
	{
		ApmBuf buf = {0};
		ApmSigned s;
		uint8_t nonce[APM_NONCE_LEN] = {0};

		apm_put_u8(&buf, 'A');
		apm_put_u8(&buf, 1);
		apm_put_raw(&buf, nonce, sizeof(nonce));
		apm_put_u32(&buf, lengths[i]);
		apm_put_raw(&buf, nonce, sizeof(nonce));
		CHECK_STATUS(apm_signed_decode(APM_SLICE(buf.data, buf.len), &s), APM_ERR_FORMAT);
		apm_buf_reset(&buf);
	}
}

int
main(void)
{
	test_known_answer();
	test_round_trip();
	test_bounds();
	test_every_byte();
	test_every_bit();
	test_statements();
	test_proof_bounds();
	test_remembered_signatures();
	test_crafted_lengths();
	return check_summary();
}
