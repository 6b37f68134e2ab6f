/*
 * bytes.h
 *	  Byte buffers and the canonical binary encoding that everything hashed,
 *	  signed or sealed is written in.
 *
 * An encoding is: u8 tag, u8 version, then fields in a fixed order; integers
 * are big-endian; a variable field is a u32 length and its bytes.  There is one
 * encoding of a value, and a reader refuses whatever is not that one: short
 * input, a length beyond the input, trailing bytes.  Writers and readers keep a
 * sticky failure, so a caller writes all fields and asks once.
 */
#ifndef APM_CORE_BYTES_H
#define APM_CORE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* What a core function can answer.  Anything but APM_OK leaves outputs unset. */
typedef enum ApmStatus
{
	APM_OK = 0,
	APM_ERR_MEMORY, /* allocation failed */
	APM_ERR_FORMAT, /* input is not the canonical encoding */
	APM_ERR_RANGE,	/* a size or a number is out of its bounds */
	APM_ERR_CRYPTO, /* OpenSSL or libxcrypt failed */
	APM_ERR_OPEN,	/* cannot be decrypted; deliberately one code */
	APM_ERR_VERIFY, /* a signature or a proof does not verify */
	APM_ERR_KEY,	/* no such key, or not a key of this kind */
	APM_ERR_MORE	/* a bounded search ended without a result */
} ApmStatus;

#define APM_DIGEST_LEN 32
#define APM_UUID_LEN 16
#define APM_KEY_ID_LEN 8 /* first 8 bytes of SHA-256 of the public key or of "apm key id" HMAC */

typedef struct ApmDigest
{
	uint8_t bytes[APM_DIGEST_LEN];
} ApmDigest;

typedef struct ApmUuid
{
	uint8_t bytes[APM_UUID_LEN];
} ApmUuid;

typedef struct ApmKeyId
{
	uint8_t bytes[APM_KEY_ID_LEN];
} ApmKeyId;

/* Borrowed bytes. */
typedef struct ApmSlice
{
	const uint8_t *data;
	size_t len;
} ApmSlice;

#define APM_SLICE(d, l) ((ApmSlice){(const uint8_t *) (d), (l)})

static inline bool
apm_slices_equal(ApmSlice a, ApmSlice b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

/* By bytes, a prefix before what it begins: less than 0, 0, more than 0. */
static inline int
apm_slices_compare(ApmSlice a, ApmSlice b)
{
	size_t shorter = a.len < b.len ? a.len : b.len;
	int order = shorter > 0 ? memcmp(a.data, b.data, shorter) : 0;

	return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

/*
 * Where core memory comes from.  malloc and free unless the embedding program
 * sets its own; an allocator answers NULL for "no memory" and never jumps.
 * A block asked for with secret = true is wiped before it is given back, by
 * the core's free path and, if the embedder frees by region, by the embedder.
 */
typedef struct ApmAllocator
{
	void *(*alloc)(size_t size, bool secret);
	void (*release)(void *ptr);
} ApmAllocator;

extern void apm_core_set_allocator(const ApmAllocator *allocator);
extern void *apm_core_alloc(size_t size, bool secret); /* zeroed */
extern void apm_core_free(void *ptr);
extern void apm_wipe(void *ptr, size_t len);					 /* OPENSSL_cleanse */
extern bool apm_equal(const void *a, const void *b, size_t len); /* constant time */
extern ApmStatus apm_random(void *out, size_t len);				 /* RAND_bytes */

/* A growing buffer.  Zero-initialize ({0}); secret buffers are wiped on growth and reset. */
typedef struct ApmBuf
{
	uint8_t *data;
	size_t len;
	size_t capacity;
	bool secret;
	bool failed; /* sticky: an allocation or a bound failed */
} ApmBuf;

extern void apm_buf_reset(ApmBuf *buf); /* frees; keeps the secret flag */
extern bool apm_buf_reserve(ApmBuf *buf, size_t extra);
extern ApmStatus apm_buf_status(const ApmBuf *buf);

extern void apm_put_u8(ApmBuf *buf, uint8_t v);
extern void apm_put_u16(ApmBuf *buf, uint16_t v);
extern void apm_put_u32(ApmBuf *buf, uint32_t v);
extern void apm_put_u64(ApmBuf *buf, uint64_t v);
extern void apm_put_raw(ApmBuf *buf, const void *data, size_t len);	  /* no length */
extern void apm_put_bytes(ApmBuf *buf, const void *data, size_t len); /* u32 length first */

typedef struct ApmReader
{
	const uint8_t *pos;
	const uint8_t *end;
	bool failed; /* sticky */
} ApmReader;

extern void apm_reader_init(ApmReader *r, ApmSlice input);
extern uint8_t apm_get_u8(ApmReader *r); /* 0 once failed */
extern uint16_t apm_get_u16(ApmReader *r);
extern uint32_t apm_get_u32(ApmReader *r);
extern uint64_t apm_get_u64(ApmReader *r);
extern void apm_get_raw(ApmReader *r, void *out, size_t len);
extern ApmSlice apm_get_bytes(ApmReader *r, size_t max); /* u32 length first; borrowed */
extern ApmSlice apm_get_slice(ApmReader *r, size_t len); /* borrowed */
extern void apm_expect_u8(ApmReader *r, uint8_t want);
extern bool apm_reader_done(const ApmReader *r); /* no failure and nothing left */

/* Text forms.  Outputs are NUL-terminated; sizes are without the NUL. */
extern size_t apm_base64_len(size_t len);
extern void apm_base64_encode(const void *data, size_t len, char *out);
extern ApmStatus apm_base64_decode(const char *text, size_t len, ApmBuf *out);			   /* strict */
extern void apm_base64url_encode(const void *data, size_t len, char *out, size_t *outlen); /* no padding */
extern ApmStatus apm_base64url_decode(const char *text, size_t len, ApmBuf *out);		   /* strict */
extern void apm_hex_encode(const void *data, size_t len, char *out);		 /* lower case, 2*len+1 */
extern ApmStatus apm_hex_decode(const char *text, size_t len, uint8_t *out); /* len/2 bytes */

/* UUID version 7 layout (RFC 9562, 5.7): 48 bits of ms, then the given 74 bits. */
extern void apm_uuid7(uint64_t unix_ms, const uint8_t random[10], ApmUuid *out);
extern ApmStatus apm_uuid7_random(uint64_t unix_ms, ApmUuid *out);
/* The next one in the order of their bytes, which is PostgreSQL's; false behind the last. */
extern bool apm_uuid_next(const ApmUuid *uuid, ApmUuid *out);

#endif /* APM_CORE_BYTES_H */
