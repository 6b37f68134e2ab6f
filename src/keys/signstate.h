/*
 * signstate.h
 *	  What this node last signed, in a file outside the data directory.
 *
 * A ledger that was rolled back, restored or copied is consistent in itself.  That a
 * node would sign two histories with it shows only in something that did not go back
 * along: this file, sign-state-<first 16 hex digits of the chain id> in
 * apm.key_directory (also where keys come from apm.secret_command).
 */
#ifndef APM_SIGNSTATE_H
#define APM_SIGNSTATE_H

#include "postgres.h"

#include "core/bytes.h"

typedef struct ApmSignState
{
	ApmDigest chain;
	uint64 height;		/* of the last block signed */
	ApmDigest hash;		/* of that block */
	uint64 vote_source; /* heights of the last vote given */
	uint64 vote_target;
	uint64 system_id; /* server, timeline and database that it was signed on */
	uint32 timeline;
	uint32 database;
} ApmSignState;

/*
 * Reads the sign-state of a chain.  False if there is none.  Raises AP003 if it is
 * there and not to be trusted: damaged, of another chain, a link, another's file.  Of one whose newest
 * state is damaged, as by a crash while it was written, the one before it is read.
 */
extern bool apm_signstate_read(const ApmDigest *chain, ApmSignState *out);

/*
 * Writes it; when this returns, it is durable, and a crash before that leaves the old
 * one whole.  The caller holds the lock.
 */
extern void apm_signstate_write(const ApmSignState *state);

/*
 * Takes the lock on this chain's sign-state until the process ends; asking again is
 * fine, and so is a process of the same database that has it already.  False if another
 * database has it, on whatever server that shares the directory.
 */
extern bool apm_signstate_lock(const ApmDigest *chain);

/* Fills in system_id, timeline and database of the server and database that we are in; zeroes the rest. */
extern void apm_signstate_here(ApmSignState *out);

#endif /* APM_SIGNSTATE_H */
