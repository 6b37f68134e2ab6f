/*
 * item_json.c
 *	  Items of the contract as JSON that people read.
 *
 * On the chain an item is a few bytes that have one encoding.  Here they are spelled out, with
 * the names that whoever added the item used.  A predicate is walked as it is stored, in prefix order.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "utils/json.h"

#include "apm_user.h"
#include "chain/item_json.h"
#include "core/field.h"
#include "core/policy.h"
#include "core/predicate.h"

/* A predicate is admitted with fewer; this ends a walk through one that was not. */
#define DEPTH_MAX (2 * APM_PREDICATE_DEPTH)

/* UTF-8 in the server's encoding. */
static char *
server_text(ApmSlice utf8)
{
	char *copy = pnstrdup((const char *) utf8.data, utf8.len);

	return pg_any_to_server(copy, (int) utf8.len, PG_UTF8);
}

static void
put_string(StringInfo out, ApmSlice utf8)
{
	escape_json(out, server_text(utf8));
}

/* A name from one of the core's lists. */
static void
put_name(StringInfo out, const char *name, ApmReader *r)
{
	if (name == NULL)
		r->failed = true;
	else
		escape_json(out, name);
}

/* An operand that is written as {"kind": "name"}, up to the name. */
static void
put_named(StringInfo out, const char *kind, const char *name, ApmReader *r)
{
	appendStringInfo(out, "{\"%s\": ", kind);
	put_name(out, name, r);
}

static void
put_count(StringInfo out, ApmReader *r)
{
	uint8 counter = apm_get_u8(r);
	uint32 seconds = apm_get_u32(r);

	put_named(out, "count", apm_counter_name(counter), r);
	if (seconds > 0)
		appendStringInfo(out, ", \"within\": %u", seconds);
	appendStringInfoChar(out, '}');
}

static void
put_operand(StringInfo out, ApmReader *r)
{
	switch (apm_get_u8(r))
	{
		case APM_OP_INTEGER:
			appendStringInfo(out, INT64_FORMAT, (int64) apm_get_u64(r));
			break;
		case APM_OP_TEXT:
			put_string(out, apm_get_bytes(r, APM_PREDICATE_MAX));
			break;
		case APM_OP_FIELD:
			put_named(out, "field", apm_term_name(apm_get_u8(r)), r);
			appendStringInfoChar(out, '}');
			break;
		case APM_OP_PUBLIC:
			appendStringInfoString(out, "{\"public\": ");
			put_string(out, apm_get_bytes(r, APM_FIELD_NAME_MAX));
			appendStringInfoChar(out, '}');
			break;
		case APM_OP_COUNT:
			put_count(out, r);
			break;
		default:
			r->failed = true;
	}
}

static void
put_roles(StringInfo out, uint16 mask)
{
	const char *separator = "";

	appendStringInfoChar(out, '[');
	for (uint32 bit = 1; bit <= PG_UINT16_MAX; bit <<= 1)
	{
		const char *name = (mask & bit) != 0 ? apm_role_name((uint16) bit) : NULL;

		if (name == NULL)
			continue;
		appendStringInfoString(out, separator);
		escape_json(out, name);
		separator = ", ";
	}
	appendStringInfoChar(out, ']');
}

/* So many operands, or constants, of a list. */
static void
put_operands(StringInfo out, int n, ApmReader *r)
{
	for (int i = 0; i < n && !r->failed; i++)
	{
		if (i > 0)
			appendStringInfoString(out, ", ");
		put_operand(out, r);
	}
}

static void put_condition(StringInfo out, int depth, ApmReader *r);

static void
put_conditions(StringInfo out, int n, int depth, ApmReader *r)
{
	appendStringInfoChar(out, '[');
	for (int i = 0; i < n && !r->failed; i++)
	{
		if (i > 0)
			appendStringInfoString(out, ", ");
		put_condition(out, depth, r);
	}
	appendStringInfoChar(out, ']');
}

static void
put_condition(StringInfo out, int depth, ApmReader *r)
{
	uint8 code = apm_get_u8(r);
	const char *name = apm_operator_name(code);

	if (r->failed || name == NULL || depth > DEPTH_MAX)
	{
		r->failed = true;
		return;
	}
	appendStringInfo(out, "{\"%s\": ", name);
	switch (code)
	{
		case APM_OP_AND:
		case APM_OP_OR:
			put_conditions(out, apm_get_u8(r), depth + 1, r);
			break;
		case APM_OP_NOT:
			put_condition(out, depth + 1, r);
			break;
		case APM_OP_ROLE:
			put_roles(out, apm_get_u16(r));
			break;
		case APM_OP_IN:
			appendStringInfoChar(out, '[');
			put_operand(out, r);
			appendStringInfoString(out, ", [");
			put_operands(out, apm_get_u8(r), r);
			appendStringInfoString(out, "]]");
			break;
		default:
			appendStringInfoChar(out, '[');
			put_operands(out, 2, r);
			appendStringInfoChar(out, ']');
	}
	appendStringInfoChar(out, '}');
}

static ApmStatus
put_predicate(StringInfo out, ApmSlice predicate)
{
	ApmReader r;

	apm_reader_init(&r, predicate);
	put_condition(out, 1, &r);
	return apm_reader_done(&r) ? APM_OK : APM_ERR_FORMAT;
}

static const char *
field_type_name(uint8 type)
{
	switch (type)
	{
		case APM_FIELD_INTEGER:
			return "integer";
		case APM_FIELD_BOOLEAN:
			return "boolean";
		default:
			return "code";
	}
}

static void
put_spec(StringInfo out, const ApmFieldSpec *spec)
{
	put_string(out, spec->name);
	appendStringInfo(out, ": {\"type\": \"%s\"", field_type_name(spec->type));
	if (spec->type == APM_FIELD_INTEGER)
		appendStringInfo(out, ", \"least\": " INT64_FORMAT ", \"most\": " INT64_FORMAT, spec->least,
						 spec->most);
	if (spec->type == APM_FIELD_CODE)
	{
		appendStringInfoString(out, ", \"codes\": [");
		for (int i = 0; i < spec->ncodes; i++)
		{
			if (i > 0)
				appendStringInfoString(out, ", ");
			put_string(out, spec->codes[i]);
		}
		appendStringInfoChar(out, ']');
	}
	appendStringInfo(out, ", \"required\": %s}", spec->required ? "true" : "false");
}

static ApmStatus
put_template(StringInfo out, ApmSlice fields)
{
	ApmFieldSpec specs[APM_FIELDS_MAX];
	int n;
	ApmStatus status = apm_specs_decode(fields, specs, &n);

	if (status != APM_OK)
		return status;
	appendStringInfoChar(out, '{');
	for (int i = 0; i < n; i++)
	{
		if (i > 0)
			appendStringInfoString(out, ", ");
		put_spec(out, &specs[i]);
	}
	appendStringInfoChar(out, '}');
	return APM_OK;
}

static void
put_data_rule(StringInfo out, const ApmItem *item)
{
	appendStringInfoString(out, "{\"attribute\": ");
	put_string(out, item->attribute);
	appendStringInfo(out, ", \"check\": %s, \"violation\": \"%s\"}", server_text(item->body),
					 item->violation == APM_VIOLATION_REFUSE ? "refuse" : "flag");
}

static void
put_policy(StringInfo out, const ApmItem *item)
{
	const char *word = apm_policy_word(item->key, item->value);

	if (word != NULL)
		escape_json(out, word);
	else
		appendStringInfo(out, UINT64_FORMAT, item->value);
}

ApmStatus
apm_item_json(const ApmItem *item, StringInfo out)
{
	switch (item->type)
	{
		case APM_ITEM_POLICY:
			put_policy(out, item);
			return APM_OK;
		case APM_ITEM_PURPOSE:
		case APM_ITEM_REASON:
			appendStringInfo(out, "%u", item->key);
			return APM_OK;
		case APM_ITEM_TEMPLATE:
			return put_template(out, item->body);
		case APM_ITEM_RULE:
			return put_predicate(out, item->body);
		case APM_ITEM_DATA_RULE:
			put_data_rule(out, item);
			return APM_OK;
		default:
			return APM_ERR_FORMAT;
	}
}
