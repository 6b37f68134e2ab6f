/*
 * test_paper.c
 *	  8-bit CFB against NIST's example, the paper's limit, and that what is broken does not open.
 */
#include "check.h"
#include "core/paper.h"
#include "rsa_vectors.h"

static const uint8_t aes_key[32] = "0123456789abcdef0123456789abcde";

static ApmRsa *
test_key(void)
{
	ApmRsa *rsa = NULL;

	CHECK_OK(apm_rsa_from_pem(APM_SLICE(rsa_private_pem, sizeof(rsa_private_pem) - 1), &rsa));
	return rsa;
}

/* NIST SP 800-38A, F.3.17 and F.3.18 */
static void
test_cfb8_vector(void)
{
	uint8_t key[32];
	uint8_t iv[16];
	uint8_t plain[18];
	uint8_t out[18];
	const char *key_hex = "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4";

	CHECK_OK(apm_hex_decode(key_hex, 64, key));
	CHECK_OK(apm_hex_decode("000102030405060708090a0b0c0d0e0f", 32, iv));
	CHECK_OK(apm_hex_decode("6bc1bee22e409f96e93d7e117393172aae2d", 36, plain));
	CHECK_OK(apm_cfb8_encrypt(key, iv, APM_SLICE(plain, sizeof(plain)), out));
	CHECK(check_hex_equal(out, sizeof(out), "dc1f1a8520a64db55fcc8ac554844e889700"));
	CHECK_OK(apm_cfb8_decrypt(key, iv, APM_SLICE(out, sizeof(out)), out));
	CHECK(memcmp(out, plain, sizeof(plain)) == 0);
}

static void
test_limit(void)
{
	ApmRsa *rsa = test_key();
	uint8_t value[APM_PAPER_VALUE_MAX + 1];
	uint8_t iv[APM_PAPER_IV_LEN];

	memset(value, 'v', sizeof(value));
	for (size_t len = 0; len <= sizeof(value); len += len < 3 ? 1 : 30)
	{
		ApmBuf sealed = {0};
		ApmBuf opened = {.secret = true};

		CHECK_OK(apm_paper_seal(aes_key, rsa, APM_SLICE(value, len), iv, &sealed));
		CHECK(sealed.len == APM_PAPER_RSA_LEN);
		CHECK_OK(apm_paper_open(aes_key, rsa, iv, APM_SLICE(sealed.data, sealed.len), &opened));
		CHECK(opened.len == len && memcmp(opened.data, value, len) == 0);
		apm_buf_reset(&sealed);
		apm_buf_reset(&opened);
	}

	ApmBuf sealed = {0};

	CHECK_OK(apm_paper_seal(aes_key, rsa, APM_SLICE(value, APM_PAPER_VALUE_MAX), iv, &sealed));
	CHECK_STATUS(apm_paper_seal(aes_key, rsa, APM_SLICE(value, APM_PAPER_VALUE_MAX + 1), iv, &sealed),
				 APM_ERR_RANGE);
	apm_buf_reset(&sealed);
	apm_rsa_free(rsa);
}

static void
test_broken(void)
{
	ApmRsa *rsa = test_key();
	ApmRsa *longer = NULL;
	ApmBuf sealed = {0};
	ApmBuf opened = {.secret = true};
	uint8_t iv[APM_PAPER_IV_LEN];

	CHECK_OK(apm_paper_seal(aes_key, rsa, APM_SLICE("Fever", 5), iv, &sealed));
	sealed.data[100] ^= 1;
	CHECK_STATUS(apm_paper_open(aes_key, rsa, iv, APM_SLICE(sealed.data, sealed.len), &opened), APM_ERR_OPEN);
	CHECK_STATUS(apm_paper_open(aes_key, rsa, iv, APM_SLICE(sealed.data, sealed.len - 1), &opened),
				 APM_ERR_OPEN);
	CHECK_STATUS(apm_paper_open(aes_key, rsa, iv, APM_SLICE(sealed.data, 0), &opened), APM_ERR_OPEN);
	CHECK(opened.len == 0);

	CHECK_OK(apm_rsa_generate(3072, &longer));
	CHECK_STATUS(apm_paper_seal(aes_key, longer, APM_SLICE("Fever", 5), iv, &sealed), APM_ERR_KEY);
	CHECK_STATUS(apm_paper_open(aes_key, longer, iv, APM_SLICE(sealed.data, sealed.len), &opened),
				 APM_ERR_KEY);
	apm_rsa_free(longer);
	apm_rsa_free(rsa);
	apm_buf_reset(&sealed);
	apm_buf_reset(&opened);
}

static void
test_base64(void)
{
	static const struct
	{
		const char *text;
		const char *bytes; /* NULL: refused */
	} cases[] = {
		{"", ""},		{"Zg==", "f"},	  {"Zm8=", "fo"}, {"Zm9v", "foo"}, {"Pz8/", "???"}, {"Pj4+", ">>>"},
		{"Pz8_", NULL}, {"Pj4-", NULL},	  {"Zg=", NULL},  {"Zg", NULL},	   {"Zh==", NULL},	{"Z===", NULL},
		{"====", NULL}, {"Zm9v\n", NULL}, {"Z m9", NULL}, {"=m9v", NULL},  {"Zm=v", NULL},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		ApmBuf out = {0};
		ApmStatus status = apm_base64_decode(cases[i].text, strlen(cases[i].text), &out);

		if (cases[i].bytes == NULL)
			CHECK_STATUS(status, APM_ERR_FORMAT);
		else
			CHECK(status == APM_OK && out.len == strlen(cases[i].bytes) &&
				  memcmp(out.data == NULL ? (const uint8_t *) "" : out.data, cases[i].bytes, out.len) == 0);
		apm_buf_reset(&out);
	}
}

int
main(void)
{
	test_cfb8_vector();
	test_limit();
	test_broken();
	test_base64();
	return check_summary();
}
