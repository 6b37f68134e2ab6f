/*
 * transaction.c
 *	  The transaction's one encoding, its leaf and Tid, and the origin's proof.
 *
 * What a node hashes must be what every other node hashes, so a transaction has exactly
 * one encoding.  Both directions ask the same question, fields_in_bounds(): a writer
 * cannot produce what a reader refuses, and a reader that has checked the bounds, the
 * lengths and the end of the input knows that writing the result again would give the
 * input back.  The fuzz targets assert that.
 *
 * Encoding: u8 'T', u8 version, u8 kind, chain, origin, u64 time, actor, u16 roles, then
 *
 *		patient		aPid, u32 version, old profile digest, profile digest
 *		primary		Rid, aPid, u8 flags, amended Rid or zeros, record
 *		query		aPid, u16 purpose
 *		membership	u8 member, SPKI
 *		contract	u16 count, then u16 key and u64 value, ascending by key
 *
 * Origin proof: u8 'O', u8 version, signature, u32 index, u32 size, path.  The number of
 * nodes of the path is not written: it follows from index and size.
 */
#include "transaction.h"

#include <string.h>

#include "digest.h"
#include "pseudonym.h"

#define TRANSACTION_TAG 'T'
#define PROOF_TAG 'O'
#define SIGNED_TAG 'A'
#define ENCODING_VERSION 1

#define ALL_ROLES                                                                                       \
	(APM_ROLE_ADMIN | APM_ROLE_REGISTRAR | APM_ROLE_CLINICIAN | APM_ROLE_SENSOR | APM_ROLE_RESEARCHER | \
	 APM_ROLE_AUDITOR)

/* A Tid holds the time as 48 bits of milliseconds (RFC 9562). */
#define TIME_MAX_US ((((uint64_t) 1 << 48) - 1) * 1000 + 999)

/* The largest transaction is a primary one: its record and, well within this, its other fields. */
#define TRANSACTION_MAX (APM_PRIMARY_MAX + 512u)
#define PROOF_FIXED_LEN (2 + APM_SIGNATURE_LEN + 4 + 4)
#define PROOF_MAX_LEN (PROOF_FIXED_LEN + 32 * APM_DIGEST_LEN)

/* Statements of which one verification is remembered. */
#define VERIFIED_ENTRIES 64

const char *
apm_kind_name(ApmKind kind)
{
	switch (kind)
	{
		case APM_KIND_PATIENT:
			return "patient";
		case APM_KIND_PRIMARY:
			return "primary";
		case APM_KIND_QUERY:
			return "query";
		case APM_KIND_CONSENT:
			return "consent";
		case APM_KIND_ERASURE:
			return "erasure";
		case APM_KIND_EXPORT:
			return "export";
		case APM_KIND_MEMBERSHIP:
			return "membership";
		case APM_KIND_CONTRACT:
			return "contract";
	}
	return NULL;
}

/* Both pseudonym modes write graphic ASCII, so nothing else is an aPid. */
static bool
apid_in_bounds(ApmSlice apid)
{
	if (apid.len < 1 || apid.len > APM_APID_MAX)
		return false;
	for (size_t i = 0; i < apid.len; i++)
	{
		if (apid.data[i] < 0x21 || apid.data[i] > 0x7e)
			return false;
	}
	return true;
}

static bool
primary_in_bounds(const ApmPrimaryFields *f)
{
	static const ApmUuid none;

	if (!apid_in_bounds(f->apid) || f->record.len < 1 || f->record.len > APM_PRIMARY_MAX)
		return false;
	if ((f->flags & ~APM_PRIMARY_AMENDS) != 0)
		return false;
	return (f->flags & APM_PRIMARY_AMENDS) != 0 || memcmp(&f->amends, &none, sizeof(none)) == 0;
}

static bool
contract_in_bounds(const ApmContractFields *f)
{
	if (f->count < 1 || f->count > APM_POLICY_MAX)
		return false;
	for (int i = 1; i < f->count; i++)
	{
		if (f->policies[i - 1].key >= f->policies[i].key)
			return false;
	}
	return true;
}

/*
 * Has every field a value that the encoding can carry in one way only?  What the values
 * mean together with the ledger is the contract's question (rules.c), not this one's.
 */
static bool
fields_in_bounds(const ApmTransaction *tx)
{
	if (tx->time_us > TIME_MAX_US || (tx->roles & ~ALL_ROLES) != 0)
		return false;

	switch (tx->kind)
	{
		case APM_KIND_PATIENT:
			return apid_in_bounds(tx->u.patient.apid) && tx->u.patient.version >= 1;
		case APM_KIND_PRIMARY:
			return primary_in_bounds(&tx->u.primary);
		case APM_KIND_QUERY:
			return apid_in_bounds(tx->u.query.apid);
		case APM_KIND_MEMBERSHIP:
			return tx->u.membership.member == APM_MEMBER_NODE || tx->u.membership.member == APM_MEMBER_ORIGIN;
		case APM_KIND_CONTRACT:
			return contract_in_bounds(&tx->u.contract);
		case APM_KIND_CONSENT:
		case APM_KIND_ERASURE:
		case APM_KIND_EXPORT:
			break; /* no template in this version */
	}
	return false;
}

static void
put_primary(const ApmPrimaryFields *f, ApmBuf *out)
{
	apm_put_raw(out, f->rid.bytes, APM_UUID_LEN);
	apm_put_bytes(out, f->apid.data, f->apid.len);
	apm_put_u8(out, f->flags);
	apm_put_raw(out, f->amends.bytes, APM_UUID_LEN);
	apm_put_bytes(out, f->record.data, f->record.len);
}

static void
put_fields(const ApmTransaction *tx, ApmBuf *out)
{
	switch (tx->kind)
	{
		case APM_KIND_PATIENT:
			apm_put_bytes(out, tx->u.patient.apid.data, tx->u.patient.apid.len);
			apm_put_u32(out, tx->u.patient.version);
			apm_put_raw(out, tx->u.patient.old_profile.bytes, APM_DIGEST_LEN);
			apm_put_raw(out, tx->u.patient.profile.bytes, APM_DIGEST_LEN);
			break;
		case APM_KIND_PRIMARY:
			put_primary(&tx->u.primary, out);
			break;
		case APM_KIND_QUERY:
			apm_put_bytes(out, tx->u.query.apid.data, tx->u.query.apid.len);
			apm_put_u16(out, tx->u.query.purpose);
			break;
		case APM_KIND_MEMBERSHIP:
			apm_put_u8(out, tx->u.membership.member);
			apm_put_raw(out, tx->u.membership.spki, APM_SPKI_LEN);
			break;
		case APM_KIND_CONTRACT:
			apm_put_u16(out, tx->u.contract.count);
			for (int i = 0; i < tx->u.contract.count; i++)
			{
				apm_put_u16(out, tx->u.contract.policies[i].key);
				apm_put_u64(out, tx->u.contract.policies[i].value);
			}
			break;
		case APM_KIND_CONSENT:
		case APM_KIND_ERASURE:
		case APM_KIND_EXPORT:
			out->failed = true; /* fields_in_bounds() lets none of these through */
			break;
	}
}

/* Appends to out.  APM_ERR_RANGE when a field is out of its bounds; out is then as it was. */
ApmStatus
apm_transaction_encode(const ApmTransaction *tx, ApmBuf *out)
{
	if (!fields_in_bounds(tx))
		return APM_ERR_RANGE;

	apm_put_u8(out, TRANSACTION_TAG);
	apm_put_u8(out, ENCODING_VERSION);
	apm_put_u8(out, (uint8_t) tx->kind);
	apm_put_raw(out, tx->chain.bytes, APM_DIGEST_LEN);
	apm_put_raw(out, tx->origin.bytes, APM_DIGEST_LEN);
	apm_put_u64(out, tx->time_us);
	apm_put_raw(out, tx->actor, APM_STAFF_LEN);
	apm_put_u16(out, tx->roles);
	put_fields(tx, out);
	return apm_buf_status(out);
}

static void
get_primary(ApmReader *r, ApmPrimaryFields *f)
{
	apm_get_raw(r, f->rid.bytes, APM_UUID_LEN);
	f->apid = apm_get_bytes(r, APM_APID_MAX);
	f->flags = apm_get_u8(r);
	apm_get_raw(r, f->amends.bytes, APM_UUID_LEN);
	f->record = apm_get_bytes(r, APM_PRIMARY_MAX);
}

static void
get_contract(ApmReader *r, ApmContractFields *f)
{
	f->count = apm_get_u16(r);
	if (f->count > APM_POLICY_MAX)
	{
		r->failed = true;
		f->count = 0;
	}
	for (int i = 0; i < f->count; i++)
	{
		f->policies[i].key = apm_get_u16(r);
		f->policies[i].value = apm_get_u64(r);
	}
}

static void
get_fields(ApmReader *r, ApmTransaction *tx)
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
			tx->u.query.apid = apm_get_bytes(r, APM_APID_MAX);
			tx->u.query.purpose = apm_get_u16(r);
			break;
		case APM_KIND_MEMBERSHIP:
			tx->u.membership.member = apm_get_u8(r);
			apm_get_raw(r, tx->u.membership.spki, APM_SPKI_LEN);
			break;
		case APM_KIND_CONTRACT:
			get_contract(r, &tx->u.contract);
			break;
		default:
			r->failed = true; /* a byte that names no kind with a template */
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
	get_fields(&r, &tx);
	if (!apm_reader_done(&r) || !fields_in_bounds(&tx))
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

/*
 * How many nodes a path for this index in a tree of this size has (RFC 9162, 2.1.3):
 * one for each level up to where the leaf's way and the last leaf's way join, and above
 * that one for each left sibling.
 */
static uint32_t
path_length(uint32_t index, uint32_t size)
{
	uint32_t differing = index ^ (size - 1);
	uint32_t inner = 0;

	while (inner < 32 && (differing >> inner) != 0)
		inner++;
	if (inner == 32)
		return inner;
	return inner + (uint32_t) __builtin_popcount(index >> inner);
}

/* A proof whose path does not fit its index and size makes the buffer fail. */
void
apm_origin_proof_encode(const ApmOriginProof *proof, ApmBuf *out)
{
	if (proof->index >= proof->size || proof->path.count != path_length(proof->index, proof->size))
	{
		out->failed = true;
		return;
	}
	apm_put_u8(out, PROOF_TAG);
	apm_put_u8(out, ENCODING_VERSION);
	apm_put_raw(out, proof->signature.bytes, APM_SIGNATURE_LEN);
	apm_put_u32(out, proof->index);
	apm_put_u32(out, proof->size);
	apm_put_raw(out, proof->path.nodes, proof->path.count * sizeof(ApmDigest));
}

ApmStatus
apm_origin_proof_decode(ApmSlice in, ApmOriginProof *out)
{
	ApmOriginProof proof;
	ApmReader r;

	memset(&proof, 0, sizeof(proof));
	apm_reader_init(&r, in);
	apm_expect_u8(&r, PROOF_TAG);
	apm_expect_u8(&r, ENCODING_VERSION);
	apm_get_raw(&r, proof.signature.bytes, APM_SIGNATURE_LEN);
	proof.index = apm_get_u32(&r);
	proof.size = apm_get_u32(&r);
	if (r.failed || proof.index >= proof.size)
		return APM_ERR_FORMAT;
	proof.path.count = path_length(proof.index, proof.size);
	apm_get_raw(&r, proof.path.nodes, proof.path.count * sizeof(ApmDigest));
	if (!apm_reader_done(&r))
		return APM_ERR_FORMAT;

	*out = proof;
	return APM_OK;
}

/*
 * What is signed for a statement: SHA-256("apm origin\0" || u32 size || root).  The size is in it,
 * because a path can lead to the same root in trees of several sizes.
 */
static ApmStatus
origin_message(const ApmDigest *root, uint32_t size, ApmDigest *out)
{
	static const char label[] = "apm origin";
	uint8_t number[4] = {size >> 24, size >> 16, size >> 8, size};
	ApmSlice parts[] = {APM_SLICE(label, sizeof(label)), APM_SLICE(number, sizeof(number)),
						APM_SLICE(root->bytes, APM_DIGEST_LEN)};

	return apm_sha256_parts(parts, 3, out);
}

ApmStatus
apm_origin_sign(const ApmEcKey *key, const ApmDigest *root, uint32_t size, ApmSignature *out)
{
	ApmDigest message;
	ApmStatus status = origin_message(root, size, &message);

	return status == APM_OK ? apm_sign(key, &message, out) : status;
}

/*
 * Signatures of the recent past that were good, as SHA-256(key id || message || signature).
 * Each digest has one place, so looking up costs one comparison; what is pushed out is
 * only verified again.  A failed verification leaves no trace here.
 */
typedef struct VerifiedSignature
{
	bool used;
	ApmDigest digest;
} VerifiedSignature;

static VerifiedSignature verified[VERIFIED_ENTRIES];

static ApmStatus
verify_message(const ApmEcKey *key, const ApmDigest *message, const ApmSignature *signature)
{
	ApmDigest id;
	ApmDigest digest;
	ApmSlice parts[] = {APM_SLICE(id.bytes, APM_DIGEST_LEN), APM_SLICE(message->bytes, APM_DIGEST_LEN),
						APM_SLICE(signature->bytes, APM_SIGNATURE_LEN)};
	VerifiedSignature *place;
	ApmStatus status;

	apm_ec_id(key, &id);
	status = apm_sha256_parts(parts, 3, &digest);
	if (status != APM_OK)
		return status;
	place = &verified[digest.bytes[0] % VERIFIED_ENTRIES];
	if (place->used && memcmp(&place->digest, &digest, sizeof(digest)) == 0)
		return APM_OK;

	status = apm_verify_signature(key, message, signature);
	if (status == APM_OK)
	{
		place->used = true;
		place->digest = digest;
	}
	return status;
}

ApmStatus
apm_origin_verify(const ApmEcKey *key, const ApmDigest *leaf, const ApmOriginProof *proof)
{
	ApmDigest root;
	ApmDigest message;
	ApmStatus status;

	status = apm_merkle_root_from_path(leaf, proof->index, proof->size, &proof->path, &root);
	if (status == APM_OK)
		status = origin_message(&root, proof->size, &message);
	return status == APM_OK ? verify_message(key, &message, &proof->signature) : status;
}

void
apm_signed_encode(const ApmSigned *s, ApmBuf *out)
{
	apm_put_u8(out, SIGNED_TAG);
	apm_put_u8(out, ENCODING_VERSION);
	apm_put_raw(out, s->nonce, APM_NONCE_LEN);
	apm_put_bytes(out, s->transaction.data, s->transaction.len);
	apm_put_bytes(out, s->proof.data, s->proof.len);
}

/* Slices in the result point into the input, and are not looked into. */
ApmStatus
apm_signed_decode(ApmSlice in, ApmSigned *out)
{
	ApmSigned s;
	ApmReader r;

	apm_reader_init(&r, in);
	apm_expect_u8(&r, SIGNED_TAG);
	apm_expect_u8(&r, ENCODING_VERSION);
	apm_get_raw(&r, s.nonce, APM_NONCE_LEN);
	s.transaction = apm_get_bytes(&r, TRANSACTION_MAX);
	s.proof = apm_get_bytes(&r, PROOF_MAX_LEN);
	if (!apm_reader_done(&r))
		return APM_ERR_FORMAT;

	*out = s;
	return APM_OK;
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
	for (int i = 0; i < 4; i++)
	{
		numbers[i] = (uint8_t) (version >> (24 - 8 * i));
		numbers[4 + i] = (uint8_t) (sealed_profile.len >> (24 - 8 * i));
	}
	return apm_merkle_leaf(parts, 3, out);
}
