/*
 * final.c
 *	  The way back from the chain: final transactions (FT).
 *
 * One envelope a block says what became of each of its transactions.  It is sealed for
 * the network server, as everything between two hops is, and written with the block.
 * Beside it stand the times at which the pool had the transactions, whose rows go now.
 */
#include "postgres.h"

#include "catalog/pg_type_d.h"

#include "apm_errors.h"
#include "apm_sql.h"
#include "chain/final.h"
#include "chain/make.h"
#include "keys/keyring.h"
#include "worker/front.h"
#include "worker/worker.h"

#define FINAL_TAG 'F'
#define FINAL_VERSION 1

static void
encode(const ApmDigest *block, uint64 height, const ApmEntry *entries, size_t n, ApmBuf *out)
{
	apm_put_u8(out, FINAL_TAG);
	apm_put_u8(out, FINAL_VERSION);
	apm_put_raw(out, block->bytes, APM_DIGEST_LEN);
	apm_put_u64(out, height);
	apm_entries_encode(entries, n, out);
}

ApmStatus
apm_final_decode(ApmSlice in, ApmDigest *block, uint64 *height, ApmEntry **entries, size_t *n)
{
	ApmReader reader;

	apm_reader_init(&reader, in);
	apm_expect_u8(&reader, FINAL_TAG);
	apm_expect_u8(&reader, FINAL_VERSION);
	apm_get_raw(&reader, block->bytes, APM_DIGEST_LEN);
	*height = apm_get_u64(&reader);
	if (reader.failed)
		return APM_ERR_FORMAT;
	return apm_entries_decode(APM_SLICE(reader.pos, reader.end - reader.pos), entries, n);
}

void
apm_final_put(const ApmNewBlock *block)
{
	static ApmStatement put = {
		.sql = "INSERT INTO apm.final_queue (height, sealed, pooled_at, queued_at)"
			   " VALUES ($1, $2, $3, pg_catalog.clock_timestamp())",
		.nargs = 3,
		.types = {INT8OID, BYTEAOID, TIMESTAMPTZARRAYOID},
	};
	ApmBuf plain = {.secret = true};
	ApmBuf sealed = {0};
	Datum args[3];

	encode(&block->hash, block->header.height, block->entries, block->n, &plain);
	apm_check(apm_buf_status(&plain), "encode the final transactions of a block");
	apm_check(apm_sealer_seal(apm_key_sealer(false, true, false), APM_SLICE(plain.data, plain.len),
							  apm_now_us(), &sealed),
			  "seal the final transactions of a block");
	args[0] = Int64GetDatum((int64) block->header.height);
	args[1] = apm_bytea_datum(APM_SLICE(sealed.data, sealed.len));
	args[2] = apm_time_array(block->received, block->n);
	apm_run_whole(&put, args, 1);
	apm_buf_reset(&plain);
	apm_buf_reset(&sealed);
	apm_hurry_at_commit(APM_WORKER_NETWORK);
}

int
apm_final_peek(ApmFinalBlock *out, int max_blocks)
{
	static ApmStatement get = {
		.sql = "SELECT f.id, f.height, f.tries, f.sealed FROM ONLY apm.final_queue AS f"
			   " WHERE f.id >= $2 ORDER BY f.id LIMIT $1",
		.nargs = 2,
		.types = {INT4OID, INT8OID},
	};
	static ApmFront front;
	Datum args[] = {Int32GetDatum(max_blocks), Int64GetDatum(apm_front_begin(&front))};
	int rows = (int) apm_run(&get, args);

	apm_front_end(&front, rows > 0, rows > 0 ? apm_row_int8(0, 1) : 0);
	for (int row = 0; row < rows; row++)
	{
		out[row].id = apm_row_int8(row, 1);
		out[row].height = apm_row_int8(row, 2);
		out[row].tries = apm_row_int4(row, 3);
		out[row].sealed = apm_slice_copy(CurrentMemoryContext, apm_row_bytea(row, 4));
	}
	return rows;
}

void
apm_final_done(const int64 *ids, int n)
{
	static ApmStatement done = {
		.sql = "DELETE FROM ONLY apm.final_queue AS f WHERE f.id = ANY ($1)",
		.nargs = 1,
		.types = {INT8ARRAYOID},
	};
	Datum args[] = {apm_int8_array(ids, n)};

	apm_run(&done, args);
}
