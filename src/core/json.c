/*
 * json.c
 *	  Reads and writes the little of JSON that digests and proofs are made of.
 *
 * What a stranger hands in goes through here first, so the reader knows no recursion, copies
 * nothing and has fixed bounds.  It takes less than RFC 8259 allows: strings are of graphic
 * ASCII and spaces without escapes, numbers are whole and not negative.  White space may
 * stand wherever JSON lets it, because people and their tools put texts into another shape.
 */
#include "json.h"

#include <stdio.h>
#include <string.h>

/* Skips white space; tells the byte that follows without taking it, 0 at the end. */
static uint8_t
peek(ApmReader *r)
{
	while (!r->failed && r->pos < r->end)
	{
		uint8_t c = *r->pos;

		if (c != ' ' && c != '\t' && c != '\n' && c != '\r')
			return c;
		r->pos++;
	}
	return 0;
}

/* Takes this byte if it is next. */
static bool
take(ApmReader *r, char c)
{
	if (peek(r) != (uint8_t) c)
		return false;
	r->pos++;
	return true;
}

static void
expect(ApmReader *r, char c)
{
	if (!take(r, c))
		r->failed = true;
}

static ApmSlice
read_string(ApmReader *r)
{
	const uint8_t *start;

	expect(r, '"');
	start = r->pos;
	while (!r->failed && r->pos < r->end && *r->pos != '"')
	{
		if (*r->pos < ' ' || *r->pos > '~' || *r->pos == '\\')
			r->failed = true;
		r->pos++;
	}
	if (r->failed || r->pos == r->end)
	{
		r->failed = true;
		return APM_SLICE(start, 0);
	}
	return APM_SLICE(start, (size_t) (r->pos++ - start));
}

/* Digits without a needless zero, up to 2^63 - 1.  What follows them, the caller looks at. */
static uint64_t
read_number(ApmReader *r)
{
	const uint8_t *start = r->pos;
	uint64_t number = 0;

	while (r->pos < r->end && *r->pos >= '0' && *r->pos <= '9')
	{
		uint64_t digit = (uint64_t) (*r->pos++ - '0');

		if (number > (INT64_MAX - digit) / 10)
			r->failed = true;
		else
			number = number * 10 + digit;
	}
	if (r->pos == start || (*start == '0' && r->pos > start + 1))
		r->failed = true;
	return number;
}

static void
read_array(ApmReader *r, ApmJson *json, ApmJsonMember *member)
{
	expect(r, '[');
	member->first = json->nelements;
	if (take(r, ']'))
		return;
	do
	{
		ApmSlice element = read_string(r);

		if (json->nelements == APM_JSON_ELEMENTS_MAX)
			r->failed = true;
		if (r->failed)
			return;
		json->elements[json->nelements++] = element;
	} while (take(r, ','));
	expect(r, ']');
	member->count = json->nelements - member->first;
}

static const ApmJsonMember *
find_named(const ApmJson *json, ApmSlice name)
{
	for (size_t i = 0; i < json->nmembers; i++)
	{
		if (apm_slices_equal(json->members[i].name, name))
			return &json->members[i];
	}
	return NULL;
}

static void
read_member(ApmReader *r, ApmJson *json)
{
	ApmJsonMember member = {.name = read_string(r)};

	if (json->nmembers == APM_JSON_MEMBERS_MAX || find_named(json, member.name) != NULL)
		r->failed = true;
	expect(r, ':');
	switch (peek(r))
	{
		case '"':
			member.type = APM_JSON_STRING;
			member.string = read_string(r);
			break;
		case '[':
			member.type = APM_JSON_ARRAY;
			read_array(r, json, &member);
			break;
		default:
			member.type = APM_JSON_NUMBER;
			member.number = read_number(r);
			break;
	}
	if (!r->failed)
		json->members[json->nmembers++] = member;
}

ApmStatus
apm_json_read(ApmSlice text, ApmJson *out)
{
	ApmReader r;

	apm_reader_init(&r, text);
	out->nmembers = 0;
	out->nelements = 0;
	expect(&r, '{');
	if (!take(&r, '}'))
	{
		do
			read_member(&r, out);
		while (!r.failed && take(&r, ','));
		expect(&r, '}');
	}
	(void) peek(&r);
	return apm_reader_done(&r) ? APM_OK : APM_ERR_FORMAT;
}

const ApmJsonMember *
apm_json_find(const ApmJson *json, const char *name, ApmJsonType type)
{
	const ApmJsonMember *found = find_named(json, APM_SLICE(name, strlen(name)));

	return found != NULL && found->type == type ? found : NULL;
}

bool
apm_json_says(const ApmJson *json, const char *name, const char *text)
{
	const ApmJsonMember *found = apm_json_find(json, name, APM_JSON_STRING);

	return found != NULL && apm_slices_equal(found->string, APM_SLICE(text, strlen(text)));
}

bool
apm_json_number(const ApmJson *json, const char *name, uint64_t max, uint64_t *out)
{
	const ApmJsonMember *found = apm_json_find(json, name, APM_JSON_NUMBER);

	if (found == NULL || found->number > max)
		return false;
	*out = found->number;
	return true;
}

/* Upper case, which people may type elsewhere, is not a digest's or a proof's. */
static bool
read_hex(ApmSlice text, void *out, size_t len)
{
	if (text.len != 2 * len)
		return false;
	for (size_t i = 0; i < text.len; i++)
	{
		if (text.data[i] >= 'A' && text.data[i] <= 'F')
			return false;
	}
	return apm_hex_decode((const char *) text.data, text.len, out) == APM_OK;
}

bool
apm_json_hex(const ApmJson *json, const char *name, void *out, size_t len)
{
	const ApmJsonMember *found = apm_json_find(json, name, APM_JSON_STRING);

	return found != NULL && read_hex(found->string, out, len);
}

bool
apm_json_digests(const ApmJson *json, const char *name, size_t max, ApmDigest *out, size_t *count)
{
	const ApmJsonMember *found = apm_json_find(json, name, APM_JSON_ARRAY);

	if (found == NULL || found->count > max)
		return false;
	for (size_t i = 0; i < found->count; i++)
	{
		if (!read_hex(json->elements[found->first + i], out[i].bytes, APM_DIGEST_LEN))
			return false;
	}
	*count = found->count;
	return true;
}

static void
put(ApmBuf *out, const char *text)
{
	apm_put_raw(out, text, strlen(text));
}

void
apm_json_begin(ApmBuf *out)
{
	put(out, "{");
}

void
apm_json_end(ApmBuf *out)
{
	put(out, "}");
}

/* The first member follows the brace, each other one a comma. */
static void
put_name(ApmBuf *out, const char *name)
{
	if (out->len > 0 && out->data[out->len - 1] != '{')
		put(out, ", ");
	put(out, "\"");
	put(out, name);
	put(out, "\": ");
}

static void
put_hex(ApmBuf *out, const uint8_t *data, size_t len)
{
	char digits[3];

	put(out, "\"");
	for (size_t i = 0; i < len; i++)
	{
		apm_hex_encode(data + i, 1, digits);
		put(out, digits);
	}
	put(out, "\"");
}

void
apm_json_put_text(ApmBuf *out, const char *name, const char *text)
{
	put_name(out, name);
	put(out, "\"");
	put(out, text);
	put(out, "\"");
}

void
apm_json_put_number(ApmBuf *out, const char *name, uint64_t number)
{
	char digits[24];

	snprintf(digits, sizeof(digits), "%llu", (unsigned long long) number);
	put_name(out, name);
	put(out, digits);
}

void
apm_json_put_hex(ApmBuf *out, const char *name, const void *data, size_t len)
{
	put_name(out, name);
	put_hex(out, data, len);
}

void
apm_json_put_digests(ApmBuf *out, const char *name, const ApmDigest *digests, size_t count)
{
	put_name(out, name);
	put(out, "[");
	for (size_t i = 0; i < count; i++)
	{
		put(out, i > 0 ? ", " : "");
		put_hex(out, digests[i].bytes, APM_DIGEST_LEN);
	}
	put(out, "]");
}

void
apm_json_put_base64url(ApmBuf *out, const char *name, ApmSlice data)
{
	size_t len;

	put_name(out, name);
	put(out, "\"");
	if (apm_buf_reserve(out, apm_base64_len(data.len) + 1))
	{
		apm_base64url_encode(data.data, data.len, (char *) out->data + out->len, &len);
		out->len += len;
	}
	put(out, "\"");
}
