/*
 * guard_row.c
 *	  What a row of the ledger must be, whoever inserts it.
 *
 * A block is judged after the statement that brings it, when all rows of a restore's COPY
 * are there in whatever order they came.  Leaves and bodies are judged each for itself:
 * a parallel restore may bring them before their blocks.  What a row alone cannot show is
 * for apm_verify().
 *
 * While apm.member or apm.contract_item is empty a restore is under way and nobody can say who may
 * sign and which block is missing yet; then a block has to be whole in itself.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type_d.h"
#include "fmgr.h"
#include "utils/rel.h"
#include "utils/uuid.h"

#include "apm_errors.h"
#include "apm_sql.h"
#include "apm_user.h"
#include "chain/guard.h"
#include "chain/identity.h"
#include "chain/ledger.h"

PG_FUNCTION_INFO_V1(apm_guard_block);
PG_FUNCTION_INFO_V1(apm_guard_leaf);
PG_FUNCTION_INFO_V1(apm_guard_body);

/* Columns of apm.block, apm.leaf and apm.body */
#define BLOCK_HASH 1
#define BLOCK_HEIGHT 2
#define BLOCK_HEADER 3
#define BLOCK_SIGNATURE 4
#define LEAF_POSITION 2
#define LEAF_TID 3
#define LEAF_KIND 4
#define LEAF_RULE 5
#define LEAF_LEAF 6
#define BODY_TID 1
#define BODY_NONCE 2
#define BODY_TRANSACTION 3
#define BODY_PROOF 4

#define MAX_KIND APM_KIND_CONTRACT

/* A column of the new row; NULL and lengths are for the table's own constraints, so here they only end the check. */
static Datum
column(TriggerData *data, int number)
{
	bool isnull;
	Datum value = heap_getattr(data->tg_trigtuple, number, RelationGetDescr(data->tg_relation), &isnull);

	if (isnull)
		apm_guard_refuse(data->tg_relation, "format", "A column is null.");
	return value;
}

/* A bytea column; exactly len bytes if len is not 0. */
static ApmSlice
bytes(TriggerData *data, int number, size_t len)
{
	struct varlena *value = PG_DETOAST_DATUM_PACKED(column(data, number));
	ApmSlice slice = APM_SLICE_OF(value);

	if (len != 0 && slice.len != len)
		apm_guard_refuse(data->tg_relation, "format", "A column has the wrong length.");
	return slice;
}

static bool
is_digest(ApmSlice slice, const ApmDigest *digest)
{
	return slice.len == APM_DIGEST_LEN && memcmp(slice.data, digest->bytes, APM_DIGEST_LEN) == 0;
}

/* The header of a stored block; false if there is none of that hash. */
static bool
find_header(const ApmDigest *hash, ApmHeader *out)
{
	static ApmStatement get = {
		.sql = "SELECT b.header FROM ONLY apm.block AS b WHERE b.hash = $1", .nargs = 1, .types = {BYTEAOID}};
	Datum args[] = {apm_digest_datum(hash)};

	if (apm_run(&get, args) == 0)
		return false;
	apm_check(apm_header_decode(apm_row_bytea(0, 1), out), "read the header of a block");
	return true;
}

/*
 * The frontier over the hashes of all blocks up to one.  It follows from that block's
 * hash alone, so the last one is kept, and serves the next block of a restore.
 */
static struct
{
	ApmDigest hash;
	ApmFrontier frontier;
} walked;

static void
remember_frontier(const ApmDigest *hash, const ApmFrontier *earlier)
{
	walked.hash = *hash;
	walked.frontier = *earlier;
	apm_history_append(&walked.frontier, hash);
}

static bool
same(const ApmDigest *a, const ApmDigest *b)
{
	return memcmp(a, b, sizeof(ApmDigest)) == 0;
}

/* Of a stored block. */
static void
frontier_upto(const ApmDigest *hash, ApmFrontier *out)
{
	static ApmStatement walk = {
		.sql =
			"WITH RECURSIVE way (hash, header, height) AS ("
			"SELECT b.hash, b.header, b.height FROM ONLY apm.block AS b WHERE b.hash = $1"
			" UNION ALL SELECT p.hash, p.header, p.height FROM way AS w"
			" JOIN ONLY apm.block AS p ON p.hash = pg_catalog.substring(w.header, 43, 32) AND p.height = w.height - 1)"
			" SELECT w.hash FROM way AS w ORDER BY w.height",
		.nargs = 1,
		.types = {BYTEAOID},
	};
	Datum args[] = {apm_digest_datum(hash)};
	ApmTip tip;
	uint64 rows;

	if (walked.frontier.size > 0 && same(&walked.hash, hash))
	{
		*out = walked.frontier;
		return;
	}
	if (apm_ledger_tip(&tip) && same(&tip.hash, hash))
	{
		*out = tip.frontier;
		return;
	}
	rows = apm_run(&walk, args);
	memset(out, 0, sizeof(*out));
	for (uint64 row = 0; row < rows; row++)
	{
		ApmDigest step;

		apm_row_digest(row, 1, &step);
		apm_history_append(out, &step);
	}
}

/*
 * Without members and a contract nothing is known that the block could be held against; it must at least meet
 * its own difficulty.
 */
static void
check_alone(Relation relation, const ApmHeader *header, const ApmDigest *hash)
{
	if (header->bits > APM_MAX_DIFFICULTY)
		apm_guard_refuse(relation, apm_block_fault_name(APM_BLOCK_DIFFICULTY),
						 "The difficulty is out of bounds.");
	if (!apm_hash_meets(hash, header->bits))
		apm_guard_refuse(relation, apm_block_fault_name(APM_BLOCK_WORK),
						 "The hash does not meet the difficulty.");
}

/*
 * Against its parent, the history, the members and the contract.  The contract is that after the block; who may
 * sign is said by the members before it, because it may replace the key of its own node.  Genesis brings its members.
 */
static void
check_in_chain(Relation relation, const uint8 *encoded, const ApmHeader *header, const ApmDigest *hash,
			   const ApmSignature *signature)
{
	bool genesis = header->height == 0;
	ApmContractState *after = apm_state_new(CurrentMemoryContext, &header->chain, header->height + 1);
	ApmContractState *state = after;
	ApmFrontier earlier = {0};
	ApmBlockFault fault;
	ApmDigest contract;
	ApmHeader parent;

	apm_check(apm_contract_digest(after, &contract), "hash the contract");
	if (!genesis)
	{
		if (apm_state_changes_at(header->height))
			state = apm_state_new(CurrentMemoryContext, &header->chain, header->height);
		if (!find_header(&header->previous, &parent))
			apm_guard_refuse(relation, apm_block_fault_name(APM_BLOCK_LINK),
							 "The block before is not there.");
		frontier_upto(&header->previous, &earlier);
	}
	fault = apm_block_check(state, encoded, genesis ? NULL : &parent, genesis ? NULL : &header->previous,
							&earlier, &contract, signature);
	if (fault == APM_BLOCK_UNDECIDED)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("could not judge a block")));
	if (fault != APM_BLOCK_OK)
		apm_guard_refuse(relation, apm_block_fault_name(fault), "The block does not fit the chain.");
	remember_frontier(hash, &earlier);
}

/* Tables of a restore come one by one, in any order. */
static bool
has_constitution(void)
{
	static ApmStatement get = {
		.sql =
			"SELECT WHERE EXISTS (SELECT FROM ONLY apm.member) AND EXISTS (SELECT FROM ONLY apm.contract_item)",
	};

	return apm_run(&get, NULL) > 0;
}

/* AFTER INSERT FOR EACH ROW on apm.block. */
Datum
apm_guard_block(PG_FUNCTION_ARGS)
{
	TriggerData *data = apm_guard_called(fcinfo, "block", TRIGGER_EVENT_INSERT, false, true);
	Relation relation = data->tg_relation;
	ApmSlice encoded = bytes(data, BLOCK_HEADER, APM_HEADER_LEN);
	ApmSlice sig = bytes(data, BLOCK_SIGNATURE, APM_SIGNATURE_LEN);
	ApmChainIdentity identity;
	ApmPrivileged saved;
	ApmSignature signature;
	ApmHeader header;
	ApmDigest hash;

	apm_guard_note(relation);
	if (apm_header_decode(encoded, &header) != APM_OK)
		apm_guard_refuse(relation, apm_block_fault_name(APM_BLOCK_FORMAT), "The header cannot be read.");
	apm_check(apm_header_hash(encoded.data, &hash), "hash a block");
	if (!is_digest(bytes(data, BLOCK_HASH, 0), &hash))
		apm_guard_refuse(relation, "hash", "The hash is not that of the header.");
	if ((uint64) DatumGetInt64(column(data, BLOCK_HEIGHT)) != header.height)
		apm_guard_refuse(relation, apm_block_fault_name(APM_BLOCK_HEIGHT),
						 "The height is not that of the header.");
	memcpy(signature.bytes, sig.data, APM_SIGNATURE_LEN);

	apm_privileged_begin(&saved);
	SPI_connect();
	if (apm_chain_read(&identity) && !same(&identity.chain, &header.chain))
		apm_guard_refuse(relation, apm_block_fault_name(APM_BLOCK_CHAIN),
						 "The block belongs to another chain.");
	if (has_constitution())
		check_in_chain(relation, encoded.data, &header, &hash, &signature);
	else
		check_alone(relation, &header, &hash);
	SPI_finish();
	apm_privileged_end(&saved);
	PG_RETURN_POINTER(NULL);
}

/* A Tid holds its transaction's milliseconds and the leaf's first bits, so it can be checked against the leaf alone. */
static bool
tid_fits_leaf(const ApmUuid *tid, const ApmDigest *leaf)
{
	uint64 milliseconds = 0;
	ApmUuid expected;

	for (int i = 0; i < 6; i++)
		milliseconds = milliseconds << 8 | tid->bytes[i];
	apm_transaction_tid(milliseconds * 1000, leaf, &expected);
	return memcmp(&expected, tid, sizeof(expected)) == 0;
}

/* BEFORE INSERT FOR EACH ROW on apm.leaf. */
Datum
apm_guard_leaf(PG_FUNCTION_ARGS)
{
	TriggerData *data = apm_guard_called(fcinfo, "leaf", TRIGGER_EVENT_INSERT, true, true);
	int16 kind = DatumGetInt16(column(data, LEAF_KIND));
	int16 rule = DatumGetInt16(column(data, LEAF_RULE));
	int32 position = DatumGetInt32(column(data, LEAF_POSITION));
	ApmDigest leaf;
	ApmUuid tid;

	apm_guard_note(data->tg_relation);
	memcpy(leaf.bytes, bytes(data, LEAF_LEAF, APM_DIGEST_LEN).data, APM_DIGEST_LEN);
	memcpy(tid.bytes, DatumGetUUIDP(column(data, LEAF_TID))->data, APM_UUID_LEN);
	if (position < 0 || position >= APM_BLOCK_MAX_LEAVES)
		apm_guard_refuse(data->tg_relation, "position", "No block has such a position.");
	if (kind < 0 || kind > MAX_KIND || (kind == 0 && rule == APM_RULE_NONE))
		apm_guard_refuse(data->tg_relation, "kind", "There is no such kind of transaction.");
	if (rule != APM_RULE_NONE && rule < APM_SITE_RULE && apm_rule_name((uint16) rule) == NULL)
		apm_guard_refuse(data->tg_relation, "rule", "There is no such rule.");
	if (!tid_fits_leaf(&tid, &leaf))
		apm_guard_refuse(data->tg_relation, "tid", "The transaction id is not that of the leaf.");
	return PointerGetDatum(data->tg_trigtuple);
}

/* BEFORE INSERT FOR EACH ROW on apm.body. */
Datum
apm_guard_body(PG_FUNCTION_ARGS)
{
	TriggerData *data = apm_guard_called(fcinfo, "body", TRIGGER_EVENT_INSERT, true, true);
	ApmSlice nonce = bytes(data, BODY_NONCE, APM_NONCE_LEN);
	ApmSlice encoded = bytes(data, BODY_TRANSACTION, 0);
	ApmOriginProof proof;
	ApmTransaction tx;
	ApmDigest leaf;
	ApmUuid tid;

	apm_guard_note(data->tg_relation);
	if (apm_transaction_decode(encoded, &tx) != APM_OK)
		apm_guard_refuse(data->tg_relation, "format", "The transaction cannot be read.");
	if (apm_origin_proof_decode(bytes(data, BODY_PROOF, 0), &proof) != APM_OK)
		apm_guard_refuse(data->tg_relation, "proof", "The origin's proof cannot be read.");
	apm_check(apm_transaction_leaf(nonce.data, encoded, &leaf), "hash a transaction");
	apm_transaction_tid(tx.time_us, &leaf, &tid);
	if (memcmp(DatumGetUUIDP(column(data, BODY_TID))->data, tid.bytes, APM_UUID_LEN) != 0)
		apm_guard_refuse(data->tg_relation, "tid", "The transaction id is not that of the transaction.");
	return PointerGetDatum(data->tg_trigtuple);
}
