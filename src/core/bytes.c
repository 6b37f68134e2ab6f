/*
 * bytes.c
 *	  Memory, buffers, and the writers and readers of the canonical encoding.
 *
 * Every block of core memory is preceded by its size and whether it is secret, so that
 * apm_core_free() can wipe it whoever allocated it and whatever hooks are set by then.
 * Nothing here jumps: a failure is kept in the buffer or the reader and asked for once.
 */
#include "bytes.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/rand.h>

/* Stands before each block; as large as the strictest alignment, so that what follows stays aligned. */
typedef union BlockHead
{
	struct
	{
		size_t size;
		bool secret;
		void (*release)(void *ptr);
	} info;
	max_align_t aligned;
} BlockHead;

#define BUF_FIRST_CAPACITY 64

static const ApmAllocator *hooks = NULL;

/* What an empty slice points to, so that no caller hands NULL to memcpy or to pointer arithmetic. */
static const uint8_t nothing[1] = {0};

/*
 * Sets where core memory comes from; NULL means malloc and free again.  The structure must
 * outlive its use.  Blocks go back to the allocator that they came from.
 */
void
apm_core_set_allocator(const ApmAllocator *allocator)
{
	hooks = allocator;
}

static void *
allocate(size_t size, bool secret)
{
	BlockHead *head;
	size_t total = size + sizeof(BlockHead);

	if (total < size)
		return NULL;
	head = hooks != NULL ? hooks->alloc(total, secret) : malloc(total);
	if (head == NULL)
		return NULL;
	head->info.size = size;
	head->info.secret = secret;
	head->info.release = hooks != NULL ? hooks->release : free;
	return head + 1;
}

/* Zeroed memory, or NULL. */
void *
apm_core_alloc(size_t size, bool secret)
{
	void *block = allocate(size, secret);

	if (block != NULL)
		memset(block, 0, size);
	return block;
}

/* NULL is allowed. */
void
apm_core_free(void *ptr)
{
	BlockHead *head;

	if (ptr == NULL)
		return;
	head = (BlockHead *) ptr - 1;
	if (head->info.secret)
		OPENSSL_cleanse(ptr, head->info.size);
	head->info.release(head);
}

void
apm_wipe(void *ptr, size_t len)
{
	if (len > 0)
		OPENSSL_cleanse(ptr, len);
}

bool
apm_equal(const void *a, const void *b, size_t len)
{
	return len == 0 || CRYPTO_memcmp(a, b, len) == 0;
}

ApmStatus
apm_random(void *out, size_t len)
{
	uint8_t *at = out;

	while (len > 0)
	{
		int step = len > (1 << 20) ? (1 << 20) : (int) len;

		if (RAND_bytes(at, step) != 1)
		{
			ERR_clear_error();
			return APM_ERR_CRYPTO;
		}
		at += step;
		len -= (size_t) step;
	}
	return APM_OK;
}

/* Frees what the buffer holds and forgets a failure; the buffer can be used again. */
void
apm_buf_reset(ApmBuf *buf)
{
	/* the flag may have been set after the first bytes were written */
	if (buf->secret && buf->data != NULL)
		apm_wipe(buf->data, buf->capacity);
	apm_core_free(buf->data);
	buf->data = NULL;
	buf->len = 0;
	buf->capacity = 0;
	buf->failed = false;
}

/* Makes room for extra more bytes.  False, and the buffer failed for good, when there is none. */
bool
apm_buf_reserve(ApmBuf *buf, size_t extra)
{
	size_t need = buf->len + extra;
	size_t capacity;
	uint8_t *data;

	if (buf->failed)
		return false;
	if (need < extra || need > SIZE_MAX / 4)
	{
		buf->failed = true;
		return false;
	}
	if (buf->data != NULL && need <= buf->capacity)
		return true;

	capacity = buf->capacity < BUF_FIRST_CAPACITY / 2 ? BUF_FIRST_CAPACITY : 2 * buf->capacity;
	if (capacity < need)
		capacity = need;
	data = allocate(capacity, buf->secret);
	if (data == NULL && capacity > need)
	{
		/* an allocator's limit may lie between what is needed and its double */
		capacity = need;
		data = allocate(capacity, buf->secret);
	}
	if (data == NULL)
	{
		buf->failed = true;
		return false;
	}
	if (buf->len > 0)
		memcpy(data, buf->data, buf->len);
	if (buf->secret && buf->data != NULL)
		apm_wipe(buf->data, buf->capacity);
	apm_core_free(buf->data);
	buf->data = data;
	buf->capacity = capacity;
	return true;
}

/* APM_OK if everything put so far is in the buffer. */
ApmStatus
apm_buf_status(const ApmBuf *buf)
{
	return buf->failed ? APM_ERR_MEMORY : APM_OK;
}

/* Appends len bytes, which must not lie in the buffer itself. */
void
apm_put_raw(ApmBuf *buf, const void *data, size_t len)
{
	if (len == 0 || !apm_buf_reserve(buf, len))
		return;
	memcpy(buf->data + buf->len, data, len);
	buf->len += len;
}

static void
put_integer(ApmBuf *buf, uint64_t v, size_t width)
{
	uint8_t bytes[8];

	for (size_t i = 0; i < width; i++)
		bytes[i] = (uint8_t) (v >> (8 * (width - 1 - i)));
	apm_put_raw(buf, bytes, width);
}

void
apm_put_u8(ApmBuf *buf, uint8_t v)
{
	put_integer(buf, v, 1);
}

void
apm_put_u16(ApmBuf *buf, uint16_t v)
{
	put_integer(buf, v, 2);
}

void
apm_put_u32(ApmBuf *buf, uint32_t v)
{
	put_integer(buf, v, 4);
}

void
apm_put_u64(ApmBuf *buf, uint64_t v)
{
	put_integer(buf, v, 8);
}

/* A length and its bytes; more than 2^32-1 of them make the buffer fail. */
void
apm_put_bytes(ApmBuf *buf, const void *data, size_t len)
{
	if (len > UINT32_MAX)
	{
		buf->failed = true;
		return;
	}
	apm_put_u32(buf, (uint32_t) len);
	apm_put_raw(buf, data, len);
}

/* The input is borrowed: it must outlive the reader and the slices got from it. */
void
apm_reader_init(ApmReader *r, ApmSlice input)
{
	r->pos = input.data != NULL ? input.data : nothing;
	r->end = input.data != NULL ? input.data + input.len : nothing;
	r->failed = input.data == NULL && input.len > 0;
}

/* The next len bytes, or an empty slice and a failed reader. */
ApmSlice
apm_get_slice(ApmReader *r, size_t len)
{
	ApmSlice got = {nothing, 0};

	if (r->failed || len > (size_t) (r->end - r->pos))
	{
		r->failed = true;
		return got;
	}
	got.data = r->pos;
	got.len = len;
	r->pos += len;
	return got;
}

static uint64_t
get_integer(ApmReader *r, size_t width)
{
	ApmSlice bytes = apm_get_slice(r, width);
	uint64_t v = 0;

	for (size_t i = 0; i < bytes.len; i++)
		v = v << 8 | bytes.data[i];
	return v;
}

uint8_t
apm_get_u8(ApmReader *r)
{
	return (uint8_t) get_integer(r, 1);
}

uint16_t
apm_get_u16(ApmReader *r)
{
	return (uint16_t) get_integer(r, 2);
}

uint32_t
apm_get_u32(ApmReader *r)
{
	return (uint32_t) get_integer(r, 4);
}

uint64_t
apm_get_u64(ApmReader *r)
{
	return get_integer(r, 8);
}

/* Copies len bytes; zeros once the reader has failed. */
void
apm_get_raw(ApmReader *r, void *out, size_t len)
{
	ApmSlice bytes = apm_get_slice(r, len);

	if (bytes.len == len)
	{
		if (len > 0)
			memcpy(out, bytes.data, len);
	}
	else
		memset(out, 0, len);
}

/* A length of at most max and its bytes. */
ApmSlice
apm_get_bytes(ApmReader *r, size_t max)
{
	uint32_t len = apm_get_u32(r);

	if (len > max)
		r->failed = true;
	return apm_get_slice(r, len);
}

void
apm_expect_u8(ApmReader *r, uint8_t want)
{
	if (apm_get_u8(r) != want)
		r->failed = true;
}

bool
apm_reader_done(const ApmReader *r)
{
	return !r->failed && r->pos == r->end;
}
