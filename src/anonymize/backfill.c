/*
 * backfill.c
 *	  apm_backfill(): the rows that were in a table before it was attached become records.
 *
 * They may be many, so it goes in batches, each a transaction of its own that submits rows and
 * notes where it ended: whatever ends it, the next call goes on there.  A row is known by its derived Rid, and whoever
 * was first counts, so a backfill can be repeated, and two can run side by side; each batch holds
 * the table's row of apm.attached_table.
 *
 * The rows of a batch are locked against deletion.  Otherwise somebody who deletes a row and inserts
 * its key again would wait for our Rid while we wait for his.  We wait for nobody while we hold more than one row:
 * if one is held, the batch is given up and halved, and a single row is worth waiting for.
 *
 * A row that cannot be a record (nobody is registered as its patient, it has none) is found by halving, too;
 * it is noted in apm.attached_refusal, and passed.  A queue that is full is waited for.
 */
#include "postgres.h"

#include "access/table.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "anonymize/attachscan.h"
#include "apm_attempt.h"
#include "apm_errors.h"
#include "apm_loghook.h"
#include "keys/keyring.h"
#include "worker/worker.h"

PG_FUNCTION_INFO_V1(apm_backfill);

#define BATCH_MAX 100000
#define WAIT_MS 200

#define POSITION_TAG 'P'
#define POSITION_VERSION 1

typedef struct Backfill
{
	Oid relation;
	int wanted; /* rows of a batch */
	int rows;	/* of the next one */
	bool finished;
	int64 refused;
	ApmUuid tried; /* the row that was read last */
	int reason;	   /* why that is refused: an SQLSTATE */
} Backfill;

/* What is known of the backfill of a table, while its row is locked. */
typedef struct Progress
{
	bool running;
	char **position; /* NULL: at the start */
} Progress;

/* A batch: the table open, its progress locked. */
typedef struct Batch
{
	Relation table;
	ApmAttachment *attachment;
	Progress progress;
} Batch;

/* A key can name a patient, so it is kept sealed. */
static Datum
seal_position(const ApmAttachment *attachment, char *const *key)
{
	ApmBuf plain = {.secret = true};
	ApmBuf sealed = {0};
	Datum result;

	apm_put_u8(&plain, POSITION_TAG);
	apm_put_u8(&plain, POSITION_VERSION);
	apm_put_u8(&plain, attachment->nkeys);
	for (int i = 0; i < attachment->nkeys; i++)
		apm_put_bytes(&plain, key[i], strlen(key[i]));
	apm_check(apm_buf_status(&plain), "keep where a backfill is");
	apm_check(apm_sealer_seal(apm_key_sealer(true, false, false), APM_SLICE(plain.data, plain.len),
							  apm_now_us(), &sealed),
			  "keep where a backfill is");
	apm_buf_reset(&plain);
	result = apm_bytea_datum(APM_SLICE(sealed.data, sealed.len));
	apm_buf_reset(&sealed);
	return result;
}

static char **
open_position(const ApmAttachment *attachment, ApmSlice sealed)
{
	char **key = palloc(sizeof(char *) * attachment->nkeys);
	ApmBuf plain = {.secret = true};
	ApmReader r;

	apm_check(apm_key_open(APM_PAIR_APM, sealed, &plain), "find where the backfill was");
	apm_reader_init(&r, APM_SLICE(plain.data, plain.len));
	apm_expect_u8(&r, POSITION_TAG);
	apm_expect_u8(&r, POSITION_VERSION);
	apm_expect_u8(&r, attachment->nkeys);
	for (int i = 0; i < attachment->nkeys; i++)
	{
		ApmSlice text = apm_get_bytes(&r, APM_TEXT_MAX);

		key[i] = pnstrdup((const char *) text.data, text.len);
	}
	if (!apm_reader_done(&r))
		apm_raise(APM_ERR_FORMAT, "find where the backfill was");
	apm_buf_reset(&plain);
	return key;
}

/* Opens the table and locks its progress; whoever else fills it waits. */
static void
open_batch(const Backfill *backfill, Batch *batch)
{
	static ApmStatement lock = {
		"SELECT started_at IS NOT NULL AND finished_at IS NULL, position FROM ONLY apm.attached_table"
		" WHERE id = $1 FOR UPDATE",
		1,
		{UUIDOID},
		NULL,
	};
	MemoryContext caller = CurrentMemoryContext;
	Datum args[1];
	ApmSection section;

	batch->table = try_table_open(backfill->relation, RowShareLock);
	if (batch->table == NULL)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("the table has been dropped")));
	batch->attachment = apm_attachment_of(batch->table);
	batch->progress.position = NULL;

	args[0] = apm_uuid_datum(&batch->attachment->id);
	apm_section_begin(&section);
	if (apm_run(&lock, args) != 1)
		elog(ERROR, "an attached table is not entered");
	batch->progress.running = apm_row_bool(0, 1);
	if (!apm_row_null(0, 2))
	{
		ApmSlice sealed = apm_row_bytea(0, 2);

		MemoryContextSwitchTo(caller);
		batch->progress.position = open_position(batch->attachment, sealed);
	}
	apm_section_end(&section);
	MemoryContextSwitchTo(caller);
}

static void
close_batch(Batch *batch)
{
	table_close(batch->table, NoLock);
}

/* Begins anew, unless there is a backfill to go on with. */
static void
start(void *arg)
{
	static ApmStatement forget = {"DELETE FROM ONLY apm.attached_refusal WHERE id = $1", 1, {UUIDOID}, NULL};
	static ApmStatement begin = {
		"UPDATE ONLY apm.attached_table SET started_at = pg_catalog.now(), finished_at = NULL, position = NULL,"
		" rows_done = 0, rows_refused = 0, rows_estimated = $2 WHERE id = $1",
		2,
		{UUIDOID, INT8OID},
		NULL,
	};
	Backfill *backfill = arg;
	ApmSection section;
	Datum args[2];
	Batch batch;

	open_batch(backfill, &batch);
	if (!batch.progress.running)
	{
		args[0] = apm_uuid_datum(&batch.attachment->id);
		args[1] = Int64GetDatum(apm_scan_estimate(batch.table));
		apm_section_begin(&section);
		(void) apm_run(&forget, args);
		apm_run_whole(&begin, args, 1);
		apm_section_end(&section);
	}
	close_batch(&batch);
}

/* Notes that so many rows are done, up to that key (NULL: there was none); at the end that is all. */
static void
note_progress(Backfill *backfill, const Batch *batch, char *const *key, int64 rows, int64 refused)
{
	static ApmStatement note = {
		"UPDATE ONLY apm.attached_table SET position = coalesce($2, position), rows_done = rows_done + $3,"
		" rows_refused = rows_refused + $4, finished_at = CASE WHEN $5 THEN pg_catalog.clock_timestamp() END"
		" WHERE id = $1 RETURNING rows_refused",
		5,
		{UUIDOID, BYTEAOID, INT8OID, INT8OID, BOOLOID},
		NULL,
	};
	ApmSection section;
	Datum args[5];

	apm_section_begin(&section);
	args[0] = apm_uuid_datum(&batch->attachment->id);
	args[1] = key == NULL ? (Datum) 0 : seal_position(batch->attachment, key);
	args[2] = Int64GetDatum(rows);
	args[3] = Int64GetDatum(refused);
	args[4] = BoolGetDatum(backfill->finished);
	(void) apm_run_nulls(&note, args, key == NULL ? " n   " : "     ", 0);
	backfill->refused = apm_row_int8(0, 1);
	apm_section_end(&section);
}

/* Submits n rows. */
static void
submit_rows(Backfill *backfill, const Batch *batch, const SPITupleTable *rows, uint64 n)
{
	ApmSubmission *submission = apm_submission_new();
	MemoryContext each =
		AllocSetContextCreate(CurrentMemoryContext, "apm backfill row", ALLOCSET_DEFAULT_SIZES);

	for (uint64 i = 0; i < n; i++)
	{
		ApmGiven given = {.source = APM_SOURCE_BACKFILL};
		MemoryContext caller = MemoryContextSwitchTo(each);
		HeapTupleData row;
		ApmAsOwner owner;
		ApmUuid used;

		CHECK_FOR_INTERRUPTS();
		apm_scan_row(rows, i, &row);
		apm_as_owner_begin(batch->table, &owner);
		apm_attachment_read(batch->attachment, &row, &given, &backfill->tried);
		apm_as_owner_end(&owner);
		given.late = true;
		apm_submission_add(submission, &given, &used);
		MemoryContextSwitchTo(caller);
		MemoryContextReset(each);
		if (apm_submission_full(submission))
			apm_submission_flush(submission);
	}
	apm_submission_flush(submission);
	apm_submission_free(submission);
	MemoryContextDelete(each);
}

/* Reads the next rows of a batch and the key of the last; returns how many. */
static uint64
next_rows(const Backfill *backfill, const Batch *batch, char ***last)
{
	ApmAsOwner owner;
	uint64 n;

	apm_as_owner_begin(batch->table, &owner);
	n = apm_scan_rows(batch->attachment, batch->table, batch->progress.position, backfill->rows,
					  backfill->rows == 1);
	*last = NULL;
	if (n > 0)
	{
		HeapTupleData row;

		*last = palloc(sizeof(char *) * batch->attachment->nkeys);
		apm_scan_row(SPI_tuptable, n - 1, &row);
		apm_attachment_key(batch->attachment, &row, *last);
	}
	apm_as_owner_end(&owner);
	return n;
}

/* One batch. */
static void
fill(void *arg)
{
	Backfill *backfill = arg;
	Batch batch;
	char **last;
	uint64 n;

	open_batch(backfill, &batch);
	backfill->finished = !batch.progress.running;
	if (!backfill->finished)
	{
		SPI_connect();
		n = next_rows(backfill, &batch, &last);
		submit_rows(backfill, &batch, SPI_tuptable, n);
		backfill->finished = n < (uint64) backfill->rows;
		note_progress(backfill, &batch, last, n, 0);
		SPI_finish();
	}
	close_batch(&batch);
}

/* Passes the row that could not be submitted, if it is still the next. */
static void
refuse(void *arg)
{
	static ApmStatement note = {
		"INSERT INTO apm.attached_refusal (id, rid, code, refused_at) VALUES ($1, $2, $3, pg_catalog.now())"
		" ON CONFLICT (rid) DO UPDATE SET code = EXCLUDED.code, refused_at = EXCLUDED.refused_at",
		3,
		{UUIDOID, UUIDOID, TEXTOID},
		NULL,
	};
	Backfill *backfill = arg;
	ApmSection section;
	Datum args[3];
	Batch batch;
	ApmUuid rid;
	char **last;

	open_batch(backfill, &batch);
	SPI_connect();
	if (batch.progress.running && next_rows(backfill, &batch, &last) == 1)
	{
		apm_attachment_rid(batch.attachment, last, &rid);
		if (memcmp(&rid, &backfill->tried, sizeof(rid)) == 0)
		{
			note_progress(backfill, &batch, last, 1, 1);
			apm_section_begin(&section);
			args[0] = apm_uuid_datum(&batch.attachment->id);
			args[1] = apm_uuid_datum(&rid);
			args[2] = CStringGetTextDatum(unpack_sql_state(backfill->reason));
			apm_run_whole(&note, args, 1);
			apm_section_end(&section);
		}
	}
	SPI_finish();
	close_batch(&batch);
}

/*
 * Does a step in a transaction of its own.  Returns its error, if it has one; then nothing of it is left.
 */
static ErrorData *
attempt(Backfill *backfill, void (*step)(void *backfill))
{
	ErrorData *error;

	PushActiveSnapshot(GetTransactionSnapshot());
	error = apm_attempt(step, backfill);
	PopActiveSnapshot();
	if (error == NULL)
		SPI_commit();
	else
		SPI_rollback();
	return error;
}

/* Will the same be possible in a moment? */
static bool
is_transient(int state, int rows)
{
	return state == ERRCODE_T_R_SERIALIZATION_FAILURE || state == ERRCODE_T_R_DEADLOCK_DETECTED ||
		   (state == ERRCODE_LOCK_NOT_AVAILABLE && rows > 1);
}

/* Is it something about a row? */
static bool
is_of_a_row(int state)
{
	switch (ERRCODE_TO_CATEGORY(state))
	{
		case ERRCODE_DATA_EXCEPTION:
		case ERRCODE_INTEGRITY_CONSTRAINT_VIOLATION:
		case ERRCODE_PROGRAM_LIMIT_EXCEEDED:
			return true;
		default:
			return state == ERRCODE_APM_UNKNOWN_PATIENT || state == ERRCODE_APM_IDENTITY ||
				   state == ERRCODE_APM_REFUSED_BY_CONTRACT;
	}
}

/* Until the network server has taken something, perhaps.  Where none is meant to run, nobody will. */
static bool
wait_for_room(int state)
{
	if (state != ERRCODE_CONFIGURATION_LIMIT_EXCEEDED || !apm_database_listed(MyDatabaseId))
		return false;
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, WAIT_MS, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	return true;
}

/* Raises an error that will be the same next time. */
static void
overlook_transient(ErrorData *error)
{
	if (!is_transient(error->sqlerrcode, 1))
		ReThrowError(error);
	FreeErrorData(error);
}

/* After a batch's error: what to do otherwise next time; raises it if there is nothing. */
static void
handle(Backfill *backfill, ErrorData *error)
{
	int state = error->sqlerrcode;

	if (backfill->rows > 1 && (is_transient(state, backfill->rows) || is_of_a_row(state)))
		backfill->rows /= 2;
	else if (is_of_a_row(state))
	{
		ErrorData *again;

		backfill->reason = state;
		again = attempt(backfill, refuse);
		if (again != NULL)
			overlook_transient(again);
	}
	else if (!is_transient(state, backfill->rows) && !wait_for_room(state))
		ReThrowError(error);
	FreeErrorData(error);
}

static void
run(Backfill *backfill)
{
	ErrorData *error;

	while ((error = attempt(backfill, start)) != NULL)
		overlook_transient(error);
	while (!backfill->finished)
	{
		CHECK_FOR_INTERRUPTS();
		error = attempt(backfill, fill);
		if (error == NULL)
			backfill->rows = Min(2 * backfill->rows, backfill->wanted);
		else
		{
			backfill->finished = false; /* nothing of the step is left, whatever it had come to */
			handle(backfill, error);
		}
	}
	if (backfill->refused > 0)
		ereport(WARNING,
				(errmsg_plural("%lld row could not be submitted", "%lld rows could not be submitted",
							   backfill->refused, (long long) backfill->refused),
				 errhint("See apm.attachment_refused; a backfill that is called again tries them again.")));
}

/*
 * apm_backfill(relation regclass, batch_rows integer DEFAULT 1000)
 */
Datum
apm_backfill(PG_FUNCTION_ARGS)
{
	Backfill backfill = {0};

	apm_hide_statement();
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("the table and the number of rows must not be null")));
	if (fcinfo->context == NULL || !IsA(fcinfo->context, CallContext) ||
		castNode(CallContext, fcinfo->context)->atomic)
		ereport(ERROR, (errcode(ERRCODE_INVALID_TRANSACTION_TERMINATION),
						errmsg("a backfill commits its batches, and cannot run in a transaction block"),
						errhint("CALL it by itself.")));
	backfill.relation = PG_GETARG_OID(0);
	backfill.wanted = backfill.rows = PG_GETARG_INT32(1);
	if (backfill.wanted < 1 || backfill.wanted > BATCH_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("a batch has 1 to %d rows", BATCH_MAX)));
	apm_attachment_require(backfill.relation, "backfill a table");
	if (SPI_connect_ext(SPI_OPT_NONATOMIC) != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	run(&backfill);
	SPI_finish();
	PG_RETURN_VOID();
}
