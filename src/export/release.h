/*
 * release.h
 *	  Making a release of a study: from the order to a dataset whose digest is on the chain.
 */
#ifndef APM_EXPORT_RELEASE_H
#define APM_EXPORT_RELEASE_H

#include "export/dataset.h"

/* What the researcher wants. */
typedef struct ApmOrder
{
	ApmStudy study;
	ApmColumnsOut columns;
	ApmTimeStep step;
	Jsonb *selection;	  /* equalities of searchable attributes; NULL: everything */
	Jsonb *public_fields; /* of its queries, that templates of the contract ask for; NULL: none */
} ApmOrder;

/*
 * Asks for every patient, reads those whom the contract allows, and puts the export on the chain.  When it
 * returns, set may be given out.  Raises AP001 if the contract refuses selection or export, and whatever
 * reading raises.  In no section.
 */
extern void apm_release_make(const ApmOrder *order, ApmDataset *set);

#endif /* APM_EXPORT_RELEASE_H */
