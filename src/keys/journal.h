/*
 * journal.h
 *	  Who was erased, in a file beside the keys: erasure-journal-<first 16 hex digits of the chain id> in
 *	  apm.key_directory.
 *
 * A backup from before an erasure still has the patient's wrapped key and profile.  The key directory did not go back
 * along with it, and what is written here is obeyed before a patient's key is opened, whatever the tables say.
 *
 * The file is append-only.  An entry is
 *
 *		'J', 1, u64 time, u16 reason, [16] actor, u16 roles, bytes aPid, [32] H(hash before || the entry up to here)
 *
 * with zeros before the first, so that an entry that was altered, or taken out of the middle, is found (AP003).  What a crash left half-written
 * at the end was never relied on, and the next entry takes its place.  Entries are of pseudonyms: nothing in the file says who somebody was.
 */
#ifndef APM_JOURNAL_H
#define APM_JOURNAL_H

#include "postgres.h"

#include "core/pseudonym.h"
#include "core/transaction.h"

/* With whom asked for it and why, so that the erasure can be sent again to a ledger that lost it. */
typedef struct ApmErased
{
	char apid[APM_APID_MAX + 1];
	uint64 time_us;
	uint16 reason;
	uint8 actor[APM_STAFF_LEN];
	uint16 roles;
} ApmErased;

/* Durably, unless the aPid is there already.  Safe against another process that does the same. */
extern void apm_journal_add(const ApmDigest *chain, const ApmErased *erased);

/* Is the aPid in the journal?  The file is read again when it has changed; asking costs one stat(). */
extern bool apm_journal_has(const ApmDigest *chain, ApmSlice apid);

/* Another number than before whenever the file has changed in between; never 0. */
extern uint64 apm_journal_serial(const ApmDigest *chain);

/* All entries, palloc'd, in their order; returns how many. */
extern int apm_journal_read(const ApmDigest *chain, ApmErased **out);

#endif /* APM_JOURNAL_H */
