/*
 * proof_check.c
 *	  apm_verify_proof(), apm_verify_consistency(): what strangers ask of proofs, in SQL.
 *
 * Nothing is looked up: the answer follows from the arguments alone, so any database with the extension gives it, and
 * whoever holds a proof need not ask the server that made it.  apm-verify gives the same one without a server.
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/uuid.h"

#include "apm_errors.h"
#include "apm_sql.h"
#include "apm_time.h"
#include "chain/head.h"
#include "core/proof.h"

PG_FUNCTION_INFO_V1(apm_verify_proof);
PG_FUNCTION_INFO_V1(apm_verify_consistency);

#define PROOF_COLUMNS 9

/* Why a proof is none; NULL if it is one.  Raises if that could not be found out. */
static const char *
fault_of(ApmStatus status, const char *no_proof)
{
	switch (status)
	{
		case APM_OK:
			return NULL;
		case APM_ERR_FORMAT:
			return no_proof;
		case APM_ERR_VERIFY:
			return "it does not lead to the digest";
		case APM_ERR_RANGE:
			return "it was made for another digest";
		default:
			apm_raise(status, "verify a proof");
	}
}

static Datum
row_of(FunctionCallInfo fcinfo, Datum *values, bool *nulls)
{
	TupleDesc desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "a verification returns a row");
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

/* A built-in rule by its name, another by the number that it has in its chain. */
static Datum
rule_datum(uint16 rule)
{
	const char *name = apm_rule_name(rule);

	return CStringGetTextDatum(name != NULL ? name : psprintf("%u", rule));
}

/* Columns from tid on: what a good proof is of. */
static void
describe(const ApmProof *proof, Datum *values, bool *nulls)
{
	const ApmTransaction *tx = &proof->opened.tx;

	values[2] = apm_uuid_datum(&proof->opened.tid);
	values[3] = CStringGetTextDatum(apm_kind_name(tx->kind));
	nulls[4] = proof->rule == APM_RULE_NONE;
	if (!nulls[4])
		values[4] = rule_datum(proof->rule);
	values[5] = Int64GetDatum((int64) proof->header.height);
	values[6] = Int32GetDatum((int32) proof->position);
	values[7] = TimestampTzGetDatum(apm_time_of(proof->header.time_us));
	nulls[8] = tx->kind != APM_KIND_PRIMARY;
	if (!nulls[8])
		values[8] = apm_uuid_datum(&tx->u.primary.rid);
}

/* apm_verify_proof(proof jsonb, digest jsonb): one row */
Datum
apm_verify_proof(PG_FUNCTION_ARGS)
{
	ApmProof *proof = palloc0(sizeof(ApmProof));
	Datum values[PROOF_COLUMNS] = {0};
	bool nulls[PROOF_COLUMNS];
	const char *fault;
	ApmStatus status;
	ApmHead head;

	apm_head_argument(PG_GETARG_JSONB_P(1), &head);
	status = apm_proof_read(apm_json_argument(PG_GETARG_JSONB_P(0)), proof);
	if (status == APM_OK)
		status = apm_proof_verify(proof, &head);
	fault = fault_of(status, "it is not a proof of a transaction");

	memset(nulls, fault != NULL, sizeof(nulls));
	nulls[0] = false;
	values[0] = BoolGetDatum(fault == NULL);
	nulls[1] = fault == NULL;
	if (fault != NULL)
		values[1] = CStringGetTextDatum(fault);
	else
		describe(proof, values, nulls);
	apm_proof_free(proof);
	return row_of(fcinfo, values, nulls);
}

/* apm_verify_consistency(proof jsonb, old jsonb, new jsonb): one row */
Datum
apm_verify_consistency(PG_FUNCTION_ARGS)
{
	ApmConsistency *proof = palloc0(sizeof(ApmConsistency));
	Datum values[2] = {0};
	bool nulls[2] = {0};
	const char *fault;
	ApmStatus status;
	ApmHead old_head;
	ApmHead new_head;

	apm_head_argument(PG_GETARG_JSONB_P(1), &old_head);
	apm_head_argument(PG_GETARG_JSONB_P(2), &new_head);
	status = apm_consistency_read(apm_json_argument(PG_GETARG_JSONB_P(0)), proof);
	if (status == APM_OK)
		status = apm_consistency_verify(proof, &old_head, &new_head);
	fault = fault_of(status, "it is not a proof of consistency");

	values[0] = BoolGetDatum(fault == NULL);
	nulls[1] = fault == NULL;
	if (fault != NULL)
		values[1] = CStringGetTextDatum(fault);
	return row_of(fcinfo, values, nulls);
}
