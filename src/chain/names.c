/*
 * names.c
 *	  Names of the codes in the ledger, for the views.
 *
 * Kinds and built-in rules have theirs in the code.  Purposes, reasons and site rules were named by a contract
 * transaction, and a site rule keeps its number and name when it is replaced or dropped; so
 * the contract is asked, once in a statement.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"

#include "apm_sql.h"
#include "apm_user.h"
#include "chain/identity.h"
#include "chain/ledger.h"

PG_FUNCTION_INFO_V1(apm_rule_name_sql);
PG_FUNCTION_INFO_V1(apm_rule_text_sql);
PG_FUNCTION_INFO_V1(apm_kind_name_sql);
PG_FUNCTION_INFO_V1(apm_purpose_name_sql);
PG_FUNCTION_INFO_V1(apm_reason_name_sql);

static Datum
name_or_null(FunctionCallInfo fcinfo, const char *name)
{
	if (name == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(name));
}

/* The contract as it is now, which the caller's FmgrInfo keeps; NULL when there is no chain. */
static const ApmContractState *
contract_of(FunctionCallInfo fcinfo)
{
	FmgrInfo *call = fcinfo->flinfo;

	if (call->fn_extra == NULL)
	{
		ApmChainIdentity identity;
		ApmPrivileged saved;

		apm_privileged_begin(&saved);
		SPI_connect();
		if (apm_chain_read(&identity))
			call->fn_extra = apm_chain_contract(call->fn_mcxt);
		SPI_finish();
		apm_privileged_end(&saved);
	}
	return call->fn_extra;
}

/* apm.rule_name(rule smallint) returns text */
Datum
apm_rule_name_sql(PG_FUNCTION_ARGS)
{
	int16 rule = PG_GETARG_INT16(0);
	const ApmContractState *contract;

	if (rule < APM_SITE_RULE)
		return name_or_null(fcinfo, apm_rule_name((uint16) rule));
	contract = contract_of(fcinfo);
	return name_or_null(fcinfo, contract != NULL ? apm_contract_rule_name(contract, (uint16) rule) : NULL);
}

/* apm.rule_text(rule smallint) returns text */
Datum
apm_rule_text_sql(PG_FUNCTION_ARGS)
{
	int16 rule = PG_GETARG_INT16(0);

	return name_or_null(fcinfo, rule >= APM_SITE_RULE ? "a rule that was added to the contract does not hold"
													  : apm_rule_text((uint16) rule));
}

/* apm.kind_name(kind smallint) returns text */
Datum
apm_kind_name_sql(PG_FUNCTION_ARGS)
{
	return name_or_null(fcinfo, apm_kind_name((ApmKind) PG_GETARG_INT16(0)));
}

/* apm.purpose_name(code smallint) returns text */
Datum
apm_purpose_name_sql(PG_FUNCTION_ARGS)
{
	const ApmContractState *contract = contract_of(fcinfo);

	return name_or_null(
		fcinfo, contract != NULL ? apm_contract_purpose_name(contract, (uint16) PG_GETARG_INT16(0)) : NULL);
}

/* apm.reason_name(code smallint) returns text */
Datum
apm_reason_name_sql(PG_FUNCTION_ARGS)
{
	const ApmContractState *contract = contract_of(fcinfo);

	return name_or_null(
		fcinfo, contract != NULL ? apm_contract_reason_name(contract, (uint16) PG_GETARG_INT16(0)) : NULL);
}
