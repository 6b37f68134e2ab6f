/*
 * apm_sql.h
 *	  SQL from C: statements whose plans are kept, arrays for batches, rows as our types.
 *
 * A statement is a static that its caller declares beside the code that runs it:
 *
 *		static ApmStatement put = {
 *			"INSERT INTO apm.pool (tid, pt) SELECT * FROM unnest($1, $2)",
 *			2, {UUIDARRAYOID, BYTEAARRAYOID},
 *		};
 *		Datum args[] = {apm_uuid_array(tids, n), apm_bytea_array(pts, n)};
 *
 *		rows = apm_run(&put, args);
 *
 * (Of several arrays it is unnest, not pg_catalog.unnest: the parser knows it by that name.)
 *
 * All functions expect SPI to be connected (and, where tables of apm are touched, a
 * section of apm_privileged).  What they allocate belongs to the current memory
 * context, which is SPI's own after SPI_connect and goes with SPI_finish.
 */
#ifndef APM_SQL_H
#define APM_SQL_H

#include "postgres.h"

#include "catalog/pg_type_d.h"
#include "datatype/timestamp.h"
#include "executor/spi.h"

#include "core/bytes.h"

#define APM_STATEMENT_ARGS 16

typedef struct ApmStatement
{
	const char *sql;
	int nargs;
	Oid types[APM_STATEMENT_ARGS];
	SPIPlanPtr plan; /* ours: NULL until first run, then kept as long as the process */
} ApmStatement;

/*
 * Runs the statement and returns how many rows it processed or returned; those are in
 * SPI_tuptable until the next statement.  Each run sees what is committed by then, as a
 * statement in READ COMMITTED does.  No argument is null with apm_run; nulls is as in
 * SPI_execute_plan ('n' for null, ' ' for a value); limit 0 is none.  The current memory
 * context stays what it is.
 */
extern uint64 apm_run(ApmStatement *statement, const Datum *args);
/*
 * The same for a statement that must process so many rows; raises AP006 if somebody's rule or trigger keeps
 * some from it.
 */
extern void apm_run_whole(ApmStatement *statement, const Datum *args, uint64 rows);
extern uint64 apm_run_nulls(ApmStatement *statement, const Datum *args, const char *nulls, long limit);

/*
 * As apm_run, for a statement that only reads: sees what is committed now also where the transaction's
 * snapshot is older; but not in apm_sql_frozen(), nor while several processes run the caller's statement.
 */
extern uint64 apm_run_latest(ApmStatement *statement, const Datum *args);

/* Calls step(arg), in which statements only read, and all see what the caller's snapshot sees. */
extern void apm_sql_frozen(void (*step)(void *arg), void *arg);

/* One value. */
extern Datum apm_uuid_datum(const ApmUuid *uuid);
extern Datum apm_digest_datum(const ApmDigest *digest); /* a bytea */
extern Datum apm_bytea_datum(ApmSlice bytes);
extern Datum apm_text_datum(ApmSlice text);

/*
 * Arrays of n elements for unnest.  A slice whose data is NULL becomes a null; an
 * empty one has data.
 */
extern Datum apm_uuid_array(const ApmUuid *v, int n);
extern Datum apm_digest_array(const ApmDigest *v, int n); /* bytea[] */
extern Datum apm_bytea_array(const ApmSlice *v, int n);
extern Datum apm_text_array(const ApmSlice *v, int n);
extern Datum apm_int8_array(const int64 *v, int n);
extern Datum apm_int4_array(const int32 *v, int n);
extern Datum apm_int2_array(const int16 *v, int n);
extern Datum apm_time_array(const TimestampTz *v, int n); /* timestamptz[] */

/*
 * Columns (from 1) of a row (from 0) of SPI_tuptable.  A null raises, except where it
 * was asked for.  Bytes and text are borrowed: from the tuple table, or detoasted into
 * the current memory context.
 */
extern bool apm_row_null(uint64 row, int column);
extern void apm_row_uuid(uint64 row, int column, ApmUuid *out);
extern void apm_row_digest(uint64 row, int column, ApmDigest *out); /* raises unless 32 bytes */
extern ApmSlice apm_row_bytea(uint64 row, int column);
extern ApmSlice apm_row_text(uint64 row, int column);
extern Size apm_row_size(uint64 row, int column); /* of bytes or text, which need not be read for it */
extern int64 apm_row_int8(uint64 row, int column);
extern int32 apm_row_int4(uint64 row, int column);
extern int16 apm_row_int2(uint64 row, int column);
extern bool apm_row_bool(uint64 row, int column);
extern TimestampTz apm_row_time(uint64 row, int column);

/* A copy of borrowed bytes that lives in that memory context; may be larger than 1 GB. */
extern ApmSlice apm_slice_copy(MemoryContext context, ApmSlice bytes);

/* What a bytea or text argument holds. */
#define APM_SLICE_OF(varlena) APM_SLICE(VARDATA_ANY(varlena), VARSIZE_ANY_EXHDR(varlena))

#endif /* APM_SQL_H */
