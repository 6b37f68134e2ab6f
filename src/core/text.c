/*
 * text.c
 *	  The text forms of bytes: base64, base64url and hexadecimal (RFC 4648), and the
 *	  layout of UUID version 7 (RFC 9562, 5.7).
 *
 * The decoders are strict: padding in base64 and none in base64url, no white space, no other
 * alphabet, and the bits that the last character has left over must be zero (RFC 4648, 3.5).
 * So a text that decodes is the only text for its bytes.
 */
#include "bytes.h"

#include <string.h>

static const char base64_alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char base64url_alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/* Writes len bytes without padding; gives the number of characters. */
static size_t
encode_unpadded(const uint8_t *in, size_t len, const char *alphabet, char *out)
{
	char *at = out;

	for (; len >= 3; in += 3, len -= 3)
	{
		*at++ = alphabet[in[0] >> 2];
		*at++ = alphabet[(in[0] & 0x03) << 4 | in[1] >> 4];
		*at++ = alphabet[(in[1] & 0x0f) << 2 | in[2] >> 6];
		*at++ = alphabet[in[2] & 0x3f];
	}
	if (len >= 1)
	{
		uint8_t second = len == 2 ? in[1] : 0;

		*at++ = alphabet[in[0] >> 2];
		*at++ = alphabet[(in[0] & 0x03) << 4 | second >> 4];
		if (len == 2)
			*at++ = alphabet[(second & 0x0f) << 2];
	}
	return (size_t) (at - out);
}

/* Characters of padded base64 for len bytes. */
size_t
apm_base64_len(size_t len)
{
	return (len / 3 + (len % 3 != 0)) * 4;
}

/* out has room for apm_base64_len(len) + 1. */
void
apm_base64_encode(const void *data, size_t len, char *out)
{
	size_t n = encode_unpadded(data, len, base64_alphabet, out);

	while (n % 4 != 0)
		out[n++] = '=';
	out[n] = '\0';
}

/* out has room for apm_base64_len(len) + 1; *outlen gets the characters written, may be NULL. */
void
apm_base64url_encode(const void *data, size_t len, char *out, size_t *outlen)
{
	size_t n = encode_unpadded(data, len, base64url_alphabet, out);

	out[n] = '\0';
	if (outlen != NULL)
		*outlen = n;
}

/* The six bits of a character of base64, of which the last two characters are given, or -1. */
static int
base64_value(char c, char plus, char slash)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	if (c == plus)
		return 62;
	if (c == slash)
		return 63;
	return -1;
}

/* Appends the bytes of a text without padding to out, all or none of them. */
static ApmStatus
decode_unpadded(const char *text, size_t len, char plus, char slash, ApmBuf *out)
{
	uint32_t bits = 0;
	int held = 0;
	uint8_t *at;
	size_t n = len / 4 * 3 + (len % 4 == 0 ? 0 : len % 4 - 1);

	if (len % 4 == 1)
		return APM_ERR_FORMAT;
	if (!apm_buf_reserve(out, n))
		return APM_ERR_MEMORY;
	at = out->data + out->len;
	for (size_t i = 0; i < len; i++)
	{
		int value = base64_value(text[i], plus, slash);

		if (value < 0)
			return APM_ERR_FORMAT;
		bits = (bits << 6 | (uint32_t) value) & 0x3fff;
		held += 6;
		if (held >= 8)
		{
			held -= 8;
			*at++ = (uint8_t) (bits >> held);
		}
	}
	if ((bits & ((1u << held) - 1)) != 0)
		return APM_ERR_FORMAT;
	out->len += n;
	return APM_OK;
}

/* With all of its padding and nothing else. */
ApmStatus
apm_base64_decode(const char *text, size_t len, ApmBuf *out)
{
	if (len % 4 != 0)
		return APM_ERR_FORMAT;
	for (int i = 0; i < 2 && len > 0 && text[len - 1] == '='; i++)
		len--;
	return decode_unpadded(text, len, '+', '/', out);
}

ApmStatus
apm_base64url_decode(const char *text, size_t len, ApmBuf *out)
{
	return decode_unpadded(text, len, '-', '_', out);
}

/* out has room for 2 * len + 1. */
void
apm_hex_encode(const void *data, size_t len, char *out)
{
	static const char digits[] = "0123456789abcdef";
	const uint8_t *in = data;

	for (size_t i = 0; i < len; i++)
	{
		*out++ = digits[in[i] >> 4];
		*out++ = digits[in[i] & 0x0f];
	}
	*out = '\0';
}

static int
hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* Both cases are read, because people type digests; len is even. */
ApmStatus
apm_hex_decode(const char *text, size_t len, uint8_t *out)
{
	if (len % 2 != 0)
		return APM_ERR_FORMAT;
	for (size_t i = 0; i < len; i++)
		if (hex_value(text[i]) < 0)
			return APM_ERR_FORMAT;
	for (size_t i = 0; i < len; i += 2)
		out[i / 2] = (uint8_t) (hex_value(text[i]) << 4 | hex_value(text[i + 1]));
	return APM_OK;
}

/*
 * The first 74 bits of random fill rand_a and rand_b in order; the last 6 are not used.
 * Milliseconds beyond 48 bits (the year 10889) lose their high bits.
 */
void
apm_uuid7(uint64_t unix_ms, const uint8_t random[10], ApmUuid *out)
{
	uint64_t head = 0;
	uint64_t tail;

	for (int i = 0; i < 8; i++)
		head = head << 8 | random[i];
	tail = (head & UINT64_C(0x000fffffffffffff)) << 10 | (uint64_t) random[8] << 2 | random[9] >> 6;
	tail |= UINT64_C(2) << 62;

	for (int i = 0; i < 6; i++)
		out->bytes[i] = (uint8_t) (unix_ms >> (8 * (5 - i)));
	out->bytes[6] = (uint8_t) (0x70 | head >> 60);
	out->bytes[7] = (uint8_t) (head >> 52);
	for (int i = 0; i < 8; i++)
		out->bytes[8 + i] = (uint8_t) (tail >> (8 * (7 - i)));
}

ApmStatus
apm_uuid7_random(uint64_t unix_ms, ApmUuid *out)
{
	uint8_t random[10];
	ApmStatus status = apm_random(random, sizeof(random));

	if (status == APM_OK)
		apm_uuid7(unix_ms, random, out);
	return status;
}

bool
apm_uuid_next(const ApmUuid *uuid, ApmUuid *out)
{
	*out = *uuid;
	for (int i = APM_UUID_LEN - 1; i >= 0; i--)
	{
		if (++out->bytes[i] != 0)
			return true;
	}
	return false;
}
