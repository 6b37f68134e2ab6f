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
#include "chain/stored_block.h"

PG_FUNCTION_INFO_V1(apm_export_ledger);

/* What is kept between two lines, and the line in making. */
typedef struct Export
{
	int64 height; /* of the last block; -1: none yet */
	ApmDigest hash;
	MemoryContext line_context;
	text *line; /* NULL: there is no further block */
} Export;

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
	if (!apm_stored_block(export->height, &export->hash, &block))
		return;
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
