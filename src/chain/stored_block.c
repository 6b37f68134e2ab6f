/*
 * stored_block.c
 *	  Blocks as the tables have them, for whoever verifies them without the tables.
 */
#include "postgres.h"

#include "apm_errors.h"
#include "apm_sql.h"
#include "chain/stored_block.h"

static bool
read_block(int64 height, const ApmDigest *hash, ApmStoredBlock *out)
{
	static ApmStatement next = {
		.sql = "SELECT b.height, b.hash, b.header, b.signature FROM ONLY apm.block AS b"
			   " WHERE b.height >= $1 AND (b.height, b.hash) > ($1, $2) ORDER BY b.height, b.hash LIMIT 1",
		.nargs = 2,
		.types = {INT8OID, BYTEAOID},
	};
	Datum args[] = {Int64GetDatum(height), apm_digest_datum(hash)};

	memset(out, 0, sizeof(*out));
	if (apm_run(&next, args) == 0)
		return false;
	out->height = (uint64) apm_row_int8(0, 1);
	apm_row_digest(0, 2, &out->hash);
	out->header = apm_slice_copy(CurrentMemoryContext, apm_row_bytea(0, 3));
	out->signature = apm_slice_copy(CurrentMemoryContext, apm_row_bytea(0, 4));
	return true;
}

/* Its leaf rows and bodies, which stay in SPI_tuptable. */
static void
read_entries(ApmStoredBlock *block)
{
	static ApmStatement get = {
		.sql = "SELECT l.position, l.tid, l.kind, l.rule, l.leaf, b.nonce, b.transaction, b.proof"
			   " FROM ONLY apm.leaf AS l LEFT JOIN ONLY apm.body AS b ON b.tid = l.tid"
			   " WHERE l.block = $1 ORDER BY l.position",
		.nargs = 1,
		.types = {BYTEAOID},
	};
	Datum args[] = {apm_digest_datum(&block->hash)};
	uint64 rows = apm_run(&get, args);

	if (rows > APM_STORED_ENTRIES_MAX)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("a block of the ledger has more entries than can be exported"),
						errhint("Run apm_verify().")));
	block->count = rows;
	block->entries = palloc0_array(ApmStoredEntry, Max(rows, 1));
	for (uint64 row = 0; row < rows; row++)
	{
		ApmStoredEntry *entry = &block->entries[row];

		entry->position = (uint32) apm_row_int4(row, 1);
		apm_row_uuid(row, 2, &entry->tid);
		entry->kind = (uint16) apm_row_int2(row, 3);
		entry->rule = (uint16) apm_row_int2(row, 4);
		apm_row_digest(row, 5, &entry->leaf);
		entry->kept = !apm_row_null(row, 6);
		if (!entry->kept)
			continue;
		entry->nonce = apm_row_bytea(row, 6);
		entry->transaction = apm_row_bytea(row, 7);
		entry->proof = apm_row_bytea(row, 8);
	}
}

bool
apm_stored_block(int64 height, const ApmDigest *hash, ApmStoredBlock *out)
{
	if (!read_block(height, hash, out))
		return false;
	read_entries(out);
	return true;
}
