/*
 * anonymizer.h
 *	  What the calls of apm_anonymize() in one statement share.
 */
#ifndef APM_ANONYMIZER_H
#define APM_ANONYMIZER_H

#include "postgres.h"

#include "fmgr.h"

#include "anonymize/patient.h"

typedef struct ApmAnonymizer
{
	ApmActing who;
	ApmDeclared declared;
	ApmOutgoing out;	/* nothing in it */
	MemoryContext call; /* of one call: wiped before the next one at the latest */
	struct ApmHeld *held;
} ApmAnonymizer;

/*
 * The anonymizer of a place that calls, for whoever acts now; raises 42501 unless he has one of these roles.  What it
 * holds is of now, or of a moment ago.  Lives as long as the place, or until the next call of this.
 */
extern ApmAnonymizer *apm_anonymizer(FmgrInfo *place, uint16 roles);

/* The patient of that index, or NULL.  Lives as long as the anonymizer. */
extern ApmPatient *apm_anonymizer_patient(ApmAnonymizer *anonymizer, const ApmDigest *index);

#endif /* APM_ANONYMIZER_H */
