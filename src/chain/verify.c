/*
 * verify.c
 *	  apm_verify(): the ledger computed again from its rows.
 *
 * Headers are walked from genesis in any case: they are few and each is one hash, one
 * history root and one signature.  Leaves, bodies and verdicts are verified for the blocks
 * asked for (verify_block.c).  The contract itself is carried along, from change to change
 * (verify_contract.c).  Its rules need state as of each block; a replay would
 * hold all of it in memory, so it is loaded from the derived tables, restricted to what
 * was there before the block, and the derived tables are held against the ledger on the
 * way (verify_derived.c): a derived row that is wrong is found at the transaction that
 * made it, one that no transaction made in the totals.  Memory is that of one block, plus
 * a little for each patient whose profile was ever changed.
 *
 * Everything is read under one snapshot, so a block that is appended meanwhile does not
 * look like a fault.
 *
 * What this cannot find without a digest kept elsewhere is a chain that was cut behind a
 * block, with everything derived from it and with the sign-state.
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "apm_attempt.h"
#include "apm_errors.h"
#include "apm_sql.h"
#include "apm_user.h"
#include "chain/verify.h"

PG_FUNCTION_INFO_V1(apm_verify);

/* Blocks whose headers are read at once. */
#define HEADERS_AT_ONCE 256

typedef struct StoredBlock
{
	int64 height;
	ApmDigest hash;
	uint8 header[APM_HEADER_LEN];
	ApmSignature signature;
} StoredBlock;

bool
apm_walk_fault(ApmWalk *walk, int64 height, int32 position, const char *format, ...)
{
	ApmVerification *result = walk->result;
	va_list args;

	result->ok = false;
	result->height = height;
	result->position = position;
	va_start(args, format);
	vsnprintf(result->fault, sizeof(result->fault), format, args);
	va_end(args);
	return false;
}

static bool
same(const ApmDigest *a, const ApmDigest *b)
{
	return memcmp(a, b, sizeof(ApmDigest)) == 0;
}

static bool
same_bytes(ApmSlice stored, const uint8 *data, size_t len)
{
	return stored.len == len && memcmp(stored.data, data, len) == 0;
}

/*
 * Against the block before and the members; genesis itself against what its own transactions
 * say.
 */
static bool
verify_header(ApmWalk *walk, const StoredBlock *block, ApmHeader *header)
{
	bool genesis = block->height == 0;
	ApmBlockFault fault;
	ApmDigest hash;

	if (apm_header_decode(APM_SLICE(block->header, APM_HEADER_LEN), header) != APM_OK)
		return apm_walk_fault(walk, block->height, -1, "block: its header cannot be read");
	apm_check(apm_header_hash(block->header, &hash), "hash a block");
	if (!same(&hash, &block->hash))
		return apm_walk_fault(walk, block->height, -1, "block: rule \"hash\" is broken");
	if (genesis)
	{
		if (!same(&header->chain, &walk->identity.chain))
			return apm_walk_fault(walk, 0, -1, "block: rule \"chain\" is broken");
		if (!apm_verify_entries(walk, header, &hash) || !apm_verify_members(walk))
			return false;
	}
	fault = apm_block_check(walk->state, block->header, genesis ? NULL : &walk->parent,
							genesis ? NULL : &walk->parent_hash, &walk->frontier, NULL, &block->signature);
	if (fault == APM_BLOCK_UNDECIDED)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("could not verify a block")));
	if (fault != APM_BLOCK_OK)
		return apm_walk_fault(walk, block->height, -1, "block: rule \"%s\" is broken",
							  apm_block_fault_name(fault));
	return true;
}

/*
 * The transactions of a block that is looked into, and of any block what it changes in the contract:
 * the header has the digest of the contract after it.
 */
static bool
verify_contents(ApmWalk *walk, const StoredBlock *block, const ApmHeader *header)
{
	bool good = true;

	if (block->height > 0 && block->height >= walk->from)
		good = apm_verify_entries(walk, header, &block->hash);
	else if (block->height > 0)
		good = apm_verify_pass_contract(walk, header);
	if (good && !same(&header->contract, &walk->contract))
		return apm_walk_fault(walk, block->height, -1, "block: rule \"%s\" is broken",
							  apm_block_fault_name(APM_BLOCK_CONTRACT));
	return good;
}

/* The next block of the walk. */
static bool
verify_block(ApmWalk *walk, const StoredBlock *block, int64 expected)
{
	ApmHeader header;

	CHECK_FOR_INTERRUPTS();
	walk->at = expected;
	if (block->height > expected)
		return apm_walk_fault(walk, expected, -1, "block: there is none of this height");
	if (block->height < expected)
		return apm_walk_fault(walk, block->height, -1, "block: there are two of this height");
	if (!verify_header(walk, block, &header) || !verify_contents(walk, block, &header))
		return false;
	if (expected >= walk->from)
	{
		walk->result->blocks++;
		walk->result->transactions += header.count;
	}
	walk->parent = header;
	walk->parent_hash = block->hash;
	apm_history_append(&walk->frontier, &block->hash);
	return true;
}

/* Up to HEADERS_AT_ONCE blocks from that height on, with one more if it is a second of a height. */
static int
read_blocks(int64 from, int64 to, StoredBlock *out)
{
	static ApmStatement get = {
		.sql = "SELECT b.height, b.hash, b.header, b.signature FROM ONLY apm.block AS b"
			   " WHERE b.height >= $1 AND b.height <= $2 ORDER BY b.height, b.hash LIMIT $3",
		.nargs = 3,
		.types = {INT8OID, INT8OID, INT4OID},
	};
	Datum args[] = {Int64GetDatum(from), Int64GetDatum(to), Int32GetDatum(HEADERS_AT_ONCE)};
	int rows;

	SPI_connect();
	rows = (int) apm_run(&get, args);
	for (int row = 0; row < rows; row++)
	{
		ApmSlice header = apm_row_bytea(row, 3);
		ApmSlice signature = apm_row_bytea(row, 4);

		if (header.len != APM_HEADER_LEN || signature.len != APM_SIGNATURE_LEN)
			ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("a stored block has the wrong length")));
		out[row].height = apm_row_int8(row, 1);
		apm_row_digest(row, 2, &out[row].hash);
		memcpy(out[row].header, header.data, APM_HEADER_LEN);
		memcpy(out[row].signature.bytes, signature.data, APM_SIGNATURE_LEN);
	}
	SPI_finish();
	return rows;
}

static bool
verify_blocks(ApmWalk *walk)
{
	StoredBlock *blocks = palloc_array(StoredBlock, HEADERS_AT_ONCE);
	int64 expected = 0;

	while (expected <= walk->to)
	{
		int n = read_blocks(expected, walk->to, blocks);

		if (n == 0)
			return apm_walk_fault(walk, expected, -1, "block: there is none of this height");
		for (int i = 0; i < n; i++)
		{
			if (!verify_block(walk, &blocks[i], expected))
				return false;
			expected++;
		}
	}
	return true;
}

static int64
one_number(ApmStatement *statement, int64 argument)
{
	Datum args[] = {Int64GetDatum(argument)};
	int64 answer = -1;

	SPI_connect();
	if (apm_run(statement, args) > 0 && !apm_row_null(0, 1))
		answer = apm_row_int8(0, 1);
	SPI_finish();
	return answer;
}

/* The last block is the tip, and no other has its height or a greater one. */
static bool
verify_tip(ApmWalk *walk)
{
	static ApmStatement beyond = {
		.sql = "SELECT pg_catalog.min(b.height) FROM ONLY apm.block AS b WHERE b.height > $1",
		.nargs = 1,
		.types = {INT8OID},
	};
	static ApmStatement below = {
		.sql = "SELECT b.height FROM ONLY apm.block AS b WHERE b.height <= $1"
			   " GROUP BY b.height HAVING pg_catalog.count(*) > 1 ORDER BY b.height LIMIT 1",
		.nargs = 1,
		.types = {INT8OID},
	};
	int64 tip = walk->tip_height;
	int64 found = one_number(&beyond, tip);
	ApmBuf frontier = {0};

	if (found >= 0)
		return apm_walk_fault(walk, found, -1, "block: it stands beyond the tip");
	found = one_number(&below, tip);
	if (found >= 0)
		return apm_walk_fault(walk, found, -1, "block: there are two of this height");
	if (!same_bytes(walk->tip_hash, walk->parent_hash.bytes, APM_DIGEST_LEN))
		return apm_walk_fault(walk, tip, -1, "apm.tip: the hash is not that of the last block");
	apm_frontier_encode(&walk->frontier, &frontier);
	apm_check(apm_buf_status(&frontier), "encode the tip of the chain");
	if (!same_bytes(walk->tip_frontier, frontier.data, frontier.len))
		return apm_walk_fault(walk, tip, -1, "apm.tip: the frontier is not that of the blocks");
	return true;
}

/* Reads what the walk is held against.  False after a fault. */
static bool
begin_walk(ApmWalk *walk)
{
	static ApmStatement tip = {.sql = "SELECT t.height, t.hash, t.frontier FROM ONLY apm.tip AS t"};
	static ApmStatement highest = {
		.sql = "SELECT pg_catalog.max(b.height) FROM ONLY apm.block AS b WHERE b.height >= $1",
		.nargs = 1,
		.types = {INT8OID},
	};

	if (!apm_chain_read(&walk->identity))
	{
		if (one_number(&highest, 0) >= 0)
			return apm_walk_fault(walk, -1, -1, "apm.chain: the row is missing");
		ereport(ERROR, (errcode(ERRCODE_APM_NOT_SET_UP), errmsg("this database takes part in no chain"),
						errhint("Call apm_setup().")));
	}
	if (apm_run(&tip, NULL) == 0)
		return apm_walk_fault(walk, -1, -1, "apm.tip: the row is missing");
	walk->tip_height = apm_row_int8(0, 1);
	walk->tip_hash = apm_slice_copy(walk->context, apm_row_bytea(0, 2));
	walk->tip_frontier = apm_slice_copy(walk->context, apm_row_bytea(0, 3));
	if (walk->to < 0)
		walk->to = Max(walk->tip_height, walk->from);
	return true;
}

static void
verify(ApmWalk *walk)
{
	int64 wanted;
	bool to_tip;

	if (!begin_walk(walk))
		return;
	wanted = walk->to;
	walk->to = Min(walk->to, walk->tip_height);
	to_tip = walk->to == walk->tip_height;
	apm_verify_begin_contract(walk);
	apm_verify_begin_profiles(walk);
	if (!verify_blocks(walk) || (to_tip && !verify_tip(walk)))
		return;
	if (to_tip && walk->from == 0 && !apm_verify_totals(walk))
		return;
	if (wanted > walk->tip_height)
		(void) apm_walk_fault(walk, walk->tip_height + 1, -1, "the chain ends before this block");
}

/* Is this error what a damaged ledger, or damaged storage, raises? */
static bool
is_damage(int sqlstate)
{
	switch (ERRCODE_TO_CATEGORY(sqlstate))
	{
		case ERRCODE_INTERNAL_ERROR:
		case ERRCODE_DATA_EXCEPTION:
			return true;
		default:
			return sqlstate == ERRCODE_APM_KEY_REFUSED || sqlstate == ERRCODE_APM_TAMPERED;
	}
}

static void
verify_step(void *arg)
{
	ApmWalk *walk = arg;

	MemoryContextSwitchTo(walk->context);
	verify(walk);
}

/* What cannot be read at all is a fault, too, and has a place. */
static void
verify_or_damaged(ApmWalk *walk)
{
	ErrorData *error = apm_attempt(verify_step, walk);

	if (error == NULL)
		return;
	if (!is_damage(error->sqlerrcode))
		ReThrowError(error);
	(void) apm_walk_fault(walk, walk->at, -1,
						  "block: a row of it or of what follows from it cannot be read (SQLSTATE %s)",
						  unpack_sql_state(error->sqlerrcode));
}

void
apm_verify_ledger(int64 from, int64 to, ApmVerification *out)
{
	ApmWalk *walk = palloc0(sizeof(ApmWalk));

	memset(out, 0, sizeof(*out));
	out->ok = true;
	out->height = -1;
	out->position = -1;
	walk->context = CurrentMemoryContext;
	walk->from = from;
	walk->to = to;
	walk->result = out;
	apm_sql_freeze(true);
	PG_TRY();
	{
		verify_or_damaged(walk);
	}
	PG_FINALLY();
	{
		apm_sql_freeze(false);
	}
	PG_END_TRY();
}

/* apm_verify(from_height bigint, to_height bigint): one row */
Datum
apm_verify(PG_FUNCTION_ARGS)
{
	int64 from = PG_ARGISNULL(0) ? 0 : PG_GETARG_INT64(0);
	int64 to = PG_ARGISNULL(1) ? -1 : PG_GETARG_INT64(1);
	ApmVerification found;
	ApmPrivileged saved;
	TupleDesc desc;
	Datum values[7];
	bool nulls[7] = {false};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "apm_verify returns a row");
	if (from < 0 || (!PG_ARGISNULL(1) && to < from))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("heights are out of order")));
	apm_privileged_begin(&saved);
	SPI_connect();
	apm_verify_ledger(from, to, &found);
	SPI_finish();
	apm_privileged_end(&saved);

	nulls[1] = found.height < 0;
	nulls[2] = found.position < 0;
	nulls[3] = found.ok;
	values[0] = BoolGetDatum(found.ok);
	values[1] = Int64GetDatum(found.height);
	values[2] = Int32GetDatum(found.position);
	values[3] = CStringGetTextDatum(found.fault);
	values[4] = Int64GetDatum(found.blocks);
	values[5] = Int64GetDatum(found.transactions);
	values[6] = Int64GetDatum(found.not_rerun);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
