/*
 * search.h
 *	  Which records have certain values: asked of the ledger, and of the cloud as well.
 */
#ifndef APM_SEARCH_H
#define APM_SEARCH_H

#include "postgres.h"

#include "anonymize/gate.h"
#include "utils/jsonb.h"

/* A patient with those of his records that a search found, in the order of the chain. */
typedef struct ApmSearched
{
	ApmSlice apid;
	int nrecords;
	ApmPlace *records;
} ApmSearched;

/* What a search found: patients in the order in which the chain has their first such record. */
typedef struct ApmSearchResult
{
	ApmUuid tid; /* of the search, in the ledger: what queries for these patients rest on */
	int npatients;
	ApmSearched *patients;
} ApmSearchResult;

/*
 * Searches as the acting role, who must be allowed to: the current records, as of the search's own block, that have
 * each value of the filter, an object of searchable attributes.  The search is in the ledger when this returns; the
 * patients have not been asked for, and nothing of them may be told before they are.  palloc'd.
 *
 * Raises 22023 for a filter that is none, AP001 for whoever may not search, AP005 if the cloud does not
 * name the records that the ledger does, 54000 for more records than can be held, and what the gate and the cloud
 * raise.  In no section.
 */
extern void apm_search_run(Jsonb *filter, uint16 purpose, ApmSlice fields, ApmSearchResult *out);

/*
 * An aPid that is nobody's.  Where a search found no patient he is asked for, so that it takes as many blocks as one
 * that found only patients whom the contract leaves out.
 */
extern ApmSlice apm_search_nobody(const ApmUuid *tid);

#endif /* APM_SEARCH_H */
