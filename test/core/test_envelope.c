/*
 * test_envelope.c
 *	  Envelopes for one recipient and for several: they open for whom they are made, for
 *	  nobody else, and not at all when a bit has changed; a content key ends when it
 *	  should; and the JWE text opens with a program that shares nothing with us.
 */
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "core/cipher.h"
#include "core/envelope.h"
#include "rsa_vectors.h"

#define TEXT(s) APM_SLICE((s), sizeof(s) - 1)
#define ALL(buf) APM_SLICE((buf).data, (buf).len)
#define SECOND_US UINT64_C(1000000)

static ApmRsa *first = NULL; /* the key of rsa_vectors.h */
static ApmRsa *second = NULL;
static ApmRsa *stranger = NULL;

static ApmSealer *
sealer_for(size_t n)
{
	const ApmRsa *recipients[2] = {first, second};
	ApmSealer *sealer = NULL;

	CHECK_OK(apm_sealer_new(recipients, n, &sealer));
	return sealer;
}

static ApmOpener *
opener_of(const ApmRsa *key)
{
	ApmOpener *opener = NULL;

	CHECK_OK(apm_opener_new(&opener));
	CHECK_OK(apm_opener_add(opener, key));
	return opener;
}

static ApmStatus
open_with(const ApmRsa *key, ApmSlice envelope, const char *want)
{
	ApmOpener *opener = opener_of(key);
	ApmBuf out = {.secret = true};
	ApmStatus status;

	apm_put_u8(&out, 'x');
	status = apm_opener_open(opener, envelope, &out);
	if (status == APM_OK)
		CHECK(out.len == 1 + strlen(want) && memcmp(out.data + 1, want, out.len - 1) == 0);
	else
		CHECK(out.len == 1);
	apm_buf_reset(&out);
	apm_opener_free(opener);
	return status;
}

static void
test_recipients(void)
{
	ApmSealer *one = sealer_for(1);
	ApmSealer *two = sealer_for(2);
	ApmBuf envelope = {0};

	CHECK_OK(apm_sealer_seal(one, TEXT("for one"), 0, &envelope));
	CHECK_OK(open_with(first, ALL(envelope), "for one"));
	CHECK_STATUS(open_with(second, ALL(envelope), ""), APM_ERR_OPEN);
	apm_buf_reset(&envelope);

	CHECK_OK(apm_sealer_seal(two, TEXT("for two"), 0, &envelope));
	CHECK_OK(open_with(first, ALL(envelope), "for two"));
	CHECK_OK(open_with(second, ALL(envelope), "for two"));
	CHECK_STATUS(open_with(stranger, ALL(envelope), ""), APM_ERR_OPEN);
	apm_buf_reset(&envelope);

	CHECK_OK(apm_sealer_seal(one, TEXT(""), 0, &envelope));
	CHECK_OK(open_with(first, ALL(envelope), ""));
	apm_buf_reset(&envelope);
	apm_sealer_free(one);
	apm_sealer_free(two);
	apm_sealer_free(NULL);
}

static void
test_limits(void)
{
	const ApmRsa *many[APM_MAX_RECIPIENTS + 1];
	ApmSealer *sealer = NULL;
	ApmOpener *opener = NULL;
	ApmRsa *public_half = NULL;
	ApmBuf envelope = {0};

	for (int i = 0; i <= APM_MAX_RECIPIENTS; i++)
		many[i] = first;
	CHECK_STATUS(apm_sealer_new(many, 0, &sealer), APM_ERR_RANGE);
	CHECK_STATUS(apm_sealer_new(many, APM_MAX_RECIPIENTS + 1, &sealer), APM_ERR_RANGE);
	CHECK_OK(apm_sealer_new(many, APM_MAX_RECIPIENTS, &sealer));
	CHECK_OK(apm_sealer_seal(sealer, TEXT("eight"), 0, &envelope));
	CHECK_OK(open_with(first, ALL(envelope), "eight"));
	apm_buf_reset(&envelope);
	CHECK_STATUS(
		apm_sealer_seal(sealer, (ApmSlice){(const uint8_t *) "", (size_t) APM_TEXT_MAX + 1}, 0, &envelope),
		APM_ERR_RANGE);
	apm_sealer_free(sealer);

	CHECK_OK(apm_rsa_from_pem(TEXT(rsa_public_pem), &public_half));
	CHECK_OK(apm_opener_new(&opener));
	CHECK_STATUS(apm_opener_add(opener, public_half), APM_ERR_KEY);
	for (int i = 0; i < 64; i++)
		CHECK_OK(apm_opener_add(opener, first));
	CHECK_STATUS(apm_opener_add(opener, first), APM_ERR_RANGE);
	apm_opener_free(opener);
	apm_rsa_free(public_half);
}

/*
 * Flips every bit.  A copy for several recipients authenticates the others' key ids and
 * wrapped keys to nobody (RFC 7516 leaves them out of the AAD): flipped there, it still
 * opens for the one whose own parts are whole, and only there.
 */
static void
flip_bits(size_t recipients, size_t second_at)
{
	ApmSealer *sealer = sealer_for(recipients);
	ApmOpener *warm = opener_of(first);
	ApmBuf envelope = {0};
	ApmBuf out = {.secret = true};
	bool right = true;

	CHECK_OK(apm_sealer_seal(sealer, TEXT("a message"), 0, &envelope));
	CHECK_OK(apm_opener_open(warm, ALL(envelope), &out));
	for (size_t bit = 0; bit < 8 * envelope.len; bit++)
	{
		size_t in_second = bit / 8 - second_at;
		bool others = second_at > 0 && bit / 8 >= second_at &&
					  (in_second < 8 || (in_second >= 8 + 4 && in_second < 8 + 4 + 256));
		ApmStatus status;

		envelope.data[bit / 8] ^= (uint8_t) (1 << bit % 8);
		status = apm_opener_open(warm, ALL(envelope), &out);
		right = right && status == (others ? APM_OK : APM_ERR_OPEN);
		envelope.data[bit / 8] ^= (uint8_t) (1 << bit % 8);
	}
	CHECK(right);
	for (size_t len = 0; len < envelope.len; len++)
		right = right && apm_opener_open(warm, APM_SLICE(envelope.data, len), &out) == APM_ERR_OPEN;
	CHECK(right);
	apm_put_u8(&envelope, 0);
	CHECK_STATUS(apm_opener_open(warm, ALL(envelope), &out), APM_ERR_OPEN);
	apm_buf_reset(&envelope);
	apm_buf_reset(&out);
	apm_opener_free(warm);
	apm_sealer_free(sealer);
}

static void
test_flipped_bits(void)
{
	const size_t header = strlen("{\"alg\":\"RSA-OAEP-256\",\"enc\":\"A256GCM\"}");
	const size_t first_recipient = 2 + 4 + header + 1;

	flip_bits(1, 0);
	flip_bits(2, first_recipient + 8 + 4 + 256);
}

static const char right_header[] =
	"{\"alg\":\"RSA-OAEP-256\",\"enc\":\"A256GCM\",\"kid\":\"" RSA_KEY_ID "\"}";

/* A wrapped key and a protected header in an envelope put together by hand: what does opening it answer? */
static ApmStatus
open_made(const char *header, ApmSlice wrapped, bool right_content)
{
	uint8_t content_key[32];
	uint8_t nonce[APM_GCM_NONCE_LEN] = {7};
	uint8_t sealed[5 + APM_GCM_TAG_LEN];
	char aad[256];
	size_t aad_len;
	ApmBuf envelope = {0};
	ApmStatus status;

	for (uint8_t i = 0; i < 32; i++)
		content_key[i] = right_content ? i : 0;
	apm_base64url_encode(header, strlen(header), aad, &aad_len);
	CHECK_OK(apm_gcm_seal(content_key, nonce, APM_SLICE(aad, aad_len), TEXT("hello"), sealed));
	apm_put_raw(&envelope, "E\x01", 2);
	apm_put_bytes(&envelope, header, strlen(header));
	apm_put_u8(&envelope, 1);
	apm_put_raw(&envelope, check_unhex(RSA_KEY_ID).data, 8);
	apm_put_bytes(&envelope, wrapped.data, wrapped.len);
	apm_put_raw(&envelope, nonce, sizeof(nonce));
	apm_put_bytes(&envelope, sealed, 5);
	apm_put_raw(&envelope, sealed + 5, APM_GCM_TAG_LEN);
	status = open_with(first, ALL(envelope), "hello");
	apm_buf_reset(&envelope);
	return status;
}

static void
test_wrapped_vectors(void)
{
	ApmSlice good = check_unhex(rsa_wrapped_good);

	CHECK_OK(open_made(right_header, good, true));
	CHECK_STATUS(open_made(right_header, good, false), APM_ERR_OPEN);
	CHECK_STATUS(open_made(right_header, APM_SLICE(good.data, 255), true), APM_ERR_OPEN);
	for (size_t i = 0; i < sizeof(rsa_wrapped_bad) / sizeof(rsa_wrapped_bad[0]); i++)
		CHECK_STATUS(open_made(right_header, check_unhex(rsa_wrapped_bad[i].hex), true), APM_ERR_OPEN);
}

/* The header is authenticated, but by the sender, whom nobody knows: another than ours is refused. */
static void
test_other_headers(void)
{
	static const char *const refused[] = {
		"",
		"{}",
		"{\"alg\":\"RSA-OAEP-256\",\"enc\":\"A256GCM\"}",
		"{\"alg\":\"RSA-OAEP\",\"enc\":\"A256GCM\",\"kid\":\"" RSA_KEY_ID "\"}",
		"{\"alg\":\"RSA1_5\",\"enc\":\"A256GCM\",\"kid\":\"" RSA_KEY_ID "\"}",
		"{\"alg\":\"RSA-OAEP-256\",\"enc\":\"A128GCM\",\"kid\":\"" RSA_KEY_ID "\"}",
		"{\"alg\":\"RSA-OAEP-256\",\"enc\":\"A256GCM\",\"kid\":\"0000000000000000\"}",
		"{\"enc\":\"A256GCM\",\"alg\":\"RSA-OAEP-256\",\"kid\":\"" RSA_KEY_ID "\"}",
		"{\"alg\":\"RSA-OAEP-256\",\"enc\":\"A256GCM\",\"kid\":\"" RSA_KEY_ID "\",\"zip\":\"DEF\"}",
		"{\"alg\":\"RSA-OAEP-256\",\"enc\":\"A256GCM\",\"kid\":\"" RSA_KEY_ID "\"} ",
	};
	ApmSlice good = check_unhex(rsa_wrapped_good);

	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
		CHECK_STATUS(open_made(refused[i], good, true), APM_ERR_OPEN);
}

/* Where the wrapped key of an envelope for one recipient lies. */
static const uint8_t *
wrapped_of(const ApmBuf *envelope, size_t at)
{
	return envelope->data + at + 2 + 4 +
		   strlen("{\"alg\":\"RSA-OAEP-256\",\"enc\":\"A256GCM\",\"kid\":\"\"}") + 16 + 1 + 8 + 4;
}

/* Did the content key change between a message sealed now and the one before? */
static bool
renewed(ApmSealer *sealer, uint64_t now_us)
{
	static uint8_t last[256];
	ApmBuf envelope = {0};
	bool changed;

	if (apm_sealer_seal(sealer, TEXT("x"), now_us, &envelope) != APM_OK)
		return CHECK(!"a message is sealed");
	changed = memcmp(last, wrapped_of(&envelope, 0), 256) != 0;
	memcpy(last, wrapped_of(&envelope, 0), 256);
	apm_buf_reset(&envelope);
	return changed;
}

static void
test_renewal_by_time(void)
{
	ApmSealer *sealer = sealer_for(1);
	uint64_t start = 1000 * SECOND_US;

	CHECK(renewed(sealer, start));
	CHECK(!renewed(sealer, start));
	CHECK(!renewed(sealer, start + 600 * SECOND_US - 1));
	CHECK(renewed(sealer, start + 600 * SECOND_US));
	CHECK(!renewed(sealer, start + 600 * SECOND_US + 1));
	/* a clock that went back tells nothing about the age */
	CHECK(renewed(sealer, start));
	CHECK(renewed(sealer, UINT64_MAX));
	CHECK(!renewed(sealer, UINT64_MAX));
	CHECK(renewed(sealer, 0));
	apm_sealer_free(sealer);
}

static void
test_renewal_by_count(void)
{
	ApmSealer *sealer = sealer_for(1);
	ApmBuf envelope = {0};
	bool kept = true;
	uint8_t nonces[2][12];

	CHECK(renewed(sealer, 5));
	for (int i = 1; i < APM_CONTENT_KEY_MESSAGES; i++)
		kept = kept && !renewed(sealer, 5);
	CHECK(kept);
	CHECK(renewed(sealer, 5));

	for (int i = 0; i < 2; i++)
	{
		CHECK_OK(apm_sealer_seal(sealer, TEXT("x"), 5, &envelope));
		memcpy(nonces[i], wrapped_of(&envelope, 0) + 256, 12);
		apm_buf_reset(&envelope);
	}
	CHECK(memcmp(nonces[0], nonces[1], 12) != 0);
	apm_sealer_free(sealer);
}

/* More content keys than the cache holds: all open, also those that were driven out. */
static void
test_cache(void)
{
	ApmSealer *sealer = sealer_for(1);
	ApmOpener *opener = opener_of(first);
	ApmBuf envelopes[3] = {{0}, {0}, {0}};
	ApmBuf out = {.secret = true};
	size_t keys = 1500;
	bool opened = true;

	CHECK_OK(apm_sealer_seal(sealer, TEXT("early"), 0, &envelopes[0]));
	for (size_t i = 1; i <= keys; i++)
	{
		uint64_t now_us = i * APM_CONTENT_KEY_MICROS;

		apm_buf_reset(&envelopes[1]);
		apm_buf_reset(&envelopes[2]);
		opened = opened && apm_sealer_seal(sealer, TEXT("x"), now_us, &envelopes[1]) == APM_OK &&
				 apm_sealer_seal(sealer, TEXT("y"), now_us, &envelopes[2]) == APM_OK;
		apm_buf_reset(&out);
		/* the first unwraps, the second finds the key */
		opened = opened && apm_opener_open(opener, ALL(envelopes[1]), &out) == APM_OK &&
				 apm_opener_open(opener, ALL(envelopes[2]), &out) == APM_OK && out.len == 2 &&
				 memcmp(out.data, "xy", 2) == 0;
	}
	CHECK(opened);
	apm_buf_reset(&out);
	CHECK_OK(apm_opener_open(opener, ALL(envelopes[0]), &out));
	CHECK(out.len == 5 && memcmp(out.data, "early", 5) == 0);
	for (int i = 0; i < 3; i++)
		apm_buf_reset(&envelopes[i]);
	apm_buf_reset(&out);
	apm_opener_free(opener);
	apm_sealer_free(sealer);
}

/* Two generations of a key open side by side. */
static void
test_generations(void)
{
	ApmOpener *opener = opener_of(second);
	ApmSealer *sealer = sealer_for(1);
	ApmBuf envelope = {0};
	ApmBuf out = {.secret = true};

	CHECK_OK(apm_sealer_seal(sealer, TEXT("old"), 0, &envelope));
	CHECK_STATUS(apm_opener_open(opener, ALL(envelope), &out), APM_ERR_OPEN);
	CHECK_OK(apm_opener_add(opener, first));
	CHECK_OK(apm_opener_open(opener, ALL(envelope), &out));
	apm_buf_reset(&envelope);
	apm_buf_reset(&out);
	apm_opener_free(opener);
	apm_sealer_free(sealer);
}

/* Runs open_jwe.py on the JWE for the holder of a key; says why it failed unless that is expected. */
static bool
python_opens(bool expected, const ApmRsa *key, const char *jwe, size_t jwe_len, ApmSlice plain)
{
	FILE *script = popen(expected ? "/usr/bin/python3 test/python/open_jwe.py"
								  : "/usr/bin/python3 test/python/open_jwe.py 2>/dev/null",
						 "w");
	ApmBuf pem = {.secret = true};
	ApmKeyId id;
	char kid[17];

	if (script == NULL)
		return false;
	CHECK_OK(apm_rsa_private_pem(key, &pem));
	apm_rsa_key_id(key, &id);
	apm_hex_encode(id.bytes, sizeof(id.bytes), kid);
	fprintf(script, "{\"kid\":\"%s\",\"plain\":\"", kid);
	for (size_t i = 0; i < plain.len; i++)
		fprintf(script, "%02x", plain.data[i]);
	fprintf(script, "\",\"key\":\"");
	for (size_t i = 0; i < pem.len; i++)
		if (pem.data[i] == '\n')
			fprintf(script, "\\n");
		else
			fputc(pem.data[i], script);
	fprintf(script, "\",\"jwe\":\"");
	for (size_t i = 0; i < jwe_len; i++)
		fprintf(script, jwe[i] == '"' ? "\\%c" : "%c", jwe[i]);
	fprintf(script, "\"}");
	apm_buf_reset(&pem);
	return pclose(script) == 0;
}

static void
test_jwe(void)
{
	ApmSlice plain = TEXT("a message for two, long enough for a second block of AES");
	ApmSealer *one = sealer_for(1);
	ApmSealer *two = sealer_for(2);
	ApmBuf envelope = {0};
	ApmBuf jwe = {0};

	CHECK_OK(apm_sealer_seal(one, plain, 0, &envelope));
	CHECK_OK(apm_envelope_jwe(ALL(envelope), &jwe));
	CHECK(python_opens(true, first, (char *) jwe.data, jwe.len, plain));
	CHECK(!python_opens(false, second, (char *) jwe.data, jwe.len, plain));
	/* the header's base64url is the AAD: RFC 7516's own text of this header */
	CHECK(strncmp((char *) jwe.data, "eyJhbGciOiJSU0EtT0FFUC0yNTYiLCJlbmMiOiJBMjU2R0NNIiwia2lkIjoi", 60) ==
		  0);
	apm_buf_reset(&jwe);
	apm_buf_reset(&envelope);

	CHECK_OK(apm_sealer_seal(one, TEXT(""), 0, &envelope));
	CHECK_OK(apm_envelope_jwe(ALL(envelope), &jwe));
	CHECK(python_opens(true, first, (char *) jwe.data, jwe.len, TEXT("")));
	apm_buf_reset(&jwe);
	apm_buf_reset(&envelope);

	CHECK_OK(apm_sealer_seal(two, plain, 0, &envelope));
	CHECK_OK(apm_envelope_jwe(ALL(envelope), &jwe));
	CHECK(python_opens(true, first, (char *) jwe.data, jwe.len, plain));
	CHECK(python_opens(true, second, (char *) jwe.data, jwe.len, plain));
	CHECK(!python_opens(false, first, (char *) jwe.data, jwe.len, TEXT("another")));
	apm_buf_reset(&jwe);
	envelope.len--;
	CHECK_STATUS(apm_envelope_jwe(ALL(envelope), &jwe), APM_ERR_FORMAT);
	CHECK(jwe.len == 0);
	apm_buf_reset(&envelope);
	apm_sealer_free(one);
	apm_sealer_free(two);
}

/* A child does not go on with its parent's content key. */
static void
test_fork(void)
{
	ApmSealer *sealer = sealer_for(1);
	ApmBuf before = {0};
	ApmBuf after = {0};
	FILE *reader;
	uint8_t child_wrapped[256];
	int ends[2];

	CHECK_OK(apm_sealer_seal(sealer, TEXT("x"), 0, &before));
	CHECK(pipe(ends) == 0);
	fflush(stdout);
	if (fork() == 0)
	{
		ApmBuf child = {0};
		bool written = apm_sealer_seal(sealer, TEXT("x"), 0, &child) == APM_OK &&
					   write(ends[1], wrapped_of(&child, 0), 256) == 256;

		_exit(written ? 0 : 1);
	}
	close(ends[1]);
	reader = fdopen(ends[0], "r");
	CHECK(reader != NULL && fread(child_wrapped, 1, 256, reader) == 256);
	fclose(reader);
	wait(NULL);
	CHECK_OK(apm_sealer_seal(sealer, TEXT("x"), 0, &after));
	CHECK(memcmp(wrapped_of(&before, 0), wrapped_of(&after, 0), 256) == 0);
	CHECK(memcmp(wrapped_of(&before, 0), child_wrapped, 256) != 0);
	apm_buf_reset(&before);
	apm_buf_reset(&after);
	apm_sealer_free(sealer);
}

static ApmStatus
envelope_body(void)
{
	const ApmRsa *recipients[2] = {first, second};
	ApmSealer *sealer = NULL;
	ApmOpener *opener = NULL;
	ApmBuf envelope = {0};
	ApmBuf out = {.secret = true};
	ApmStatus status = apm_sealer_new(recipients, 2, &sealer);

	if (status == APM_OK)
		status = apm_sealer_seal(sealer, TEXT("message"), 0, &envelope);
	if (status == APM_OK)
		status = apm_opener_new(&opener);
	if (status == APM_OK)
		status = apm_opener_add(opener, second);
	if (status == APM_OK)
		status = apm_opener_open(opener, ALL(envelope), &out);
	if (status == APM_OK)
		status = apm_envelope_jwe(ALL(envelope), &out);
	apm_sealer_free(sealer);
	apm_opener_free(opener);
	apm_buf_reset(&envelope);
	apm_buf_reset(&out);
	return status;
}

int
main(void)
{
	CHECK_OK(apm_rsa_from_pem(TEXT(rsa_private_pem), &first));
	CHECK_OK(apm_rsa_generate(2048, &second));
	CHECK_OK(apm_rsa_generate(2048, &stranger));
	test_recipients();
	test_limits();
	test_flipped_bits();
	test_wrapped_vectors();
	test_other_headers();
	test_renewal_by_time();
	test_renewal_by_count();
	test_cache();
	test_generations();
	test_jwe();
	test_fork();
	CHECK_EACH_ALLOCATION(envelope_body);
	apm_rsa_free(first);
	apm_rsa_free(second);
	apm_rsa_free(stranger);
	return check_summary();
}
