/*
 * apm_sql.c
 *	  SQL from C: statements whose plans are kept, arrays for batches, rows as our types.
 *
 * Every stage moves its rows by the hundred, in one statement over unnested arrays: a
 * statement a row costs ten times as much.  Plans are kept for the life of the process;
 * PostgreSQL's plan cache makes them again when a table has changed, also after the
 * extension was dropped and created again.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/xact.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "apm_errors.h"
#include "apm_sql.h"

static bool only_reading = false;

void
apm_sql_frozen(void (*step)(void *arg), void *arg)
{
	only_reading = true;
	PG_TRY();
	{
		step(arg);
	}
	PG_FINALLY();
	{
		only_reading = false;
	}
	PG_END_TRY();
}

static void
prepare(ApmStatement *statement)
{
	SPIPlanPtr plan;

	Assert(statement->nargs <= APM_STATEMENT_ARGS);
	plan = SPI_prepare_cursor(statement->sql, statement->nargs, statement->types, CURSOR_OPT_GENERIC_PLAN);
	if (plan == NULL || SPI_keepplan(plan) != 0)
		elog(ERROR, "could not prepare a statement of apm: %s", SPI_result_code_string(SPI_result));
	statement->plan = plan;
}

static uint64
execute(ApmStatement *statement, const Datum *args, const char *nulls, bool read_only, long limit)
{
	MemoryContext caller = CurrentMemoryContext; /* SPI leaves its own */
	int result;

	if (statement->plan == NULL)
		prepare(statement);
	result =
		SPI_execute_plan(statement->plan, unconstify(Datum *, args), nulls, read_only || only_reading, limit);
	MemoryContextSwitchTo(caller);
	if (result < 0)
		elog(ERROR, "could not run a statement of apm: %s", SPI_result_code_string(result));
	return SPI_processed;
}

uint64
apm_run_nulls(ApmStatement *statement, const Datum *args, const char *nulls, long limit)
{
	return execute(statement, args, nulls, false, limit);
}

uint64
apm_run(ApmStatement *statement, const Datum *args)
{
	return execute(statement, args, NULL, false, 0);
}

void
apm_run_whole(ApmStatement *statement, const Datum *args, uint64 rows)
{
	if (execute(statement, args, NULL, false, 0) != rows)
		ereport(ERROR,
				(errcode(ERRCODE_APM_LEDGER_GUARD), errmsg("rows of apm were not written as they were given"),
				 errhint("A rule or a trigger that somebody has given to a table of apm takes them away.")));
}

uint64
apm_run_latest(ApmStatement *statement, const Datum *args)
{
	uint64 rows;

	/* there is no later snapshot than the statement's own to be had while several processes run it */
	if (only_reading || IsInParallelMode())
		return execute(statement, args, NULL, true, 0);
	PushActiveSnapshot(GetLatestSnapshot());
	rows = execute(statement, args, NULL, true, 0);
	PopActiveSnapshot();
	return rows;
}

Datum
apm_uuid_datum(const ApmUuid *uuid)
{
	pg_uuid_t *copy = palloc(sizeof(pg_uuid_t));

	memcpy(copy->data, uuid->bytes, UUID_LEN);
	return UUIDPGetDatum(copy);
}

Datum
apm_bytea_datum(ApmSlice bytes)
{
	struct varlena *copy;

	if (bytes.len > MaxAllocSize - VARHDRSZ)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("a value is too large to be stored")));
	copy = palloc(VARHDRSZ + bytes.len);
	SET_VARSIZE(copy, VARHDRSZ + bytes.len);
	if (bytes.len > 0)
		memcpy(VARDATA(copy), bytes.data, bytes.len);
	return PointerGetDatum(copy);
}

Datum
apm_text_datum(ApmSlice text)
{
	return apm_bytea_datum(text);
}

Datum
apm_digest_datum(const ApmDigest *digest)
{
	return apm_bytea_datum(APM_SLICE(digest->bytes, APM_DIGEST_LEN));
}

/* The array of elements, which is freed. */
static Datum
make_array(Datum *elements, int n, Oid type, int16 len, bool byval, char align)
{
	ArrayType *array = construct_array(elements, n, type, len, byval, align);

	pfree(elements);
	return PointerGetDatum(array);
}

static Datum *
make_elements(int n)
{
	return palloc(sizeof(Datum) * Max(n, 1));
}

Datum
apm_uuid_array(const ApmUuid *v, int n)
{
	Datum *elements = make_elements(n);

	StaticAssertStmt(sizeof(ApmUuid) == sizeof(pg_uuid_t), "a uuid is 16 bytes");
	for (int i = 0; i < n; i++)
		elements[i] = PointerGetDatum(v[i].bytes);
	return make_array(elements, n, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR);
}

/* Writes a value as an array holds it; returns how many bytes, with what is filled up behind it. */
static Size
put_varlena(char *to, ApmSlice value)
{
	Size used = VARHDRSZ + value.len;

	SET_VARSIZE(to, used);
	if (value.len > 0)
		memcpy(VARDATA(to), value.data, value.len);
	memset(to + used, 0, INTALIGN(used) - used);
	return INTALIGN(used);
}

/* Written in one go: the values of a batch are its greatest part, and each is copied once. */
static Datum
varlena_array(const ApmSlice *v, int n, Oid type)
{
	Size size = ARR_OVERHEAD_WITHNULLS(1, n);
	bool has_nulls = false;
	ArrayType *array;
	bits8 *bitmap;
	char *to;

	if (n == 0)
		return PointerGetDatum(construct_empty_array(type));
	for (int i = 0; i < n; i++)
	{
		has_nulls = has_nulls || v[i].data == NULL;
		if (v[i].len > MaxAllocSize || (size += INTALIGN(VARHDRSZ + v[i].len)) > MaxAllocSize)
			ereport(ERROR,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("a value is too large to be stored")));
	}

	array = palloc(size);
	memset(array, 0, ARR_OVERHEAD_WITHNULLS(1, n));
	array->ndim = 1;
	array->dataoffset = has_nulls ? ARR_OVERHEAD_WITHNULLS(1, n) : 0;
	array->elemtype = type;
	ARR_DIMS(array)[0] = n;
	ARR_LBOUND(array)[0] = 1;
	bitmap = ARR_NULLBITMAP(array);
	to = ARR_DATA_PTR(array);
	for (int i = 0; i < n; i++)
	{
		if (v[i].data == NULL)
			continue;
		if (bitmap != NULL)
			bitmap[i / 8] |= (bits8) (1 << (i % 8));
		to += put_varlena(to, v[i]);
	}
	SET_VARSIZE(array, to - (char *) array);
	return PointerGetDatum(array);
}

Datum
apm_bytea_array(const ApmSlice *v, int n)
{
	return varlena_array(v, n, BYTEAOID);
}

Datum
apm_text_array(const ApmSlice *v, int n)
{
	return varlena_array(v, n, TEXTOID);
}

Datum
apm_digest_array(const ApmDigest *v, int n)
{
	ApmSlice *slices = palloc(sizeof(ApmSlice) * Max(n, 1));
	Datum array;

	for (int i = 0; i < n; i++)
		slices[i] = APM_SLICE(v[i].bytes, APM_DIGEST_LEN);
	array = varlena_array(slices, n, BYTEAOID);
	pfree(slices);
	return array;
}

Datum
apm_int8_array(const int64 *v, int n)
{
	Datum *elements = make_elements(n);

	for (int i = 0; i < n; i++)
		elements[i] = Int64GetDatum(v[i]);
	return make_array(elements, n, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE);
}

Datum
apm_int4_array(const int32 *v, int n)
{
	Datum *elements = make_elements(n);

	for (int i = 0; i < n; i++)
		elements[i] = Int32GetDatum(v[i]);
	return make_array(elements, n, INT4OID, sizeof(int32), true, TYPALIGN_INT);
}

Datum
apm_int2_array(const int16 *v, int n)
{
	Datum *elements = make_elements(n);

	for (int i = 0; i < n; i++)
		elements[i] = Int16GetDatum(v[i]);
	return make_array(elements, n, INT2OID, sizeof(int16), true, TYPALIGN_SHORT);
}

Datum
apm_time_array(const TimestampTz *v, int n)
{
	Datum *elements = make_elements(n);

	for (int i = 0; i < n; i++)
		elements[i] = TimestampTzGetDatum(v[i]);
	return make_array(elements, n, TIMESTAMPTZOID, sizeof(TimestampTz), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE);
}

/* A column that must not be null. */
static Datum
row_datum(uint64 row, int column)
{
	bool isnull;
	Datum value;

	Assert(SPI_tuptable != NULL && row < SPI_tuptable->numvals);
	value = SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, &isnull);
	if (isnull)
		elog(ERROR, "column %d of a row of apm is null", column);
	return value;
}

bool
apm_row_null(uint64 row, int column)
{
	bool isnull;

	Assert(SPI_tuptable != NULL && row < SPI_tuptable->numvals);
	(void) SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, &isnull);
	return isnull;
}

void
apm_row_uuid(uint64 row, int column, ApmUuid *out)
{
	memcpy(out->bytes, DatumGetUUIDP(row_datum(row, column))->data, UUID_LEN);
}

ApmSlice
apm_row_bytea(uint64 row, int column)
{
	struct varlena *value = PG_DETOAST_DATUM_PACKED(row_datum(row, column));

	return APM_SLICE_OF(value);
}

ApmSlice
apm_row_text(uint64 row, int column)
{
	return apm_row_bytea(row, column);
}

Size
apm_row_size(uint64 row, int column)
{
	return toast_raw_datum_size(row_datum(row, column)) - VARHDRSZ;
}

void
apm_row_digest(uint64 row, int column, ApmDigest *out)
{
	ApmSlice bytes = apm_row_bytea(row, column);

	if (bytes.len != APM_DIGEST_LEN)
		ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("a stored digest has the wrong length")));
	memcpy(out->bytes, bytes.data, APM_DIGEST_LEN);
}

int64
apm_row_int8(uint64 row, int column)
{
	return DatumGetInt64(row_datum(row, column));
}

int32
apm_row_int4(uint64 row, int column)
{
	return DatumGetInt32(row_datum(row, column));
}

int16
apm_row_int2(uint64 row, int column)
{
	return DatumGetInt16(row_datum(row, column));
}

bool
apm_row_bool(uint64 row, int column)
{
	return DatumGetBool(row_datum(row, column));
}

TimestampTz
apm_row_time(uint64 row, int column)
{
	return DatumGetTimestampTz(row_datum(row, column));
}

ApmSlice
apm_slice_copy(MemoryContext context, ApmSlice bytes)
{
	uint8 *copy = MemoryContextAllocHuge(context, Max(bytes.len, 1));

	if (bytes.len > 0)
		memcpy(copy, bytes.data, bytes.len);
	return APM_SLICE(copy, bytes.len);
}
