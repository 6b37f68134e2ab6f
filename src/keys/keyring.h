/*
 * keyring.h
 *	  This server's keys: which there are, and the one that a step needs.
 *
 * Every function may read key files or run apm.secret_command, and may raise: AP002
 * when a key is not here, AP003 when it is here and not accepted.  None needs a
 * transaction.  Keys are read when first asked for, once a process, and again in the first transaction
 * that begins after a configuration reload; until then what was answered stays valid, so an answer is used
 * at once and not kept over CHECK_FOR_INTERRUPTS, nor over another question of the same kind.
 */
#ifndef APM_KEYRING_H
#define APM_KEYRING_H

#include "postgres.h"

#include "core/envelope.h"
#include "core/signature.h"

/* 32-byte secrets of SK_APM that never change. */
typedef enum ApmSecret
{
	APM_SECRET_INDEX,  /* finds a patient's profile by his pid */
	APM_SECRET_PEPPER, /* pseudonyms of patients */
	APM_SECRET_STAFF,  /* pseudonyms of staff */
	APM_SECRET_SEARCH, /* blind tokens */
	APM_SECRET_EXPORT  /* pseudonyms of studies, and of patients in them */
} ApmSecret;

/* RSA pairs for the outer layer (PKE). */
typedef enum ApmPair
{
	APM_PAIR_APM, /* PK_APM, PrK_APM */
	APM_PAIR_NS,  /* the network server's */
	APM_PAIR_PB	  /* the private blockchain's: this node's */
} ApmPair;

/* ECDSA P-256 pairs. */
typedef enum ApmSigningKey
{
	APM_SIGN_ORIGIN, /* the APM signs transactions */
	APM_SIGN_NODE	 /* the chain node signs blocks */
} ApmSigningKey;

#define APM_SECRET_LEN 32

extern const uint8_t *apm_key_secret(ApmSecret secret);

/* SK_APM's wrapping key: the generation that new patient keys are wrapped with, and each that still unwraps. */
extern uint32 apm_key_wrapping_active(void);
extern const uint8_t *apm_key_wrapping(uint32 generation);
extern bool apm_key_have_wrapping(uint32 generation);

/* Seals for the active keys of the recipients asked for; needs their public keys only.  Shared by the process. */
extern ApmSealer *apm_key_sealer(bool apm, bool ns, bool pb);

/*
 * Opens what is sealed for any generation of the pair whose private key is here, also one that is younger than what this
 * process has read; as apm_opener_open() otherwise.
 */
extern ApmStatus apm_key_open(ApmPair pair, ApmSlice sealed, ApmBuf *out);

/* The active signing pair: the newest. */
extern const ApmEcKey *apm_key_signer(ApmSigningKey key);
/*
 * The signing pair with that id, of any generation.  Which one signs is said by the chain, which admits a new key some
 * time after it was made.
 */
extern const ApmEcKey *apm_key_signer_of(ApmSigningKey key, const ApmDigest *id);

/*
 * Is what a step needs here?  False only where the key is absent; a key that is here
 * and not accepted raises like everywhere.
 */
extern bool apm_key_have_public(ApmPair pair);
extern bool apm_key_have_private(ApmPair pair);
extern bool apm_key_have_signer(ApmSigningKey key);
extern bool apm_key_have_signer_of(ApmSigningKey key, const ApmDigest *id);
extern bool apm_key_have_secrets(void); /* all of SK_APM: its secrets, and a wrapping key */

/* One line of the view apm.key: nothing secret. */
typedef struct ApmKeyInfo
{
	const char *kind; /* "apm-index", "network-server", ...: how its files are called */
	char id[2 * APM_KEY_ID_LEN + 1];
	uint32 generation;
	bool active;
	bool has_private;
} ApmKeyInfo;

/* All keys that are here, palloc'd, by kind and generation; returns how many. */
extern int apm_key_list(ApmKeyInfo **out);

/*
 * Makes the next generation of a kind that has generations, durably, and answers its number; other processes use it
 * after a reload.  Raises 22023 for a kind that has none, 55000 where keys come from a command: there the next generation is made
 * by whoever keeps them.
 */
extern uint32 apm_key_make_next(const char *kind);
/* The highest generation that is here; 0: none. */
extern uint32 apm_key_newest(const char *kind);
/*
 * Removes the private key of an old generation, durably; the caller has made sure that nothing needs it.  Where
 * keys come from a command, raises 55000 unless the command answers already that it is retired.
 */
extern void apm_key_remove(const char *kind, uint32 generation);

/* Reads all keys anew at the next question, as after a reload. */
extern void apm_key_forget(void);

#endif /* APM_KEYRING_H */
