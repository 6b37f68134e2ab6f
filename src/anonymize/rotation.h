/*
 * rotation.h
 *	  Keys and their successors: what rotation.c, retirement.c and rewrap.c have in common.
 */
#ifndef APM_ROTATION_H
#define APM_ROTATION_H

#include "postgres.h"

#include "core/transaction.h"
#include "keys/keyring.h"

/* A kind of key whose successor the chain has to admit. */
typedef struct ApmSigningKind
{
	const char *kind;
	ApmMember member;
	ApmSigningKey key;
} ApmSigningKind;

/* NULL for a kind of which the newest generation is in use at once. */
extern const ApmSigningKind *apm_rotation_signing(const char *kind);

/*
 * The argument of a function that changes keys, after its caller's rights: superuser or apm_admin, in a
 * transaction that may write.  doing completes "permission denied to ...".
 */
extern char *apm_rotation_kind(Datum kind, const char *doing);

/*
 * Keeps everybody else in this database from changing keys until the transaction ends.  Raises AP011 where there is no
 * chain, 55000 where a load is under way.  In a section.
 */
extern void apm_rotation_lock(void);

/* Lets every process of the server read its keys anew; returns when they have been told. */
extern void apm_rotation_tell(void);

/*
 * A step of reception's turn: a batch of what is wrapped or sealed under an old wrapping key moves to the one that
 * followed it, in a transaction of its own.  Answers as a turn does.
 */
extern int apm_rewrap_turn(void);

#endif /* APM_ROTATION_H */
