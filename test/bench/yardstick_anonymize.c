/*
 * yardstick_anonymize.c
 *	  What cryptography alone costs for one record that is anonymized.
 *
 *		yardstick-anonymize RECORDS TEXT SIGNED
 *
 * For records whose text has TEXT bytes and whose signed form has SIGNED: the HMAC by which the patient is found, the key of the
 * record and its commitment by HKDF, the record and the envelope by AES-256-GCM, the leaf by SHA-256, the origin's signature
 * by ECDSA on P-256, and what is drawn for them.  Each by itself, so often, with contexts that are made once; HMAC and HKDF by the
 * plain SHA-256 functions, the fastest that OpenSSL has.  Writes records a second of one processor: of all together, then
 * the microseconds of each.
 */
#define OPENSSL_SUPPRESS_DEPRECATED

#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <string.h>

#include "timing.h"

#define PAD_STEP 256 /* to which a record's text is padded */
#define BLOCK 64

static uint8_t bytes[1 << 20];
static uint8_t sealed[sizeof(bytes) + 16];
static uint8_t digest[32] = {1};
static size_t padded_len;
static size_t signed_len;
static EVP_CIPHER_CTX *cipher;
static EVP_PKEY_CTX *signer;

static void
hmac(const void *data, size_t len)
{
	uint8_t pad[BLOCK];
	SHA256_CTX ctx;

	for (int run = 0; run < 2; run++)
	{
		memset(pad, run == 0 ? 0x36 : 0x5c, sizeof(pad));
		for (size_t i = 0; i < sizeof(digest); i++)
			pad[i] ^= bytes[i];
		SHA256_Init(&ctx);
		SHA256_Update(&ctx, pad, sizeof(pad));
		SHA256_Update(&ctx, run == 0 ? data : digest, run == 0 ? len : sizeof(digest));
		SHA256_Final(digest, &ctx);
	}
}

static void
find_patient(void)
{
	hmac(bytes, 16);
}

/* RFC 5869 with 64 bytes of result: one extraction, two expansions. */
static void
derive_key(void)
{
	hmac(bytes, 32);
	hmac(bytes, 16);
	hmac(bytes, 48);
}

static void
seal(size_t len)
{
	uint8_t tag[16];
	int done;

	timing_need(EVP_EncryptInit_ex2(cipher, NULL, digest, bytes, NULL) == 1 &&
					EVP_EncryptUpdate(cipher, NULL, &done, bytes, 80) == 1 &&
					EVP_EncryptUpdate(cipher, sealed, &done, bytes, (int) len) == 1 &&
					EVP_EncryptFinal_ex(cipher, tag, &done) == 1 &&
					EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_AEAD_GET_TAG, sizeof(tag), tag) == 1,
				"AES-GCM failed");
}

static void
seal_record(void)
{
	seal(padded_len);
}

static void
seal_envelope(void)
{
	seal(signed_len);
}

static void
hash_leaf(void)
{
	SHA256(bytes, signed_len, digest);
}

static void
sign(void)
{
	uint8_t signature[80];
	size_t len = sizeof(signature);

	SHA256(bytes, 47, digest);
	timing_need(EVP_PKEY_sign(signer, signature, &len, digest, sizeof(digest)) == 1, "ECDSA failed");
}

/* An id, two nonces for AES-GCM and one for the leaf. */
static void
draw(void)
{
	static const int lengths[] = {10, 12, 12, 32};

	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++)
		timing_need(RAND_bytes(sealed, lengths[i]) == 1, "no random bytes");
}

static const struct
{
	const char *name;
	void (*run)(void);
} primitives[] = {{"hmac", find_patient},
				  {"hkdf", derive_key},
				  {"seal record", seal_record},
				  {"seal envelope", seal_envelope},
				  {"leaf", hash_leaf},
				  {"sign", sign},
				  {"random", draw}};

#define PRIMITIVES (sizeof(primitives) / sizeof(primitives[0]))

int
main(int argc, char **argv)
{
	EVP_PKEY *key = EVP_EC_gen("prime256v1");
	double seconds[PRIMITIVES];
	double sum = 0;
	uint64_t records;

	timing_need(argc == 4, "usage: yardstick-anonymize RECORDS TEXT SIGNED");
	records = timing_number(argv[1]);
	padded_len = (timing_number(argv[2]) + 4 + PAD_STEP - 1) / PAD_STEP * PAD_STEP;
	signed_len = timing_number(argv[3]);
	timing_need(padded_len <= sizeof(bytes) && signed_len <= sizeof(bytes), "too long");

	cipher = EVP_CIPHER_CTX_new();
	signer = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL);
	timing_need(cipher != NULL && EVP_EncryptInit_ex2(cipher, EVP_aes_256_gcm(), NULL, NULL, NULL) == 1 &&
					signer != NULL && EVP_PKEY_sign_init(signer) == 1,
				"OpenSSL failed");
	for (size_t i = 0; i < PRIMITIVES; i++)
	{
		double started = timing_processor();

		for (uint64_t n = 0; n < records; n++)
			primitives[i].run();
		seconds[i] = timing_processor() - started;
		sum += seconds[i];
	}
	printf("%.0f\n", (double) records / sum);
	for (size_t i = 0; i < PRIMITIVES; i++)
		printf("%s\t%.3f\n", primitives[i].name, seconds[i] * 1e6 / (double) records);
	EVP_PKEY_CTX_free(signer);
	EVP_PKEY_free(key);
	EVP_CIPHER_CTX_free(cipher);
	return EXIT_SUCCESS;
}
