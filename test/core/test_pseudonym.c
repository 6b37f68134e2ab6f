/*
 * test_pseudonym.c
 *	  bcrypt against published vectors and the paper's Table 7, and what pseudonyms promise.
 */
#include "check.h"
#include "core/digest.h"
#include "core/pseudonym.h"

#define SETTING "$2b$04$cVWp4XaNU8a4v1uMRum2SO"

static const uint8_t pepper[32] = "0123456789abcdef0123456789abcde";
static const uint8_t blind[APM_BLIND_LEN] = "fedcba9876543210fedcba987654321";
static const uint8_t other_blind[APM_BLIND_LEN] = "fedcba9876543210fedcba987654320";
static const uint8_t other_pepper[32] = "0123456789abcdef0123456789abcdf";

#define TEXT(s) APM_SLICE((s), sizeof(s) - 1)

static void
test_bcrypt_vectors(void)
{
	static const struct
	{
		const char *secret;
		const char *hash;
	} vectors[] = {
		/* those of py-bcrypt and of Openwall's crypt_blowfish */
		{"Kk4DQuMMfZL9o", "$2b$04$cVWp4XaNU8a4v1uMRum2SO026BWLIoQMD/TXg5uZV.0P.uO8m3YEm"},
		{"9IeRXmnGxMYbs", "$2b$04$pQ7gRO7e6wx/936oXhNjrOUNOHL1D0h1N2IDbJZYs.1ppzSof6SPy"},
		{"xVQVbwa1S0M8r", "$2b$04$SQe9knOzepOVKoYXo9xTteNYr6MBwVz4tpriJVe3PNgYufGIsgKcW"},
		{"Zfgr26LWd22Za", "$2b$04$eH8zX.q5Q.j2hO1NkVYJQOM6KxntS/ow3.YzVmFrE4t//CoF4fvne"},
		{"", "$2b$05$CCCCCCCCCCCCCCCCCCCCC.7uG0VCzI2bS7j6ymqJi9CdcdxiRTWNy"},
		{"U*U*", "$2b$05$CCCCCCCCCCCCCCCCCCCCC.VGOzA784oUp/Z0DY336zx7pLYAy0lwK"},
		/* Table 7 of the paper, one salt for all */
		{"AF89XI96FD24", "$2b$12$zlVOnTr81y64OCPYOTbpHu2fSGG/kwlHwlfGwgLKxYmh0cZyLYy9a"},
		{"Ahmed", "$2b$12$zlVOnTr81y64OCPYOTbpHupiaiFDa8unHHtGVeL8qNR0wXWyBRhFG"},
		{"Ali", "$2b$12$zlVOnTr81y64OCPYOTbpHuTq1L/gFJimlN60Xy5FiN1luFLtqeOAu"},
	};
	char setting[30];
	char out[APM_PSEUDONYM_LEN + 1];

	for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++)
	{
		memcpy(setting, vectors[i].hash, 29);
		setting[29] = '\0';
		CHECK_OK(apm_bcrypt(vectors[i].secret, setting, out));
		CHECK(strcmp(out, vectors[i].hash) == 0);
		/* a whole hash serves as its own setting */
		CHECK_OK(apm_bcrypt(vectors[i].secret, vectors[i].hash, out));
		CHECK(strcmp(out, vectors[i].hash) == 0);
	}
}

/* bcrypt's 72 bytes: the 73rd does not count. */
static void
test_bcrypt_length(void)
{
	char secret[74];
	char out[APM_PSEUDONYM_LEN + 1];

	memset(secret, 'x', sizeof(secret));
	secret[71] = '\0';
	CHECK_OK(apm_bcrypt(secret, SETTING, out));
	CHECK(strcmp(out, SETTING "bL396OcJFe.yc4h/FAqc0nyORWx91WG") == 0);
	secret[71] = 'x';
	secret[72] = '\0';
	CHECK_OK(apm_bcrypt(secret, SETTING, out));
	CHECK(strcmp(out, SETTING "JoZtp67bxBebmRfwGxFve7uLjm2gPG6") == 0);
	secret[72] = 'x';
	secret[73] = '\0';
	CHECK_OK(apm_bcrypt(secret, SETTING, out));
	CHECK(strcmp(out, SETTING "JoZtp67bxBebmRfwGxFve7uLjm2gPG6") == 0);
}

static void
test_settings(void)
{
	static const char *const refused[] = {
		"",
		"$2b$",
		"$2b$04$",
		"$2b$04$cVWp4XaNU8a4v1uMRum2S",
		"$2b$04$cVWp4XaNU8a4v1uMRum2SOx",
		"$2a$04$cVWp4XaNU8a4v1uMRum2SO",
		"$2y$04$cVWp4XaNU8a4v1uMRum2SO",
		"$2b$4.$cVWp4XaNU8a4v1uMRum2SO",
		"$2b$04.cVWp4XaNU8a4v1uMRum2SO",
		"$2b$04$cVWp4XaNU8a4v1uMRum2S*",
		"$2b$04$cVWp4XaNU8a4v1uMRum2S\xc3",
		"$1$saltsalt$",
		"ab",
		"*0",
		SETTING "026BWLIoQMD/TXg5uZV.0P.uO8m3YEmm",
	};
	char out[APM_PSEUDONYM_LEN + 1];
	char setting[30];
	char second[30];

	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
		CHECK_STATUS(apm_bcrypt("x", refused[i], out), APM_ERR_FORMAT);
	CHECK_STATUS(apm_bcrypt("x", "$2b$03$cVWp4XaNU8a4v1uMRum2SO", out), APM_ERR_RANGE);
	CHECK_STATUS(apm_bcrypt("x", "$2b$15$cVWp4XaNU8a4v1uMRum2SO", out), APM_ERR_RANGE);
	CHECK_STATUS(apm_bcrypt("x", "$2b$31$cVWp4XaNU8a4v1uMRum2SO", out), APM_ERR_RANGE);

	CHECK_OK(apm_bcrypt_setting(12, setting));
	CHECK(strlen(setting) == 29 && strncmp(setting, "$2b$12$", 7) == 0);
	CHECK_OK(apm_bcrypt_setting(4, second));
	CHECK(strncmp(second, "$2b$04$", 7) == 0 && strcmp(setting + 7, second + 7) != 0);
	CHECK_OK(apm_bcrypt("x", second, out));
	CHECK_STATUS(apm_bcrypt_setting(3, setting), APM_ERR_RANGE);
	CHECK_STATUS(apm_bcrypt_setting(15, setting), APM_ERR_RANGE);
}

/* The formula of the design, put together here from its parts. */
static void
test_pseudonym_formula(void)
{
	ApmSlice message[] = {APM_SLICE("\0\0\0\x09"
									"Firstname"
									"\0\0\0\x05"
									"Ahmed",
									22),
						  APM_SLICE(blind, APM_BLIND_LEN)};
	ApmDigest mac;
	char secret[45];
	char want[APM_PSEUDONYM_LEN + 1];
	char got[APM_PSEUDONYM_LEN + 1];

	CHECK_OK(apm_pseudonym(pepper, blind, TEXT("Firstname"), TEXT("Ahmed"), 4, got));
	CHECK_OK(apm_hmac_sha256(pepper, 32, message, 2, &mac));
	apm_base64_encode(mac.bytes, 32, secret);
	CHECK_OK(apm_bcrypt(secret, got, want));
	CHECK(strcmp(got, want) == 0);
}

static bool
matches(const uint8_t *key, const uint8_t *with, ApmSlice attribute, ApmSlice value, const char *pseudonym)
{
	bool answer = false;

	CHECK_OK(apm_pseudonym_check(key, with, attribute, value, pseudonym, &answer));
	return answer;
}

static void
test_pseudonym_check(void)
{
	char one[APM_PSEUDONYM_LEN + 1];
	char two[APM_PSEUDONYM_LEN + 1];
	char with_nul[APM_PSEUDONYM_LEN + 1];
	bool answer;

	CHECK_OK(apm_pseudonym(pepper, blind, TEXT("Firstname"), TEXT("Ali"), 4, one));
	CHECK_OK(apm_pseudonym(pepper, blind, TEXT("Firstname"), TEXT("Ali"), 4, two));
	CHECK(strlen(one) == APM_PSEUDONYM_LEN && strcmp(one, two) != 0);
	CHECK(matches(pepper, blind, TEXT("Firstname"), TEXT("Ali"), one));
	CHECK(matches(pepper, blind, TEXT("Firstname"), TEXT("Ali"), two));
	CHECK(!matches(pepper, blind, TEXT("Firstname"), TEXT("Alo"), one));
	CHECK(!matches(pepper, blind, TEXT("Lastname"), TEXT("Ali"), one));
	CHECK(!matches(other_pepper, blind, TEXT("Firstname"), TEXT("Ali"), one));
	CHECK(!matches(pepper, other_blind, TEXT("Firstname"), TEXT("Ali"), one));
	/* where the name ends and the value begins matters */
	CHECK(!matches(pepper, blind, TEXT("FirstnameA"), TEXT("li"), one));

	/* what bcrypt alone would not see: after a NUL, and after 72 bytes */
	CHECK_OK(apm_pseudonym(pepper, blind, TEXT("pid"), TEXT("a\0b"), 4, with_nul));
	CHECK(!matches(pepper, blind, TEXT("pid"), TEXT("a\0c"), with_nul));
	CHECK_OK(apm_pseudonym(
		pepper, blind, TEXT("pid"),
		TEXT("xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx1"), 4, with_nul));
	CHECK(!matches(pepper, blind, TEXT("pid"),
				   TEXT("xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx2"),
				   with_nul));

	CHECK_STATUS(apm_pseudonym_check(pepper, blind, TEXT("a"), TEXT("b"), SETTING, &answer), APM_ERR_FORMAT);
	CHECK_STATUS(apm_pseudonym_check(pepper, blind, TEXT("a"), TEXT("b"), "", &answer), APM_ERR_FORMAT);
	CHECK_STATUS(apm_pseudonym(pepper, blind, TEXT("a"), TEXT("b"), 3, one), APM_ERR_RANGE);
}

/* base64 of the HMAC over the attributes as they stand here, under the setting of a pseudonym. */
static bool
identity_is(const char *pseudonym, const char *message, size_t len)
{
	ApmSlice parts[] = {APM_SLICE(message, len), APM_SLICE(blind, APM_BLIND_LEN)};
	ApmDigest mac;
	char secret[45];
	char want[APM_PSEUDONYM_LEN + 1];

	CHECK_OK(apm_hmac_sha256(pepper, 32, parts, 2, &mac));
	apm_base64_encode(mac.bytes, 32, secret);
	CHECK_OK(apm_bcrypt(secret, pseudonym, want));
	return strcmp(want, pseudonym) == 0;
}

static void
test_identity(void)
{
	static const char sorted[] = "\0\0\0\x01"
								 "A"
								 "\0\0\0\x01"
								 "1"
								 "\0\0\0\x02"
								 "AB"
								 "\0\0\0\x01"
								 "2"
								 "\0\0\0\x01"
								 "B"
								 "\0\0\0\x00";
	ApmAttribute attrs[3] = {{TEXT("B"), TEXT("")}, {TEXT("AB"), TEXT("2")}, {TEXT("A"), TEXT("1")}};
	ApmAttribute swap;
	char got[APM_PSEUDONYM_LEN + 1];

	for (int turn = 0; turn < 3; turn++)
	{
		CHECK_OK(apm_identity(pepper, blind, attrs, 3, 4, got));
		CHECK(identity_is(got, sorted, sizeof(sorted) - 1));
		swap = attrs[turn];
		attrs[turn] = attrs[(turn + 1) % 3];
		attrs[(turn + 1) % 3] = swap;
	}
	CHECK_STATUS(apm_identity(pepper, blind, attrs, 0, 4, got), APM_ERR_RANGE);
	attrs[0].name = attrs[2].name;
	CHECK_STATUS(apm_identity(pepper, blind, attrs, 3, 4, got), APM_ERR_RANGE);
	CHECK_OK(apm_identity(pepper, blind, attrs, 1, 4, got));
}

/* RFC 5869's formula, put together here: extract with 32 zeros, then one round of expand. */
static void
test_blind(void)
{
	static const uint8_t key[32] = "a patient's key, drawn by chance";
	static const uint8_t zeros[32];
	ApmSlice part = APM_SLICE(key, sizeof(key));
	ApmSlice info = APM_SLICE("apm pseudonym\x01", 14);
	uint8_t got[APM_BLIND_LEN];
	ApmDigest extracted;
	ApmDigest want;

	CHECK_OK(apm_hmac_sha256(zeros, sizeof(zeros), &part, 1, &extracted));
	CHECK_OK(apm_hmac_sha256(extracted.bytes, APM_DIGEST_LEN, &info, 1, &want));
	CHECK_OK(apm_pseudonym_blind(key, got));
	CHECK(memcmp(got, want.bytes, sizeof(got)) == 0);
}

static void
test_random_pseudonym(void)
{
	char one[APM_APID_MAX + 1];
	char two[APM_APID_MAX + 1];
	ApmBuf bytes = {0};

	CHECK_OK(apm_pseudonym_random(one));
	CHECK_OK(apm_pseudonym_random(two));
	CHECK(strlen(one) == 34 && strncmp(one, "r.", 2) == 0);
	CHECK(strcmp(one, two) != 0);
	CHECK_OK(apm_base64url_decode(one + 2, 32, &bytes));
	CHECK(bytes.len == 24);
	apm_buf_reset(&bytes);
}

static ApmStatus
identity_body(void)
{
	ApmAttribute attrs[2] = {{TEXT("B"), TEXT("1")}, {TEXT("A"), TEXT("2")}};
	char got[APM_PSEUDONYM_LEN + 1];

	return apm_identity(pepper, blind, attrs, 2, 4, got);
}

static ApmStatus
pseudonym_body(void)
{
	static char got[APM_PSEUDONYM_LEN + 1];
	bool answer;
	ApmStatus status = apm_pseudonym(pepper, blind, TEXT("a"), TEXT("b"), 4, got);

	if (status == APM_OK)
		status = apm_pseudonym_check(pepper, blind, TEXT("a"), TEXT("b"), got, &answer);
	return status;
}

int
main(void)
{
	test_bcrypt_vectors();
	test_bcrypt_length();
	test_settings();
	test_pseudonym_formula();
	test_pseudonym_check();
	test_identity();
	test_blind();
	test_random_pseudonym();
	CHECK_EACH_ALLOCATION(identity_body);
	CHECK_EACH_ALLOCATION(pseudonym_body);
	return check_summary();
}
