/*
 * ledger.c
 *	  The only file that writes the ledger: blocks, leaves, bodies, and the tip.
 *
 * Nothing of it is ever changed, and nothing taken away but the bodies that an erasure voids, in
 * the transaction that appends the erasure's block: this is where it takes effect.
 *
 * What follows from a block (derive.c) is written from here, too, in the same transaction, so
 * that none of it can run ahead of the ledger.  Everything is done with a few statements over
 * arrays, so that the price of a block hardly depends on how many transactions it has.
 *
 * Every statement says ONLY: a table that somebody lets inherit from one of ours must not
 * add rows to what we read.
 */
#include "postgres.h"

#include "catalog/pg_type_d.h"

#include "apm_errors.h"
#include "apm_sql.h"
#include "chain/derive.h"
#include "chain/ledger.h"

bool
apm_ledger_tip(ApmTip *out)
{
	static ApmStatement tip = {
		/* with the tip's key an index tells both; without it the plan that is kept can walk through all blocks */
		.sql = "SELECT t.hash, t.frontier, b.header FROM ONLY apm.tip AS t"
			   " JOIN ONLY apm.block AS b ON b.hash = t.hash WHERE t.one",
	};
	ApmSlice header;

	if (apm_run(&tip, NULL) == 0)
		return false;
	apm_row_digest(0, 1, &out->hash);
	apm_check(apm_frontier_decode(apm_row_bytea(0, 2), &out->frontier), "read the tip of the chain");
	header = apm_row_bytea(0, 3);
	apm_check(apm_header_decode(header, &out->header), "read the header of the last block");
	return true;
}

void
apm_history_append(ApmFrontier *frontier, const ApmDigest *hash)
{
	ApmSlice data = APM_SLICE(hash->bytes, APM_DIGEST_LEN);
	ApmDigest leaf;

	apm_check(apm_merkle_leaf(&data, 1, &leaf), "hash a block into the history");
	apm_check(apm_frontier_append(frontier, &leaf), "hash a block into the history");
}

bool
apm_ledger_keeps_body(const ApmEntry *entry)
{
	return entry->rule == APM_RULE_NONE || entry->kind == APM_KIND_QUERY;
}

static void
append_block(const ApmNewBlock *block)
{
	static ApmStatement put = {
		.sql = "INSERT INTO apm.block (hash, height, header, signature, stored_at)"
			   " VALUES ($1, $2, $3, $4, pg_catalog.clock_timestamp())",
		.nargs = 4,
		.types = {BYTEAOID, INT8OID, BYTEAOID, BYTEAOID},
	};
	Datum args[] = {
		apm_digest_datum(&block->hash),
		Int64GetDatum((int64) block->header.height),
		apm_bytea_datum(APM_SLICE(block->encoded, APM_HEADER_LEN)),
		apm_bytea_datum(APM_SLICE(block->signature.bytes, APM_SIGNATURE_LEN)),
	};

	apm_run_whole(&put, args, 1);
}

static void
append_leaves(const ApmNewBlock *block)
{
	static ApmStatement put = {
		.sql = "INSERT INTO apm.leaf (block, position, tid, kind, rule, leaf)"
			   " SELECT $1, e.position, e.tid, e.kind, e.rule, e.leaf"
			   " FROM unnest($2, $3, $4, $5, $6) AS e (position, tid, kind, rule, leaf)",
		.nargs = 6,
		.types = {BYTEAOID, INT4ARRAYOID, UUIDARRAYOID, INT2ARRAYOID, INT2ARRAYOID, BYTEAARRAYOID},
	};
	int32 *positions = palloc_array(int32, block->n);
	ApmUuid *tids = palloc_array(ApmUuid, block->n);
	int16 *kinds = palloc_array(int16, block->n);
	int16 *rules = palloc_array(int16, block->n);
	ApmDigest *leaves = palloc_array(ApmDigest, block->n);
	Datum args[6];

	for (int i = 0; i < block->n; i++)
	{
		positions[i] = i;
		tids[i] = block->entries[i].tid;
		kinds[i] = block->entries[i].kind;
		rules[i] = (int16) block->entries[i].rule;
		leaves[i] = block->entries[i].leaf;
	}
	args[0] = apm_digest_datum(&block->hash);
	args[1] = apm_int4_array(positions, block->n);
	args[2] = apm_uuid_array(tids, block->n);
	args[3] = apm_int2_array(kinds, block->n);
	args[4] = apm_int2_array(rules, block->n);
	args[5] = apm_digest_array(leaves, block->n);
	apm_run_whole(&put, args, (uint64) block->n);
}

static void
append_bodies(const ApmNewBlock *block)
{
	static ApmStatement put = {
		.sql = "INSERT INTO apm.body (tid, nonce, transaction, proof)"
			   " SELECT b.tid, b.nonce, b.transaction, b.proof"
			   " FROM unnest($1, $2, $3, $4) AS b (tid, nonce, transaction, proof)",
		.nargs = 4,
		.types = {UUIDARRAYOID, BYTEAARRAYOID, BYTEAARRAYOID, BYTEAARRAYOID},
	};
	ApmUuid *tids = palloc_array(ApmUuid, block->n);
	ApmSlice *nonces = palloc_array(ApmSlice, block->n);
	ApmSlice *transactions = palloc_array(ApmSlice, block->n);
	ApmSlice *proofs = palloc_array(ApmSlice, block->n);
	Datum args[4];
	int n = 0;

	for (int i = 0; i < block->n; i++)
	{
		const ApmSigned *envelope = &block->opened[i].envelope;

		if (!apm_ledger_keeps_body(&block->entries[i]))
			continue;
		tids[n] = block->entries[i].tid;
		nonces[n] = APM_SLICE(envelope->nonce, APM_NONCE_LEN);
		transactions[n] = envelope->transaction;
		proofs[n] = envelope->proof;
		n++;
	}
	if (n == 0)
		return;
	args[0] = apm_uuid_array(tids, n);
	args[1] = apm_bytea_array(nonces, n);
	args[2] = apm_bytea_array(transactions, n);
	args[3] = apm_bytea_array(proofs, n);
	apm_run_whole(&put, args, (uint64) n);
}

/* Takes away what the block's erasures have voided. */
static void
prune_bodies(const ApmContents *block)
{
	static ApmStatement prune = {
		.sql = "DELETE FROM ONLY apm.body AS b USING ONLY apm.ledger_void AS v"
			   " WHERE v.erasure_height = $1 AND b.tid = v.tid",
		.nargs = 1,
		.types = {INT8OID},
	};
	Datum args[] = {Int64GetDatum((int64) block->height)};
	uint64 voided = 0;

	for (int i = 0; i < block->n; i++)
	{
		if (apm_is_valid(block, i, APM_KIND_ERASURE))
			voided += block->opened[i].tx.u.erasure.count;
	}
	if (voided > 0)
		apm_run_whole(&prune, args, voided);
}

static void
move_tip(const ApmNewBlock *block)
{
	static ApmStatement put = {
		.sql = "INSERT INTO apm.tip (one, height, hash, frontier) VALUES (true, $1, $2, $3)"
			   " ON CONFLICT (one) DO UPDATE"
			   " SET height = EXCLUDED.height, hash = EXCLUDED.hash, frontier = EXCLUDED.frontier",
		.nargs = 3,
		.types = {INT8OID, BYTEAOID, BYTEAOID},
	};
	ApmFrontier frontier = block->earlier;
	ApmBuf encoded = {0};
	Datum args[3];

	apm_history_append(&frontier, &block->hash);
	apm_frontier_encode(&frontier, &encoded);
	apm_check(apm_buf_status(&encoded), "encode the tip of the chain");
	args[0] = Int64GetDatum((int64) block->header.height);
	args[1] = apm_digest_datum(&block->hash);
	args[2] = apm_bytea_datum(APM_SLICE(encoded.data, encoded.len));
	apm_run_whole(&put, args, 1);
}

void
apm_ledger_append(const ApmNewBlock *block)
{
	ApmContents contents = {
		.height = block->header.height,
		.time_us = block->header.time_us,
		.n = block->n,
		.entries = block->entries,
		.opened = block->opened,
	};

	apm_derive_contract(&contents);
	append_block(block);
	append_leaves(block);
	append_bodies(block);
	apm_derive(&contents);
	prune_bodies(&contents);
	move_tip(block);
}
