/*
 * paper.h
 *	  Method 1 and Method 2 as the paper published them.
 */
#ifndef APM_ANONYMIZE_PAPER_H
#define APM_ANONYMIZE_PAPER_H

#include "postgres.h"

#include "anonymize/reading.h"

/* Does an aPR have the paper's form?  An envelope of ours begins with another byte. */
extern bool apm_paper_is_form(ApmSlice apr);

/*
 * Method 1: appends the paper's JSON for a record of this patient.  salt is a bcrypt
 * setting, or NULL for one drawn at apm.salting_rounds.  Warns, or raises 0A000 where it is
 * not allowed.
 */
extern void apm_paper_anonymize(const ApmPatient *patient, Jsonb *record, const ApmDeclared *declared,
								const char *salt, ApmBuf *out);

/*
 * Method 2: the record in the paper's JSON.  Asks for the patient, and opens no attribute before.
 * In no section.  Warns, or raises, as above.
 */
extern Jsonb *apm_paper_deanonymize(ApmSlice apr, const ApmAsk *ask);

#endif /* APM_ANONYMIZE_PAPER_H */
