/*
 * verify.c
 *	  Verification: the ledger computed again from its rows.
 *
 * Headers are walked from genesis in any case: they are few and each is one hash, one
 * history root and one signature.  Leaves, bodies and verdicts are verified for the blocks
 * asked for (verify_block.c).  The contract itself is carried along, from change to change
 * (verify_contract.c).  Its rules need state as of each block; a replay would
 * hold all of it in memory, so it is loaded from the derived tables, restricted to what
 * was there before the block, and the derived tables are held against the ledger on the
 * way (verify_derived.c): a derived row that is wrong is found at the transaction that
 * made it, one that no transaction made in the totals.  Of what an erasure voided the
 * erasure is asked (verify_void.c).  Memory is that of one block, and of some erasures.
 * Several backends can share the blocks out among them (verify_parallel.c).
 *
 * Everything is read under one snapshot, so a block that is appended meanwhile does not
 * look like a fault.
 *
 * What this cannot find without a block that is known from elsewhere is a chain that was cut behind a
 * block, with everything derived from it and with the sign-state.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "apm_attempt.h"
#include "apm_errors.h"
#include "apm_sql.h"
#include "chain/verify.h"

/* Blocks whose headers are read at once. */
#define HEADERS_AT_ONCE 256
/* How often a caller who waits hears how far it is. */
#define TELL_EVERY_MS 3000

typedef struct StoredBlock
{
	int64 height;
	ApmDigest hash;
	bool readable; /* header and signature have their lengths */
	uint8 header[APM_HEADER_LEN];
	ApmSignature signature;
} StoredBlock;

bool
apm_walk_fault_detail(ApmWalk *walk, ApmFaultRule rule, int64 height, int32 position, const char *format, ...)
{
	ApmVerification *result = walk->result;
	va_list args;

	result->ok = false;
	result->rule = rule;
	result->height = height;
	result->position = position;
	va_start(args, format);
	vsnprintf(result->fault, sizeof(result->fault), format, args);
	va_end(args);
	return false;
}

bool
apm_walk_fault(ApmWalk *walk, ApmFaultRule rule, int64 height, int32 position)
{
	return apm_walk_fault_detail(walk, rule, height, position, "%s", apm_fault_text(rule));
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

/* height, format, hash: what can be said of a stored block alone. */
static bool
verify_stored(ApmWalk *walk, const StoredBlock *block, ApmHeader *header)
{
	ApmDigest hash;

	if (block->height != walk->at)
		return apm_walk_fault(walk, APM_FAULT_HEIGHT, Min(block->height, walk->at), -1);
	if (!block->readable || apm_header_decode(APM_SLICE(block->header, APM_HEADER_LEN), header) != APM_OK)
		return apm_walk_fault(walk, APM_FAULT_FORMAT, walk->at, -1);
	apm_check(apm_header_hash(block->header, &hash), "hash a block");
	return same(&hash, &block->hash) || apm_walk_fault(walk, APM_FAULT_HASH, walk->at, -1);
}

/* Against the block before and the members; genesis against what its own transactions said. */
static bool
verify_header(ApmWalk *walk, const StoredBlock *block)
{
	bool genesis = walk->at == 0;
	ApmBlockFault fault =
		apm_block_check(walk->state, block->header, genesis ? NULL : &walk->parent,
						genesis ? NULL : &walk->parent_hash, &walk->frontier, NULL, &block->signature);

	if (fault == APM_BLOCK_UNDECIDED)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("could not verify a block")));
	return fault == APM_BLOCK_OK || apm_walk_fault(walk, apm_fault_of_block(fault), walk->at, -1);
}

/* The header has the digest of the contract after its block. */
static bool
verify_contract(ApmWalk *walk, const ApmHeader *header)
{
	return same(&header->contract, &walk->contract) || apm_walk_fault(walk, APM_FAULT_CONTRACT, walk->at, -1);
}

/* A block that is looked into.  The ledger itself comes first, then what is kept beside it. */
static bool
verify_inside(ApmWalk *walk, const StoredBlock *block, const ApmHeader *header)
{
	bool genesis = walk->at == 0;
	ApmEntries e = {.context = CurrentMemoryContext,
					.block = {.height = (uint64) walk->at, .time_us = header->time_us, .hash = &block->hash}};

	if (genesis)
		apm_verify_begin_contract(walk, &header->chain);
	return apm_verify_read(walk, header, &e) && apm_verify_judge(walk, &e) &&
		   (!genesis || verify_header(walk, block)) && verify_contract(walk, header) &&
		   (!genesis || apm_verify_genesis(walk, header)) && apm_verify_derived(walk, &e);
}

/* Is the block the known one, if it has its height? */
static bool
verify_known(ApmWalk *walk, const ApmDigest *hash)
{
	return walk->known == NULL || walk->known->height != walk->at || same(&walk->known->hash, hash) ||
		   apm_walk_fault(walk, APM_FAULT_DIGEST, walk->at, -1);
}

/* Tells the caller now and then how many blocks are done. */
static void
tell(ApmWalk *walk, int64 done)
{
	TimestampTz now = GetCurrentTimestamp();

	if (!TimestampDifferenceExceeds(walk->told_at, now, TELL_EVERY_MS))
		return;
	walk->told_at = now;
	ereport(NOTICE, (errmsg("verified " INT64_FORMAT " of " INT64_FORMAT " blocks", done, walk->to + 1)));
}

/*
 * What a block says and what is in it, if it is the walk's own; of genesis, from which all that follows is judged,
 * everybody asks it.
 */
static bool
verify_content(ApmWalk *walk, const StoredBlock *block, ApmHeader *header, bool own)
{
	ApmWalkCounts before = walk->counts;
	bool genesis = walk->at == 0;

	if (!verify_stored(walk, block, header) || (own && !genesis && !verify_header(walk, block)))
		return false;
	if (!genesis && (!own || walk->at < walk->from))
		return apm_verify_pass_contract(walk, header) && verify_contract(walk, header);
	if (!verify_inside(walk, block, header))
		return false;
	if (!own)
		walk->counts = before;
	return true;
}

/* The next block of the walk.  SPI's own memory holds it, and goes when it is done. */
static bool
verify_block(ApmWalk *walk, const StoredBlock *block)
{
	bool own = walk->share == NULL || apm_share_owns(walk);
	ApmHeader header;
	bool good;

	CHECK_FOR_INTERRUPTS();
	SPI_connect();
	good = verify_content(walk, block, &header, own);
	SPI_finish();
	if (!good || !verify_known(walk, &block->hash))
		return false;
	if (own && walk->at >= walk->from)
	{
		walk->counts.blocks++;
		walk->counts.transactions += header.count;
	}
	walk->parent = header;
	walk->parent_hash = block->hash;
	apm_history_append(&walk->frontier, &block->hash);
	walk->at++;
	if (walk->share == NULL)
		tell(walk, walk->at);
	else if (walk->leads)
		tell(walk, apm_share_done(walk, own));
	else
		(void) apm_share_done(walk, own);
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

		out[row].height = apm_row_int8(row, 1);
		apm_row_digest(row, 2, &out[row].hash);
		out[row].readable = header.len == APM_HEADER_LEN && signature.len == APM_SIGNATURE_LEN;
		if (!out[row].readable)
			continue;
		memcpy(out[row].header, header.data, APM_HEADER_LEN);
		memcpy(out[row].signature.bytes, signature.data, APM_SIGNATURE_LEN);
	}
	SPI_finish();
	return rows;
}

bool
apm_verify_blocks(ApmWalk *walk)
{
	StoredBlock *blocks = palloc_array(StoredBlock, HEADERS_AT_ONCE);

	while (walk->at <= walk->to)
	{
		int n = read_blocks(walk->at, walk->to, blocks);

		if (n == 0)
			return apm_walk_fault(walk, APM_FAULT_HEIGHT, walk->at, -1);
		for (int i = 0; i < n; i++)
		{
			if (walk->share != NULL && !apm_share_goes_on(walk))
				return true;
			if (!verify_block(walk, &blocks[i]))
				return false;
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

/* No other block has the height of the last one, of which a second was not read, and it is the tip. */
static bool
verify_tip(ApmWalk *walk)
{
	static ApmStatement below = {
		.sql = "SELECT b.height FROM ONLY apm.block AS b WHERE b.height <= $1"
			   " GROUP BY b.height HAVING pg_catalog.count(*) > 1 ORDER BY b.height LIMIT 1",
		.nargs = 1,
		.types = {INT8OID},
	};
	int64 found = one_number(&below, walk->last);
	ApmBuf frontier = {0};

	if (found >= 0)
		return apm_walk_fault(walk, APM_FAULT_HEIGHT, found, -1);
	if (walk->tip_height != walk->last ||
		!same_bytes(walk->tip_hash, walk->parent_hash.bytes, APM_DIGEST_LEN))
		return apm_walk_fault_detail(walk, APM_FAULT_TIP, walk->tip_height, -1,
									 "apm.tip: it is not the last block");
	apm_frontier_encode(&walk->frontier, &frontier);
	apm_check(apm_buf_status(&frontier), "encode the tip of the chain");
	return same_bytes(walk->tip_frontier, frontier.data, frontier.len) ||
		   apm_walk_fault_detail(walk, APM_FAULT_TIP, walk->tip_height, -1,
								 "apm.tip: the frontier is not that of the blocks");
}

bool
apm_verify_begin(ApmWalk *walk)
{
	static ApmStatement tip = {.sql = "SELECT t.height, t.hash, t.frontier FROM ONLY apm.tip AS t"};
	static ApmStatement highest = {
		.sql = "SELECT pg_catalog.max(b.height) FROM ONLY apm.block AS b WHERE b.height >= $1",
		.nargs = 1,
		.types = {INT8OID},
	};
	static ApmStatement voids = {.sql = "SELECT FROM ONLY apm.ledger_void AS v LIMIT 1"};

	walk->last = one_number(&highest, 0);
	if (!apm_chain_read(&walk->identity))
	{
		if (walk->last >= 0)
			return apm_walk_fault_detail(walk, APM_FAULT_DERIVED, -1, -1, "apm.chain: the row is missing");
		apm_chain_require(&walk->identity);
	}
	if (apm_run(&tip, NULL) == 0)
		return apm_walk_fault_detail(walk, APM_FAULT_TIP, -1, -1, "apm.tip: the row is missing");
	walk->tip_height = apm_row_int8(0, 1);
	walk->tip_hash = apm_slice_copy(walk->context, apm_row_bytea(0, 2));
	walk->tip_frontier = apm_slice_copy(walk->context, apm_row_bytea(0, 3));
	walk->has_voids = apm_run(&voids, NULL) > 0;
	return true;
}

/* A chain that has no end yet has no block 0 either. */
static void
verify(ApmWalk *walk)
{
	/* who goes on behind a known block may have been at the end */
	int64 wanted = Max(walk->to, walk->known != NULL ? walk->from - 1 : walk->from);
	bool to_end;

	if (!apm_verify_begin(walk))
		return;
	walk->to = Max(walk->to < 0 ? walk->last : Min(walk->to, walk->last), 0);
	to_end = walk->to >= walk->last;
	if (!apm_verify_in_parallel(walk) && !apm_verify_blocks(walk))
	{
		apm_verify_by_replay(walk);
		return;
	}
	if (to_end && !verify_tip(walk))
		return;
	if (to_end && walk->from == 0 && !apm_verify_totals(walk))
		return;
	if (walk->known != NULL && walk->known->height > walk->last)
		(void) apm_walk_fault(walk, APM_FAULT_DIGEST, walk->known->height, -1);
	else if (wanted > walk->last)
		(void) apm_walk_fault_detail(walk, APM_FAULT_HEIGHT, walk->last + 1, -1,
									 "the chain ends before this block");
	walk->result->to_end = to_end;
	walk->result->last = walk->at - 1;
	walk->result->hash = walk->parent_hash;
}

bool
apm_verify_is_damage(int sqlstate)
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
verify_or_damaged(void *arg)
{
	ApmWalk *walk = arg;
	ErrorData *error = apm_attempt(verify_step, walk);

	if (error == NULL)
		return;
	if (!apm_verify_is_damage(error->sqlerrcode))
		ReThrowError(error);
	(void) apm_walk_fault_detail(walk, APM_FAULT_ROW, walk->at, -1,
								 "a row of the block or of what follows from it cannot be read (SQLSTATE %s)",
								 unpack_sql_state(error->sqlerrcode));
}

/*
 * Plans that are made once, by index as all of ours (apm_user.h), and here also where tables have grown so much since that
 * the rows of a block would be sorted or gathered first: planning takes as long as a small block.
 */
static void
plan_by_index(void)
{
	static const char *const settings[][2] = {
		{"plan_cache_mode", "force_generic_plan"},
		{"enable_bitmapscan", "off"},
		{"enable_material", "off"},
		{"enable_sort", "off"},
		{"random_page_cost", "0"},
	};

	for (size_t i = 0; i < lengthof(settings); i++)
		(void) set_config_option(settings[i][0], settings[i][1], PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
								 true, 0, false);
}

void
apm_verify_ledger(const ApmVerifyRequest *request, ApmVerification *out)
{
	ApmWalk *walk = palloc0(sizeof(ApmWalk));
	int settings = NewGUCNestLevel();

	memset(out, 0, sizeof(*out));
	out->ok = true;
	out->height = -1;
	out->position = -1;
	walk->context = CurrentMemoryContext;
	walk->from = request->from;
	walk->to = request->to;
	walk->known = request->known;
	walk->told_at = GetCurrentTimestamp();
	walk->result = out;
	plan_by_index();
	apm_sql_frozen(verify_or_damaged, walk);
	out->blocks = walk->counts.blocks;
	out->transactions = walk->counts.transactions;
	out->not_rerun = walk->counts.not_rerun;
	out->erased = walk->counts.erased;
	AtEOXact_GUC(true, settings);
}
