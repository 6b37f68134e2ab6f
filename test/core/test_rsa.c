/*
 * test_rsa.c
 *	  RSA keys, and RSA-OAEP against what the openssl command line wrapped, well and badly.
 */
#include "check.h"
#include "core/rsa.h"
#include "rsa_vectors.h"

#define TEXT(s) APM_SLICE((s), sizeof(s) - 1)

static const uint8_t content_key[32] = {0,	1,	2,	3,	4,	5,	6,	7,	8,	9,	10, 11, 12, 13, 14, 15,
										16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31};

static const char rsa1024_pem[] = "-----BEGIN PRIVATE KEY-----\n"
								  "MIICdgIBADANBgkqhkiG9w0BAQEFAASCAmAwggJcAgEAAoGBANNseY9gDOgmyDUJ\n"
								  "NuBxlQvcESVTrD6l6Wz7cgO3pcxUqurlU2amGeuVm0H4loWpKUtaMSY9eZPIOSS7\n"
								  "YK9BQTeZTQ23XyzrftBRbhWW5YyPB7fhvuoasRXatzOpui/dSeG3lTr4N7vvd5aC\n"
								  "2Va3yL2q5J5QODeJqvBzY6f5YY0nAgMBAAECgYBARaKyrl1eGaQVU2bGVmEcCNuB\n"
								  "gG1FYkSS5+GiNasGcdq/q9VtyCLrFkDrjjmcCm/OQ23blSangV+1xey/elPrmEpl\n"
								  "US8ndbxwY+vSYR0pey/k/u/8K+KAOusSn949J0R4lowGtny3IhMQreLGhi5VQBGe\n"
								  "wBtX4nnIrKi7EBO58QJBAPeeRqKGaUZVvFDkTAfvRre6V9tG3W4yOU0zjYx7cfBc\n"
								  "tXwj9Zz7V3BJaIarxgN8C6/rpJm/NWmGQtMURKbNNP8CQQDalI6TKfBc25gdoG/l\n"
								  "SmdL61GFN2O7C5z33Yy2KxuNlpUBrRuJoT12eo9fMK6yDYJD3oiW7RCYrPHnESLI\n"
								  "O1/ZAkEAhT/MHPudvTa33wPrkj2F3arOSnapA/rM8Slz24w2dTU+iG5FZtOuawNl\n"
								  "10qqhQeEtodlDUNi98VDQplelDBLewJAUrCqs1/FT8u/Y03jpvGb3Gu8nlITB5rg\n"
								  "GiEVb4ElXk4eNtEfPtTh5KV/AbrwC+nyYuyX7cjnY2rh5NFlwCw+GQJAS1RwEWxw\n"
								  "Mt9fFP/VyLjI4egtuvcBGm7dLJN22O9esrqij09b/0HoUjrUxCwTWX9Ab4aA8UFS\n"
								  "I4yWV0q/bXIUYQ==\n"
								  "-----END PRIVATE KEY-----\n";
static const char ec_pem[] = "-----BEGIN PRIVATE KEY-----\n"
							 "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQglZ8A4cg5mIu5YKhh\n"
							 "ItLXN9IQbuodquZlgNWDQueLJ3ShRANCAARrMSSaQ2PlJeWHD7DfuB+iyHGlyEn8\n"
							 "au/FBESKleInZYIMYlhS4tV7xPEvzDV5fFDWc6aT756tzBkiE2OfirRC\n"
							 "-----END PRIVATE KEY-----\n";

static ApmRsa *private_key = NULL;
static ApmRsa *public_key = NULL;

static void
test_keys(void)
{
	ApmKeyId id;
	ApmBuf text = {0};
	ApmRsa *shared = NULL;

	CHECK_OK(apm_rsa_from_pem(TEXT(rsa_private_pem), &private_key));
	CHECK_OK(apm_rsa_from_pem(TEXT(rsa_public_pem), &public_key));
	CHECK(apm_rsa_is_private(private_key) && !apm_rsa_is_private(public_key));
	apm_rsa_key_id(private_key, &id);
	CHECK_HEX(id.bytes, sizeof(id.bytes), RSA_KEY_ID);
	apm_rsa_key_id(public_key, &id);
	CHECK_HEX(id.bytes, sizeof(id.bytes), RSA_KEY_ID);

	CHECK_OK(apm_rsa_public_pem(private_key, &text));
	CHECK(text.len == sizeof(rsa_public_pem) - 1 && memcmp(text.data, rsa_public_pem, text.len) == 0);
	apm_buf_reset(&text);
	CHECK_OK(apm_rsa_private_pem(private_key, &text));
	CHECK(text.secret && text.len == sizeof(rsa_private_pem) - 1 &&
		  memcmp(text.data, rsa_private_pem, text.len) == 0);
	apm_buf_reset(&text);
	CHECK_STATUS(apm_rsa_private_pem(public_key, &text), APM_ERR_KEY);

	/* a shared handle lives on its own */
	CHECK_OK(apm_rsa_share(public_key, &shared));
	apm_rsa_free(public_key);
	public_key = shared;
	CHECK_OK(apm_rsa_public_pem(public_key, &text));
	apm_buf_reset(&text);
	apm_rsa_free(NULL);
}

static void
test_generate(void)
{
	ApmRsa *key = NULL;
	ApmRsa *again = NULL;
	ApmBuf text = {0};
	ApmKeyId one;
	ApmKeyId two;

	CHECK_OK(apm_rsa_generate(2048, &key));
	CHECK(apm_rsa_is_private(key));
	CHECK_OK(apm_rsa_private_pem(key, &text));
	CHECK_OK(apm_rsa_from_pem(APM_SLICE(text.data, text.len), &again));
	apm_rsa_key_id(key, &one);
	apm_rsa_key_id(again, &two);
	CHECK(memcmp(&one, &two, sizeof(one)) == 0);
	apm_buf_reset(&text);
	apm_rsa_free(key);
	apm_rsa_free(again);
	CHECK_STATUS(apm_rsa_generate(1024, &key), APM_ERR_RANGE);
	CHECK_STATUS(apm_rsa_generate(2047, &key), APM_ERR_RANGE);
	CHECK_STATUS(apm_rsa_generate(8193, &key), APM_ERR_RANGE);
	CHECK_STATUS(apm_rsa_generate(-1, &key), APM_ERR_RANGE);
}

static ApmStatus
try_pem(const char *pem, size_t len, const char *tail)
{
	ApmBuf text = {0};
	ApmRsa *key = NULL;
	ApmStatus status;

	apm_put_raw(&text, pem, len);
	apm_put_raw(&text, tail, strlen(tail));
	status = apm_rsa_from_pem(APM_SLICE(text.data, text.len), &key);
	apm_rsa_free(key);
	apm_buf_reset(&text);
	return status;
}

static void
test_pem_refusals(void)
{
	CHECK_OK(try_pem(rsa_private_pem, sizeof(rsa_private_pem) - 1, "\n \r\n"));
	CHECK_STATUS(try_pem(rsa_private_pem, sizeof(rsa_private_pem) - 1, "garbage"), APM_ERR_FORMAT);
	CHECK_STATUS(try_pem(rsa_private_pem, sizeof(rsa_private_pem) - 1, rsa_public_pem), APM_ERR_FORMAT);
	CHECK_STATUS(try_pem(rsa_private_pem, sizeof(rsa_private_pem) - 40, ""), APM_ERR_FORMAT);
	CHECK_STATUS(try_pem("", 0, ""), APM_ERR_FORMAT);
	CHECK_STATUS(try_pem(rsa1024_pem, sizeof(rsa1024_pem) - 1, ""), APM_ERR_RANGE);
	CHECK_STATUS(try_pem(ec_pem, sizeof(ec_pem) - 1, ""), APM_ERR_KEY);
}

static void
test_wrap(void)
{
	ApmSlice good = check_unhex(rsa_wrapped_good);
	ApmBuf wrapped = {0};
	uint8_t out[32];

	CHECK_OK(apm_rsa_unwrap(private_key, good, out));
	CHECK(memcmp(out, content_key, 32) == 0);
	CHECK_STATUS(apm_rsa_unwrap(public_key, good, out), APM_ERR_KEY);

	CHECK_OK(apm_rsa_wrap(public_key, content_key, &wrapped));
	CHECK(wrapped.len == 256 && memcmp(wrapped.data, good.data, 256) != 0);
	memset(out, 0, sizeof(out));
	CHECK_OK(apm_rsa_unwrap(private_key, APM_SLICE(wrapped.data, wrapped.len), out));
	CHECK(memcmp(out, content_key, 32) == 0);
	apm_buf_reset(&wrapped);
}

/* Does it answer as always, with bytes that nobody can know? */
static bool
unwraps_to_noise(ApmSlice wrapped)
{
	static const uint8_t zeros[32] = {0};
	uint8_t one[32] = {0};
	uint8_t two[32] = {0};

	return apm_rsa_unwrap(private_key, wrapped, one) == APM_OK &&
		   apm_rsa_unwrap(private_key, wrapped, two) == APM_OK && memcmp(one, two, 32) != 0 &&
		   memcmp(one, content_key, 32) != 0 && memcmp(one, zeros, 32) != 0;
}

static void
test_bad_wraps(void)
{
	ApmSlice good = check_unhex(rsa_wrapped_good);
	uint8_t bent[257] = {0};

	for (size_t i = 0; i < sizeof(rsa_wrapped_bad) / sizeof(rsa_wrapped_bad[0]); i++)
		if (!CHECK(unwraps_to_noise(check_unhex(rsa_wrapped_bad[i].hex))))
			fprintf(stderr, "it was: %s\n", rsa_wrapped_bad[i].what);

	CHECK(unwraps_to_noise(APM_SLICE(good.data, 255)));
	CHECK(unwraps_to_noise(APM_SLICE(good.data + 1, 255)));
	memcpy(bent + 1, good.data, 256);
	CHECK(unwraps_to_noise(APM_SLICE(bent, 257)));
	memcpy(bent, good.data, 256);
	bent[256] = 0;
	CHECK(unwraps_to_noise(APM_SLICE(bent, 257)));
	for (int bit = 0; bit < 8 * 256; bit += 101)
	{
		bent[bit / 8] ^= (uint8_t) (1 << bit % 8);
		CHECK(unwraps_to_noise(APM_SLICE(bent, 256)));
		bent[bit / 8] ^= (uint8_t) (1 << bit % 8);
	}
}

static ApmStatus
pem_body(void)
{
	ApmRsa *key = NULL;
	ApmRsa *shared = NULL;
	ApmBuf text = {0};
	ApmStatus status = apm_rsa_from_pem(TEXT(rsa_private_pem), &key);

	if (status == APM_OK)
		status = apm_rsa_private_pem(key, &text);
	if (status == APM_OK)
		status = apm_rsa_share(key, &shared);
	if (status == APM_OK)
		status = apm_rsa_wrap(shared, content_key, &text);
	apm_rsa_free(key);
	apm_rsa_free(shared);
	apm_buf_reset(&text);
	return status;
}

int
main(void)
{
	test_keys();
	test_generate();
	test_pem_refusals();
	test_wrap();
	test_bad_wraps();
	CHECK_EACH_ALLOCATION(pem_body);
	apm_rsa_free(private_key);
	apm_rsa_free(public_key);
	return check_summary();
}
