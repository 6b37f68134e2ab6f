/*
 * pool.c
 *	  The pool: sealed transactions that are in no block yet.
 *
 * Whoever has the chain's public key can make a sealed row, so a row may be anything.
 * What can be opened and is a signed transaction is the contract's to judge, however
 * wrong it is; the rest is poison: nobody can say whose it is or what it means, and it
 * must not keep the others waiting.  A row is tried a few times, since a key may be on
 * its way, and then goes to the quarantine as it is.
 *
 * A row whose Tid the ledger has is the same transaction once more, because a Tid is
 * computed from its transaction; it came back when its sender could not know whether it
 * had arrived.  It is dropped without a verdict.
 */
#include "postgres.h"

#include "catalog/pg_type_d.h"
#include "utils/memutils.h"

#include "apm_errors.h"
#include "apm_sql.h"
#include "chain/batch.h"
#include "keys/keyring.h"
#include "worker/front.h"
#include "worker/worker.h"

#define POOL_TRIES 3

static ApmFront front;

void
apm_pool_put(const ApmUuid *tids, const ApmSlice *pts, int n)
{
	static ApmStatement put = {
		.sql = "INSERT INTO apm.pool (tid, pt, received_at)"
			   " SELECT u.tid, u.pt, pg_catalog.clock_timestamp() FROM unnest($1, $2) AS u (tid, pt)"
			   " ON CONFLICT (tid) DO NOTHING",
		.nargs = 2,
		.types = {UUIDARRAYOID, BYTEAARRAYOID},
	};
	Datum args[2];

	if (n == 0)
		return;
	args[0] = apm_uuid_array(tids, n);
	args[1] = apm_bytea_array(pts, n);
	apm_run(&put, args);
	apm_wake_at_commit(APM_WORKER_MINER);
}

/*
 * The oldest rows, within the bounds of a batch, in SPI_tuptable: seq, tid, pt, received_at, and whether the
 * ledger has the transaction already.  Returns how many.
 */
static int
oldest_rows(int limit)
{
	static ApmStatement oldest = {
		/* LIMIT 1 keeps the planner from hashing the whole ledger for a plain EXISTS */
		.sql = "SELECT p.seq, p.tid, p.pt, p.received_at, l.known IS NOT NULL"
			   " FROM ONLY apm.pool AS p LEFT JOIN LATERAL ("
			   "SELECT true AS known FROM ONLY apm.leaf AS l WHERE l.tid = p.tid LIMIT 1) AS l ON true"
			   " WHERE p.seq >= $2 ORDER BY p.seq LIMIT $1",
		.nargs = 2,
		.types = {INT4OID, INT8OID},
	};
	Datum args[] = {Int32GetDatum(limit), Int64GetDatum(apm_front_begin(&front))};
	int rows = (int) apm_run(&oldest, args);
	int64 bytes = 0;
	int n;

	apm_front_end(&front, rows > 0, rows > 0 ? apm_row_int8(0, 1) : 0);
	for (n = 0; n < rows; n++)
	{
		bytes += (int64) apm_row_size(n, 3);
		if (n > 0 && bytes > APM_BATCH_BYTES)
			break;
	}
	return n;
}

/* Deletes rows of which the ledger has the transactions. */
static void
drop_known(const int64 *seqs, int n)
{
	static ApmStatement drop = {
		.sql = "DELETE FROM ONLY apm.pool AS p WHERE p.seq = ANY ($1)",
		.nargs = 1,
		.types = {INT8ARRAYOID},
	};
	Datum args[] = {apm_int8_array(seqs, n)};

	if (n > 0)
		apm_run(&drop, args);
}

/*
 * Opens a pool row into the batch's memory.  False if it is poison: it does not open, is
 * not a signed transaction, or carries another Tid than the row says.
 */
static bool
open_row(ApmBatch *batch, ApmSlice pt, const ApmUuid *tid, ApmOpened *out)
{
	MemoryContext old = MemoryContextSwitchTo(batch->context);
	ApmBuf plain = {.secret = true};
	ApmStatus status;
	bool good;

	status = apm_key_open(APM_PAIR_PB, pt, &plain);
	if (status == APM_OK)
		status = apm_open_signed(APM_SLICE(plain.data, plain.len), out);
	if (status == APM_ERR_MEMORY)
		apm_raise(status, "open a transaction of the pool");
	good = status == APM_OK && memcmp(&out->tid, tid, sizeof(ApmUuid)) == 0;
	if (!good)
		apm_buf_reset(&plain);
	MemoryContextSwitchTo(old);
	return good;
}

static void
batch_reserve(ApmBatch *batch, int n)
{
	batch->n = 0;
	batch->seqs = MemoryContextAlloc(batch->context, sizeof(int64) * Max(n, 1));
	batch->received = MemoryContextAlloc(batch->context, sizeof(TimestampTz) * Max(n, 1));
	batch->opened = MemoryContextAllocHuge(batch->context, sizeof(ApmOpened) * Max(n, 1));
	batch->entries = MemoryContextAllocZero(batch->context, sizeof(ApmEntry) * Max(n, 1));
}

static void
count_failure(const int64 *seqs, int n)
{
	static ApmStatement count = {
		.sql = "UPDATE ONLY apm.pool AS p SET tries = p.tries + 1 WHERE p.seq = ANY ($1)",
		.nargs = 1,
		.types = {INT8ARRAYOID},
	};
	Datum args[] = {apm_int8_array(seqs, n)};

	apm_run(&count, args);
}

/* Those of these rows that failed often enough leave the pool for the quarantine. */
static void
put_aside(const int64 *seqs, int n, const char *reason, bool readable)
{
	static ApmStatement whole = {
		.sql = "WITH gone AS (DELETE FROM ONLY apm.pool AS p WHERE p.seq = ANY ($1) AND p.tries >= $2"
			   " RETURNING p.tid, p.pt)"
			   " INSERT INTO apm.quarantine (stage, tid, reason, content)"
			   " SELECT 'pool', g.tid, $3, g.pt FROM gone AS g",
		.nargs = 3,
		.types = {INT8ARRAYOID, INT4OID, TEXTOID},
	};
	static ApmStatement unread = {
		.sql = "WITH gone AS (DELETE FROM ONLY apm.pool AS p WHERE p.seq = ANY ($1) AND p.tries >= $2"
			   " RETURNING p.tid)"
			   " INSERT INTO apm.quarantine (stage, tid, reason, content)"
			   " SELECT 'pool', g.tid, $3, '' FROM gone AS g",
		.nargs = 3,
		.types = {INT8ARRAYOID, INT4OID, TEXTOID},
	};
	Datum args[3];

	args[0] = apm_int8_array(seqs, n);
	args[1] = Int32GetDatum(POOL_TRIES);
	args[2] = apm_text_datum(APM_SLICE(reason, strlen(reason)));
	apm_run(readable ? &whole : &unread, args);
}

void
apm_pool_blame_oldest(const char *reason, bool readable)
{
	static ApmStatement oldest = {.sql = "SELECT p.seq FROM ONLY apm.pool AS p ORDER BY p.seq LIMIT 1"};

	if (apm_run(&oldest, NULL) > 0)
	{
		int64 seq = apm_row_int8(0, 1);

		count_failure(&seq, 1);
		put_aside(&seq, 1, reason, readable);
	}
}

int
apm_pool_take(ApmBatch *batch, int limit)
{
	int64 known[APM_BATCH_ROWS];
	int64 poison[APM_BATCH_ROWS];
	int nknown = 0;
	int npoison = 0;
	int rows = oldest_rows(Min(limit, APM_BATCH_ROWS));
	MemoryContext detoasted =
		AllocSetContextCreate(CurrentMemoryContext, "apm pool row", ALLOCSET_DEFAULT_SIZES);

	batch_reserve(batch, rows);
	for (int row = 0; row < rows; row++)
	{
		MemoryContext old = MemoryContextSwitchTo(detoasted);
		ApmUuid tid;

		apm_row_uuid(row, 2, &tid);
		if (apm_row_bool(row, 5))
			known[nknown++] = apm_row_int8(row, 1);
		else if (open_row(batch, apm_row_bytea(row, 3), &tid, &batch->opened[batch->n]))
		{
			batch->received[batch->n] = apm_row_time(row, 4);
			batch->seqs[batch->n++] = apm_row_int8(row, 1);
		}
		else
			poison[npoison++] = apm_row_int8(row, 1);
		MemoryContextSwitchTo(old);
		MemoryContextReset(detoasted);
	}
	MemoryContextDelete(detoasted);
	drop_known(known, nknown);
	if (npoison > 0)
	{
		count_failure(poison, npoison);
		put_aside(poison, npoison, "cannot be opened, or is not a signed transaction", true);
	}
	return rows;
}

bool
apm_pool_take_again(ApmBatch *batch, const ApmEntry *entries, int n)
{
	static ApmStatement get = {
		.sql = "SELECT p.seq, p.tid, p.pt, p.received_at"
			   " FROM pg_catalog.unnest($1) WITH ORDINALITY AS u (tid, ordinality)"
			   " JOIN ONLY apm.pool AS p ON p.tid = u.tid ORDER BY u.ordinality",
		.nargs = 1,
		.types = {UUIDARRAYOID},
	};
	ApmUuid *tids = palloc_array(ApmUuid, Max(n, 1));
	Datum args[1];

	for (int i = 0; i < n; i++)
		tids[i] = entries[i].tid;
	args[0] = apm_uuid_array(tids, n);
	if (apm_run(&get, args) != (uint64) n)
		return false;
	batch_reserve(batch, n);
	for (int i = 0; i < n; i++)
	{
		if (!open_row(batch, apm_row_bytea(i, 3), &tids[i], &batch->opened[i]))
			return false;
		batch->seqs[i] = apm_row_int8(i, 1);
		batch->received[i] = apm_row_time(i, 4);
	}
	batch->n = n;
	return true;
}

void
apm_pool_remove(const ApmEntry *entries, int n)
{
	static ApmStatement remove = {
		.sql = "DELETE FROM ONLY apm.pool AS p WHERE p.tid = ANY ($1)",
		.nargs = 1,
		.types = {UUIDARRAYOID},
	};
	ApmUuid *tids = palloc_array(ApmUuid, Max(n, 1));
	Datum args[1];

	for (int i = 0; i < n; i++)
		tids[i] = entries[i].tid;
	args[0] = apm_uuid_array(tids, n);
	apm_run(&remove, args);
}
