/*
 * destroy.h
 *	  Destroying what this server keeps of a patient beside the ledger.
 */
#ifndef APM_DESTROY_H
#define APM_DESTROY_H

#include "postgres.h"

#include "core/bytes.h"

/*
 * Destroys key, profile, last values, notes, waiting records and the traces of submissions of n patients,
 * in the caller's transaction; what is gone already is no matter.  The caller has them in the journal.
 * Waits for nobody: done[i] is false, and nothing was touched, where a transaction is about that patient
 * just now.  In a section.
 */
extern void apm_patients_destroy(const ApmSlice *apids, int n, bool *done);

#endif /* APM_DESTROY_H */
