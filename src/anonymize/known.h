/*
 * known.h
 *	  The patients that the rows of a batch name, each loaded once.
 */
#ifndef APM_KNOWN_H
#define APM_KNOWN_H

#include "postgres.h"

#include "anonymize/patient.h"

typedef struct ApmKnown
{
	ApmDigest index;
	ApmPatient *patient; /* NULL: not registered, or not loaded yet */
	bool locked;		 /* for the caller's use; false at first, as the next */
	bool busy;
} ApmKnown;

/* Lives in the memory context that is current when it is made. */
typedef struct ApmKnownSet ApmKnownSet;

extern ApmKnownSet *apm_known_new(void);

/* The patient of that index, who is entered if he is not there. */
extern ApmKnown *apm_known_enter(ApmKnownSet *set, const ApmDigest *index);

/* Loads all that were entered since the last call.  In a section. */
extern void apm_known_load_new(ApmKnownSet *set);

/* Loads these n again, as of now.  In a section. */
extern void apm_known_load(ApmKnown **known, int n);

#endif /* APM_KNOWN_H */
