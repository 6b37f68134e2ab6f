/*
 * chain.h
 *	  A chain in memory, made block by block as a node makes it, and stored as a server stores it.
 */
#ifndef APM_TEST_CHAIN_H
#define APM_TEST_CHAIN_H

#include "core/head.h"
#include "core/pow.h"
#include "core/stored.h"
#include "sample.h"

#define CHAIN_ENTRIES 24
#define CHAIN_BITS 4
#define SECOND UINT64_C(1000000)

typedef struct ChainBlock
{
	ApmHeader header;
	uint8_t encoded[APM_HEADER_LEN];
	ApmSignature signature;
	ApmStoredBlock stored; /* points to what follows, and to the two above */
	ApmStoredEntry entries[CHAIN_ENTRIES];
	ApmBuf bodies[CHAIN_ENTRIES]; /* also of what is not kept */
	ApmOpened opened[CHAIN_ENTRIES];
} ChainBlock;

typedef struct Chain
{
	ApmEcKey *node; /* that signs the next block */
	ApmContractState *state;
	ApmFrontier frontier;
	uint64_t time_us; /* of the block in making */
	size_t count;	  /* complete ones */
	size_t room;
	ChainBlock *blocks;
} Chain;

static inline void
chain_open(Chain *c, ApmEcKey *node, size_t room)
{
	ApmDigest id = sample_digest(0xc0);

	memset(c, 0, sizeof(*c));
	c->node = node;
	c->time_us = SAMPLE_TIME;
	c->room = room;
	c->blocks = calloc(room, sizeof(ChainBlock));
	CHECK_OK(apm_contract_new(&id, &c->state));
}

static inline void
chain_close(Chain *c)
{
	for (size_t i = 0; i < c->room; i++)
	{
		for (size_t n = 0; n < CHAIN_ENTRIES; n++)
			apm_buf_reset(&c->blocks[i].bodies[n]);
	}
	free(c->blocks);
	apm_contract_free(c->state);
}

/* A sample of this kind by that key, as of now. */
static inline ApmTransaction
chain_of_kind(const Chain *c, const ApmEcKey *key, ApmKind kind)
{
	ApmTransaction tx = sample_transaction(kind);

	apm_ec_id(key, &tx.origin);
	tx.time_us = c->time_us;
	return tx;
}

/* Takes a signed transaction into the block in making, valid or refused; takes the buffer over. */
static inline uint16_t
chain_enter(Chain *c, ApmBuf *bytes)
{
	ChainBlock *b = &c->blocks[c->count];
	size_t i = b->stored.count++;
	ApmStoredEntry *e = &b->entries[i];
	ApmOpened *t = &b->opened[i];

	b->bodies[i] = *bytes;
	CHECK_OK(apm_open_signed(APM_SLICE(bytes->data, bytes->len), t));
	e->position = (uint32_t) i;
	e->tid = t->tid;
	e->kind = t->wellformed ? (uint16_t) t->tx.kind : 0;
	e->leaf = t->leaf;
	e->nonce = APM_SLICE(bytes->data + 2, APM_NONCE_LEN);
	e->transaction = t->envelope.transaction;
	e->proof = t->envelope.proof;
	e->rule = apm_contract_evaluate(c->state, t, c->count, c->time_us);
	e->kept = e->rule == APM_RULE_NONE || e->kind == APM_KIND_QUERY;
	if (e->rule == APM_RULE_NONE)
		CHECK_OK(apm_contract_apply(c->state, t, c->count, (uint32_t) i, c->time_us));
	return e->rule;
}

/* The same for a transaction under a signature for so many. */
static inline uint16_t
chain_put(Chain *c, const ApmEcKey *key, const ApmTransaction *tx, uint32_t statement)
{
	ApmBuf bytes = {0};

	sample_sign_among(key, tx, statement, &bytes);
	return chain_enter(c, &bytes);
}

/* Does an erasure of the patient void this entry? */
static inline bool
chain_is_void(const ChainBlock *b, size_t i, ApmSlice apid)
{
	ApmKind kind = b->opened[i].tx.kind;

	return b->entries[i].rule == APM_RULE_NONE && (kind == APM_KIND_PATIENT || kind == APM_KIND_PRIMARY) &&
		   apm_slices_equal(apm_transaction_apid(&b->opened[i].tx), apid);
}

static inline int
chain_compare_voids(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(ApmDigest));
}

/* The patient's leaves as an erasure names them; drop: and their bodies go. */
static inline void
chain_voids(Chain *c, ApmSlice apid, bool drop, ApmErasureFields *out)
{
	ApmVoid voids[256];
	uint32_t n = 0;

	for (size_t h = 0; h <= c->count && h < c->room; h++)
	{
		ChainBlock *b = &c->blocks[h];

		for (size_t i = 0; i < b->stored.count; i++)
		{
			if (!chain_is_void(b, i, apid) || n == 256)
				continue;
			voids[n].leaf = b->entries[i].leaf;
			voids[n].kind = (uint8_t) b->entries[i].kind;
			voids[n].tid = b->entries[i].tid;
			memcpy(voids[n++].actor, b->opened[i].tx.actor, APM_STAFF_LEN);
			if (drop)
				b->entries[i].kept = false;
		}
	}
	qsort(voids, n, sizeof(ApmVoid), chain_compare_voids);
	if (!drop)
		sample_voids(voids, n, out);
}

/* Erases the patient, and prunes what that voids. */
static inline uint16_t
chain_erase(Chain *c, const ApmEcKey *key, ApmSlice apid)
{
	ApmTransaction tx = chain_of_kind(c, key, APM_KIND_ERASURE);
	uint16_t rule;

	tx.u.erasure.apid = apid;
	chain_voids(c, apid, false, &tx.u.erasure);
	rule = chain_put(c, key, &tx, 1);
	if (rule == APM_RULE_NONE)
		chain_voids(c, apid, true, &tx.u.erasure);
	return rule;
}

/* Signs the block's header as it stands, mined or not, and stores it under its hash. */
static inline void
chain_store(ChainBlock *b, const ApmEcKey *node)
{
	apm_header_encode(&b->header, b->encoded);
	CHECK_OK(apm_header_hash(b->encoded, &b->stored.hash));
	CHECK_OK(apm_block_sign(node, &b->stored.hash, &b->signature));
	b->stored.height = b->header.height;
	b->stored.header = APM_SLICE(b->encoded, APM_HEADER_LEN);
	b->stored.signature = APM_SLICE(b->signature.bytes, APM_SIGNATURE_LEN);
	b->stored.entries = b->entries;
}

/* The same with a nonce that meets its difficulty. */
static inline void
chain_sign(ChainBlock *b, const ApmEcKey *node)
{
	uint64_t nonce;
	ApmDigest hash;

	apm_header_encode(&b->header, b->encoded);
	CHECK_OK(apm_pow_search(b->encoded, b->header.bits, 0, UINT64_MAX, &nonce, &hash));
	b->header.nonce = nonce;
	chain_store(b, node);
}

/* Root and count of the block's rows as they stand. */
static inline void
chain_root(ChainBlock *b)
{
	ApmEntry entries[CHAIN_ENTRIES];

	for (size_t i = 0; i < b->stored.count; i++)
	{
		entries[i].tid = b->entries[i].tid;
		entries[i].kind = (uint8_t) b->entries[i].kind;
		entries[i].rule = b->entries[i].rule;
		entries[i].leaf = b->entries[i].leaf;
	}
	b->header.count = (uint32_t) b->stored.count;
	CHECK_OK(apm_entries_root(entries, b->stored.count, &b->header.root));
}

/* Completes the block in making. */
static inline void
chain_seal(Chain *c)
{
	ChainBlock *b = &c->blocks[c->count];
	ApmDigest leaf;

	b->header.chain = sample_digest(0xc0);
	b->header.height = c->count;
	if (c->count > 0)
		b->header.previous = c->blocks[c->count - 1].stored.hash;
	chain_root(b);
	CHECK_OK(apm_frontier_root(&c->frontier, &b->header.history));
	CHECK_OK(apm_contract_digest(c->state, &b->header.contract));
	b->header.time_us = c->time_us;
	b->header.bits = CHAIN_BITS;
	apm_ec_id(c->node, &b->header.node);
	chain_sign(b, c->node);
	CHECK_OK(apm_merkle_leaf(&APM_SLICE(b->stored.hash.bytes, APM_DIGEST_LEN), 1, &leaf));
	CHECK_OK(apm_frontier_append(&c->frontier, &leaf));
	c->count++;
}

/* The digest of the chain at this height; node is whose key signed it. */
static inline ApmHead
chain_head(const Chain *c, size_t height, const ApmEcKey *node)
{
	const ChainBlock *b = &c->blocks[height];
	ApmHead head;

	memcpy(head.encoded, b->encoded, APM_HEADER_LEN);
	head.signature = b->signature;
	apm_ec_spki(node, head.node);
	CHECK_OK(apm_head_check(&head));
	return head;
}

#endif /* APM_TEST_CHAIN_H */
