/*
 * consent.h
 *	  What transactions of kind consent have in common: grants, revocations, reviews.
 */
#ifndef APM_CONSENT_H
#define APM_CONSENT_H

#include "postgres.h"

#include "anonymize/outgoing.h"
#include "utils/jsonb.h"

/* The roles that the acting role or the login belongs to, both included; palloc'd. */
extern void apm_consent_groups(const ApmActing *who, ApmGroups *out);

/* Raises 42501 with the contract's rule about one's own advantage; doing completes "permission denied to ...". */
extern void apm_consent_refuse_self(const char *doing) pg_attribute_noreturn();

/*
 * Sends a consent transaction with these public fields (NULL: none) in the caller's transaction, whose commit will
 * be flushed, and keeps who sent it; answers its Tid.  In a section.
 */
extern ApmUuid apm_consent_send(ApmOutgoing *out, ApmTransaction *tx, Jsonb *fields);

#endif /* APM_CONSENT_H */
