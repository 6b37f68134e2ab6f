/*
 * fuzz_json.c
 *	  Whatever text is taken for an object, its members point into the text, and written again they are
 *	  read as the same.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
inside(ApmSlice slice, const uint8_t *data, size_t size)
{
	if (slice.data < data || slice.data + slice.len > data + size)
		abort();
	for (size_t i = 0; i < slice.len; i++)
	{
		if (slice.data[i] < ' ' || slice.data[i] > '~' || slice.data[i] == '"' || slice.data[i] == '\\')
			abort();
	}
}

static void
put_text(ApmBuf *out, ApmSlice text)
{
	apm_put_u8(out, '"');
	apm_put_raw(out, text.data, text.len);
	apm_put_u8(out, '"');
}

static void
put_value(ApmBuf *out, const ApmJson *json, const ApmJsonMember *member)
{
	char digits[24];

	if (member->type == APM_JSON_STRING)
		put_text(out, member->string);
	else if (member->type == APM_JSON_NUMBER)
		apm_put_raw(out, digits,
					(size_t) snprintf(digits, sizeof(digits), "%llu", (unsigned long long) member->number));
	else
	{
		apm_put_u8(out, '[');
		for (size_t i = 0; i < member->count; i++)
		{
			if (i > 0)
				apm_put_u8(out, ',');
			put_text(out, json->elements[member->first + i]);
		}
		apm_put_u8(out, ']');
	}
}

static void
put_object(ApmBuf *out, const ApmJson *json)
{
	apm_put_u8(out, '{');
	for (size_t i = 0; i < json->nmembers; i++)
	{
		if (i > 0)
			apm_put_u8(out, ',');
		put_text(out, json->members[i].name);
		apm_put_u8(out, ':');
		put_value(out, json, &json->members[i]);
	}
	apm_put_u8(out, '}');
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	ApmJson json;
	ApmJson again;
	ApmBuf first = {0};
	ApmBuf second = {0};

	if (apm_json_read(APM_SLICE(data, size), &json) != APM_OK)
		return 0;
	for (size_t i = 0; i < json.nmembers; i++)
	{
		const ApmJsonMember *member = &json.members[i];

		inside(member->name, data, size);
		if (member->type == APM_JSON_STRING)
			inside(member->string, data, size);
		for (size_t n = 0; n < (member->type == APM_JSON_ARRAY ? member->count : 0); n++)
			inside(json.elements[member->first + n], data, size);
	}
	put_object(&first, &json);
	if (apm_json_read(APM_SLICE(first.data, first.len), &again) != APM_OK)
		abort();
	put_object(&second, &again);
	if (first.len != second.len || memcmp(first.data, second.data, first.len) != 0)
		abort();
	apm_buf_reset(&first);
	apm_buf_reset(&second);
	return 0;
}
