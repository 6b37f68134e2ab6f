/*
 * test_origin.c
 *	  An origin's proof holds for its transaction and for nothing else.
 */
#include "core/transaction.h"

#include "sample.h"

/* Every flipped bit of a signed transaction makes it unreadable or its signature bad. */
static void
test_every_bit(void)
{
	ApmEcKey *key = sample_key();
	ApmTransaction tx = sample_transaction(APM_KIND_PRIMARY);
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

/* One bit of an otherwise good proof changed: leaf, place, signature or any node of the path. */
static long
count_changed(const ApmEcKey *key, const ApmDigest *leaf, const ApmOriginProof *good)
{
	long accepted = 0;

	for (size_t bit = 0; bit < 8 * sizeof(ApmDigest); bit += 37)
	{
		ApmDigest other = *leaf;

		other.bytes[bit / 8] ^= (uint8_t) (1 << bit % 8);
		accepted += apm_origin_verify(key, &other, good) == APM_OK;
		for (uint32_t node = 0; node < good->path.count; node++)
		{
			ApmOriginProof changed = *good;

			changed.path.nodes[node].bytes[bit / 8] ^= (uint8_t) (1 << bit % 8);
			accepted += apm_origin_verify(key, leaf, &changed) == APM_OK;
		}
	}
	for (uint32_t index = 0; index < good->size; index++)
	{
		ApmOriginProof changed = *good;

		changed.index = index;
		accepted += index != good->index && apm_origin_verify(key, leaf, &changed) == APM_OK;
	}
	return accepted;
}

/*
 * What is remembered of one record's proof makes no other good: in any order, with another statement in
 * between or not, each proof is as good as it is alone.
 */
static void
test_neighbours(void)
{
	enum
	{
		MOST = 70
	};
	ApmEcKey *key = sample_key();
	ApmEcKey *stranger = sample_key();
	ApmDigest leaves[MOST];
	ApmPath paths[MOST];
	long accepted = 0;

	for (uint8_t i = 0; i < MOST; i++)
		leaves[i] = sample_digest(i);
	for (uint32_t n = 1; n <= MOST; n++)
	{
		ApmOriginProof proof = {.size = n};
		ApmDigest root;

		CHECK_OK(apm_merkle_all_paths(leaves, n, paths, &root));
		CHECK_OK(apm_origin_sign(key, &root, n, &proof.signature));
		for (uint32_t i = 0; i < 3 * n; i++)
		{
			proof.index = i < n ? i : i * 29 % n; /* one after the other, then here and there */
			proof.path = paths[proof.index];
			CHECK_OK(apm_origin_verify(key, &leaves[proof.index], &proof));
			if (i % 5 == 0)
				accepted += count_changed(key, &leaves[proof.index], &proof);
			accepted += apm_origin_verify(stranger, &leaves[proof.index], &proof) == APM_OK;
		}
	}
	CHECK(accepted == 0);
	apm_ec_free(stranger);
	apm_ec_free(key);
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
	test_every_bit();
	test_statements();
	test_neighbours();
	test_proof_bounds();
	test_remembered_signatures();
	test_crafted_lengths();
	return check_summary();
}
