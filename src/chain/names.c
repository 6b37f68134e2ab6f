/*
 * names.c
 *	  Names of the codes in the ledger, for the views.
 */
#include "postgres.h"

#include "executor/spi.h"
#include "fmgr.h"
#include "utils/builtins.h"

#include "apm_user.h"
#include "chain/chain.h"

PG_FUNCTION_INFO_V1(apm_rule_name_sql);
PG_FUNCTION_INFO_V1(apm_rule_text_sql);
PG_FUNCTION_INFO_V1(apm_kind_name_sql);
PG_FUNCTION_INFO_V1(apm_purpose_name_sql);

static Datum
name_or_null(FunctionCallInfo fcinfo, const char *name)
{
	if (name == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(name));
}

Datum
apm_rule_name_sql(PG_FUNCTION_ARGS)
{
	return name_or_null(fcinfo, apm_rule_name((uint16) PG_GETARG_INT16(0)));
}

Datum
apm_rule_text_sql(PG_FUNCTION_ARGS)
{
	return name_or_null(fcinfo, apm_rule_text((uint16) PG_GETARG_INT16(0)));
}

Datum
apm_kind_name_sql(PG_FUNCTION_ARGS)
{
	return name_or_null(fcinfo, apm_kind_name((ApmKind) PG_GETARG_INT16(0)));
}

/* The contract as it is now, for all calls of one query. */
static const ApmContractState *
contract_of(FunctionCallInfo fcinfo)
{
	ApmPrivileged saved;

	if (fcinfo->flinfo->fn_extra == NULL)
	{
		apm_privileged_begin(&saved);
		SPI_connect();
		fcinfo->flinfo->fn_extra = apm_chain_contract(fcinfo->flinfo->fn_mcxt);
		SPI_finish();
		apm_privileged_end(&saved);
	}
	return fcinfo->flinfo->fn_extra;
}

Datum
apm_purpose_name_sql(PG_FUNCTION_ARGS)
{
	return name_or_null(fcinfo, apm_contract_purpose_name(contract_of(fcinfo), (uint16) PG_GETARG_INT16(0)));
}
