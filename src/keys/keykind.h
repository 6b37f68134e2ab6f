/*
 * keykind.h
 *	  The kinds of key that there are and how their files are called.  Private to the room.
 *
 *		apm-index.key, apm-pepper.key, apm-staff.key,
 *		apm-search.key, apm-export.key                   32 bytes, for ever
 *		apm-wrapping.<generation>.key                    32 bytes
 *		<pair>.<generation>.pem, .pub.pem                PKCS#8 and SPKI
 *
 * Of a kind with generations the highest is the active one.
 */
#ifndef APM_KEYKIND_H
#define APM_KEYKIND_H

#include "postgres.h"

#include "keys/keyring.h"

typedef enum ApmKeyForm
{
	APM_FORM_SECRET, /* 32 random bytes */
	APM_FORM_RSA,
	APM_FORM_EC
} ApmKeyForm;

typedef struct ApmKeyKind
{
	const char *name;
	ApmKeyForm form;
	bool generations;
} ApmKeyKind;

/* Index into apm_key_kinds.  Secrets, pairs and signing keys in the order of their enums in keyring.h. */
#define APM_KIND_OF_SECRET(secret) ((int) (secret))
#define APM_KIND_OF_WRAPPING 5
#define APM_KIND_OF_PAIR(pair) (6 + (int) (pair))
#define APM_KIND_OF_SIGNER(key) (9 + (int) (key))
#define APM_KEY_KINDS 11

extern const ApmKeyKind apm_key_kinds[APM_KEY_KINDS];

/* An opener takes no more generations. */
#define APM_GENERATIONS_MAX 64

/*
 * The kind of that name, of those that have generations.  Raises 22023 for any other name, with the reason where it is
 * one of a key that never changes.
 */
extern const ApmKeyKind *apm_key_kind_rotated(const char *name);

/* The name of a key's file, palloc'd; of the public half, where there is one. */
extern char *apm_key_file_name(const ApmKeyKind *kind, uint32 generation);
extern char *apm_key_public_name(const ApmKeyKind *kind, uint32 generation);
/* The generation that a file name of this kind tells, public or not; 0 if it is none of this kind's. */
extern uint32 apm_key_generation_of(const ApmKeyKind *kind, const char *name);

/* The longest file of any kind. */
#define APM_KEY_FILE_MAX 16384

#endif /* APM_KEYKIND_H */
