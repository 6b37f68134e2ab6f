/*
 * test_json.c
 *	  What of JSON is taken, what is not, and that what is written is taken.
 */
#include "core/json.h"

#include "check.h"

static ApmStatus
read_text(const char *text, ApmJson *json)
{
	return apm_json_read(APM_SLICE(text, strlen(text)), json);
}

static bool
is_read(const char *text)
{
	ApmJson json;

	return read_text(text, &json) == APM_OK;
}

static void
test_taken(void)
{
	ApmJson json;
	uint64_t number;

	CHECK_OK(read_text("{}", &json));
	CHECK(json.nmembers == 0);
	CHECK_OK(read_text(" \t\r\n{ \"a\" : 0 ,\n\"b\":\"text\", \"c\" :[ ] ,\"d\":[\"x\" , \"y\"]}\n", &json));
	CHECK(json.nmembers == 4 && json.nelements == 2);
	CHECK(apm_json_says(&json, "b", "text") && !apm_json_says(&json, "b", "tex") &&
		  !apm_json_says(&json, "a", "0"));
	CHECK(apm_json_find(&json, "d", APM_JSON_ARRAY)->count == 2);
	CHECK(apm_json_find(&json, "c", APM_JSON_ARRAY)->count == 0);
	CHECK(apm_json_find(&json, "c", APM_JSON_STRING) == NULL &&
		  apm_json_find(&json, "e", APM_JSON_ARRAY) == NULL);
	CHECK(apm_json_number(&json, "a", 0, &number) && number == 0);
	CHECK_OK(read_text("{\"a\":9223372036854775807}", &json));
	CHECK(apm_json_number(&json, "a", INT64_MAX, &number) && number == INT64_MAX);
	CHECK(!apm_json_number(&json, "a", INT64_MAX - 1, &number));
}

static void
test_refused(void)
{
	static const char *const texts[] = {
		"",
		" ",
		"{",
		"}",
		"[]",
		"1",
		"{}{}",
		"{} x",
		"{\"a\"}",
		"{\"a\":}",
		"{\"a\":1,}",
		"{,\"a\":1}",
		"{\"a\":1 \"b\":2}",
		"{a:1}",
		"{'a':1}",
		"{\"a\":1,\"a\":2}",
		"{\"a\":01}",
		"{\"a\":-1}",
		"{\"a\":+1}",
		"{\"a\":1.0}",
		"{\"a\":1e2}",
		"{\"a\":9223372036854775808}",
		"{\"a\":99999999999999999999999}",
		"{\"a\":null}",
		"{\"a\":true}",
		"{\"a\":{}}",
		"{\"a\":[1]}",
		"{\"a\":[[]]}",
		"{\"a\":[\"x\",]}",
		"{\"a\":[\"x\"",
		"{\"a\":\"x}",
		"{\"a\":\"\\u0041\"}",
		"{\"a\":\"\\\"\"}",
		"{\"a\":\"\t\"}",
		"{\"a\":\"\x7f\"}",
		"{\"a\":\"\xc3\xa4\"}",
		"{\"\\u0061\":1}",
		"{\"a\":1}\v",
		"\xef\xbb\xbf{}",
	};

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		if (!CHECK(!is_read(texts[i])))
			fprintf(stderr, "taken: %s\n", texts[i]);
	CHECK(apm_json_read(APM_SLICE("{}\0", 3), &(ApmJson){0}) == APM_ERR_FORMAT);
}

/* As many members, and elements, as there is room for, and one more. */
static void
test_bounds(void)
{
	char text[4096];

	for (int n = 0; n < 2; n++)
	{
		size_t at = 0;

		for (int i = 0; i < APM_JSON_MEMBERS_MAX + n; i++)
			at += (size_t) snprintf(text + at, sizeof(text) - at, "%c\"m%d\":%d", i == 0 ? '{' : ',', i, i);
		snprintf(text + at, sizeof(text) - at, "}");
		CHECK(is_read(text) == (n == 0));

		at = (size_t) snprintf(text, sizeof(text), "{\"a\":[\"\"");
		for (int i = 1; i < APM_JSON_ELEMENTS_MAX + n; i++)
			at += (size_t) snprintf(text + at, sizeof(text) - at, ",\"\"");
		snprintf(text + at, sizeof(text) - at, "]}");
		CHECK(is_read(text) == (n == 0));
	}
}

static void
test_written(void)
{
	ApmDigest digests[2] = {{{1}}, {{2}}};
	ApmDigest got[2];
	uint8_t bytes[3] = {0xab, 0xcd, 0xef};
	uint8_t back[3];
	size_t count;
	uint64_t number;
	ApmJson json;
	ApmBuf buf = {0};

	apm_json_begin(&buf);
	apm_json_put_text(&buf, "type", "some text");
	apm_json_put_number(&buf, "number", INT64_MAX);
	apm_json_put_hex(&buf, "hex", bytes, 3);
	apm_json_put_digests(&buf, "none", NULL, 0);
	apm_json_put_digests(&buf, "digests", digests, 2);
	apm_json_put_base64url(&buf, "data", APM_SLICE(bytes, 3));
	apm_json_end(&buf);
	CHECK_OK(apm_buf_status(&buf));
	CHECK_OK(apm_json_read(APM_SLICE(buf.data, buf.len), &json));
	CHECK(json.nmembers == 6);
	CHECK(apm_json_says(&json, "type", "some text") && apm_json_says(&json, "hex", "abcdef") &&
		  apm_json_says(&json, "data", "q83v"));
	CHECK(apm_json_number(&json, "number", INT64_MAX, &number) && number == INT64_MAX);
	CHECK(apm_json_hex(&json, "hex", back, 3) && memcmp(back, bytes, 3) == 0);
	CHECK(!apm_json_hex(&json, "hex", back, 2) && !apm_json_hex(&json, "type", back, 3));
	CHECK(apm_json_digests(&json, "none", 0, got, &count) && count == 0);
	CHECK(apm_json_digests(&json, "digests", 2, got, &count) && count == 2 &&
		  memcmp(got, digests, sizeof(got)) == 0);
	CHECK(!apm_json_digests(&json, "digests", 1, got, &count));
	apm_buf_reset(&buf);
	CHECK_OK(read_text("{\"hex\":\"abcdeF\"}", &json));
	CHECK(!apm_json_hex(&json, "hex", back, 3));
}

int
main(void)
{
	test_taken();
	test_refused();
	test_bounds();
	test_written();
	return check_summary();
}
