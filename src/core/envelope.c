/*
 * envelope.c
 *	  Sealing and opening envelopes.
 *
 * A sealer keeps one content key and the bytes that are the same in all its envelopes
 * (protected header, recipients, wrapped keys), so a message costs a nonce and GCM.  It
 * takes the memory for them when it is made and none later, because it may outlive
 * whatever region its caller's allocations belong to by then.  The key is drawn anew after 65,536 messages, which keeps random nonces far from colliding,
 * after 10 minutes, when the clock went back, and in a forked child.
 *
 * An opener keeps the content keys that it unwrapped, in 256 sets of four chosen by the
 * SHA-256 over key id and wrapped key.  A key is kept only once it has opened a
 * message, so garbage drives nothing out.  The oldest of a full set is wiped.
 */
#include "envelope.h"

#include <string.h>
#include <unistd.h>

#include "digest.h"
#include "envelope_form.h"
#include "rsa.h"

#define CACHE_SETS 256
#define CACHE_WAYS 4
#define MAX_PRIVATE_KEYS 64
/* room for n recipients with keys of 8192 bits, whose wrapped keys are the longest part */
#define PREAMBLE_MAX(n) (16 + APM_PROTECTED_MAX + (n) * (APM_KEY_ID_LEN + 4 + 8192 / 8))

struct ApmSealer
{
	size_t count;
	ApmRsa *recipients[APM_MAX_RECIPIENTS];
	uint8_t content_key[APM_CONTENT_KEY_LEN];
	ApmBuf preamble; /* everything before the nonce; empty: no content key yet */
	ApmBuf aad;
	uint32_t messages;
	uint64_t born_us;
	pid_t process;
};

typedef struct CachedKey
{
	bool used;
	ApmDigest name; /* SHA-256(key id || wrapped key) */
	uint8_t content_key[APM_CONTENT_KEY_LEN];
} CachedKey;

struct ApmOpener
{
	size_t count;
	const ApmRsa *keys[MAX_PRIVATE_KEYS];
	uint8_t next_way[CACHE_SETS];
	CachedKey cache[CACHE_SETS][CACHE_WAYS];
};

void
apm_sealer_free(ApmSealer *s)
{
	if (s == NULL)
		return;
	for (size_t i = 0; i < s->count; i++)
		apm_rsa_free(s->recipients[i]);
	apm_buf_reset(&s->preamble);
	apm_buf_reset(&s->aad);
	apm_core_free(s);
}

/*
 * The recipients are not needed any longer when this returns.  One to
 * APM_MAX_RECIPIENTS of them, or APM_ERR_RANGE.
 */
ApmStatus
apm_sealer_new(const ApmRsa *const *recipients, size_t n, ApmSealer **out)
{
	ApmSealer *s;

	if (n < 1 || n > APM_MAX_RECIPIENTS)
		return APM_ERR_RANGE;
	s = apm_core_alloc(sizeof(ApmSealer), true);
	if (s == NULL)
		return APM_ERR_MEMORY;
	for (size_t i = 0; i < n; i++)
	{
		ApmStatus status = apm_rsa_share(recipients[i], &s->recipients[i]);

		if (status != APM_OK)
		{
			apm_sealer_free(s);
			return status;
		}
		s->count++;
	}
	if (!apm_buf_reserve(&s->preamble, PREAMBLE_MAX(n)) || !apm_buf_reserve(&s->aad, 2 * APM_PROTECTED_MAX))
	{
		apm_sealer_free(s);
		return APM_ERR_MEMORY;
	}
	*out = s;
	return APM_OK;
}

static bool
content_key_is_spent(const ApmSealer *s, uint64_t now_us)
{
	return s->preamble.len == 0 || s->messages >= APM_CONTENT_KEY_MESSAGES || now_us < s->born_us ||
		   now_us - s->born_us >= APM_CONTENT_KEY_MICROS || s->process != getpid();
}

/* Draws a content key and wraps it for everybody.  On failure there is none. */
static ApmStatus
renew_content_key(ApmSealer *s, uint64_t now_us)
{
	char header[APM_PROTECTED_MAX];
	ApmKeyId id;
	ApmStatus status;

	s->preamble.len = 0;
	s->aad.len = 0;
	status = apm_random(s->content_key, sizeof(s->content_key));

	apm_rsa_key_id(s->recipients[0], &id);
	apm_put_base64url(&s->aad, APM_SLICE(header, apm_protected_header((uint8_t) s->count, &id, header)));
	apm_envelope_put_head((uint8_t) s->count, &id, &s->preamble);
	for (size_t i = 0; i < s->count && status == APM_OK; i++)
	{
		ApmBuf wrapped = {0};

		apm_rsa_key_id(s->recipients[i], &id);
		status = apm_rsa_wrap(s->recipients[i], s->content_key, &wrapped);
		apm_put_raw(&s->preamble, id.bytes, APM_KEY_ID_LEN);
		apm_put_bytes(&s->preamble, wrapped.data, wrapped.len);
		apm_buf_reset(&wrapped);
	}
	if (status == APM_OK)
		status = apm_buf_status(&s->aad);
	if (status == APM_OK)
		status = apm_buf_status(&s->preamble);
	if (status != APM_OK)
		s->preamble.len = 0;
	s->messages = 0;
	s->born_us = now_us;
	s->process = getpid();
	return status;
}

/* APM_ERR_RANGE: longer than APM_TEXT_MAX.  On failure out is as before. */
ApmStatus
apm_sealer_seal(ApmSealer *s, ApmSlice plain, uint64_t now_us, ApmBuf *out)
{
	uint8_t nonce[APM_GCM_NONCE_LEN];
	size_t start = out->len;
	ApmStatus status = APM_OK;

	if (plain.len > APM_TEXT_MAX)
		return APM_ERR_RANGE;
	if (content_key_is_spent(s, now_us))
		status = renew_content_key(s, now_us);
	if (status == APM_OK)
		status = apm_random(nonce, sizeof(nonce));
	if (status != APM_OK)
		return status;
	if (!apm_buf_reserve(out, s->preamble.len + sizeof(nonce) + 4 + plain.len + APM_GCM_TAG_LEN))
		return APM_ERR_MEMORY;
	apm_put_raw(out, s->preamble.data, s->preamble.len);
	apm_put_raw(out, nonce, sizeof(nonce));
	apm_put_u32(out, (uint32_t) plain.len);
	status =
		apm_gcm_seal(s->content_key, nonce, (ApmSlice){s->aad.data, s->aad.len}, plain, out->data + out->len);
	if (status != APM_OK)
	{
		out->len = start;
		return status;
	}
	out->len += plain.len + APM_GCM_TAG_LEN;
	s->messages++;
	return APM_OK;
}

ApmStatus
apm_opener_new(ApmOpener **out)
{
	ApmOpener *o = apm_core_alloc(sizeof(ApmOpener), true);

	if (o == NULL)
		return APM_ERR_MEMORY;
	*out = o;
	return APM_OK;
}

/* APM_ERR_KEY: a public key.  APM_ERR_RANGE: more than 64 keys. */
ApmStatus
apm_opener_add(ApmOpener *o, const ApmRsa *private_key)
{
	if (!apm_rsa_is_private(private_key))
		return APM_ERR_KEY;
	if (o->count >= MAX_PRIVATE_KEYS)
		return APM_ERR_RANGE;
	o->keys[o->count++] = private_key;
	return APM_OK;
}

void
apm_opener_free(ApmOpener *o)
{
	apm_core_free(o);
}

/* The first recipient whose private key is here, or NULL. */
static const ApmRecipientPart *
find_recipient(const ApmOpener *o, const ApmEnvelopeParts *parts, const ApmRsa **key)
{
	for (uint8_t i = 0; i < parts->count; i++)
		for (size_t k = 0; k < o->count; k++)
		{
			ApmKeyId id;

			apm_rsa_key_id(o->keys[k], &id);
			if (memcmp(id.bytes, parts->recipients[i].key_id.bytes, APM_KEY_ID_LEN) == 0)
			{
				*key = o->keys[k];
				return &parts->recipients[i];
			}
		}
	return NULL;
}

static const CachedKey *
cache_find(const ApmOpener *o, const ApmDigest *name)
{
	const CachedKey *set = o->cache[name->bytes[0]];

	for (size_t way = 0; way < CACHE_WAYS; way++)
		if (set[way].used && memcmp(set[way].name.bytes, name->bytes, APM_DIGEST_LEN) == 0)
			return &set[way];
	return NULL;
}

static void
cache_keep(ApmOpener *o, const ApmDigest *name, const uint8_t content_key[APM_CONTENT_KEY_LEN])
{
	uint8_t set = name->bytes[0];
	CachedKey *slot = &o->cache[set][o->next_way[set]];

	o->next_way[set] = (uint8_t) ((o->next_way[set] + 1) % CACHE_WAYS);
	apm_wipe(slot, sizeof(*slot));
	slot->used = true;
	slot->name = *name;
	memcpy(slot->content_key, content_key, APM_CONTENT_KEY_LEN);
}

/* Opens the sealed part with a content key and appends it to out. */
static ApmStatus
open_sealed(const uint8_t content_key[APM_CONTENT_KEY_LEN], const ApmEnvelopeParts *parts, ApmBuf *out)
{
	char aad[2 * APM_PROTECTED_MAX];
	size_t aad_len;
	size_t len = parts->sealed.len - APM_GCM_TAG_LEN;

	if (!apm_buf_reserve(out, len))
		return APM_ERR_MEMORY;
	apm_base64url_encode(parts->header.data, parts->header.len, aad, &aad_len);
	if (apm_gcm_open(content_key, parts->nonce.data, APM_SLICE(aad, aad_len), parts->sealed,
					 out->data + out->len) != APM_OK)
		return APM_ERR_OPEN;
	out->len += len;
	return APM_OK;
}

/* APM_ERR_MEMORY apart.  On failure out is as before. */
ApmStatus
apm_opener_open(ApmOpener *o, ApmSlice envelope, ApmBuf *out)
{
	ApmEnvelopeParts parts;
	const ApmRecipientPart *recipient;
	const ApmRsa *key;
	const CachedKey *known;
	uint8_t content_key[APM_CONTENT_KEY_LEN];
	ApmDigest name;
	ApmSlice name_parts[2];
	ApmStatus status;

	if (apm_envelope_parse(envelope, &parts) != APM_OK)
		return APM_ERR_OPEN;
	recipient = find_recipient(o, &parts, &key);
	if (recipient == NULL)
		return APM_ERR_OPEN;
	name_parts[0] = (ApmSlice){recipient->key_id.bytes, APM_KEY_ID_LEN};
	name_parts[1] = recipient->wrapped;
	if (apm_sha256_parts(name_parts, 2, &name) != APM_OK)
		return APM_ERR_OPEN;

	known = cache_find(o, &name);
	if (known != NULL)
		return open_sealed(known->content_key, &parts, out);
	if (apm_rsa_unwrap(key, recipient->wrapped, content_key) != APM_OK)
		return APM_ERR_OPEN;
	status = open_sealed(content_key, &parts, out);
	if (status == APM_OK)
		cache_keep(o, &name, content_key);
	apm_wipe(content_key, sizeof(content_key));
	return status;
}
