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
	APM_KIND_PATIENT = 1,	 /* registration or change of a profile */
	APM_KIND_PRIMARY = 2,	 /* a record */
	APM_KIND_QUERY = 3,		 /* a read asked for */
	APM_KIND_CONSENT = 4,	 /* a grant, a revocation, the review of an emergency */
	APM_KIND_ERASURE = 5,	 /* of a patient: names the leaves that it voids */
	APM_KIND_EXPORT = 6,	 /* a dataset that was released */
	APM_KIND_MEMBERSHIP = 7, /* nodes and origins */
	APM_KIND_CONTRACT = 8	 /* policies, purposes, reasons, templates, rules */
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

/*
 * Roles of the origin's server that somebody belongs to, as the origin attests: staff
 * pseudonyms of APM_STAFF_LEN bytes each, ascending, none twice.
 */
#define APM_GROUPS_MAX 255

typedef struct ApmGroups
{
	uint8_t count;
	const uint8_t *ids; /* borrowed */
} ApmGroups;

/* Is id among them? */
extern bool apm_groups_have(const ApmGroups *groups, const uint8_t id[APM_STAFF_LEN]);

/* Blind tokens of searchable values, ascending, none twice. */
#define APM_TOKEN_LEN 16
#define APM_TOKENS_MAX 64

typedef struct ApmTokens
{
	uint8_t count;
	const uint8_t *bytes; /* borrowed */
} ApmTokens;

#define APM_PRIMARY_AMENDS 0x01
#define APM_PRIMARY_FLAGGED 0x02 /* violates a data rule that lets it pass */
#define APM_PRIMARY_LATE 0x04	 /* recorded later than it was observed: not held to earlier records */
#define APM_PRIMARY_MAX (64u * 1024 * 1024)

typedef struct ApmPrimaryFields
{
	ApmUuid rid;
	ApmSlice apid;
	uint8_t flags;
	ApmUuid amends; /* with APM_PRIMARY_AMENDS, else zeros */
	ApmDigest
		ruleset; /* of the data rules that it was held to (apm_contract_ruleset); zeros: none in force */
	ApmTokens tokens;
	ApmSlice record; /* the inner record, still encrypted */
} ApmPrimaryFields;

/* What a query asks for. */
typedef enum ApmScope
{
	APM_SCOPE_RECORDS = 1,	 /* a patient's records */
	APM_SCOPE_HISTORY = 2,	 /* who accessed a patient's records */
	APM_SCOPE_SEARCH = 3,	 /* which records have these tokens: no patient */
	APM_SCOPE_MATCH = 4,	 /* a patient's records among those of a search */
	APM_SCOPE_EXPORT = 5,	 /* a patient's part of a dataset */
	APM_SCOPE_EMERGENCY = 6, /* a patient's records, without being allowed to */
	APM_SCOPE_NOTE = 7		 /* the note of an emergency */
} ApmScope;

extern const char *apm_scope_name(uint8_t scope); /* "records", ...; NULL if unknown */

#define APM_SEARCH_TOKENS_MAX 16

typedef struct ApmQueryFields
{
	uint8_t scope;	  /* ApmScope */
	ApmSlice apid;	  /* empty in a search, and nowhere else */
	uint16_t purpose; /* code from the list on the chain, 0 for none */
	uint16_t reason;  /* emergency: code from the list on the chain; else 0 */
	ApmDigest note;	  /* emergency: apm_note_digest of the sealed note, or zeros; else zeros */
	uint8_t basis
		[APM_UUID_LEN]; /* match: Tid of the search; export: the study; note: Tid of the emergency; else zeros */
	ApmTokens tokens;			   /* search: 1 to APM_SEARCH_TOKENS_MAX; else none */
	uint8_t acting[APM_STAFF_LEN]; /* the acting role */
	ApmGroups groups;			   /* that it belongs to, itself included */
} ApmQueryFields;

typedef enum ApmConsentAction
{
	APM_CONSENT_GRANT = 1,
	APM_CONSENT_REVOKE = 2,
	APM_CONSENT_REVIEW = 3 /* of an emergency */
} ApmConsentAction;

extern const char *apm_consent_name(uint8_t action); /* "grant", "revoke", "review"; NULL if unknown */

#define APM_FINDING_JUSTIFIED 1
#define APM_FINDING_UNJUSTIFIED 2

typedef struct ApmConsentFields
{
	uint8_t action; /* ApmConsentAction */
	ApmSlice apid;
	uint8_t grantee[APM_STAFF_LEN]; /* grant: a role; revoke: a role, or zeros for everybody; review: zeros */
	uint16_t purpose;				/* 0: every purpose; review: 0 */
	uint64_t until_us;				/* grant: ends then, 0 is never; else 0 */
	ApmUuid reviewed;				/* review: Tid of the emergency; else zeros */
	uint8_t finding;				/* review: APM_FINDING_*; else 0 */
	ApmGroups groups;				/* that the acting role and the login belong to, both included */
} ApmConsentFields;

#define APM_STUDY_LEN 16
#define APM_PARAMETERS_MAX 8192

/* A dataset, after its patients' queries and before anything of it is given out. */
typedef struct ApmExportFields
{
	uint8_t study[APM_STUDY_LEN]; /* keyed pseudonym of the study's name */
	uint32_t release;			  /* 1, then one more each time */
	ApmSlice parameters;		  /* canonical JSON text: attributes, coarsening, tokens of the selection */
	uint64_t rows;
	ApmDigest digest; /* SHA-256 of the file */
} ApmExportFields;

/*
 * A leaf that an erasure voids: of a registration, a change or a record of the patient.  Its nonce and
 * transaction are pruned, so the erasure keeps what the contract's state still needs of it: what kind it was,
 * and whom it counts for.  And its Tid, which stands beside the leaf but is proved by the transaction alone.  Not the
 * Rid: who knows whose record a Rid was must not find the pseudonym by it.
 */
typedef struct ApmVoid
{
	ApmDigest leaf;
	uint8_t kind; /* APM_KIND_PATIENT or APM_KIND_PRIMARY */
	uint8_t actor[APM_STAFF_LEN];
	ApmUuid tid;
} ApmVoid;

#define APM_VOID_LEN (APM_DIGEST_LEN + 1 + APM_STAFF_LEN + APM_UUID_LEN)
#define APM_VOIDS_MAX 1000000

typedef struct ApmErasureFields
{
	ApmSlice apid;
	uint16_t reason; /* code from the list on the chain */
	uint32_t count;	 /* 1 to APM_VOIDS_MAX */
	ApmSlice voids;	 /* count times APM_VOID_LEN bytes, leaves ascending, none twice */
} ApmErasureFields;

/* Appends a void as an erasure has it; the caller sorts them. */
extern void apm_void_put(ApmBuf *out, const ApmVoid *voided);
/* Void i of the erasure; i < count. */
extern void apm_erasure_void(const ApmErasureFields *fields, uint32_t i, ApmVoid *out);
/* Its place among the voids; false if the leaf is not one of them. */
extern bool apm_erasure_find(const ApmErasureFields *fields, const ApmDigest *leaf, uint32_t *i);

typedef enum ApmMember
{
	APM_MEMBER_NODE = 1,
	APM_MEMBER_ORIGIN = 2
} ApmMember;

/* A key that signs for a member: its first, in the genesis block, or one that replaces the last. */
typedef struct ApmMembershipFields
{
	uint8_t member; /* ApmMember */
	uint8_t spki[APM_SPKI_LEN];
	ApmDigest replaces;		  /* id of the key that this one replaces; zeros: none */
	ApmSignature endorsement; /* of that key, see apm_member_endorse(); zeros: none */
} ApmMembershipFields;

/* Policies of the contract; what a chain does not set has its default. */
#define APM_POLICY_DIFFICULTY 1 /* bits; set in the genesis block */
#define APM_POLICY_ACCESS \
	2 /* 1 clinician: those of the patient's hospital read; 2 consent: who has a grant reads */
#define APM_POLICY_PURPOSE 3   /* 1: a query must state a purpose; default 0 */
#define APM_POLICY_EMERGENCY 4 /* 0: none; 1: not of who withdrew (default); 2: of everybody */
#define APM_POLICY_EXPORT \
	5 /* 1: of who did not withdraw; 2: of who granted it; default as APM_POLICY_ACCESS */
#define APM_POLICY_FETCH_CAP 6 /* patients of one statement that reads; 0: any number; default 1000 */
#define APM_POLICY_QUERY_RATE \
	7 /* queries of one actor in an hour of block time, exports aside; 0: any number (default) */

/* "difficulty", "access", "purpose", "emergency", "export", "fetch_cap", "query_rate"; 0 or NULL if unknown */
extern uint16_t apm_policy_code(const char *name);
extern const char *apm_policy_name(uint16_t key);

typedef struct ApmPolicy
{
	uint16_t key;
	uint64_t value;
} ApmPolicy;

typedef struct ApmContractFields
{
	uint16_t count;
	ApmSlice items; /* encoded (item.h) */
} ApmContractFields;

typedef struct ApmTransaction
{
	ApmKind kind;
	ApmDigest chain;  /* chain id */
	ApmDigest origin; /* id of the APM's signing key */
	uint64_t time_us; /* microseconds since 1970-01-01 UTC */
	uint8_t actor[APM_STAFF_LEN];
	uint16_t roles;	 /* APM_ROLE_* */
	ApmSlice fields; /* public fields, encoded (field.h); empty stands for none */
	union
	{
		ApmPatientFields patient;
		ApmPrimaryFields primary;
		ApmQueryFields query;
		ApmConsentFields consent;
		ApmErasureFields erasure;
		ApmExportFields export;
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
/* The largest transaction is a primary one: its record and, well within this, its other fields. */
#define APM_TRANSACTION_MAX (APM_PRIMARY_MAX + 8192u)

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
 * Verifies.  The process remembers the last few statements whose signatures were good, so that the records of
 * one cost one verification of its signature, and neighbours among them few hashes.
 */
extern ApmStatus apm_origin_verify(const ApmEcKey *key, const ApmDigest *leaf, const ApmOriginProof *proof);

/*
 * The key that is replaced signs SHA-256("apm member\0" || chain || u8 member || id of the key || SPKI of its
 * successor).
 */
extern ApmStatus apm_member_endorse(const ApmEcKey *replaced, const ApmDigest *chain, uint8_t member,
									const uint8_t spki[APM_SPKI_LEN], ApmSignature *out);
extern ApmStatus apm_member_verify(const ApmEcKey *replaced, const ApmDigest *chain,
								   const ApmMembershipFields *fields);

#define APM_ORIGIN_PROOF_MAX (2 + APM_SIGNATURE_LEN + 4 + 4 + 32 * APM_DIGEST_LEN) /* bytes */

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

/* H(0x00 || "apm note" || u32-length sealed note): the note's own random nonce blinds it. */
extern ApmStatus apm_note_digest(ApmSlice sealed_note, ApmDigest *out);

/*
 * H(0x00 || "apm profile" || u32 version || u32-length sealed profile): the sealed profile's own random nonce
 * blinds it.
 */
extern ApmStatus apm_profile_digest(uint32_t version, ApmSlice sealed_profile, ApmDigest *out);

#endif /* APM_CORE_TRANSACTION_H */
