/*
 * test_field.c
 *	  Public fields and what templates ask of them: one encoding, and nothing beyond its bounds.
 */
#include "core/field.h"

#include "sample.h"

static ApmPublicField
integer(const char *name, int64_t value)
{
	return (ApmPublicField){.name = sample_text(name), .type = APM_FIELD_INTEGER, .number = value};
}

static ApmPublicField
boolean(const char *name, int64_t value)
{
	return (ApmPublicField){.name = sample_text(name), .type = APM_FIELD_BOOLEAN, .number = value};
}

static ApmPublicField
code(const char *name, const char *value)
{
	return (ApmPublicField){.name = sample_text(name), .type = APM_FIELD_CODE, .code = sample_text(value)};
}

static ApmStatus
encoded(const ApmPublicField *v, int n, ApmBuf *out)
{
	ApmStatus status;

	apm_buf_reset(out);
	status = apm_fields_encode(v, n, out);
	CHECK(status == APM_OK || out->len == 0);
	return status;
}

static void
test_fields(void)
{
	const ApmPublicField v[] = {boolean("a", 1), code("ab", "x!~"), integer("b_1", INT64_MIN)};
	ApmPublicField back[APM_FIELDS_MAX];
	ApmBuf buf = {0};
	int n;

	CHECK_OK(encoded(v, 3, &buf));
	CHECK_HEX(buf.data, buf.len,
			  "03 00000001 61 02 0000000000000001 00000002 6162 03 00000003 78217e"
			  "00000003 625f31 01 8000000000000000");
	CHECK_OK(apm_fields_decode(APM_SLICE(buf.data, buf.len), back, &n));
	CHECK(n == 3 && back[0].number == 1 && back[1].code.len == 3 && back[2].number == INT64_MIN);
	for (size_t len = 1; len < buf.len; len++)
		CHECK_STATUS(apm_fields_decode(APM_SLICE(buf.data, len), back, &n), APM_ERR_FORMAT);
	apm_put_u8(&buf, 0);
	CHECK_STATUS(apm_fields_decode(APM_SLICE(buf.data, buf.len), back, &n), APM_ERR_FORMAT);
	CHECK(n == 0);

	CHECK_OK(encoded(v, 0, &buf));
	CHECK(buf.len == 0);
	CHECK_OK(apm_fields_decode(APM_SLICE(NULL, 0), back, &n));
	CHECK(n == 0);
	CHECK_STATUS(apm_fields_decode(APM_SLICE("\0", 1), back, &n), APM_ERR_FORMAT);
	apm_buf_reset(&buf);
}

static void
test_names(void)
{
	static const char *const bad[] = {"", "A", "1a", "_a", "a-b", "a b", "\xc3\xa4", "aB"};
	char longest[APM_FIELD_NAME_MAX + 2];

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CHECK(!apm_field_name_ok(sample_text(bad[i])));
	memset(longest, 'z', sizeof(longest));
	CHECK(apm_field_name_ok(APM_SLICE(longest, APM_FIELD_NAME_MAX)));
	CHECK(!apm_field_name_ok(APM_SLICE(longest, APM_FIELD_NAME_MAX + 1)));
	CHECK(apm_field_name_ok(sample_text("a")) && apm_field_name_ok(sample_text("a_9z")));
	CHECK(!apm_field_name_ok(APM_SLICE("a\0b", 3)));
}

static void
test_bounds(void)
{
	const ApmPublicField twice[] = {integer("a", 1), integer("a", 2)};
	const ApmPublicField descending[] = {integer("b", 1), integer("a", 2)};
	ApmPublicField many[APM_FIELDS_MAX + 1];
	char names[APM_FIELDS_MAX + 1][3];
	char longest[APM_FIELD_CODE_MAX + 2];
	ApmPublicField one;
	ApmBuf buf = {0};

	CHECK_STATUS(encoded(twice, 2, &buf), APM_ERR_RANGE);
	CHECK_STATUS(encoded(descending, 2, &buf), APM_ERR_RANGE);
	one = boolean("a", 2);
	CHECK_STATUS(encoded(&one, 1, &buf), APM_ERR_RANGE);
	one.type = 0;
	CHECK_STATUS(encoded(&one, 1, &buf), APM_ERR_RANGE);
	one.type = 4;
	CHECK_STATUS(encoded(&one, 1, &buf), APM_ERR_RANGE);
	one = code("a", "");
	CHECK_STATUS(encoded(&one, 1, &buf), APM_ERR_RANGE);
	one = code("a", "b c");
	CHECK_STATUS(encoded(&one, 1, &buf), APM_ERR_RANGE);
	memset(longest, 'z', sizeof(longest));
	one.code = APM_SLICE(longest, APM_FIELD_CODE_MAX + 1);
	CHECK_STATUS(encoded(&one, 1, &buf), APM_ERR_RANGE);
	one.code.len--;
	CHECK_OK(encoded(&one, 1, &buf));

	for (int i = 0; i <= APM_FIELDS_MAX; i++)
	{
		memcpy(names[i], (char[]){'n', (char) ('a' + i), '\0'}, 3);
		many[i] = integer(names[i], i);
	}
	CHECK_OK(encoded(many, APM_FIELDS_MAX, &buf));
	CHECK_STATUS(encoded(many, APM_FIELDS_MAX + 1, &buf), APM_ERR_RANGE);
	CHECK_STATUS(encoded(many, -1, &buf), APM_ERR_RANGE);
	apm_buf_reset(&buf);
}

/* Reads what was written for v, compares, and tries every shorter input. */
static void
specs_come_back(const ApmFieldSpec *v, int n)
{
	static ApmFieldSpec back[APM_FIELDS_MAX];
	ApmBuf buf = {0};
	ApmBuf again = {0};
	int count;

	CHECK_OK(apm_specs_encode(v, n, &buf));
	CHECK_OK(apm_specs_decode(APM_SLICE(buf.data, buf.len), back, &count));
	CHECK(count == n);
	CHECK_OK(apm_specs_encode(back, count, &again));
	CHECK(again.len == buf.len && memcmp(again.data, buf.data, buf.len) == 0);
	for (size_t len = 0; len < buf.len; len++)
		CHECK_STATUS(apm_specs_decode(APM_SLICE(buf.data, len), back, &count), APM_ERR_FORMAT);
	apm_buf_reset(&buf);
	apm_buf_reset(&again);
}

static void
specs_refused(const ApmFieldSpec *v, int n)
{
	ApmBuf buf = {0};

	CHECK_STATUS(apm_specs_encode(v, n, &buf), APM_ERR_RANGE);
	CHECK(buf.len == 0);
}

static void
test_specs(void)
{
	static ApmFieldSpec v[3];
	ApmFieldSpec was;

	v[0] = (ApmFieldSpec){.name = sample_text("age"), .type = APM_FIELD_INTEGER, .least = -1, .most = 120};
	v[1] = (ApmFieldSpec){.name = sample_text("urgent"), .type = APM_FIELD_BOOLEAN, .required = true};
	v[2] = (ApmFieldSpec){.name = sample_text("ward"),
						  .type = APM_FIELD_CODE,
						  .ncodes = 3,
						  .codes = {sample_text("A"), sample_text("A1"), sample_text("B")}};
	specs_come_back(v, 3);
	specs_refused(v, 0);

	was = v[0];
	v[0].most = -2;
	specs_refused(v, 3);
	v[0] = was;
	v[0].name = sample_text("urgent");
	specs_refused(v, 3);
	v[0] = was;
	v[0].type = 9;
	specs_refused(v, 3);
	v[0] = was;
	was = v[2];
	v[2].ncodes = 0;
	specs_refused(v, 3);
	v[2].ncodes = APM_FIELD_CODES_MAX + 1;
	specs_refused(v, 3);
	v[2] = was;
	v[2].codes[1] = sample_text("A");
	specs_refused(v, 3);
	v[2].codes[1] = sample_text("");
	specs_refused(v, 3);
}

/* A byte where true or false is expected has no third value. */
static void
test_required(void)
{
	const ApmFieldSpec v = {.name = sample_text("a"), .type = APM_FIELD_BOOLEAN, .required = true};
	ApmFieldSpec back[APM_FIELDS_MAX];
	ApmBuf buf = {0};
	int n;

	CHECK_OK(apm_specs_encode(&v, 1, &buf));
	buf.data[buf.len - 1] = 2;
	CHECK_STATUS(apm_specs_decode(APM_SLICE(buf.data, buf.len), back, &n), APM_ERR_FORMAT);
	apm_buf_reset(&buf);
}

static void
test_fits(void)
{
	const ApmFieldSpec range = {
		.name = sample_text("a"), .type = APM_FIELD_INTEGER, .least = -1, .most = 120};
	const ApmFieldSpec flag = {.name = sample_text("a"), .type = APM_FIELD_BOOLEAN};
	const ApmFieldSpec list = {.name = sample_text("a"),
							   .type = APM_FIELD_CODE,
							   .ncodes = 2,
							   .codes = {sample_text("A"), sample_text("B")}};
	ApmPublicField f;

	f = integer("a", -1);
	CHECK(apm_field_fits(&f, &range) && !apm_field_fits(&f, &flag) && !apm_field_fits(&f, &list));
	f.number = -2;
	CHECK(!apm_field_fits(&f, &range));
	f.number = 121;
	CHECK(!apm_field_fits(&f, &range));
	f = integer("ab", 1);
	CHECK(!apm_field_fits(&f, &range));
	f = boolean("a", 0);
	CHECK(apm_field_fits(&f, &flag) && !apm_field_fits(&f, &range));
	f = code("a", "B");
	CHECK(apm_field_fits(&f, &list));
	f = code("a", "AB");
	CHECK(!apm_field_fits(&f, &list));
}

int
main(void)
{
	test_fields();
	test_names();
	test_bounds();
	test_specs();
	test_required();
	test_fits();
	return check_summary();
}
