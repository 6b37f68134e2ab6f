/*
 * history.c
 *	  apm_access_history(): who asked for a patient's records, and what became of it.
 *
 * Reading the history is a query like any other: the contract decides, and it stands in the ledger before anything is
 * told, so that it ends with itself.  What it tells comes from the ledger's own transactions, each of which must have
 * the leaf that its block holds; leaf and block are given along, so that whoever has the block's
 * hash from elsewhere can check the rest.
 *
 * The chain has pseudonyms of staff.  The origin resolves them to the names that acting role and login had at the time;
 * where it cannot, the pseudonym itself is shown.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "anonymize/contractcache.h"
#include "anonymize/gate.h"
#include "anonymize/publicfield.h"
#include "anonymize/result.h"
#include "apm_loghook.h"

PG_FUNCTION_INFO_V1(apm_access_history);

#define HISTORY_COLUMNS 14

static Datum
text_or_null(const char *text, bool *null)
{
	*null = text == NULL;
	return text == NULL ? (Datum) 0 : CStringGetTextDatum(text);
}

static Datum
hex_datum(const void *bytes, Size len)
{
	char *text = palloc(2 * len + 1);

	apm_hex_encode(bytes, len, text);
	return CStringGetTextDatum(text);
}

/* The name that a study's releases give it; as long as it has none, its id. */
static Datum
study_datum(const uint8 study[APM_STUDY_LEN])
{
	static ApmStatement find = {
		"SELECT pg_catalog.convert_from(e.parameters, 'UTF8')::pg_catalog.jsonb ->> 'study'"
		" FROM ONLY apm.ledger_export AS e WHERE e.study = $1 AND e.release = 1",
		1,
		{BYTEAOID},
		NULL,
	};
	Datum args[] = {apm_bytea_datum(APM_SLICE(study, APM_STUDY_LEN))};

	if (apm_run_latest(&find, args) == 0 || apm_row_null(0, 1))
		return hex_datum(study, APM_STUDY_LEN);
	return apm_text_datum(apm_row_text(0, 1));
}

static void
put_row(const ApmResult *result, const ApmContractState *contract, const ApmQueryRow *row)
{
	const ApmQueryFields *query = &row->tx.u.query;
	Datum values[HISTORY_COLUMNS];
	bool nulls[HISTORY_COLUMNS] = {0};
	NameData login;

	values[0] = apm_uuid_datum(&row->tid);
	values[1] = TimestampTzGetDatum(apm_time_of(row->tx.time_us));
	values[2] = CStringGetTextDatum(apm_staff_text(row->tx.actor, &login));
	values[3] = text_or_null(NameStr(login)[0] == '\0' ? NULL : NameStr(login), &nulls[3]);
	values[4] = text_or_null(apm_scope_name(query->scope), &nulls[4]);
	values[5] = text_or_null(apm_contract_purpose_name(contract, query->purpose), &nulls[5]);
	values[6] = text_or_null(apm_contract_reason_name(contract, query->reason), &nulls[6]);
	nulls[7] = query->scope != APM_SCOPE_EXPORT;
	values[7] = nulls[7] ? (Datum) 0 : study_datum(query->basis);
	values[8] = BoolGetDatum(row->rule == APM_RULE_NONE);
	values[9] = text_or_null(apm_contract_rule_name(contract, row->rule), &nulls[9]);
	values[10] = Int64GetDatum((int64) row->height);
	values[11] = Int32GetDatum((int32) row->position);
	values[12] = hex_datum(row->leaf.bytes, APM_DIGEST_LEN);
	values[13] = hex_datum(row->block.bytes, APM_DIGEST_LEN);
	apm_result_put(result, values, nulls);
}

/* The patient's queries up to a block, into the result. */
static void
put_history(const ApmResult *result, ApmSlice apid, uint64 height)
{
	ApmSection section;
	const ApmContractState *contract;
	ApmQueryRow *rows;
	MemoryContext one;
	MemoryContext whole;
	uint64 serial;
	int n;

	apm_section_begin(&section);
	n = apm_ledger_queries(apid, height, &rows);
	contract = apm_contract_now(&serial);
	one = AllocSetContextCreate(CurrentMemoryContext, "apm history row", ALLOCSET_DEFAULT_SIZES);
	whole = MemoryContextSwitchTo(one);
	for (int i = 0; i < n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		put_row(result, contract, &rows[i]);
		MemoryContextReset(one);
	}
	MemoryContextSwitchTo(whole);
	apm_section_end(&section);
}

/*
 * apm_access_history(pid text, purpose text DEFAULT NULL, fields jsonb DEFAULT NULL): one row a query, in the order
 * of the chain, this one last.
 */
Datum
apm_access_history(PG_FUNCTION_ARGS)
{
	ApmAsk ask = {.scope = APM_SCOPE_HISTORY, .list = APM_GATE_NOTHING};
	ApmGateQuestion *answer;
	ApmBuf fields = {0};
	ApmResult result;
	ApmSlice *apid;
	ApmSlice pid;

	apm_hide_statement();
	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("the pid must not be null")));
	apm_result_start(fcinfo, &result);
	pid = APM_SLICE_OF(PG_GETARG_TEXT_PP(0));
	ask.purpose = apm_gate_purpose(PG_ARGISNULL(1) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(1)));
	apm_public_fields_read(PG_ARGISNULL(2) ? NULL : PG_GETARG_JSONB_P(2), &fields);
	ask.fields = APM_SLICE(fields.data, fields.len);

	apid = apm_gate_apids(&pid, 1);
	answer = apm_gate_ask(&ask, apid, 1);
	apm_gate_require(answer);
	put_history(&result, *apid, answer->height);
	return (Datum) 0;
}
