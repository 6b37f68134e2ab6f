/*
 * test_item.c
 *	  The items of a contract transaction: one encoding each, and nothing beyond its bounds.
 */
#include "core/item.h"

#include "sample.h"

static const char check[] = "{\"range\":[0,null]}";

static ApmItem
data_rule(void)
{
	return (ApmItem){.type = APM_ITEM_DATA_RULE,
					 .name = sample_text("plausible"),
					 .attribute = sample_text("pulse"),
					 .body = sample_text(check),
					 .violation = APM_VIOLATION_REFUSE};
}

static ApmItem
named(uint8_t type)
{
	ApmItem item = data_rule();

	item.type = type;
	item.key = 8;
	item.kind = APM_KIND_QUERY;
	return item;
}

static ApmStatus
put(const ApmItem *item)
{
	ApmBuf buf = {0};
	ApmStatus status = apm_item_put(item, &buf);

	CHECK((status == APM_OK) == (buf.len > 0));
	apm_buf_reset(&buf);
	return status;
}

static void
test_known_answers(void)
{
	const ApmItem policy = {.type = APM_ITEM_POLICY, .key = 6, .value = 500};
	ApmItem item = data_rule();
	ApmBuf buf = {0};

	CHECK_OK(apm_item_put(&policy, &buf));
	CHECK_HEX(buf.data, buf.len, "01 0006 00000000000001f4");
	apm_buf_reset(&buf);
	CHECK_OK(apm_item_put(&item, &buf));
	CHECK_HEX(buf.data, buf.len,
			  "06 00000009 706c61757369626c65 00000005 70756c7365"
			  "00000012 7b2272616e6765223a5b302c6e756c6c5d7d 01");
	apm_buf_reset(&buf);
	item = named(APM_ITEM_RULE);
	item.body = sample_text("?");
	CHECK_OK(apm_item_put(&item, &buf));
	CHECK_HEX(buf.data, buf.len, "05 00000009 706c61757369626c65 03 00000001 3f");
	apm_buf_reset(&buf);
	item = named(APM_ITEM_REASON);
	CHECK_OK(apm_item_put(&item, &buf));
	CHECK_HEX(buf.data, buf.len, "03 0008 00000009 706c61757369626c65");
	apm_buf_reset(&buf);
}

/* Each type comes back as it was, and whatever byte stands in any place has no second encoding. */
static void
test_every_byte(void)
{
	for (uint8_t type = APM_ITEM_POLICY; type <= APM_ITEM_DROP_DATA_RULE; type++)
	{
		ApmItem item = named(type);
		ApmBuf buf = {0};

		CHECK_OK(apm_item_put(&item, &buf));
		for (size_t i = 0; i < buf.len; i++)
		{
			uint8_t was = buf.data[i];

			for (int value = 0; value < 256; value++)
			{
				ApmItem got;
				ApmReader r;
				ApmBuf again = {0};

				buf.data[i] = (uint8_t) value;
				apm_reader_init(&r, APM_SLICE(buf.data, buf.len));
				apm_item_get(&r, &got);
				if (value == was)
					CHECK(apm_reader_done(&r));
				if (!apm_reader_done(&r))
					continue;
				if (apm_item_put(&got, &again) != APM_OK || again.len != buf.len ||
					memcmp(again.data, buf.data, buf.len) != 0)
					CHECK(!"a second encoding of one item");
				apm_buf_reset(&again);
			}
			buf.data[i] = was;
		}
		apm_buf_reset(&buf);
	}
}

static void
test_names(void)
{
	static const char *const bad[] = {"", "A", "1a", "_a", "-a", "a b", "a.b", "\xc3\xa4", "aB"};
	char longest[APM_ITEM_NAME_MAX + 2];

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
	{
		CHECK(!apm_item_name_ok(sample_text(bad[i])));
		for (uint8_t type = APM_ITEM_PURPOSE; type <= APM_ITEM_DROP_DATA_RULE; type++)
		{
			ApmItem item = named(type);

			item.name = sample_text(bad[i]);
			CHECK_STATUS(put(&item), APM_ERR_RANGE);
		}
	}
	memset(longest, 'z', sizeof(longest));
	CHECK(apm_item_name_ok(APM_SLICE(longest, APM_ITEM_NAME_MAX)));
	CHECK(!apm_item_name_ok(APM_SLICE(longest, APM_ITEM_NAME_MAX + 1)));
	CHECK(apm_item_name_ok(sample_text("a")) && apm_item_name_ok(sample_text("patient-request_2")));
	CHECK(!apm_item_name_ok(APM_SLICE("a\0b", 3)));
}

static void
test_bounds(void)
{
	static char bytes[APM_ITEMS_BYTES + 1];
	ApmItem item;

	memset(bytes, 'x', sizeof(bytes));
	for (uint8_t type = APM_ITEM_PURPOSE; type <= APM_ITEM_REASON; type++)
	{
		item = named(type);
		item.key = APM_ITEM_NEXT_CODE;
		CHECK_OK(put(&item));
		item.key = 1000;
		CHECK_STATUS(put(&item), APM_ERR_RANGE);
		item.key = 999;
		CHECK_OK(put(&item));
	}
	for (uint8_t type = APM_ITEM_TEMPLATE; type <= APM_ITEM_RULE; type++)
	{
		item = named(type);
		item.kind = 0;
		CHECK_STATUS(put(&item), APM_ERR_RANGE);
		item.kind = 9;
		CHECK_STATUS(put(&item), APM_ERR_RANGE);
		item = named(type);
		item.body.len = 0;
		CHECK_STATUS(put(&item), APM_ERR_RANGE);
		item.body = APM_SLICE(bytes, sizeof(bytes));
		CHECK_STATUS(put(&item), APM_ERR_RANGE);
	}
	item = named(0);
	CHECK_STATUS(put(&item), APM_ERR_RANGE);
	item = named(APM_ITEM_DROP_DATA_RULE + 1);
	CHECK_STATUS(put(&item), APM_ERR_RANGE);

	item = data_rule();
	item.violation = 0;
	CHECK_STATUS(put(&item), APM_ERR_RANGE);
	item.violation = 3;
	CHECK_STATUS(put(&item), APM_ERR_RANGE);
	item = data_rule();
	item.body = APM_SLICE(bytes, APM_CHECK_MAX + 1);
	CHECK_STATUS(put(&item), APM_ERR_RANGE);
	item.body.len--;
	CHECK_OK(put(&item));
	item.attribute = APM_SLICE(bytes, APM_ATTRIBUTE_MAX + 1);
	CHECK_STATUS(put(&item), APM_ERR_RANGE);
	item.attribute.len = 0;
	CHECK_STATUS(put(&item), APM_ERR_RANGE);
}

/* An attribute's name is UTF-8 as Unicode defines it. */
static void
test_utf8(void)
{
	static const char *const good[] = {
		"\x01",			"\x7f",			"\xc2\x80",			"\xdf\xbf",	  "\xe0\xa0\x80",	 "\xed\x9f\xbf",
		"\xee\x80\x80", "\xef\xbf\xbf", "\xf0\x90\x80\x80", "a\xc3\xa4z", "\xf4\x8f\xbf\xbf"};
	static const char *const bad[] = {
		"\x80",			"\xc0\x80",			"\xc1\xbf",			"\xc2",			"\xc2\x7f",
		"\xe0\x9f\xbf", "\xed\xa0\x80",		"\xef\xbf",			"\xe1\x80\xc0", "\xf0\x8f\xbf\xbf",
		"\xf5",			"\xf4\x90\x80\x80", "\xf1\x80\x80\x7f", "\xf1\x80\x80", "a\xff",
		"\xc3\xa4\xa4"};
	ApmItem item = data_rule();

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
	{
		item.attribute = sample_text(good[i]);
		CHECK_OK(put(&item));
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
	{
		item.attribute = sample_text(bad[i]);
		CHECK_STATUS(put(&item), APM_ERR_RANGE);
	}
	item.attribute = APM_SLICE("a\0b", 3);
	CHECK_STATUS(put(&item), APM_ERR_RANGE);
	item = data_rule();
	item.body = sample_text("\xff");
	CHECK_STATUS(put(&item), APM_ERR_RANGE);
}

int
main(void)
{
	test_known_answers();
	test_every_byte();
	test_names();
	test_bounds();
	test_utf8();
	return check_summary();
}
