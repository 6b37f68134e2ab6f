/*
 * block.c
 *	  A block's header, its entries, its hash and its signature.
 *
 * The header has a fixed length and no variable field, so a hash of it can be searched
 * for with the midstate kept (pow.c), and a verifier without PostgreSQL needs nothing but
 * these bytes.  Whether a block may follow another is asked in rules.c, which knows the
 * contract's state.
 *
 * Entries: u8 'L', u8 version, u32 count, then for each Tid, u8 kind, u16 rule, leaf.
 */
#include "block.h"

#include <string.h>

#include "digest.h"

#define HEADER_TAG 'B'
#define ENTRIES_TAG 'L'
#define ENCODING_VERSION 1
#define ENTRY_LEN (APM_UUID_LEN + 1 + 2 + APM_DIGEST_LEN)

static uint8_t *
write_uint(uint8_t *at, uint64_t value, int len)
{
	for (int i = 0; i < len; i++)
		at[i] = (uint8_t) (value >> (8 * (len - 1 - i)));
	return at + len;
}

static uint8_t *
write_digest(uint8_t *at, const ApmDigest *digest)
{
	memcpy(at, digest->bytes, APM_DIGEST_LEN);
	return at + APM_DIGEST_LEN;
}

void
apm_header_encode(const ApmHeader *h, uint8_t out[APM_HEADER_LEN])
{
	uint8_t *at = out;

	*at++ = HEADER_TAG;
	*at++ = ENCODING_VERSION;
	at = write_digest(at, &h->chain);
	at = write_uint(at, h->height, 8);
	at = write_digest(at, &h->previous);
	at = write_digest(at, &h->root);
	at = write_uint(at, h->count, 4);
	at = write_digest(at, &h->history);
	at = write_digest(at, &h->contract);
	at = write_uint(at, h->time_us, 8);
	at = write_uint(at, h->bits, 4);
	at = write_digest(at, &h->node);
	write_uint(at, h->nonce, 8);
}

/*
 * Takes any numbers: what they may be depends on the parent and on the contract.  Times
 * and heights that a signed 64-bit number cannot hold are refused, because ledgers and
 * their readers count in such.
 */
ApmStatus
apm_header_decode(ApmSlice in, ApmHeader *out)
{
	ApmHeader h;
	ApmReader r;

	apm_reader_init(&r, in);
	apm_expect_u8(&r, HEADER_TAG);
	apm_expect_u8(&r, ENCODING_VERSION);
	apm_get_raw(&r, h.chain.bytes, APM_DIGEST_LEN);
	h.height = apm_get_u64(&r);
	apm_get_raw(&r, h.previous.bytes, APM_DIGEST_LEN);
	apm_get_raw(&r, h.root.bytes, APM_DIGEST_LEN);
	h.count = apm_get_u32(&r);
	apm_get_raw(&r, h.history.bytes, APM_DIGEST_LEN);
	apm_get_raw(&r, h.contract.bytes, APM_DIGEST_LEN);
	h.time_us = apm_get_u64(&r);
	h.bits = apm_get_u32(&r);
	apm_get_raw(&r, h.node.bytes, APM_DIGEST_LEN);
	h.nonce = apm_get_u64(&r);
	if (!apm_reader_done(&r) || h.height > INT64_MAX || h.time_us > INT64_MAX)
		return APM_ERR_FORMAT;

	*out = h;
	return APM_OK;
}

ApmStatus
apm_header_hash(const uint8_t header[APM_HEADER_LEN], ApmDigest *out)
{
	ApmDigest inner;
	ApmStatus status = apm_sha256(header, APM_HEADER_LEN, &inner);

	return status == APM_OK ? apm_sha256(inner.bytes, APM_DIGEST_LEN, out) : status;
}

bool
apm_hash_meets(const ApmDigest *hash, uint32_t bits)
{
	if (bits > APM_DIGEST_LEN * 8)
		return false;
	for (uint32_t i = 0; i < bits / 8; i++)
	{
		if (hash->bytes[i] != 0)
			return false;
	}
	return bits % 8 == 0 || (hash->bytes[bits / 8] >> (8 - bits % 8)) == 0;
}

ApmStatus
apm_entry_hash(const ApmEntry *e, ApmDigest *out)
{
	static const char label[] = "apm refused";
	uint8_t rule[2];
	ApmSlice parts[] = {APM_SLICE(label, sizeof(label) - 1), APM_SLICE(e->tid.bytes, APM_UUID_LEN),
						APM_SLICE(&e->kind, 1), APM_SLICE(e->leaf.bytes, APM_DIGEST_LEN),
						APM_SLICE(rule, sizeof(rule))};

	if (e->rule == 0)
	{
		*out = e->leaf;
		return APM_OK;
	}
	write_uint(rule, e->rule, 2);
	return apm_merkle_leaf(parts, 5, out);
}

/* APM_ERR_RANGE for more than APM_BLOCK_MAX_LEAVES entries. */
ApmStatus
apm_entries_root(const ApmEntry *entries, size_t n, ApmDigest *out)
{
	ApmDigest *hashes;
	ApmStatus status = APM_OK;

	if (n > APM_BLOCK_MAX_LEAVES)
		return APM_ERR_RANGE;
	if (n == 0)
		return apm_merkle_root(NULL, 0, out);

	hashes = apm_core_alloc(n * sizeof(ApmDigest), false);
	if (hashes == NULL)
		return APM_ERR_MEMORY;
	for (size_t i = 0; i < n && status == APM_OK; i++)
		status = apm_entry_hash(&entries[i], &hashes[i]);
	if (status == APM_OK)
		status = apm_merkle_root(hashes, n, out);
	apm_core_free(hashes);
	return status;
}

/* More than APM_BLOCK_MAX_LEAVES entries make the buffer fail. */
void
apm_entries_encode(const ApmEntry *entries, size_t n, ApmBuf *out)
{
	if (n > APM_BLOCK_MAX_LEAVES)
	{
		out->failed = true;
		return;
	}
	apm_put_u8(out, ENTRIES_TAG);
	apm_put_u8(out, ENCODING_VERSION);
	apm_put_u32(out, (uint32_t) n);
	for (size_t i = 0; i < n; i++)
	{
		apm_put_raw(out, entries[i].tid.bytes, APM_UUID_LEN);
		apm_put_u8(out, entries[i].kind);
		apm_put_u16(out, entries[i].rule);
		apm_put_raw(out, entries[i].leaf.bytes, APM_DIGEST_LEN);
	}
}

/* Of no entries *entries is NULL. */
ApmStatus
apm_entries_decode(ApmSlice in, ApmEntry **entries, size_t *n)
{
	ApmEntry *list = NULL;
	uint32_t count;
	ApmReader r;

	apm_reader_init(&r, in);
	apm_expect_u8(&r, ENTRIES_TAG);
	apm_expect_u8(&r, ENCODING_VERSION);
	count = apm_get_u32(&r);
	/* the exact length is known before anything is allocated for it */
	if (r.failed || count > APM_BLOCK_MAX_LEAVES || (size_t) (r.end - r.pos) != (size_t) count * ENTRY_LEN)
		return APM_ERR_FORMAT;

	if (count > 0)
	{
		list = apm_core_alloc(count * sizeof(ApmEntry), false);
		if (list == NULL)
			return APM_ERR_MEMORY;
	}
	for (uint32_t i = 0; i < count; i++)
	{
		apm_get_raw(&r, list[i].tid.bytes, APM_UUID_LEN);
		list[i].kind = apm_get_u8(&r);
		list[i].rule = apm_get_u16(&r);
		apm_get_raw(&r, list[i].leaf.bytes, APM_DIGEST_LEN);
	}
	*entries = list;
	*n = count;
	return APM_OK;
}

/* What a node signs for a block: SHA-256("apm block\0" || block hash). */
static ApmStatus
block_message(const ApmDigest *hash, ApmDigest *out)
{
	static const char label[] = "apm block";
	ApmSlice parts[] = {APM_SLICE(label, sizeof(label)), APM_SLICE(hash->bytes, APM_DIGEST_LEN)};

	return apm_sha256_parts(parts, 2, out);
}

ApmStatus
apm_block_sign(const ApmEcKey *node, const ApmDigest *hash, ApmSignature *out)
{
	ApmDigest message;
	ApmStatus status = block_message(hash, &message);

	return status == APM_OK ? apm_sign(node, &message, out) : status;
}

ApmStatus
apm_block_verify(const ApmEcKey *node, const ApmDigest *hash, const ApmSignature *sig)
{
	ApmDigest message;
	ApmStatus status = block_message(hash, &message);

	return status == APM_OK ? apm_verify_signature(node, &message, sig) : status;
}
