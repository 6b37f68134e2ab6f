/*
 * sample.h
 *	  Transactions to try things on: one good one of each kind, and a way to sign it.
 */
#ifndef APM_TEST_SAMPLE_H
#define APM_TEST_SAMPLE_H

#include "check.h"
#include "core/contract.h"

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

/* A good transaction of this kind on chain 0xc0..c0, from origin 0x0a..0a. */
static inline ApmTransaction
sample_transaction(ApmKind kind)
{
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
			tx.u.query.apid = sample_text(SAMPLE_APID);
			tx.u.query.purpose = 1;
			break;
		case APM_KIND_CONTRACT:
			tx.u.contract.count = 3;
			tx.u.contract.policies[0] = (ApmPolicy){APM_POLICY_DIFFICULTY, 8};
			tx.u.contract.policies[1] = (ApmPolicy){APM_POLICY_ACCESS, 1};
			tx.u.contract.policies[2] = (ApmPolicy){APM_POLICY_PURPOSE, 1};
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

/* Appends tx to out as a signed transaction that stands alone under its signature. */
static inline void
sample_sign(const ApmEcKey *key, const ApmTransaction *tx, ApmBuf *out)
{
	ApmBuf body = {0};
	ApmBuf proof = {0};
	ApmOriginProof p;
	ApmSigned s;
	ApmDigest leaf;

	memset(&p, 0, sizeof(p));
	CHECK_OK(apm_random(s.nonce, sizeof(s.nonce)));
	CHECK_OK(apm_transaction_encode(tx, &body));
	s.transaction = APM_SLICE(body.data, body.len);
	CHECK_OK(apm_transaction_leaf(s.nonce, s.transaction, &leaf));
	CHECK_OK(apm_origin_sign(key, &leaf, 1, &p.signature));
	p.size = 1;
	apm_origin_proof_encode(&p, &proof);
	s.proof = APM_SLICE(proof.data, proof.len);
	apm_signed_encode(&s, out);
	CHECK_OK(apm_buf_status(out));
	apm_buf_reset(&body);
	apm_buf_reset(&proof);
}

#endif /* APM_TEST_SAMPLE_H */
