/*
 * test_digest.c
 *	  SHA-256 against FIPS 180-4's examples and OpenSSL's EVP interface, HMAC against RFC 4231, HKDF against RFC 5869.
 */
#include <openssl/evp.h>

#include "check.h"
#include "core/digest.h"

#define LONGEST 300

static void
test_sha256(void)
{
	static const char two_blocks[] = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
	ApmSlice parts[4] = {APM_SLICE("a", 1), {NULL, 0}, APM_SLICE("b", 1), APM_SLICE("c", 1)};
	ApmDigest d;

	CHECK_OK(apm_sha256("abc", 3, &d));
	CHECK_HEX(d.bytes, 32, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	CHECK_OK(apm_sha256(NULL, 0, &d));
	CHECK_HEX(d.bytes, 32, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
	CHECK_OK(apm_sha256(two_blocks, sizeof(two_blocks) - 1, &d));
	CHECK_HEX(d.bytes, 32, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
	CHECK_OK(apm_sha256_parts(parts, 4, &d));
	CHECK_HEX(d.bytes, 32, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	CHECK_OK(apm_sha256_prefixed('a', parts + 1, 3, &d));
	CHECK_HEX(d.bytes, 32, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

/* Every length around the ends of the first blocks, in one piece and in two that meet anywhere. */
static void
test_lengths(void)
{
	uint8_t message[LONGEST];

	for (size_t i = 0; i < LONGEST; i++)
		message[i] = (uint8_t) (i * 7 + 1);
	for (size_t len = 0; len <= LONGEST; len++)
	{
		ApmDigest want;
		ApmDigest got;

		if (EVP_Digest(message, len, want.bytes, NULL, EVP_sha256(), NULL) != 1)
			exit(2);
		CHECK_OK(apm_sha256(message, len, &got));
		CHECK(memcmp(&got, &want, sizeof(got)) == 0);
		for (size_t split = 0; split <= len; split++)
		{
			ApmSlice parts[2] = {{message, split}, {message + split, len - split}};

			CHECK_OK(apm_sha256_parts(parts, 2, &got));
			CHECK(memcmp(&got, &want, sizeof(got)) == 0);
			if (split > 0)
			{
				parts[0] = (ApmSlice){message + 1, split - 1};
				CHECK_OK(apm_sha256_prefixed(message[0], parts, 2, &got));
				CHECK(memcmp(&got, &want, sizeof(got)) == 0);
			}
		}
	}
}

static void
hmac_vector(const char *key, const char *data, const char *want)
{
	ApmSlice k = check_unhex(key);
	ApmSlice d = check_unhex(data);
	ApmSlice halves[2] = {{d.data, d.len / 2}, {d.data + d.len / 2, d.len - d.len / 2}};
	ApmDigest mac;

	CHECK_OK(apm_hmac_sha256(k.data, k.len, &d, 1, &mac));
	/* case 5 publishes the first 128 bits only */
	CHECK_HEX(mac.bytes, strlen(want) / 2, want);
	CHECK_OK(apm_hmac_sha256(k.data, k.len, halves, 2, &mac));
	CHECK_HEX(mac.bytes, strlen(want) / 2, want);
}

/* RFC 4231, 4.2 to 4.8 */
static void
test_hmac(void)
{
	char aa131[2 * 131 + 1];

	for (int i = 0; i < 2 * 131; i++)
		aa131[i] = 'a';
	aa131[2 * 131] = '\0';

	hmac_vector("0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b", "4869205468657265",
				"b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
	hmac_vector("4a656665", "7768617420646f2079612077616e7420666f72206e6f7468696e673f",
				"5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
	hmac_vector("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
				"dddddddddddddddddddddddddddddddddddddddddddddddddd"
				"dddddddddddddddddddddddddddddddddddddddddddddddddd",
				"773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe");
	hmac_vector("0102030405060708090a0b0c0d0e0f10111213141516171819",
				"cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd"
				"cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd",
				"82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b");
	hmac_vector("0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c", "546573742057697468205472756e636174696f6e",
				"a3b6167473100ee06e0c796c2955552b");
	hmac_vector(
		aa131,
		"54657374205573696e67204c6172676572205468616e20426c6f636b2d53697a65204b6579202d2048617368204b6579"
		"204669727374",
		"60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
	hmac_vector(
		aa131,
		"5468697320697320612074657374207573696e672061206c6172676572207468616e20626c6f636b2d73697a65206b65"
		"7920616e642061206c6172676572207468616e20626c6f636b2d73697a6520646174612e20546865206b6579206e6565"
		"647320746f20626520686173686564206265666f7265206265696e6720757365642062792074686520484d414320616c"
		"676f726974686d2e",
		"9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2");
}

static void
hkdf_vector(const char *ikm, const char *salt, const char *info, const char *want)
{
	ApmSlice i = check_unhex(ikm);
	ApmSlice s = check_unhex(salt);
	ApmSlice n = check_unhex(info);
	uint8_t out[128];
	size_t len = strlen(want) / 2;

	CHECK_OK(apm_hkdf_sha256(i.data, i.len, s.data, s.len, n.data, n.len, out, len));
	CHECK_HEX(out, len, want);
}

/* RFC 5869, A.1 to A.3 */
static void
test_hkdf(void)
{
	static uint8_t much[255 * 32 + 1];

	hkdf_vector("0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b", "000102030405060708090a0b0c",
				"f0f1f2f3f4f5f6f7f8f9",
				"3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865");
	hkdf_vector(
		"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f"
		"303132333435363738393a3b3c3d3e3f404142434445464748494a4b4c4d4e4f",
		"606162636465666768696a6b6c6d6e6f707172737475767778797a7b7c7d7e7f808182838485868788898a8b8c8d8e8f"
		"909192939495969798999a9b9c9d9e9fa0a1a2a3a4a5a6a7a8a9aaabacadaeaf",
		"b0b1b2b3b4b5b6b7b8b9babbbcbdbebfc0c1c2c3c4c5c6c7c8c9cacbcccdcecfd0d1d2d3d4d5d6d7d8d9dadbdcdddedf"
		"e0e1e2e3e4e5e6e7e8e9eaebecedeeeff0f1f2f3f4f5f6f7f8f9fafbfcfdfeff",
		"b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09"
		"da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87");
	hkdf_vector("0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b", "", "",
				"8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8");

	CHECK_OK(apm_hkdf_sha256("k", 1, NULL, 0, NULL, 0, much, 255 * 32));
	CHECK_STATUS(apm_hkdf_sha256("k", 1, NULL, 0, NULL, 0, much, 255 * 32 + 1), APM_ERR_RANGE);
}

int
main(void)
{
	test_sha256();
	test_lengths();
	test_hmac();
	test_hkdf();
	return check_summary();
}
