/*
 * contractchange.c
 *	  Changing the contract: policies, purposes, reasons, templates, site rules, data rules.
 *
 * A change is a transaction like any other: signed by the origin for the acting administrator, queued in
 * the caller's transaction, judged by the contract as it then is, and in force when its block is final.  It carries the
 * whole of what it brings, so that every node and whoever verifies the chain has the same contract.
 *
 * What cannot be applied to the contract that the local ledger has is told at once.  That is a
 * courtesy: other changes may be on their way before this one, and the contract's verdict is the one that counts.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"

#include "anonymize/contractcache.h"
#include "anonymize/datacheck.h"
#include "anonymize/outgoing.h"
#include "anonymize/predicate_json.h"
#include "anonymize/unicode.h"
#include "apm_errors.h"
#include "core/policy.h"

PG_FUNCTION_INFO_V1(apm_set_policy);
PG_FUNCTION_INFO_V1(apm_add_purpose);
PG_FUNCTION_INFO_V1(apm_add_reason);
PG_FUNCTION_INFO_V1(apm_add_template);
PG_FUNCTION_INFO_V1(apm_drop_template);
PG_FUNCTION_INFO_V1(apm_add_rule);
PG_FUNCTION_INFO_V1(apm_drop_rule);
PG_FUNCTION_INFO_V1(apm_add_data_rule);
PG_FUNCTION_INFO_V1(apm_drop_data_rule);

/* Whoever may not change the contract learns that before anything about his arguments; none may be null. */
static void
begin_change(FunctionCallInfo fcinfo, ApmActing *who)
{
	apm_acting(who);
	apm_acting_require(who, APM_ROLE_ADMIN, "change the contract");
	for (int i = 0; i < PG_NARGS(); i++)
	{
		if (PG_ARGISNULL(i))
			ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
							errmsg("no argument of this function may be null")));
	}
}

static ApmSlice
name_argument(FunctionCallInfo fcinfo, int n)
{
	ApmSlice name = APM_SLICE_OF(PG_GETARG_TEXT_PP(n));

	if (!apm_item_name_ok(name))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME), errmsg("this is no name for a part of the contract"),
				 errhint("A name is a lower case letter and then lower case letters, digits, _ and -, up "
						 "to %d.",
						 APM_ITEM_NAME_MAX)));
	return name;
}

/* The kinds of which that is true, for a hint. */
static char *
list_kinds(bool (*fits)(ApmKind kind))
{
	StringInfoData list;

	initStringInfo(&list);
	for (int kind = 1; apm_kind_name((ApmKind) kind) != NULL; kind++)
	{
		if (fits((ApmKind) kind))
			appendStringInfo(&list, "%s%s", list.len > 0 ? ", " : "", apm_kind_name((ApmKind) kind));
	}
	return list.data;
}

/* A kind of transactions, one of which that is true. */
static uint8
kind_argument(FunctionCallInfo fcinfo, int n, bool (*fits)(ApmKind kind))
{
	char *wanted = text_to_cstring(PG_GETARG_TEXT_PP(n));

	for (int kind = 1; apm_kind_name((ApmKind) kind) != NULL; kind++)
	{
		if (fits((ApmKind) kind) && strcmp(apm_kind_name((ApmKind) kind), wanted) == 0)
			return (uint8) kind;
	}
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("this is no kind of transactions that can be given one"),
					errhint("Kinds are: %s.", list_kinds(fits))));
	pg_unreachable();
}

/* Raises what fits an item that the contract in force does not take. */
static void
refuse_item(const ApmContractState *contract, const ApmItem *item)
{
	const char *name = item->name.len > 0 ? pnstrdup((const char *) item->name.data, item->name.len) : NULL;
	bool listed = (item->type == APM_ITEM_PURPOSE && apm_contract_purpose_code(contract, name) != 0) ||
				  (item->type == APM_ITEM_REASON && apm_contract_reason_code(contract, name) != 0);

	if (item->type == APM_ITEM_POLICY)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the policy cannot have this value")));
	if (listed)
		ereport(ERROR, (errcode(ERRCODE_DUPLICATE_OBJECT), errmsg("this name is on the list already")));
	if (item->type >= APM_ITEM_DROP_TEMPLATE)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("nothing of this name is in force"),
				 errhint("The view apm.contract shows what is; what was added is in force when its block is "
						 "final.")));
	for (uint16 rule = 1; item->type == APM_ITEM_RULE && apm_rule_name(rule) != NULL; rule++)
	{
		if (strcmp(apm_rule_name(rule), name) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_RESERVED_NAME), errmsg("a rule of the contract's own has this name")));
	}
	ereport(ERROR,
			(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
			 errmsg("the contract has no room for one more of these"),
			 errhint("At most %d templates, %d data rules, and %d rules with %d different counters are in "
					 "force; drop what is not needed.",
					 APM_TEMPLATES_MAX, APM_DATA_RULES_MAX, APM_SITE_RULES_MAX, APM_COUNTS_MAX - 1)));
}

/* Sends a contract transaction with this one item, in the caller's transaction; answers its Tid. */
static Datum
send_item(const ApmActing *who, const ApmItem *item)
{
	ApmTransaction tx = {.kind = APM_KIND_CONTRACT, .u.contract.count = 1};
	const ApmContractState *contract;
	ApmBuf encoded = {0};
	ApmSection section;
	ApmOutgoing out;
	ApmStatus status;
	uint64 serial;
	ApmUuid tid;

	apm_section_begin(&section);
	apm_outgoing_start(&out, who);
	contract = apm_contract_now(&serial);
	status = apm_contract_try_item(contract, item);
	if (status == APM_ERR_RANGE)
		refuse_item(contract, item);
	apm_check(status, "try a change of the contract");

	apm_check(apm_item_put(item, &encoded), "encode a change of the contract");
	tx.u.contract.items = APM_SLICE(encoded.data, encoded.len);
	apm_staff_note(who);
	tid = out.items[apm_outgoing_add(&out, &tx)].tid;
	apm_outgoing_send(&out);
	apm_section_end(&section);
	return apm_uuid_datum(&tid);
}

/* A purpose or a reason; the chain gives it its code. */
static Datum
add_to_list(FunctionCallInfo fcinfo, ApmItemType type)
{
	ApmItem item = {.type = (uint8) type, .key = APM_ITEM_NEXT_CODE};
	ApmActing who;

	begin_change(fcinfo, &who);
	item.name = name_argument(fcinfo, 0);
	return send_item(&who, &item);
}

static Datum
drop(FunctionCallInfo fcinfo, ApmItemType type)
{
	ApmItem item = {.type = (uint8) type};
	ApmActing who;

	begin_change(fcinfo, &who);
	item.name = name_argument(fcinfo, 0);
	return send_item(&who, &item);
}

/* What a policy's value may be, for a hint. */
static char *
list_words(uint16 key)
{
	StringInfoData list;

	initStringInfo(&list);
	for (uint64 value = 0; value <= 2; value++)
	{
		if (apm_policy_word(key, value) != NULL)
			appendStringInfo(&list, "%s\"%s\"", list.len > 0 ? ", " : "", apm_policy_word(key, value));
	}
	return list.len > 0 ? psprintf("one of %s", list.data) : psprintf("a number from 0 to %d", INT32_MAX);
}

/* The policies that can be changed, for a hint. */
static char *
list_policies(void)
{
	StringInfoData list;

	initStringInfo(&list);
	for (uint16 key = 1; apm_policy_name(key) != NULL; key++)
	{
		if (key != APM_POLICY_DIFFICULTY)
			appendStringInfo(&list, "%s%s", list.len > 0 ? ", " : "", apm_policy_name(key));
	}
	return list.data;
}

/* apm_set_policy(name text, value text) returns uuid */
Datum
apm_set_policy(PG_FUNCTION_ARGS)
{
	ApmItem item = {.type = APM_ITEM_POLICY};
	ApmActing who;

	begin_change(fcinfo, &who);
	item.key = apm_policy_code(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	if (item.key == 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("no such policy"),
						errhint("Policies are: %s.", list_policies())));
	if (item.key == APM_POLICY_DIFFICULTY)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("the difficulty is set in the genesis block and stays"),
						errdetail("Rule \"%s\" of the contract: %s.", apm_rule_name(APM_RULE_MEMBERSHIP),
								  apm_rule_text(APM_RULE_MEMBERSHIP))));
	if (!apm_policy_value(item.key, text_to_cstring(PG_GETARG_TEXT_PP(1)), &item.value) ||
		item.value > INT32_MAX)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the policy cannot have this value"),
						errhint("It is %s.", list_words(item.key))));
	PG_RETURN_DATUM(send_item(&who, &item));
}

/* apm_add_purpose(name text) returns uuid */
Datum
apm_add_purpose(PG_FUNCTION_ARGS)
{
	PG_RETURN_DATUM(add_to_list(fcinfo, APM_ITEM_PURPOSE));
}

/* apm_add_reason(name text) returns uuid */
Datum
apm_add_reason(PG_FUNCTION_ARGS)
{
	PG_RETURN_DATUM(add_to_list(fcinfo, APM_ITEM_REASON));
}

/* apm_add_template(name text, kind text, fields jsonb) returns uuid */
Datum
apm_add_template(PG_FUNCTION_ARGS)
{
	ApmItem item = {.type = APM_ITEM_TEMPLATE};
	ApmBuf fields = {0};
	ApmActing who;

	begin_change(fcinfo, &who);
	item.name = name_argument(fcinfo, 0);
	item.kind = kind_argument(fcinfo, 1, apm_kind_has_fields);
	apm_template_read(PG_GETARG_JSONB_P(2), &fields);
	item.body = APM_SLICE(fields.data, fields.len);
	PG_RETURN_DATUM(send_item(&who, &item));
}

/* apm_drop_template(name text) returns uuid */
Datum
apm_drop_template(PG_FUNCTION_ARGS)
{
	PG_RETURN_DATUM(drop(fcinfo, APM_ITEM_DROP_TEMPLATE));
}

/* apm_add_rule(name text, kind text, predicate jsonb) returns uuid */
Datum
apm_add_rule(PG_FUNCTION_ARGS)
{
	ApmItem item = {.type = APM_ITEM_RULE};
	ApmBuf predicate = {0};
	ApmActing who;

	begin_change(fcinfo, &who);
	item.name = name_argument(fcinfo, 0);
	item.kind = kind_argument(fcinfo, 1, apm_kind_has_rules);
	apm_predicate_read(PG_GETARG_JSONB_P(2), (ApmKind) item.kind, &predicate);
	item.body = APM_SLICE(predicate.data, predicate.len);
	PG_RETURN_DATUM(send_item(&who, &item));
}

/* apm_drop_rule(name text) returns uuid */
Datum
apm_drop_rule(PG_FUNCTION_ARGS)
{
	PG_RETURN_DATUM(drop(fcinfo, APM_ITEM_DROP_RULE));
}

/* The name of an attribute that records have. */
static ApmSlice
attribute_argument(FunctionCallInfo fcinfo, int n, ApmBuf *utf8)
{
	apm_utf8_put(utf8, APM_SLICE_OF(PG_GETARG_TEXT_PP(n)), "the attribute's name");
	apm_check(apm_buf_status(utf8), "read the attribute's name");
	if (utf8->len < 1 || utf8->len > APM_ATTRIBUTE_MAX)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("the name of an attribute must have 1 to %d bytes", APM_ATTRIBUTE_MAX)));
	return APM_SLICE(utf8->data, utf8->len);
}

/* A check as the one text that the contract keeps. */
static ApmSlice
check_argument(FunctionCallInfo fcinfo, int n, ApmBuf *text)
{
	Jsonb *json = PG_GETARG_JSONB_P(n);
	ApmDataCheck check;

	if (!apm_datacheck_of(json, &check))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("this is no check of a data rule"),
				 errhint("A check is {\"constant\": true}, {\"non-decreasing\": true}, {\"range\": [least, "
						 "most]}, {\"rate\": {\"most\": number, \"per\": \"hour\"}} or {\"codes\": [value, "
						 "...]}.")));
	apm_json_put(text, json);
	apm_check(apm_buf_status(text), "read a check");
	if (text->len > APM_CHECK_MAX)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("the check is larger than %d bytes", APM_CHECK_MAX)));
	return APM_SLICE(text->data, text->len);
}

static uint8
violation_argument(FunctionCallInfo fcinfo, int n)
{
	char *violation = text_to_cstring(PG_GETARG_TEXT_PP(n));

	if (strcmp(violation, "refuse") == 0)
		return APM_VIOLATION_REFUSE;
	if (strcmp(violation, "flag") == 0)
		return APM_VIOLATION_FLAG;
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("a violation has no such consequence"),
					errhint("It is \"refuse\" or \"flag\".")));
	pg_unreachable();
}

/* apm_add_data_rule(name text, attribute text, check_ jsonb, violation text) returns uuid */
Datum
apm_add_data_rule(PG_FUNCTION_ARGS)
{
	ApmItem item = {.type = APM_ITEM_DATA_RULE};
	ApmBuf attribute = {0};
	ApmBuf check = {0};
	ApmActing who;

	begin_change(fcinfo, &who);
	item.name = name_argument(fcinfo, 0);
	item.attribute = attribute_argument(fcinfo, 1, &attribute);
	item.body = check_argument(fcinfo, 2, &check);
	item.violation = violation_argument(fcinfo, 3);
	PG_RETURN_DATUM(send_item(&who, &item));
}

/* apm_drop_data_rule(name text) returns uuid */
Datum
apm_drop_data_rule(PG_FUNCTION_ARGS)
{
	PG_RETURN_DATUM(drop(fcinfo, APM_ITEM_DROP_DATA_RULE));
}
