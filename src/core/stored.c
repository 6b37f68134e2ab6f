/*
 * stored.c
 *	  The line of an exported ledger: a block as it is stored, right or wrong.
 */
#include "stored.h"

#define STORED_TAG 'X'
#define STORED_VERSION 1
/* position, Tid, kind, rule, leaf, kept: the least that an entry takes */
#define ENTRY_MIN (4 + APM_UUID_LEN + 2 + 2 + APM_DIGEST_LEN + 1)

static void
put_entry(const ApmStoredEntry *e, ApmBuf *out)
{
	apm_put_u32(out, e->position);
	apm_put_raw(out, e->tid.bytes, APM_UUID_LEN);
	apm_put_u16(out, e->kind);
	apm_put_u16(out, e->rule);
	apm_put_raw(out, e->leaf.bytes, APM_DIGEST_LEN);
	apm_put_u8(out, e->kept);
	if (!e->kept)
		return;
	apm_put_bytes(out, e->nonce.data, e->nonce.len);
	apm_put_bytes(out, e->transaction.data, e->transaction.len);
	apm_put_bytes(out, e->proof.data, e->proof.len);
}

/* More than APM_STORED_ENTRIES_MAX entries make the buffer fail. */
void
apm_stored_encode(const ApmStoredBlock *block, ApmBuf *out)
{
	if (block->count > APM_STORED_ENTRIES_MAX)
	{
		out->failed = true;
		return;
	}
	apm_put_u8(out, STORED_TAG);
	apm_put_u8(out, STORED_VERSION);
	apm_put_u64(out, block->height);
	apm_put_raw(out, block->hash.bytes, APM_DIGEST_LEN);
	apm_put_bytes(out, block->header.data, block->header.len);
	apm_put_bytes(out, block->signature.data, block->signature.len);
	apm_put_u32(out, (uint32_t) block->count);
	for (size_t i = 0; i < block->count; i++)
		put_entry(&block->entries[i], out);
}

static void
get_entry(ApmReader *r, ApmStoredEntry *e)
{
	uint8_t kept;

	e->position = apm_get_u32(r);
	apm_get_raw(r, e->tid.bytes, APM_UUID_LEN);
	e->kind = apm_get_u16(r);
	e->rule = apm_get_u16(r);
	apm_get_raw(r, e->leaf.bytes, APM_DIGEST_LEN);
	kept = apm_get_u8(r);
	if (kept > 1)
		r->failed = true;
	e->kept = kept == 1;
	if (!e->kept)
		return;
	e->nonce = apm_get_bytes(r, UINT32_MAX);
	e->transaction = apm_get_bytes(r, UINT32_MAX);
	e->proof = apm_get_bytes(r, UINT32_MAX);
}

ApmStatus
apm_stored_decode(ApmSlice in, ApmStoredBlock *out)
{
	ApmStoredBlock block = {0};
	ApmReader r;

	apm_reader_init(&r, in);
	apm_expect_u8(&r, STORED_TAG);
	apm_expect_u8(&r, STORED_VERSION);
	block.height = apm_get_u64(&r);
	apm_get_raw(&r, block.hash.bytes, APM_DIGEST_LEN);
	block.header = apm_get_bytes(&r, UINT32_MAX);
	block.signature = apm_get_bytes(&r, UINT32_MAX);
	block.count = apm_get_u32(&r);
	/* nothing is allocated for entries that the input has no room for */
	if (r.failed || block.count > APM_STORED_ENTRIES_MAX ||
		block.count > (size_t) (r.end - r.pos) / ENTRY_MIN)
		return APM_ERR_FORMAT;
	if (block.count > 0)
	{
		block.entries = apm_core_alloc(block.count * sizeof(ApmStoredEntry), false);
		if (block.entries == NULL)
			return APM_ERR_MEMORY;
	}
	for (size_t i = 0; i < block.count; i++)
		get_entry(&r, &block.entries[i]);
	if (!apm_reader_done(&r))
	{
		apm_stored_free(&block);
		return APM_ERR_FORMAT;
	}
	*out = block;
	return APM_OK;
}

void
apm_stored_free(ApmStoredBlock *block)
{
	apm_core_free(block->entries);
	block->entries = NULL;
	block->count = 0;
}
