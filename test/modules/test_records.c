/*
 * test_records.c
 *	  What procedural languages can do and plain SQL cannot: run a statement for its
 *	  first rows only.
 */
#include "postgres.h"

#include "executor/spi.h"
#include "fmgr.h"
#include "utils/builtins.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(test_run_first);

/* test_run_first(statement text, rows bigint): runs a statement until it has returned so many rows. */
Datum
test_run_first(PG_FUNCTION_ARGS)
{
	SPI_connect();
	if (SPI_execute(text_to_cstring(PG_GETARG_TEXT_PP(0)), false, PG_GETARG_INT64(1)) < 0)
		elog(ERROR, "the statement was not run");
	SPI_finish();
	PG_RETURN_VOID();
}
