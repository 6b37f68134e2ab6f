/*
 * verify_sql.c
 *	  apm_verify(): what may be asked of a verification, in SQL.
 *
 * A digest that was kept elsewhere makes a verification whole: without one, a chain that was cut behind a block, with all
 * that follows from it, or of which the end was made anew, is as good as any.
 *
 * What was found good once need not be judged again every day.  A walk over everything that ends well leaves in
 * apm.verified how far it came, and another one goes on behind that: it walks all headers, and the block it goes on
 * behind must still be there.  Transactions and derived rows of the blocks before are not looked at then, nor the totals.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"

#include "apm_errors.h"
#include "apm_sql.h"
#include "apm_user.h"
#include "chain/head.h"
#include "chain/verify.h"

PG_FUNCTION_INFO_V1(apm_verify);
PG_FUNCTION_INFO_V1(apm_verify_digest);

#define VERIFY_COLUMNS 9

void
apm_verify_remember(const ApmVerification *good)
{
	static ApmStatement note = {
		.sql = "INSERT INTO apm.verified AS v (height, hash, verified_at)"
			   " VALUES ($1, $2, pg_catalog.clock_timestamp()) ON CONFLICT (one) DO UPDATE"
			   " SET height = EXCLUDED.height, hash = EXCLUDED.hash, verified_at = EXCLUDED.verified_at",
		.nargs = 2,
		.types = {INT8OID, BYTEAOID},
	};
	Datum args[] = {Int64GetDatum(good->last), apm_digest_datum(&good->hash)};

	/* with an older snapshot the write may fail, and what was verified is old */
	if (RecoveryInProgress() || XactReadOnly || IsolationUsesXactSnapshot())
		return;
	apm_run(&note, args);
}

/* The block behind which a verification goes on; false if there is none yet. */
static bool
remembered(ApmKnownBlock *out)
{
	static ApmStatement get = {.sql = "SELECT v.height, v.hash FROM ONLY apm.verified AS v"};

	if (apm_run(&get, NULL) == 0)
		return false;
	out->height = apm_row_int8(0, 1);
	apm_row_digest(0, 2, &out->hash);
	return true;
}

/* Verifies, and remembers it if it was everything, from genesis or from where that was remembered. */
static void
verify(const ApmVerifyRequest *request, bool resumed, ApmVerification *found)
{
	apm_verify_ledger(request, found);
	if (found->ok && found->to_end && (request->from == 0 || resumed))
		apm_verify_remember(found);
}

static Datum
row_of(FunctionCallInfo fcinfo, const ApmVerification *found)
{
	TupleDesc desc;
	Datum values[VERIFY_COLUMNS];
	bool nulls[VERIFY_COLUMNS] = {false};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "apm_verify returns a row");
	nulls[1] = found->height < 0;
	nulls[2] = found->position < 0;
	nulls[3] = found->ok;
	nulls[4] = found->ok;
	values[0] = BoolGetDatum(found->ok);
	values[1] = Int64GetDatum(found->height);
	values[2] = Int32GetDatum(found->position);
	values[3] = CStringGetTextDatum(apm_fault_name(found->rule));
	values[4] = CStringGetTextDatum(found->fault);
	values[5] = Int64GetDatum(found->blocks);
	values[6] = Int64GetDatum(found->transactions);
	values[7] = Int64GetDatum(found->not_rerun);
	values[8] = Int64GetDatum(found->erased);
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

/* apm_verify(from_height bigint, to_height bigint, resume boolean): one row */
Datum
apm_verify(PG_FUNCTION_ARGS)
{
	ApmVerifyRequest request = {
		.from = PG_ARGISNULL(0) ? 0 : PG_GETARG_INT64(0),
		.to = PG_ARGISNULL(1) ? -1 : PG_GETARG_INT64(1),
	};
	bool resume = !PG_ARGISNULL(2) && PG_GETARG_BOOL(2);
	ApmKnownBlock known;
	ApmVerification found;
	ApmPrivileged saved;

	if (request.from < 0 || (!PG_ARGISNULL(1) && request.to < request.from))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("heights are out of order")));
	if (resume && request.from > 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("a verification that is resumed has no other beginning"),
						errhint("Leave from_height away.")));
	apm_privileged_begin(&saved);
	SPI_connect();
	if (resume && remembered(&known))
	{
		request.from = known.height + 1;
		request.known = &known;
	}
	verify(&request, resume, &found);
	SPI_finish();
	apm_privileged_end(&saved);
	return row_of(fcinfo, &found);
}

/* apm_verify(digest jsonb): one row */
Datum
apm_verify_digest(PG_FUNCTION_ARGS)
{
	ApmKnownBlock known;
	ApmVerifyRequest request = {.from = 0, .to = -1, .known = &known};
	ApmChainIdentity identity;
	ApmVerification found;
	ApmPrivileged saved;
	ApmHead head;

	apm_head_argument(PG_GETARG_JSONB_P(0), &head);
	known.height = (int64) head.header.height;
	known.hash = head.hash;
	apm_privileged_begin(&saved);
	SPI_connect();
	if (apm_chain_read(&identity))
		apm_head_of_chain(&head, &identity);
	verify(&request, false, &found);
	SPI_finish();
	apm_privileged_end(&saved);
	return row_of(fcinfo, &found);
}
