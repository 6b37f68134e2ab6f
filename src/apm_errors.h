/*
 * apm_errors.h
 *	  The errors that are ours: one table of SQLSTATEs, and how an answer of the core
 *	  becomes an error.
 *
 * Where PostgreSQL has a fitting code it is used (53400 for a full queue, 42501 for a
 * missing right, 22023 for a bad argument).  The codes below are for what an
 * application must be able to tell apart and PostgreSQL has no word for.
 */
#ifndef APM_ERRORS_H
#define APM_ERRORS_H

#include "core/bytes.h"

/* The contract's verdict is no; the message names the rule. */
#define ERRCODE_APM_REFUSED_BY_CONTRACT MAKE_SQLSTATE('A', 'P', '0', '0', '1')
/* A key that this step needs is not here. */
#define ERRCODE_APM_KEY_MISSING MAKE_SQLSTATE('A', 'P', '0', '0', '2')
/* A key is there but is not accepted: its file's rights, owner, type or content. */
#define ERRCODE_APM_KEY_REFUSED MAKE_SQLSTATE('A', 'P', '0', '0', '3')
/* Something sealed does not open.  Deliberately one code, whatever the reason. */
#define ERRCODE_APM_CANNOT_OPEN MAKE_SQLSTATE('A', 'P', '0', '0', '4')
/* What a store holds is not what the ledger says: altered, missing, added, swapped or stale. */
#define ERRCODE_APM_TAMPERED MAKE_SQLSTATE('A', 'P', '0', '0', '5')
/* A guard of the ledger refused a row; the message names the fault. */
#define ERRCODE_APM_LEDGER_GUARD MAKE_SQLSTATE('A', 'P', '0', '0', '6')
/* A worker that this step needs does not run or does not answer. */
#define ERRCODE_APM_WORKER_DOWN MAKE_SQLSTATE('A', 'P', '0', '0', '7')
/* This node's ledger is not the one that it last signed: rolled back, restored or cloned. */
#define ERRCODE_APM_ROLLED_BACK MAKE_SQLSTATE('A', 'P', '0', '0', '8')
/* No such patient, or not one that this caller may hear about. */
#define ERRCODE_APM_UNKNOWN_PATIENT MAKE_SQLSTATE('A', 'P', '0', '0', '9')
/* The cloud does not answer, or its foreign table is not fit. */
#define ERRCODE_APM_CLOUD MAKE_SQLSTATE('A', 'P', '0', '1', '0')
/* apm_setup() has not been called in this database. */
#define ERRCODE_APM_NOT_SET_UP MAKE_SQLSTATE('A', 'P', '0', '1', '1')
/* A Rid that was used before comes with other content. */
#define ERRCODE_APM_RID_REUSED MAKE_SQLSTATE('A', 'P', '0', '1', '2')
/* OpenSSL or libxcrypt failed. */
#define ERRCODE_APM_CRYPTO MAKE_SQLSTATE('A', 'P', '0', '1', '3')

/* The patient is registered already. */
#define ERRCODE_APM_REGISTERED MAKE_SQLSTATE('A', 'P', '0', '1', '4')
/* A record's identifying attributes are not those of its patient. */
#define ERRCODE_APM_IDENTITY MAKE_SQLSTATE('A', 'P', '0', '1', '5')
/* A record violates a data rule of the contract; the message names the rule. */
#define ERRCODE_APM_DATA_RULE MAKE_SQLSTATE('A', 'P', '0', '1', '6')
/* A digest of the ledger could not be given out; apm.status shows it. */
#define ERRCODE_APM_DIGEST MAKE_SQLSTATE('A', 'P', '0', '1', '7')

/*
 * Raises the error that a core status stands for; doing completes "could not ...",
 * a constant such as "seal the record", never a value.  Does not return.
 */
extern void apm_raise(ApmStatus status, const char *doing) pg_attribute_noreturn();

/* Returns if status is APM_OK, else raises. */
static inline void
apm_check(ApmStatus status, const char *doing)
{
	if (unlikely(status != APM_OK))
		apm_raise(status, doing);
}

#endif /* APM_ERRORS_H */
