/*
 * export_ledger.c
 *	  apm_export_ledger(): the ledger for whoever verifies it elsewhere, a line of text a block.
 *
 * A ledger may be larger than memory, so a line is made when it is asked for, from one block.  All calls of a statement
 * read with its snapshot: what is appended, or taken by an erasure, while the lines are read is in none of them, and
 * the export is the ledger of one moment.
 *
 * What is stored goes out as it is stored (core/stored.h); finding what is wrong with it is the reader's work.
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"

#include "apm_errors.h"
#include "apm_sql.h"
#include "apm_user.h"
#include "chain/ledger.h"
#include "core/stored.h"

PG_FUNCTION_INFO_V1(apm_export_ledger);

/* What is kept between two lines, and the line in making. */
typedef struct Export
{
	int64 height; /* of the last block; -1: none yet */
	ApmDigest hash;
	MemoryContext line_context;
	text *line; /* NULL: there is no further block */
} Export;

/* The block behind the last one; its slices live until SPI is left.  False at the end. */
static bool
read_block(const Export *export, ApmStoredBlock *out)
{
	static ApmStatement next = {
		.sql = "SELECT b.height, b.hash, b.header, b.signature FROM ONLY apm.block AS b"
			   " WHERE b.height >= $1 AND (b.height, b.hash) > ($1, $2) ORDER BY b.height, b.hash LIMIT 1",
		.nargs = 2,
		.types = {INT8OID, BYTEAOID},
	};
	Datum args[] = {Int64GetDatum(export->height), apm_digest_datum(&export->hash)};

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

/* The block's line, in that memory context. */
static text *
write_line(const ApmStoredBlock *block, MemoryContext context)
{
	ApmBuf bytes = {0};
	size_t len;
	text *line;

	apm_stored_encode(block, &bytes);
	apm_check(apm_buf_status(&bytes), "export a block");
	len = apm_base64_len(bytes.len);
	if (len > MaxAllocSize - VARHDRSZ - 1)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("a block of the ledger is too large to be a line of text")));
	line = MemoryContextAlloc(context, VARHDRSZ + len + 1);
	SET_VARSIZE(line, VARHDRSZ + len);
	apm_base64_encode(bytes.data, bytes.len, VARDATA(line));
	apm_buf_reset(&bytes);
	return line;
}

static void
next_line(void *arg)
{
	Export *export = arg;
	ApmStoredBlock block;

	export->line = NULL;
	if (!read_block(export, &block))
		return;
	read_entries(&block);
	export->line = write_line(&block, export->line_context);
	export->height = (int64) block.height;
	export->hash = block.hash;
}

/* apm_export_ledger() returns setof text, a value a call */
Datum
apm_export_ledger(PG_FUNCTION_ARGS)
{
	FuncCallContext *call;
	Export *export;
	ApmPrivileged saved;

	if (SRF_IS_FIRSTCALL())
	{
		call = SRF_FIRSTCALL_INIT();
		export = MemoryContextAllocZero(call->multi_call_memory_ctx, sizeof(Export));
		export->height = -1;
		call->user_fctx = export;
	}
	call = SRF_PERCALL_SETUP();
	export = call->user_fctx;
	export->line_context = CurrentMemoryContext;
	apm_privileged_begin(&saved);
	SPI_connect();
	apm_sql_frozen(next_line, export);
	SPI_finish();
	apm_privileged_end(&saved);
	if (export->line == NULL)
		SRF_RETURN_DONE(call);
	SRF_RETURN_NEXT(call, PointerGetDatum(export->line));
}
