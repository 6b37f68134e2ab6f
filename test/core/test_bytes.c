/*
 * test_bytes.c
 *	  Memory that is wiped, buffers and readers that keep their failure, and the text
 *	  forms, against the vectors of RFC 4648 and RFC 9562.
 */
#include "check.h"

/* A log of what the allocator was asked, and whether a secret block came back wiped. */
static bool last_secret = false;
static size_t last_size = 0;
static long blocks = 0;
static bool released_clean = false;
static size_t size_limit = SIZE_MAX;

static void *
watching_alloc(size_t size, bool secret)
{
	uint8_t *block;

	if (size > size_limit)
		return NULL;
	block = malloc(size + 16);
	memset(block, 0xa5, size + 16);
	memcpy(block, &size, sizeof(size));
	last_secret = secret;
	last_size = size;
	blocks++;
	return block + 16;
}

static void
watching_release(void *ptr)
{
	uint8_t *block = (uint8_t *) ptr - 16;
	size_t size;

	memcpy(&size, block, sizeof(size));
	released_clean = true;
	/* the core's own head may hold a size; the secret itself must be gone */
	for (size_t i = 0; i + 6 <= size; i++)
		if (memcmp(block + 16 + i, "secret", 6) == 0)
			released_clean = false;
	blocks--;
	free(block);
}

static const ApmAllocator watching = {watching_alloc, watching_release};

static void
test_memory(void)
{
	uint8_t *block;
	bool zeroed = true;

	apm_core_set_allocator(&watching);
	block = apm_core_alloc(100, true);
	CHECK(block != NULL && last_secret && last_size >= 100);
	for (int i = 0; i < 100; i++)
		zeroed = zeroed && block[i] == 0;
	CHECK(zeroed);
	memcpy(block, "secret", 6);

	/* a block goes back to where it came from, wiped, whatever is set by then */
	apm_core_set_allocator(NULL);
	apm_core_free(block);
	CHECK(blocks == 0);
	CHECK(released_clean);
	apm_core_free(NULL);
	CHECK(apm_core_alloc(SIZE_MAX - 3, false) == NULL);
}

/* A secret buffer leaves nothing behind, neither when it grows nor when it is reset. */
static void
test_secret_buffer(void)
{
	ApmBuf buf = {0};

	apm_core_set_allocator(&watching);
	apm_put_raw(&buf, "the secret", 10);
	buf.secret = true;
	CHECK(apm_buf_reserve(&buf, 10000));
	CHECK(last_secret);
	CHECK(released_clean);
	CHECK(buf.len == 10 && memcmp(buf.data, "the secret", 10) == 0);
	released_clean = false;
	apm_buf_reset(&buf);
	CHECK(released_clean);
	CHECK(buf.secret && buf.data == NULL && buf.len == 0);
	CHECK(blocks == 0);
	apm_core_set_allocator(NULL);
}

/* Growing to the double may fail where the need itself would fit. */
static void
test_growth(void)
{
	ApmBuf buf = {0};
	uint8_t byte = 0x11;

	apm_core_set_allocator(&watching);
	for (int i = 0; i < 600; i++)
		apm_put_raw(&buf, &byte, 1);
	size_limit = 1500;
	CHECK(apm_buf_reserve(&buf, 500));
	CHECK(buf.len == 600 && buf.data[0] == 0x11 && buf.data[599] == 0x11);
	CHECK(!apm_buf_reserve(&buf, 1000));
	size_limit = SIZE_MAX;
	/* the failure stays, also when there is memory again */
	apm_put_u8(&buf, 1);
	CHECK_STATUS(apm_buf_status(&buf), APM_ERR_MEMORY);
	CHECK(buf.len == 600);
	apm_buf_reset(&buf);
	CHECK_OK(apm_buf_status(&buf));
	apm_core_set_allocator(NULL);

	CHECK(!apm_buf_reserve(&buf, SIZE_MAX));
	CHECK_STATUS(apm_buf_status(&buf), APM_ERR_MEMORY);
	apm_buf_reset(&buf);
	apm_put_bytes(&buf, "", (size_t) UINT32_MAX + 1);
	CHECK_STATUS(apm_buf_status(&buf), APM_ERR_MEMORY);
	apm_buf_reset(&buf);
}

static void
test_encoding(void)
{
	ApmBuf buf = {0};
	ApmReader r;
	ApmSlice got;
	uint8_t raw[3];

	apm_put_u8(&buf, 0x01);
	apm_put_u16(&buf, 0x0203);
	apm_put_u32(&buf, 0x04050607);
	apm_put_u64(&buf, UINT64_C(0x08090a0b0c0d0e0f));
	apm_put_bytes(&buf, "abc", 3);
	apm_put_raw(&buf, "xyz", 3);
	apm_put_bytes(&buf, NULL, 0);
	CHECK_OK(apm_buf_status(&buf));
	CHECK_HEX(buf.data, buf.len, "01 0203 04050607 08090a0b0c0d0e0f 00000003 616263 78797a 00000000");

	apm_reader_init(&r, APM_SLICE(buf.data, buf.len));
	apm_expect_u8(&r, 0x01);
	CHECK(apm_get_u16(&r) == 0x0203);
	CHECK(apm_get_u32(&r) == 0x04050607);
	CHECK(apm_get_u64(&r) == UINT64_C(0x08090a0b0c0d0e0f));
	got = apm_get_bytes(&r, 3);
	CHECK(got.len == 3 && memcmp(got.data, "abc", 3) == 0);
	CHECK(!apm_reader_done(&r));
	apm_get_raw(&r, raw, 3);
	CHECK(memcmp(raw, "xyz", 3) == 0);
	CHECK(apm_get_bytes(&r, 0).len == 0);
	CHECK(apm_reader_done(&r));

	/* every shorter input fails, and stays failed */
	for (size_t len = 0; len < buf.len; len++)
	{
		apm_reader_init(&r, APM_SLICE(buf.data, len));
		apm_get_slice(&r, 15);
		apm_get_bytes(&r, 3);
		apm_get_slice(&r, 3);
		apm_get_bytes(&r, 0);
		CHECK(r.failed && !apm_reader_done(&r) && apm_get_u8(&r) == 0);
	}
	apm_buf_reset(&buf);
}

static void
test_reader_refusals(void)
{
	static const uint8_t huge[] = {0xff, 0xff, 0xff, 0xff, 1, 2, 3};
	ApmReader r;
	uint8_t raw[4] = {9, 9, 9, 9};

	apm_reader_init(&r, APM_SLICE(huge, sizeof(huge)));
	CHECK(apm_get_bytes(&r, SIZE_MAX).len == 0);
	CHECK(r.failed);

	/* within the input, but over what the field may have */
	apm_reader_init(&r, check_unhex("00000003 010203"));
	CHECK(apm_get_bytes(&r, 2).len == 0);
	CHECK(r.failed);

	apm_reader_init(&r, APM_SLICE(huge, 2));
	apm_expect_u8(&r, 0xfe);
	CHECK(r.failed);
	apm_get_raw(&r, raw, 4);
	CHECK_HEX(raw, 4, "00000000");

	apm_reader_init(&r, (ApmSlice){NULL, 0});
	CHECK(apm_reader_done(&r));
	CHECK(apm_get_slice(&r, 0).data != NULL);
	apm_reader_init(&r, (ApmSlice){NULL, 1});
	CHECK(!apm_reader_done(&r));
}

static void
test_base64(void)
{
	/* RFC 4648, 10 */
	static const struct
	{
		const char *plain;
		const char *padded;
		const char *url;
	} vectors[] = {
		{"", "", ""},
		{"f", "Zg==", "Zg"},
		{"fo", "Zm8=", "Zm8"},
		{"foo", "Zm9v", "Zm9v"},
		{"foob", "Zm9vYg==", "Zm9vYg"},
		{"fooba", "Zm9vYmE=", "Zm9vYmE"},
		{"foobar", "Zm9vYmFy", "Zm9vYmFy"},
		{"\xfb\xff\xbf", "+/+/", "-_-_"},
	};
	/* padding, a lone last character, left-over bits, the other alphabet, white space, NUL */
	static const char *const refused[] = {"Zg==", "Zg=",   "Z",		 "Zh",	  "Zm9", "Zm9vY",	"Zm9vYh",
										  "+/+/", "Zm 9v", "Zm9v\n", "Zm9v=", "=",	 "Zm\x80v", "Z.9v"};
	char text[16];
	size_t len;
	ApmBuf buf = {0};

	for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++)
	{
		size_t n = strlen(vectors[i].plain);

		CHECK(apm_base64_len(n) == strlen(vectors[i].padded));
		apm_base64_encode(vectors[i].plain, n, text);
		CHECK(strcmp(text, vectors[i].padded) == 0);
		apm_base64url_encode(vectors[i].plain, n, text, &len);
		CHECK(strcmp(text, vectors[i].url) == 0 && len == strlen(text));
		apm_buf_reset(&buf);
		apm_put_u8(&buf, 'x');
		CHECK_OK(apm_base64url_decode(vectors[i].url, len, &buf));
		CHECK(buf.len == n + 1 && memcmp(buf.data + 1, vectors[i].plain, n) == 0);
	}
	apm_buf_reset(&buf);
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
	{
		CHECK_STATUS(apm_base64url_decode(refused[i], strlen(refused[i]), &buf), APM_ERR_FORMAT);
		CHECK(buf.len == 0);
	}
	CHECK_STATUS(apm_base64url_decode("Zm9\0", 4, &buf), APM_ERR_FORMAT);
	apm_buf_reset(&buf);
}

static void
test_hex(void)
{
	uint8_t out[4] = {0};
	char text[9];

	apm_hex_encode("\x00\x7f\xab\xff", 4, text);
	CHECK(strcmp(text, "007fabff") == 0);
	CHECK_OK(apm_hex_decode("007fABff", 8, out));
	CHECK_HEX(out, 4, "007fabff");
	CHECK_STATUS(apm_hex_decode("007", 3, out), APM_ERR_FORMAT);
	CHECK_STATUS(apm_hex_decode("0g", 2, out), APM_ERR_FORMAT);
	CHECK_STATUS(apm_hex_decode("0 ", 2, out), APM_ERR_FORMAT);
	CHECK_OK(apm_hex_decode("", 0, out));
}

static void
test_uuid(void)
{
	/*
	 * RFC 9562, A.6: 2022-02-22, 19:22:22 UTC; rand_a, 12 bits, is cc3 and rand_b, 62 bits,
	 * is 18c4dc0c0c07398f; here they follow each other, and six bits that are not used.
	 */
	ApmSlice random = check_unhex("cc363137030301ce63c0");
	static const uint8_t ones[10] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
	static const uint8_t unused[10] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0x3f};
	ApmUuid uuid;
	ApmUuid other;

	apm_uuid7(UINT64_C(0x017f22e279b0), random.data, &uuid);
	CHECK_HEX(uuid.bytes, 16, "017f22e2 79b0 7cc3 98c4 dc0c0c07398f");

	apm_uuid7(UINT64_MAX, ones, &uuid);
	CHECK_HEX(uuid.bytes, 16, "ffffffff ffff 7fff bfff ffffffffffff");
	apm_uuid7(0, unused, &uuid);
	CHECK_HEX(uuid.bytes, 16, "00000000 0000 7000 8000 000000000000");

	CHECK_OK(apm_uuid7_random(1, &uuid));
	CHECK_OK(apm_uuid7_random(1, &other));
	CHECK(memcmp(uuid.bytes, other.bytes, 16) != 0);
	CHECK(memcmp(uuid.bytes, other.bytes, 6) == 0);
}

static void
test_random_and_equal(void)
{
	static uint8_t much[(1 << 20) + 100];
	static const uint8_t zeros[50] = {0};

	CHECK_OK(apm_random(much, sizeof(much)));
	CHECK(memcmp(much + sizeof(much) - 50, zeros, 50) != 0);
	CHECK_OK(apm_random(NULL, 0));
	CHECK(apm_equal("abc", "abc", 3));
	CHECK(!apm_equal("abc", "abd", 3));
	CHECK(apm_equal(NULL, NULL, 0));
}

int
main(void)
{
	test_memory();
	test_secret_buffer();
	test_growth();
	test_encoding();
	test_reader_refusals();
	test_base64();
	test_hex();
	test_uuid();
	test_random_and_equal();
	return check_summary();
}
