/*
 * transaction.c
 *	  The transaction's one encoding, its leaf and Tid, and digests of what it only names.
 *
 * What a node hashes must be what every other node hashes, so a transaction has exactly
 * one encoding.  Both directions ask the same question, apm_transaction_in_bounds(): a writer
 * cannot produce what a reader refuses, and a reader that has checked the bounds, the
 * lengths and the end of the input knows that writing the result again would give the
 * input back.  The fuzz targets assert that.
 *
 * A field that a scope or an action has no use for is zeros and in the encoding all the same: one
 * layout a kind, and nothing can be said in a place that nobody reads.
 *
 * Encoding: u8 'T', u8 version, u8 kind, chain, origin, u64 time, actor, u16 roles, public
 * fields (field.h) as u32-length bytes, then
 *
 *		patient		aPid, u32 version, old profile digest, profile digest
 *		primary		Rid, aPid, u8 flags, amended Rid or zeros, rule set, tokens, record
 *		query		u8 scope, aPid, u16 purpose, u16 reason, note digest, basis, tokens,
 *					acting role, groups
 *		consent		u8 action, aPid, grantee, u16 purpose, u64 until, reviewed Tid, u8 finding,
 *					groups
 *		erasure		aPid, u16 reason, u32 count of voids, voids: leaf, u8 kind, actor, Tid
 *		export		study, u32 release, parameters, u64 rows, digest
 *		membership	u8 member, SPKI, id of the key that it replaces, endorsement
 *		contract	u16 count, items (item.h) as u32-length bytes
 *
 * Tokens and groups: u8 count and that many times 16 bytes, ascending, none twice.
 */
#include "transaction.h"

#include <string.h>

#include "bounds.h"
#include "digest.h"
#include "item.h"
#include "pseudonym.h"

#define TRANSACTION_TAG 'T'
#define ENCODING_VERSION 1

#define PUBLIC_FIELDS_MAX 4096 /* bytes, more than APM_FIELDS_MAX of the longest */

/* Names by code; the code of the first is 1. */
static const char *const kind_names[] = {"patient", "primary", "query",		 "consent",
										 "erasure", "export",  "membership", "contract"};
static const char *const scope_names[] = {"records", "history",	  "search", "match",
										  "export",	 "emergency", "note"};
static const char *const consent_names[] = {"grant", "revoke", "review"};
static const char *const policy_names[] = {"difficulty", "access",	  "purpose",   "emergency",
										   "export",	 "fetch_cap", "query_rate"};

#define NAME_OF(names, code) name_of(names, sizeof(names) / sizeof(names[0]), code)

static const char *
name_of(const char *const *names, size_t n, unsigned int code)
{
	return code >= 1 && code <= n ? names[code - 1] : NULL;
}

const char *
apm_kind_name(ApmKind kind)
{
	return NAME_OF(kind_names, (unsigned int) kind);
}

const char *
apm_scope_name(uint8_t scope)
{
	return NAME_OF(scope_names, scope);
}

const char *
apm_consent_name(uint8_t action)
{
	return NAME_OF(consent_names, action);
}

const char *
apm_policy_name(uint16_t key)
{
	return NAME_OF(policy_names, key);
}

uint16_t
apm_policy_code(const char *name)
{
	for (uint16_t key = 1; apm_policy_name(key) != NULL; key++)
	{
		if (strcmp(apm_policy_name(key), name) == 0)
			return key;
	}
	return 0;
}

void
apm_void_put(ApmBuf *out, const ApmVoid *voided)
{
	apm_put_raw(out, voided->leaf.bytes, APM_DIGEST_LEN);
	apm_put_u8(out, voided->kind);
	apm_put_raw(out, voided->actor, APM_STAFF_LEN);
	apm_put_raw(out, voided->tid.bytes, APM_UUID_LEN);
}

void
apm_erasure_void(const ApmErasureFields *fields, uint32_t i, ApmVoid *out)
{
	const uint8_t *at = fields->voids.data + (size_t) i * APM_VOID_LEN;

	memcpy(out->leaf.bytes, at, APM_DIGEST_LEN);
	out->kind = at[APM_DIGEST_LEN];
	memcpy(out->actor, at + APM_DIGEST_LEN + 1, APM_STAFF_LEN);
	memcpy(out->tid.bytes, at + APM_DIGEST_LEN + 1 + APM_STAFF_LEN, APM_UUID_LEN);
}

bool
apm_erasure_find(const ApmErasureFields *fields, const ApmDigest *leaf, uint32_t *i)
{
	uint32_t low = 0;
	uint32_t high = fields->count;

	while (low < high)
	{
		uint32_t middle = low + (high - low) / 2;
		int order = memcmp(fields->voids.data + (size_t) middle * APM_VOID_LEN, leaf->bytes, APM_DIGEST_LEN);

		if (order == 0)
		{
			*i = middle;
			return true;
		}
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return false;
}

bool
apm_groups_have(const ApmGroups *groups, const uint8_t id[APM_STAFF_LEN])
{
	for (int i = 0; i < groups->count; i++)
	{
		if (memcmp(groups->ids + i * APM_STAFF_LEN, id, APM_STAFF_LEN) == 0)
			return true;
	}
	return false;
}

static void
put_slice(ApmBuf *out, ApmSlice slice)
{
	apm_put_bytes(out, slice.data, slice.len);
}

static void
put_ids(ApmBuf *out, const uint8_t *ids, uint8_t count, size_t len)
{
	apm_put_u8(out, count);
	apm_put_raw(out, ids, count * len);
}

static void
put_primary(const ApmPrimaryFields *f, ApmBuf *out)
{
	apm_put_raw(out, f->rid.bytes, APM_UUID_LEN);
	put_slice(out, f->apid);
	apm_put_u8(out, f->flags);
	apm_put_raw(out, f->amends.bytes, APM_UUID_LEN);
	apm_put_raw(out, f->ruleset.bytes, APM_DIGEST_LEN);
	put_ids(out, f->tokens.bytes, f->tokens.count, APM_TOKEN_LEN);
	put_slice(out, f->record);
}

static void
put_query(const ApmQueryFields *f, ApmBuf *out)
{
	apm_put_u8(out, f->scope);
	put_slice(out, f->apid);
	apm_put_u16(out, f->purpose);
	apm_put_u16(out, f->reason);
	apm_put_raw(out, f->note.bytes, APM_DIGEST_LEN);
	apm_put_raw(out, f->basis, APM_UUID_LEN);
	put_ids(out, f->tokens.bytes, f->tokens.count, APM_TOKEN_LEN);
	apm_put_raw(out, f->acting, APM_STAFF_LEN);
	put_ids(out, f->groups.ids, f->groups.count, APM_STAFF_LEN);
}

static void
put_consent(const ApmConsentFields *f, ApmBuf *out)
{
	apm_put_u8(out, f->action);
	put_slice(out, f->apid);
	apm_put_raw(out, f->grantee, APM_STAFF_LEN);
	apm_put_u16(out, f->purpose);
	apm_put_u64(out, f->until_us);
	apm_put_raw(out, f->reviewed.bytes, APM_UUID_LEN);
	apm_put_u8(out, f->finding);
	put_ids(out, f->groups.ids, f->groups.count, APM_STAFF_LEN);
}

static void
put_erasure(const ApmErasureFields *f, ApmBuf *out)
{
	put_slice(out, f->apid);
	apm_put_u16(out, f->reason);
	apm_put_u32(out, f->count);
	apm_put_raw(out, f->voids.data, f->voids.len);
}

static void
put_export(const ApmExportFields *f, ApmBuf *out)
{
	apm_put_raw(out, f->study, APM_STUDY_LEN);
	apm_put_u32(out, f->release);
	put_slice(out, f->parameters);
	apm_put_u64(out, f->rows);
	apm_put_raw(out, f->digest.bytes, APM_DIGEST_LEN);
}

static void
put_kind(const ApmTransaction *tx, ApmBuf *out)
{
	switch (tx->kind)
	{
		case APM_KIND_PATIENT:
			put_slice(out, tx->u.patient.apid);
			apm_put_u32(out, tx->u.patient.version);
			apm_put_raw(out, tx->u.patient.old_profile.bytes, APM_DIGEST_LEN);
			apm_put_raw(out, tx->u.patient.profile.bytes, APM_DIGEST_LEN);
			break;
		case APM_KIND_PRIMARY:
			put_primary(&tx->u.primary, out);
			break;
		case APM_KIND_QUERY:
			put_query(&tx->u.query, out);
			break;
		case APM_KIND_CONSENT:
			put_consent(&tx->u.consent, out);
			break;
		case APM_KIND_ERASURE:
			put_erasure(&tx->u.erasure, out);
			break;
		case APM_KIND_EXPORT:
			put_export(&tx->u.export, out);
			break;
		case APM_KIND_MEMBERSHIP:
			apm_put_u8(out, tx->u.membership.member);
			apm_put_raw(out, tx->u.membership.spki, APM_SPKI_LEN);
			apm_put_raw(out, tx->u.membership.replaces.bytes, APM_DIGEST_LEN);
			apm_put_raw(out, tx->u.membership.endorsement.bytes, APM_SIGNATURE_LEN);
			break;
		case APM_KIND_CONTRACT:
			apm_put_u16(out, tx->u.contract.count);
			put_slice(out, tx->u.contract.items);
			break;
	}
}

/* Appends to out.  APM_ERR_RANGE when a field is out of its bounds; out is then as it was. */
ApmStatus
apm_transaction_encode(const ApmTransaction *tx, ApmBuf *out)
{
	if (!apm_transaction_in_bounds(tx))
		return APM_ERR_RANGE;

	apm_put_u8(out, TRANSACTION_TAG);
	apm_put_u8(out, ENCODING_VERSION);
	apm_put_u8(out, (uint8_t) tx->kind);
	apm_put_raw(out, tx->chain.bytes, APM_DIGEST_LEN);
	apm_put_raw(out, tx->origin.bytes, APM_DIGEST_LEN);
	apm_put_u64(out, tx->time_us);
	apm_put_raw(out, tx->actor, APM_STAFF_LEN);
	apm_put_u16(out, tx->roles);
	put_slice(out, tx->fields);
	put_kind(tx, out);
	return apm_buf_status(out);
}

static const uint8_t *
get_ids(ApmReader *r, uint8_t *count, size_t len)
{
	*count = apm_get_u8(r);
	return apm_get_slice(r, *count * len).data;
}

static void
get_primary(ApmReader *r, ApmPrimaryFields *f)
{
	apm_get_raw(r, f->rid.bytes, APM_UUID_LEN);
	f->apid = apm_get_bytes(r, APM_APID_MAX);
	f->flags = apm_get_u8(r);
	apm_get_raw(r, f->amends.bytes, APM_UUID_LEN);
	apm_get_raw(r, f->ruleset.bytes, APM_DIGEST_LEN);
	f->tokens.bytes = get_ids(r, &f->tokens.count, APM_TOKEN_LEN);
	f->record = apm_get_bytes(r, APM_PRIMARY_MAX);
}

static void
get_query(ApmReader *r, ApmQueryFields *f)
{
	f->scope = apm_get_u8(r);
	f->apid = apm_get_bytes(r, APM_APID_MAX);
	f->purpose = apm_get_u16(r);
	f->reason = apm_get_u16(r);
	apm_get_raw(r, f->note.bytes, APM_DIGEST_LEN);
	apm_get_raw(r, f->basis, APM_UUID_LEN);
	f->tokens.bytes = get_ids(r, &f->tokens.count, APM_TOKEN_LEN);
	apm_get_raw(r, f->acting, APM_STAFF_LEN);
	f->groups.ids = get_ids(r, &f->groups.count, APM_STAFF_LEN);
}

static void
get_consent(ApmReader *r, ApmConsentFields *f)
{
	f->action = apm_get_u8(r);
	f->apid = apm_get_bytes(r, APM_APID_MAX);
	apm_get_raw(r, f->grantee, APM_STAFF_LEN);
	f->purpose = apm_get_u16(r);
	f->until_us = apm_get_u64(r);
	apm_get_raw(r, f->reviewed.bytes, APM_UUID_LEN);
	f->finding = apm_get_u8(r);
	f->groups.ids = get_ids(r, &f->groups.count, APM_STAFF_LEN);
}

static void
get_erasure(ApmReader *r, ApmErasureFields *f)
{
	f->apid = apm_get_bytes(r, APM_APID_MAX);
	f->reason = apm_get_u16(r);
	f->count = apm_get_u32(r);
	if (f->count > APM_VOIDS_MAX)
		r->failed = true;
	f->voids = apm_get_slice(r, (size_t) f->count * APM_VOID_LEN);
}

static void
get_export(ApmReader *r, ApmExportFields *f)
{
	apm_get_raw(r, f->study, APM_STUDY_LEN);
	f->release = apm_get_u32(r);
	f->parameters = apm_get_bytes(r, APM_PARAMETERS_MAX);
	f->rows = apm_get_u64(r);
	apm_get_raw(r, f->digest.bytes, APM_DIGEST_LEN);
}

static void
get_kind(ApmReader *r, ApmTransaction *tx)
{
	switch (tx->kind)
	{
		case APM_KIND_PATIENT:
			tx->u.patient.apid = apm_get_bytes(r, APM_APID_MAX);
			tx->u.patient.version = apm_get_u32(r);
			apm_get_raw(r, tx->u.patient.old_profile.bytes, APM_DIGEST_LEN);
			apm_get_raw(r, tx->u.patient.profile.bytes, APM_DIGEST_LEN);
			break;
		case APM_KIND_PRIMARY:
			get_primary(r, &tx->u.primary);
			break;
		case APM_KIND_QUERY:
			get_query(r, &tx->u.query);
			break;
		case APM_KIND_CONSENT:
			get_consent(r, &tx->u.consent);
			break;
		case APM_KIND_ERASURE:
			get_erasure(r, &tx->u.erasure);
			break;
		case APM_KIND_EXPORT:
			get_export(r, &tx->u.export);
			break;
		case APM_KIND_MEMBERSHIP:
			tx->u.membership.member = apm_get_u8(r);
			apm_get_raw(r, tx->u.membership.spki, APM_SPKI_LEN);
			apm_get_raw(r, tx->u.membership.replaces.bytes, APM_DIGEST_LEN);
			apm_get_raw(r, tx->u.membership.endorsement.bytes, APM_SIGNATURE_LEN);
			break;
		case APM_KIND_CONTRACT:
			tx->u.contract.count = apm_get_u16(r);
			tx->u.contract.items = apm_get_bytes(r, APM_ITEMS_BYTES);
			break;
		default:
			r->failed = true; /* a byte that names no kind */
			break;
	}
}

ApmStatus
apm_transaction_decode(ApmSlice in, ApmTransaction *out)
{
	ApmTransaction tx;
	ApmReader r;

	memset(&tx, 0, sizeof(tx));
	apm_reader_init(&r, in);
	apm_expect_u8(&r, TRANSACTION_TAG);
	apm_expect_u8(&r, ENCODING_VERSION);
	tx.kind = (ApmKind) apm_get_u8(&r);
	apm_get_raw(&r, tx.chain.bytes, APM_DIGEST_LEN);
	apm_get_raw(&r, tx.origin.bytes, APM_DIGEST_LEN);
	tx.time_us = apm_get_u64(&r);
	apm_get_raw(&r, tx.actor, APM_STAFF_LEN);
	tx.roles = apm_get_u16(&r);
	tx.fields = apm_get_bytes(&r, PUBLIC_FIELDS_MAX);
	get_kind(&r, &tx);
	if (!apm_reader_done(&r) || !apm_transaction_in_bounds(&tx))
		return APM_ERR_FORMAT;

	*out = tx;
	return APM_OK;
}

ApmSlice
apm_transaction_apid(const ApmTransaction *tx)
{
	switch (tx->kind)
	{
		case APM_KIND_PATIENT:
			return tx->u.patient.apid;
		case APM_KIND_PRIMARY:
			return tx->u.primary.apid;
		case APM_KIND_QUERY:
			return tx->u.query.apid;
		case APM_KIND_CONSENT:
			return tx->u.consent.apid;
		case APM_KIND_ERASURE:
			return tx->u.erasure.apid;
		default:
			return APM_SLICE(NULL, 0);
	}
}

ApmStatus
apm_transaction_leaf(const uint8_t nonce[APM_NONCE_LEN], ApmSlice tx, ApmDigest *out)
{
	ApmSlice parts[] = {APM_SLICE(nonce, APM_NONCE_LEN), tx};

	return apm_merkle_leaf(parts, 2, out);
}

void
apm_transaction_tid(uint64_t time_us, const ApmDigest *leaf, ApmUuid *out)
{
	apm_uuid7(time_us / 1000, leaf->bytes, out);
}

static void
big_endian(uint32_t v, uint8_t out[4])
{
	for (int i = 0; i < 4; i++)
		out[i] = (uint8_t) (v >> (24 - 8 * i));
}

ApmStatus
apm_note_digest(ApmSlice sealed_note, ApmDigest *out)
{
	static const char label[] = "apm note";
	uint8_t len[4];
	ApmSlice parts[] = {APM_SLICE(label, sizeof(label) - 1), APM_SLICE(len, sizeof(len)), sealed_note};

	if (sealed_note.len > UINT32_MAX)
		return APM_ERR_RANGE;
	big_endian((uint32_t) sealed_note.len, len);
	return apm_merkle_leaf(parts, 3, out);
}

ApmStatus
apm_profile_digest(uint32_t version, ApmSlice sealed_profile, ApmDigest *out)
{
	static const char label[] = "apm profile";
	uint8_t numbers[8];
	ApmSlice parts[] = {APM_SLICE(label, sizeof(label) - 1), APM_SLICE(numbers, sizeof(numbers)),
						sealed_profile};

	if (sealed_profile.len > UINT32_MAX)
		return APM_ERR_RANGE;
	big_endian(version, numbers);
	big_endian((uint32_t) sealed_profile.len, numbers + 4);
	return apm_merkle_leaf(parts, 3, out);
}
