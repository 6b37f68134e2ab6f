/*
 * test_signature.c
 *	  ECDSA on P-256 against RFC 6979 (A.2.5) and the openssl command line, the one form
 *	  of a signature, and the refusals of keys that are none of ours.
 */
#include "check.h"
#include "core/digest.h"
#include "core/signature.h"

#define SPKI_HEAD "3059301306072a8648ce3d020106082a8648ce3d030107034200"

/* RFC 6979, A.2.5 */
#define RFC_X "60fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6"
#define RFC_Y "7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299"
#define RFC_SPKI SPKI_HEAD "04" RFC_X RFC_Y
#define RFC_SAMPLE_R "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716"
#define RFC_SAMPLE_HIGH_S "f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8"
#define RFC_SAMPLE_LOW_S "0834e36ad29a83bf2bc9385e491d6099c8fdf9d1ed67aa7ea5f51f93782857a9"
#define RFC_TEST_R "f1abb023518351cd71d881567b1ea663ed3efcf6c5132b354f28d3b0b7d38367"
#define RFC_TEST_S "019f4113742a2b14bd25926b49c649155f267e60d3814b4c0cc84250e46f0083"

#define ZERO_SCALAR "0000000000000000000000000000000000000000000000000000000000000000"
#define ONE_SCALAR "0000000000000000000000000000000000000000000000000000000000000001"
#define ORDER "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551"
#define HALF_ORDER_PLUS_1 "7fffffff800000007fffffffffffffffde737d56d38bcf4279dce5617e3192a9"

/* "openssl genpkey", and "openssl dgst -sha256 -sign" of the text below */
static const char cli_private_pem[] = "-----BEGIN PRIVATE KEY-----\n"
									  "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQglZ8A4cg5mIu5YKhh\n"
									  "ItLXN9IQbuodquZlgNWDQueLJ3ShRANCAARrMSSaQ2PlJeWHD7DfuB+iyHGlyEn8\n"
									  "au/FBESKleInZYIMYlhS4tV7xPEvzDV5fFDWc6aT756tzBkiE2OfirRC\n"
									  "-----END PRIVATE KEY-----\n";
#define CLI_SPKI                                                                   \
	SPKI_HEAD "046b31249a4363e525e5870fb0dfb81fa2c871a5c849fc6aefc504448a95e22765" \
			  "820c625852e2d57bc4f12fcc35797c50d673a693ef9eadcc192213639f8ab442"
static const char cli_text[] = "signed by the command line";
#define CLI_SIGNATURE                                                  \
	"cb82072b77a96ffb3ce85a62b232a9cd2ba4a7995b2f1dedc123d7fa4df1a733" \
	"79d954359386e0ea22a638476bfa5970a15f8f2eb04ddd99b965379b2a2020df"

static const char p384_pem[] = "-----BEGIN PRIVATE KEY-----\n"
							   "MIG2AgEAMBAGByqGSM49AgEGBSuBBAAiBIGeMIGbAgEBBDByPSgmvCdKK/qJoebc\n"
							   "jdRMZZFXyknwmJzXqkeUqGV3j8Mef2fTgP22iUwT2+5K4xOhZANiAAQQ0UhcQ2At\n"
							   "ka7ppaiARXetQlhszGtzopMiua2LNB/+c5M+tVVXbXIy5wHzCLSWH8qvaLDFNywu\n"
							   "hqmhvOYJ7JgeR1hMVYlHqf/i+RR33MOe4NsaC6UJaUOjLdYU3BZYtPk=\n"
							   "-----END PRIVATE KEY-----\n";
static const char secp256k1_pem[] = "-----BEGIN PRIVATE KEY-----\n"
									"MIGEAgEAMBAGByqGSM49AgEGBSuBBAAKBG0wawIBAQQg86zlb7WOrJ8HtYyRL19C\n"
									"mtzxNyWygpPQ8D8Q1N70EAShRANCAARuqrNwC61ldNKiFH5lHQaLMA3K1xryYubW\n"
									"SMvPksXvhpMWw3C0voFn6cgPWm4RrQjPNdl2Z2mXqHlmctev7hah\n"
									"-----END PRIVATE KEY-----\n";
static const char ed25519_pem[] = "-----BEGIN PRIVATE KEY-----\n"
								  "MC4CAQAwBQYDK2VwBCIEIFw0CgCFfSiJbQmwvVJrH97MyzhE+e26FoI2O9QOlVBW\n"
								  "-----END PRIVATE KEY-----\n";
static const char encrypted_pem[] = "-----BEGIN ENCRYPTED PRIVATE KEY-----\n"
									"MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAghv1MAtwWI1QICCAAw\n"
									"DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEEJmR4HlQDpDivGYg6lIu5EoEgZAw\n"
									"lxxOAg5SfYML5Dyn+DrRU0lhsy5gapFsMXWzApfBzup+uUxTR9Fo7w+FjUht6sde\n"
									"EyZcCa/LobUKptE3KZS4jVbe1jlEi84QxJT/T4OXG/1OgTqg7RNqqbIrEeO9oSmf\n"
									"apwfNdHpvcNcoT+Y0ydbwJZMoNnZJ8RkNTymIfz8kfMkcWPyzLYg4N5984Gv0HQ=\n"
									"-----END ENCRYPTED PRIVATE KEY-----\n";
/* cli_private_pem with another key's public half */
static const char mismatched_pem[] = "-----BEGIN PRIVATE KEY-----\n"
									 "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQglZ8A4cg5mIu5YKhh\n"
									 "ItLXN9IQbuodquZlgNWDQueLJ3ShRANCAARg/tS6JVqdMclh63TGNW1owEm4kjth\n"
									 "+mzmaWIuYPKftnkD/hAIuLyZpBrp6VYovGTy8bIMLX6fUXejwpTURiKZ\n"
									 "-----END PRIVATE KEY-----\n";

static ApmEcKey *
spki_key(const char *hex)
{
	ApmEcKey *key = NULL;

	CHECK_OK(apm_ec_from_spki(check_unhex(hex), &key));
	return key;
}

static ApmStatus
verify_hex(const ApmEcKey *key, const char *text, const char *signature)
{
	ApmDigest message;
	ApmSignature sig;
	ApmSlice bytes = check_unhex(signature);

	CHECK(bytes.len == APM_SIGNATURE_LEN);
	memcpy(sig.bytes, bytes.data, APM_SIGNATURE_LEN);
	CHECK_OK(apm_sha256(text, strlen(text), &message));
	return apm_verify_signature(key, &message, &sig);
}

static void
test_published_signatures(void)
{
	ApmEcKey *key = spki_key(RFC_SPKI);

	CHECK_OK(verify_hex(key, "test", RFC_TEST_R RFC_TEST_S));
	CHECK_STATUS(verify_hex(key, "Test", RFC_TEST_R RFC_TEST_S), APM_ERR_VERIFY);

	/* the RFC's second example has a high s: only its low twin is a signature here */
	CHECK_OK(verify_hex(key, "sample", RFC_SAMPLE_R RFC_SAMPLE_LOW_S));
	CHECK_STATUS(verify_hex(key, "sample", RFC_SAMPLE_R RFC_SAMPLE_HIGH_S), APM_ERR_VERIFY);

	CHECK_STATUS(verify_hex(key, "test", ZERO_SCALAR RFC_TEST_S), APM_ERR_VERIFY);
	CHECK_STATUS(verify_hex(key, "test", RFC_TEST_R ZERO_SCALAR), APM_ERR_VERIFY);
	CHECK_STATUS(verify_hex(key, "test", ZERO_SCALAR ZERO_SCALAR), APM_ERR_VERIFY);
	CHECK_STATUS(verify_hex(key, "test", ORDER RFC_TEST_S), APM_ERR_VERIFY);
	CHECK_STATUS(verify_hex(key, "test", RFC_TEST_R ORDER), APM_ERR_VERIFY);
	CHECK_STATUS(verify_hex(key, "test", RFC_TEST_R HALF_ORDER_PLUS_1), APM_ERR_VERIFY);
	CHECK_STATUS(verify_hex(key, "test", ONE_SCALAR ONE_SCALAR), APM_ERR_VERIFY);
	/* a refused signature leaves the key usable */
	CHECK_OK(verify_hex(key, "test", RFC_TEST_R RFC_TEST_S));
	apm_ec_free(key);

	key = spki_key(CLI_SPKI);
	CHECK_OK(verify_hex(key, cli_text, CLI_SIGNATURE));
	apm_ec_free(key);
}

/* Every bit of a signature and of its message counts. */
static void
test_flipped_bits(void)
{
	ApmEcKey *key = spki_key(RFC_SPKI);
	ApmSlice bytes = check_unhex(RFC_TEST_R RFC_TEST_S);
	ApmSignature sig;
	ApmDigest message;
	bool refused = true;

	memcpy(sig.bytes, bytes.data, APM_SIGNATURE_LEN);
	CHECK_OK(apm_sha256("test", 4, &message));
	for (int bit = 0; bit < 8 * APM_SIGNATURE_LEN; bit++)
	{
		sig.bytes[bit / 8] ^= (uint8_t) (1 << bit % 8);
		refused = refused && apm_verify_signature(key, &message, &sig) == APM_ERR_VERIFY;
		sig.bytes[bit / 8] ^= (uint8_t) (1 << bit % 8);
	}
	for (int bit = 0; bit < 256; bit++)
	{
		message.bytes[bit / 8] ^= (uint8_t) (1 << bit % 8);
		refused = refused && apm_verify_signature(key, &message, &sig) == APM_ERR_VERIFY;
		message.bytes[bit / 8] ^= (uint8_t) (1 << bit % 8);
	}
	CHECK(refused);
	CHECK_OK(apm_verify_signature(key, &message, &sig));
	apm_ec_free(key);
}

/* Half of OpenSSL's signatures have a high s: none of ours may. */
static void
test_signing(void)
{
	ApmEcKey *pair = NULL;
	ApmEcKey *public_half = NULL;
	ApmSignature sig;
	ApmDigest message;
	uint8_t spki[APM_SPKI_LEN];
	ApmDigest id;
	ApmDigest want;
	ApmSlice above_half = check_unhex(HALF_ORDER_PLUS_1);
	bool low = true;

	CHECK_OK(apm_ec_generate(&pair));
	CHECK(apm_ec_is_private(pair));
	apm_ec_spki(pair, spki);
	CHECK_OK(apm_ec_from_spki(APM_SLICE(spki, sizeof(spki)), &public_half));
	CHECK(!apm_ec_is_private(public_half));
	apm_ec_id(public_half, &id);
	CHECK_OK(apm_sha256(spki, sizeof(spki), &want));
	CHECK(memcmp(&id, &want, sizeof(id)) == 0);

	for (int i = 0; i < 64; i++)
	{
		CHECK_OK(apm_sha256(&i, sizeof(i), &message));
		CHECK_OK(apm_sign(pair, &message, &sig));
		low = low && memcmp(sig.bytes + 32, above_half.data, 32) < 0;
		CHECK_OK(apm_verify_signature(public_half, &message, &sig));
		CHECK_OK(apm_verify_signature(pair, &message, &sig));
	}
	CHECK(low);
	CHECK_STATUS(apm_sign(public_half, &message, &sig), APM_ERR_KEY);
	apm_ec_free(pair);
	apm_ec_free(public_half);
	apm_ec_free(NULL);
}

static void
test_pem(void)
{
	ApmEcKey *key = NULL;
	ApmEcKey *again = NULL;
	ApmBuf text = {0};
	uint8_t spki[APM_SPKI_LEN];

	CHECK_OK(apm_ec_from_pem(APM_SLICE(cli_private_pem, sizeof(cli_private_pem) - 1), &key));
	CHECK(apm_ec_is_private(key));
	apm_ec_spki(key, spki);
	CHECK_HEX(spki, sizeof(spki), CLI_SPKI);

	CHECK_OK(apm_ec_private_pem(key, &text));
	CHECK(text.secret);
	CHECK(text.len == sizeof(cli_private_pem) - 1 && memcmp(text.data, cli_private_pem, text.len) == 0);
	apm_buf_reset(&text);

	CHECK_OK(apm_ec_public_pem(key, &text));
	CHECK_OK(apm_ec_from_pem(APM_SLICE(text.data, text.len), &again));
	CHECK(!apm_ec_is_private(again));
	apm_ec_spki(again, spki);
	CHECK_HEX(spki, sizeof(spki), CLI_SPKI);
	apm_buf_reset(&text);
	CHECK_STATUS(apm_ec_private_pem(again, &text), APM_ERR_KEY);
	apm_ec_free(key);
	apm_ec_free(again);
}

static ApmStatus
try_pem(const char *head, const char *pem, const char *tail)
{
	ApmBuf text = {0};
	ApmEcKey *key = NULL;
	ApmStatus status;

	apm_put_raw(&text, head, strlen(head));
	apm_put_raw(&text, pem, strlen(pem));
	apm_put_raw(&text, tail, strlen(tail));
	status = apm_ec_from_pem(APM_SLICE(text.data, text.len), &key);
	CHECK((status == APM_OK) == (key != NULL));
	apm_ec_free(key);
	apm_buf_reset(&text);
	return status;
}

static void
test_pem_refusals(void)
{
	char bent[sizeof(cli_private_pem)];

	CHECK_OK(try_pem("", cli_private_pem, " \r\n\t"));
	CHECK_STATUS(try_pem("", cli_private_pem, "x"), APM_ERR_FORMAT);
	CHECK_STATUS(try_pem("", cli_private_pem, cli_private_pem), APM_ERR_FORMAT);
	CHECK_STATUS(try_pem("x\n", cli_private_pem, ""), APM_ERR_FORMAT);
	CHECK_STATUS(try_pem("", "", ""), APM_ERR_FORMAT);
	CHECK_STATUS(try_pem("", "-----BEGIN ", ""), APM_ERR_FORMAT);
	CHECK_STATUS(try_pem("", encrypted_pem, ""), APM_ERR_FORMAT);
	CHECK_STATUS(try_pem("", p384_pem, ""), APM_ERR_KEY);
	CHECK_STATUS(try_pem("", secp256k1_pem, ""), APM_ERR_KEY);
	CHECK_STATUS(try_pem("", ed25519_pem, ""), APM_ERR_KEY);
	CHECK_STATUS(try_pem("", mismatched_pem, ""), APM_ERR_KEY);

	/* cut off, and a character that is not base64 */
	memcpy(bent, cli_private_pem, sizeof(bent));
	bent[sizeof(bent) - 30] = 0;
	CHECK_STATUS(try_pem("", bent, ""), APM_ERR_FORMAT);
	memcpy(bent, cli_private_pem, sizeof(bent));

	bent[40] = '!';
	CHECK_STATUS(try_pem("", bent, ""), APM_ERR_FORMAT);
}

static ApmStatus
try_spki(const char *hex)
{
	ApmEcKey *key = NULL;
	ApmStatus status = apm_ec_from_spki(check_unhex(hex), &key);

	apm_ec_free(key);
	return status;
}

static void
test_spki_refusals(void)
{
	CHECK_OK(try_spki(RFC_SPKI));
	/* off the curve: the last bit of y */
	CHECK_STATUS(
		try_spki(SPKI_HEAD "04" RFC_X "7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462298"),
		APM_ERR_KEY);
	CHECK_STATUS(try_spki(SPKI_HEAD "04" ZERO_SCALAR ZERO_SCALAR), APM_ERR_KEY);
	/* a coordinate that is not reduced: the prime itself */
	CHECK_STATUS(
		try_spki(SPKI_HEAD "04ffffffff00000001000000000000000000000000ffffffffffffffffffffffff" RFC_Y),
		APM_ERR_KEY);
	/* the other forms of a point, another curve, too short, too long */
	CHECK_STATUS(try_spki(SPKI_HEAD "03" RFC_X RFC_Y), APM_ERR_FORMAT);
	CHECK_STATUS(try_spki(SPKI_HEAD "07" RFC_X RFC_Y), APM_ERR_FORMAT);
	CHECK_STATUS(try_spki("3059301306072a8648ce3d020106082a8648ce3d030106034200"
						  "04" RFC_X RFC_Y),
				 APM_ERR_FORMAT);
	CHECK_STATUS(try_spki(SPKI_HEAD "04" RFC_X), APM_ERR_FORMAT);
	CHECK_STATUS(try_spki(RFC_SPKI "00"), APM_ERR_FORMAT);
	CHECK_STATUS(try_spki(""), APM_ERR_FORMAT);
}

static ApmStatus
pem_body(void)
{
	ApmEcKey *key = NULL;
	ApmBuf text = {0};
	ApmStatus status = apm_ec_from_pem(APM_SLICE(cli_private_pem, sizeof(cli_private_pem) - 1), &key);

	if (status == APM_OK)
		status = apm_ec_private_pem(key, &text);
	if (status == APM_OK)
		status = apm_ec_public_pem(key, &text);
	apm_ec_free(key);
	apm_buf_reset(&text);
	return status;
}

static ApmStatus
spki_body(void)
{
	return try_spki(RFC_SPKI);
}

int
main(void)
{
	test_published_signatures();
	test_flipped_bits();
	test_signing();
	test_pem();
	test_pem_refusals();
	test_spki_refusals();
	CHECK_EACH_ALLOCATION(pem_body);
	CHECK_EACH_ALLOCATION(spki_body);
	return check_summary();
}
