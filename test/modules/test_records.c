/*
 * test_records.c
 *	  What the tests of records need and SQL cannot do: run a statement for its first rows
 *	  only, as procedural languages do, and seal what was altered, as everybody can who has
 *	  the public key.
 */
#include "postgres.h"

#include "executor/spi.h"
#include "fmgr.h"
#include "utils/builtins.h"

#include "apm_errors.h"
#include "apm_sql.h"
#include "keys/keyring.h"

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

PG_FUNCTION_INFO_V1(test_reseal);

/* test_reseal(apr bytea, at int): the aPR with a bit flipped inside its envelope. */
Datum
test_reseal(PG_FUNCTION_ARGS)
{
	ApmBuf plain = {.secret = true};
	ApmBuf sealed = {0};

	apm_check(apm_key_open(APM_PAIR_APM, APM_SLICE_OF(PG_GETARG_BYTEA_PP(0)), &plain), "open");
	plain.data[PG_GETARG_INT32(1)] ^= 1;
	apm_check(
		apm_sealer_seal(apm_key_sealer(true, false, false), APM_SLICE(plain.data, plain.len), 1, &sealed),
		"seal");
	PG_RETURN_DATUM(apm_bytea_datum(APM_SLICE(sealed.data, sealed.len)));
}
