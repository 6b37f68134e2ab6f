/*
 * item.c
 *	  The items of a contract transaction, encoded.
 *
 * Here an item has a form: a known type, names and codes within their bounds, text that is
 * UTF-8, so that every node can show what is in force.  Whether it can be applied, its
 * policy's value, its predicate and its template's fields included, depends on what
 * is in force and is asked by the contract (contract.c), which refuses it by a rule of its own.
 */
#include "item.h"

#include "transaction.h"

#define ITEM_CODE_MAX 999

bool
apm_item_name_ok(ApmSlice name)
{
	if (name.len < 1 || name.len > APM_ITEM_NAME_MAX)
		return false;
	for (size_t i = 0; i < name.len; i++)
	{
		uint8_t c = name.data[i];

		if (c >= 'a' && c <= 'z')
			continue;
		if (i == 0 || !((c >= '0' && c <= '9') || c == '_' || c == '-'))
			return false;
	}
	return true;
}

/*
 * How long the UTF-8 sequence at s is, of which left bytes are there; 0 if there is none (Unicode, table
 * 3-7: no overlong form, no surrogate, nothing above U+10FFFF), or if it is U+0000, which a database's
 * text cannot hold.
 */
static size_t
utf8_sequence(const uint8_t *s, size_t left)
{
	size_t len = s[0] < 0x80 ? 1 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
	uint8_t least = 0x80;
	uint8_t most = 0xbf;

	if (s[0] == 0 || (s[0] >= 0x80 && s[0] < 0xc2) || s[0] > 0xf4 || len > left)
		return 0;
	if (s[0] == 0xe0)
		least = 0xa0;
	else if (s[0] == 0xed)
		most = 0x9f;
	else if (s[0] == 0xf0)
		least = 0x90;
	else if (s[0] == 0xf4)
		most = 0x8f;
	for (size_t i = 1; i < len; i++)
	{
		if (s[i] < least || s[i] > most)
			return 0;
		least = 0x80;
		most = 0xbf;
	}
	return len;
}

static bool
text_ok(ApmSlice text, size_t max)
{
	size_t at = 0;

	if (text.len < 1 || text.len > max)
		return false;
	while (at < text.len)
	{
		size_t len = utf8_sequence(text.data + at, text.len - at);

		if (len == 0)
			return false;
		at += len;
	}
	return true;
}

static bool
body_ok(const ApmItem *item)
{
	return item->body.len >= 1 && item->body.len <= APM_ITEMS_BYTES;
}

static bool
in_bounds(const ApmItem *item)
{
	switch (item->type)
	{
		case APM_ITEM_POLICY:
			return true;
		case APM_ITEM_PURPOSE:
		case APM_ITEM_REASON:
			return item->key <= ITEM_CODE_MAX && apm_item_name_ok(item->name);
		case APM_ITEM_TEMPLATE:
		case APM_ITEM_RULE:
			return apm_item_name_ok(item->name) && apm_kind_name((ApmKind) item->kind) != NULL &&
				   body_ok(item);
		case APM_ITEM_DATA_RULE:
			return apm_item_name_ok(item->name) && text_ok(item->attribute, APM_ATTRIBUTE_MAX) &&
				   text_ok(item->body, APM_CHECK_MAX) &&
				   (item->violation == APM_VIOLATION_REFUSE || item->violation == APM_VIOLATION_FLAG);
		case APM_ITEM_DROP_TEMPLATE:
		case APM_ITEM_DROP_RULE:
		case APM_ITEM_DROP_DATA_RULE:
			return apm_item_name_ok(item->name);
		default:
			return false;
	}
}

/* Appends to out, which an item beyond its bounds leaves as it was. */
ApmStatus
apm_item_put(const ApmItem *item, ApmBuf *out)
{
	if (!in_bounds(item))
		return APM_ERR_RANGE;

	apm_put_u8(out, item->type);
	if (item->type == APM_ITEM_POLICY)
	{
		apm_put_u16(out, item->key);
		apm_put_u64(out, item->value);
		return apm_buf_status(out);
	}
	if (item->type == APM_ITEM_PURPOSE || item->type == APM_ITEM_REASON)
		apm_put_u16(out, item->key);
	apm_put_bytes(out, item->name.data, item->name.len);
	if (item->type == APM_ITEM_TEMPLATE || item->type == APM_ITEM_RULE)
	{
		apm_put_u8(out, item->kind);
		apm_put_bytes(out, item->body.data, item->body.len);
	}
	else if (item->type == APM_ITEM_DATA_RULE)
	{
		apm_put_bytes(out, item->attribute.data, item->attribute.len);
		apm_put_bytes(out, item->body.data, item->body.len);
		apm_put_u8(out, item->violation);
	}
	return apm_buf_status(out);
}

void
apm_item_get(ApmReader *r, ApmItem *out)
{
	*out = (ApmItem){.type = apm_get_u8(r)};
	switch (out->type)
	{
		case APM_ITEM_POLICY:
			out->key = apm_get_u16(r);
			out->value = apm_get_u64(r);
			break;
		case APM_ITEM_PURPOSE:
		case APM_ITEM_REASON:
			out->key = apm_get_u16(r);
			out->name = apm_get_bytes(r, APM_ITEM_NAME_MAX);
			break;
		case APM_ITEM_TEMPLATE:
		case APM_ITEM_RULE:
			out->name = apm_get_bytes(r, APM_ITEM_NAME_MAX);
			out->kind = apm_get_u8(r);
			out->body = apm_get_bytes(r, APM_ITEMS_BYTES);
			break;
		case APM_ITEM_DATA_RULE:
			out->name = apm_get_bytes(r, APM_ITEM_NAME_MAX);
			out->attribute = apm_get_bytes(r, APM_ATTRIBUTE_MAX);
			out->body = apm_get_bytes(r, APM_CHECK_MAX);
			out->violation = apm_get_u8(r);
			break;
		default: /* a drop, or no type of item: in_bounds() tells */
			out->name = apm_get_bytes(r, APM_ITEM_NAME_MAX);
			break;
	}
	if (!r->failed && !in_bounds(out))
		r->failed = true;
}
