/*
 * sample.h
 *	  Transactions to try things on: one good one of each kind, and a way to sign it.
 */
#ifndef APM_TEST_SAMPLE_H
#define APM_TEST_SAMPLE_H

#include "check.h"
#include "core/contract.h"
#include "core/field.h"
#include "core/item.h"

#define SAMPLE_TIME UINT64_C(1700000000123456)
#define SAMPLE_APID "$2b$12$abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0"

/* A digest that is n at every byte. */
static inline ApmDigest
sample_digest(uint8_t n)
{
	ApmDigest d;

	memset(&d, n, sizeof(d));
	return d;
}

static inline ApmUuid
sample_uuid(uint8_t n)
{
	ApmUuid u;

	memset(&u, n, sizeof(u));
	return u;
}

static inline ApmSlice
sample_text(const char *text)
{
	return APM_SLICE(text, strlen(text));
}

/* A key pair; ends the program when there is none. */
static inline ApmEcKey *
sample_key(void)
{
	ApmEcKey *key;

	if (apm_ec_generate(&key) != APM_OK)
	{
		fprintf(stderr, "no key can be made\n");
		exit(2);
	}
	return key;
}

/* Makes a contract transaction's fields of these items; they live as long as the test. */
static inline void
sample_items(const ApmItem *items, uint16_t count, ApmContractFields *out)
{
	static uint8_t store[1 << 20];
	static size_t used = 0;
	ApmBuf buf = {0};

	for (uint16_t i = 0; i < count; i++)
		CHECK_OK(apm_item_put(&items[i], &buf));
	if (used + buf.len > sizeof(store))
	{
		fprintf(stderr, "too many items in a test\n");
		exit(2);
	}
	memcpy(store + used, buf.data, buf.len);
	out->count = count;
	out->items = APM_SLICE(store + used, buf.len);
	used += buf.len;
	apm_buf_reset(&buf);
}

/* The role that the sample query's actor acts as, and the only one that the sample actors belong to. */
static const uint8_t sample_role[APM_STAFF_LEN] = {0x61, 0x61, 0x61, 0x61, 0x61, 0x61, 0x61, 0x61,
												   0x61, 0x61, 0x61, 0x61, 0x61, 0x61, 0x61, 0x61};

/* An erasure's voids, encoded; they live as long as the test. */
static inline void
sample_voids(const ApmVoid *voids, uint32_t count, ApmErasureFields *out)
{
	static uint8_t store[1 << 20];
	static size_t used = 0;
	uint8_t *at = store + used;

	if (used + (size_t) count * APM_VOID_LEN > sizeof(store))
	{
		fprintf(stderr, "too many voids in a test\n");
		exit(2);
	}
	out->count = count;
	out->voids = APM_SLICE(at, (size_t) count * APM_VOID_LEN);
	for (uint32_t i = 0; i < count; i++, at += APM_VOID_LEN)
	{
		memcpy(at, voids[i].leaf.bytes, APM_DIGEST_LEN);
		at[APM_DIGEST_LEN] = voids[i].kind;
		memcpy(at + APM_DIGEST_LEN + 1, voids[i].actor, APM_STAFF_LEN);
		memcpy(at + APM_DIGEST_LEN + 1 + APM_STAFF_LEN, voids[i].tid.bytes, APM_UUID_LEN);
	}
	used += (size_t) count * APM_VOID_LEN;
}

/* A good transaction of this kind on chain 0xc0..c0, from origin 0x0a..0a. */
static inline ApmTransaction
sample_transaction(ApmKind kind)
{
	static const ApmItem policies[] = {
		{.type = APM_ITEM_POLICY, .key = APM_POLICY_DIFFICULTY, .value = 8},
		{.type = APM_ITEM_POLICY, .key = APM_POLICY_ACCESS, .value = 1},
		{.type = APM_ITEM_POLICY, .key = APM_POLICY_PURPOSE, .value = 1},
	};
	static const ApmVoid voids[] = {{.leaf = {{1}}, .kind = APM_KIND_PATIENT, .actor = {7}, .tid = {{8}}},
									{.leaf = {{2}}, .kind = APM_KIND_PRIMARY, .actor = {9}, .tid = {{3}}}};
	ApmTransaction tx;

	memset(&tx, 0, sizeof(tx));
	tx.kind = kind;
	tx.chain = sample_digest(0xc0);
	tx.origin = sample_digest(0x0a);
	tx.time_us = SAMPLE_TIME;
	memset(tx.actor, 0x5a, sizeof(tx.actor));
	tx.roles = APM_ROLE_ADMIN | APM_ROLE_CLINICIAN;
	switch (kind)
	{
		case APM_KIND_PATIENT:
			tx.u.patient.apid = sample_text(SAMPLE_APID);
			tx.u.patient.version = 1;
			tx.u.patient.profile = sample_digest(0xf1);
			break;
		case APM_KIND_PRIMARY:
			tx.u.primary.rid = sample_uuid(0x11);
			tx.u.primary.apid = sample_text(SAMPLE_APID);
			tx.u.primary.record = sample_text("not really an encrypted record");
			break;
		case APM_KIND_QUERY:
			tx.u.query.scope = APM_SCOPE_RECORDS;
			tx.u.query.apid = sample_text(SAMPLE_APID);
			tx.u.query.purpose = 1;
			memcpy(tx.u.query.acting, sample_role, APM_STAFF_LEN);
			tx.u.query.groups = (ApmGroups){1, sample_role};
			break;
		case APM_KIND_CONSENT:
			tx.u.consent.action = APM_CONSENT_GRANT;
			tx.u.consent.apid = sample_text(SAMPLE_APID);
			memset(tx.u.consent.grantee, 0x71, APM_STAFF_LEN);
			tx.u.consent.groups = (ApmGroups){1, sample_role};
			break;
		case APM_KIND_ERASURE:
			tx.u.erasure.apid = sample_text(SAMPLE_APID);
			tx.u.erasure.reason = 6;
			sample_voids(voids, 2, &tx.u.erasure);
			break;
		case APM_KIND_EXPORT:
			memset(tx.u.export.study, 0x81, APM_STUDY_LEN);
			tx.u.export.release = 1;
			tx.u.export.parameters = sample_text("{}");
			tx.u.export.rows = 3;
			tx.u.export.digest = sample_digest(0xe1);
			break;
		case APM_KIND_CONTRACT:
			sample_items(policies, 3, &tx.u.contract);
			break;
		default:
			break;
	}
	return tx;
}

/* A membership transaction of this key, signed for by origin 0x0a..0a until that is changed. */
static inline ApmTransaction
sample_membership(ApmMember member, const ApmEcKey *key)
{
	ApmTransaction tx = sample_transaction(APM_KIND_MEMBERSHIP);

	tx.u.membership.member = (uint8_t) member;
	apm_ec_spki(key, tx.u.membership.spki);
	return tx;
}

/* One of the member's key, which that one endorses. */
static inline ApmTransaction
sample_succession(ApmMember member, const ApmEcKey *replaced, const ApmEcKey *key)
{
	ApmTransaction tx = sample_membership(member, key);
	ApmMembershipFields *f = &tx.u.membership;

	apm_ec_id(replaced, &f->replaces);
	CHECK_OK(apm_member_endorse(replaced, &tx.chain, f->member, f->spki, &f->endorsement));
	return tx;
}

/* A member whose first key this is. */
static inline ApmMemberState
sample_first_key(ApmMember member, const ApmEcKey *key)
{
	ApmMemberState m = {.member = (uint8_t) member};

	apm_ec_spki(key, m.spki);
	apm_ec_id(key, &m.home);
	return m;
}

/* Enters it into a state, as a block before did. */
static inline void
load_member(ApmContractState *s, ApmMember member, const ApmEcKey *key)
{
	ApmMemberState m = sample_first_key(member, key);

	CHECK_OK(apm_contract_load_member(s, &m));
}

/* Appends tx to out as a signed transaction, the first of size under one signature. */
static inline void
sample_sign_among(const ApmEcKey *key, const ApmTransaction *tx, uint32_t size, ApmBuf *out)
{
	ApmBuf body = {0};
	ApmBuf proof = {0};
	ApmOriginProof p;
	ApmSigned s;
	ApmDigest *leaves = calloc(size, sizeof(ApmDigest));
	ApmPath *paths = calloc(size, sizeof(ApmPath));
	ApmDigest root;

	memset(&p, 0, sizeof(p));
	CHECK_OK(apm_random(s.nonce, sizeof(s.nonce)));
	CHECK_OK(apm_transaction_encode(tx, &body));
	s.transaction = APM_SLICE(body.data, body.len);
	CHECK_OK(apm_transaction_leaf(s.nonce, s.transaction, &leaves[0]));
	CHECK_OK(apm_merkle_all_paths(leaves, size, paths, &root));
	CHECK_OK(apm_origin_sign(key, &root, size, &p.signature));
	p.size = size;
	p.path = paths[0];
	apm_origin_proof_encode(&p, &proof);
	s.proof = APM_SLICE(proof.data, proof.len);
	apm_signed_encode(&s, out);
	CHECK_OK(apm_buf_status(out));
	apm_buf_reset(&body);
	apm_buf_reset(&proof);
	free(leaves);
	free(paths);
}

/* Appends tx to out as a signed transaction that stands alone under its signature. */
static inline void
sample_sign(const ApmEcKey *key, const ApmTransaction *tx, ApmBuf *out)
{
	sample_sign_among(key, tx, 1, out);
}

#endif /* APM_TEST_SAMPLE_H */
