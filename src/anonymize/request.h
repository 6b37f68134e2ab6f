/*
 * request.h
 *	  Requests to forget a patient: rows of apm.erasure, from being asked to being done or refused.
 *
 *		asked --> sent --> done
 *		  ^        |  \--> refused
 *		  +--------+  something of the patient came in between
 *
 * A request that has ended does not say any more of whom it was.  All functions are called in a section.
 */
#ifndef APM_REQUEST_H
#define APM_REQUEST_H

#include "postgres.h"

#include "anonymize/acting.h"
#include "keys/journal.h"

/* A new one, which says who asked; answers its id.  The caller marks the patient. */
extern ApmUuid apm_request_ask(const ApmActing *who, ApmSlice apid, uint16 reason);

/*
 * New ones for those of n entries of the journal whom the ledger has, and not as erased.  Returns how many.
 */
extern int apm_requests_ask_again(const ApmErased *entries, int n);

/* Queues the erasure of the oldest that is asked and can be.  False if there is none. */
extern bool apm_request_send(void);
/* After an error of that: it is left aside for a while, longer each time, up to minutes. */
extern void apm_request_leave_aside(void);

/*
 * Goes on with those that the contract refused: they are asked once more, or end.  Returns how many.
 * *erased is set if one was refused because its patient is erased already: that is carried out as any
 * erasure is.
 */
extern int apm_requests_review(bool *erased);

/*
 * Patients up to limit who are to be forgotten and of whom nothing is or will be in the ledger, because it
 * refused them; as the journal has them.  Returns how many.
 */
extern int apm_requests_unknown(ApmErased *out, int limit);

/* Those about n patients are done; voided[i] transactions are void. */
extern void apm_requests_finish(const ApmSlice *apids, const int64 *voided, int n);

#endif /* APM_REQUEST_H */
