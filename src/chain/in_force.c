/*
 * in_force.c
 *	  The contract that is in force, for people: the view apm.contract.
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"

#include "apm_errors.h"
#include "apm_sql.h"
#include "apm_user.h"
#include "chain/chain.h"
#include "chain/item_json.h"

PG_FUNCTION_INFO_V1(apm_contract_in_force);

#define COLUMNS 5

/* Items as the chain has them, in its order. */
typedef struct ChainItems
{
	uint64 n;
	int64 *heights;
	ApmSlice *items;
} ChainItems;

static void
read_items(ChainItems *out)
{
	static ApmStatement get = {
		.sql = "SELECT i.height, i.item FROM ONLY apm.contract_item AS i"
			   " ORDER BY i.height, i.position, i.ordinal",
	};

	out->n = apm_run(&get, NULL);
	out->heights = palloc_array(int64, out->n);
	out->items = palloc_array(ApmSlice, out->n);
	for (uint64 row = 0; row < out->n; row++)
	{
		out->heights[row] = apm_row_int8(row, 1);
		out->items[row] = apm_slice_copy(CurrentMemoryContext, apm_row_bytea(row, 2));
	}
}

/* Height of the last transaction that brought this item; -1 if none did. */
static int64
height_of(const ChainItems *chain, const ApmItem *item)
{
	ApmItem uncoded = *item;
	ApmBuf encoded = {0};
	ApmBuf without_code = {0};

	/* a purpose or a reason may have come without the code that it has in force */
	if (item->type == APM_ITEM_PURPOSE || item->type == APM_ITEM_REASON)
		uncoded.key = APM_ITEM_NEXT_CODE;
	apm_check(apm_item_put(item, &encoded), "encode an item of the contract");
	apm_check(apm_item_put(&uncoded, &without_code), "encode an item of the contract");
	for (uint64 row = chain->n; row-- > 0;)
	{
		if (apm_slices_equal(chain->items[row], APM_SLICE(encoded.data, encoded.len)) ||
			apm_slices_equal(chain->items[row], APM_SLICE(without_code.data, without_code.len)))
			return chain->heights[row];
	}
	return -1;
}

static const char *
type_name(uint8 type)
{
	switch (type)
	{
		case APM_ITEM_POLICY:
			return "policy";
		case APM_ITEM_PURPOSE:
			return "purpose";
		case APM_ITEM_REASON:
			return "reason";
		case APM_ITEM_TEMPLATE:
			return "template";
		case APM_ITEM_RULE:
			return "rule";
		default:
			return "data rule";
	}
}

static Datum
detail_of(const ApmItem *item)
{
	StringInfoData json;

	initStringInfo(&json);
	apm_check(apm_item_json(item, &json), "read an item of the contract");
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data));
}

/* item, name, kind, detail, since */
static void
put_row(ReturnSetInfo *result, const ChainItems *chain, const ApmItem *item, const char *name)
{
	int64 since = height_of(chain, item);
	const char *kind = item->kind != 0 ? apm_kind_name(item->kind) : NULL;
	Datum values[COLUMNS];
	bool nulls[COLUMNS] = {false, false, kind == NULL, false, since < 0};

	values[0] = CStringGetTextDatum(type_name(item->type));
	values[1] = CStringGetTextDatum(name);
	values[2] = kind != NULL ? CStringGetTextDatum(kind) : (Datum) 0;
	values[3] = detail_of(item);
	values[4] = Int64GetDatum(since);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* Every policy, since what the chain does not set has a default. */
static void
put_policies(ReturnSetInfo *result, const ChainItems *chain, const ApmContractState *contract)
{
	for (uint16 key = 1; apm_policy_name(key) != NULL; key++)
	{
		ApmItem item = {.type = APM_ITEM_POLICY, .key = key, .value = apm_contract_policy(contract, key)};

		put_row(result, chain, &item, apm_policy_name(key));
	}
}

/*
 * apm.contract_in_force(OUT item text, OUT name text, OUT kind text, OUT detail jsonb, OUT since bigint)
 * returns setof record
 */
Datum
apm_contract_in_force(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	ApmContractState *contract;
	ApmPrivileged saved;
	ChainItems chain;
	size_t at = 0;
	ApmItem item;

	InitMaterializedSRF(fcinfo, 0);
	apm_privileged_begin(&saved);
	SPI_connect();
	contract = apm_chain_contract(CurrentMemoryContext);
	read_items(&chain);
	put_policies(result, &chain, contract);
	while (apm_contract_next_item(contract, &at, &item))
	{
		if (item.type != APM_ITEM_POLICY)
			put_row(result, &chain, &item, pnstrdup((const char *) item.name.data, item.name.len));
	}
	SPI_finish();
	apm_privileged_end(&saved);
	return (Datum) 0;
}
