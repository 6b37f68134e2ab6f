/*
 * transaction.h
 *	  The opened form of a transaction: what is hashed, proved and replicated.  PT, QT
 *	  and FT are its sealed forms between hops (envelope.h).
 *
 * The origin draws a 32-byte nonce, so that
 *
 *		leaf = H(0x00 || nonce || transaction)
 *
 * is the same in whichever block it lands, reveals nothing once nonce and transaction
 * are pruned, and identifies it: the Tid is computed, not chosen.  It has the layout of a
 * UUID version 7 with the transaction's time in milliseconds and the first 74 bits of
 * the leaf.  Whoever fills the template again after a crash fills in the same Tid, and
 * nobody can pass one transaction off under two.
 *
 * The origin signs the root of the Merkle tree over the leaves of all transactions of
 * one statement; each carries its position and path, a lone one an empty path.
 */
#ifndef APM_CORE_TRANSACTION_H
#define APM_CORE_TRANSACTION_H

#include "bytes.h"
#include "merkle.h"
#include "signature.h"

typedef enum ApmKind
{
	APM_KIND_PATIENT = 1, /* registration or change of a profile */
	APM_KIND_PRIMARY = 2, /* a record */
	APM_KIND_QUERY = 3,	  /* a read asked for */
	APM_KIND_CONSENT = 4, /* 4 to 6 are kept for the kinds of design section 6 */
	APM_KIND_ERASURE = 5,
	APM_KIND_EXPORT = 6,
	APM_KIND_MEMBERSHIP = 7, /* nodes and origins */
	APM_KIND_CONTRACT = 8	 /* policies */
} ApmKind;

extern const char *apm_kind_name(ApmKind kind); /* "patient", ...; NULL if unknown */

/* The actor's apm roles, as the origin attests them. */
#define APM_ROLE_ADMIN 0x0001
#define APM_ROLE_REGISTRAR 0x0002
#define APM_ROLE_CLINICIAN 0x0004
#define APM_ROLE_SENSOR 0x0008
#define APM_ROLE_RESEARCHER 0x0010
#define APM_ROLE_AUDITOR 0x0020

#define APM_STAFF_LEN 16 /* a staff pseudonym */

typedef struct ApmPatientFields
{
	ApmSlice apid;		   /* 1 to APM_APID_MAX characters */
	uint32_t version;	   /* 1 at registration, then one more each time */
	ApmDigest old_profile; /* zeros at registration */
	ApmDigest profile;	   /* blinded digest of the profile, see apm_profile_digest */
} ApmPatientFields;

#define APM_PRIMARY_AMENDS 0x01
#define APM_PRIMARY_MAX (64u * 1024 * 1024)

typedef struct ApmPrimaryFields
{
	ApmUuid rid;
	ApmSlice apid;
	uint8_t flags;
	ApmUuid amends;	 /* with APM_PRIMARY_AMENDS, else zeros */
	ApmSlice record; /* the inner record, still encrypted */
} ApmPrimaryFields;

typedef struct ApmQueryFields
{
	ApmSlice apid;
	uint16_t purpose; /* code from the list on the chain, 0 for none */
} ApmQueryFields;

typedef enum ApmMember
{
	APM_MEMBER_NODE = 1,
	APM_MEMBER_ORIGIN = 2
} ApmMember;

typedef struct ApmMembershipFields
{
	uint8_t member; /* ApmMember */
	uint8_t spki[APM_SPKI_LEN];
} ApmMembershipFields;

/* Policies are (u16 key, u64 value) pairs in ascending order of key, no key twice. */
#define APM_POLICY_DIFFICULTY 1 /* bits */
#define APM_POLICY_ACCESS 2		/* 1 clinician, 2 consent */
#define APM_POLICY_PURPOSE 3	/* 1: a query must state a purpose */
#define APM_POLICY_MAX 64

typedef struct ApmPolicy
{
	uint16_t key;
	uint64_t value;
} ApmPolicy;

typedef struct ApmContractFields
{
	uint16_t count;
	ApmPolicy policies[APM_POLICY_MAX];
} ApmContractFields;

typedef struct ApmTransaction
{
	ApmKind kind;
	ApmDigest chain;  /* chain id */
	ApmDigest origin; /* id of the APM's signing key */
	uint64_t time_us; /* microseconds since 1970-01-01 UTC */
	uint8_t actor[APM_STAFF_LEN];
	uint16_t roles; /* APM_ROLE_* */
	union
	{
		ApmPatientFields patient;
		ApmPrimaryFields primary;
		ApmQueryFields query;
		ApmMembershipFields membership;
		ApmContractFields contract;
	} u;
} ApmTransaction;

extern ApmStatus apm_transaction_encode(const ApmTransaction *tx, ApmBuf *out);
/* Slices in the result point into the input. */
extern ApmStatus apm_transaction_decode(ApmSlice in, ApmTransaction *out);
/* the aPid a transaction is about; empty for kinds without one */
extern ApmSlice apm_transaction_apid(const ApmTransaction *tx);

#define APM_NONCE_LEN 32

extern ApmStatus apm_transaction_leaf(const uint8_t nonce[APM_NONCE_LEN], ApmSlice tx, ApmDigest *out);
extern void apm_transaction_tid(uint64_t time_us, const ApmDigest *leaf, ApmUuid *out);

/*
 * The origin's proof: signature over SHA-256("apm origin\0" || u32 size || root) where root is the
 * RFC 6962 root over the statement's leaves, which are so many.
 */
typedef struct ApmOriginProof
{
	ApmSignature signature;
	uint32_t index;
	uint32_t size; /* leaves under the signature */
	ApmPath path;
} ApmOriginProof;

extern void apm_origin_proof_encode(const ApmOriginProof *proof, ApmBuf *out);
extern ApmStatus apm_origin_proof_decode(ApmSlice in, ApmOriginProof *out);
extern ApmStatus apm_origin_sign(const ApmEcKey *key, const ApmDigest *root, uint32_t size,
								 ApmSignature *out);
/*
 * Verifies; remembers the last few (key, size, root, signature) that were good in a small
 * cache of the process, so that the records of one statement cost one verification.
 */
extern ApmStatus apm_origin_verify(const ApmEcKey *key, const ApmDigest *leaf, const ApmOriginProof *proof);

/*
 * A signed transaction (of kind primary: the paper's aPR): u8 tag 'A', u8 version 1,
 * 32-byte nonce, u32-length transaction, u32-length origin proof.
 */
typedef struct ApmSigned
{
	uint8_t nonce[APM_NONCE_LEN];
	ApmSlice transaction;
	ApmSlice proof; /* encoded ApmOriginProof */
} ApmSigned;

extern void apm_signed_encode(const ApmSigned *s, ApmBuf *out);
extern ApmStatus apm_signed_decode(ApmSlice in, ApmSigned *out);

/* H(0x00 || "apm profile" || u32 version || u32-length sealed profile): the sealed profile's own random nonce blinds it. */
extern ApmStatus apm_profile_digest(uint32_t version, ApmSlice sealed_profile, ApmDigest *out);

#endif /* APM_CORE_TRANSACTION_H */
