/*
 * submission.h
 *	  Records that one statement submits, from the client's values to the queue.
 */
#ifndef APM_SUBMISSION_H
#define APM_SUBMISSION_H

#include "postgres.h"

#include "anonymize/patient.h"

typedef struct ApmSubmission ApmSubmission;

/*
 * An empty submission, for whom the session acts as now; lives in the current memory context.
 * Raises 42501 if he may not submit, and whatever the keyring raises.
 */
extern ApmSubmission *apm_submission_new(void);

/* Does the session still act as the one that the submission is for? */
extern bool apm_submission_is_ours(const ApmSubmission *all);

/*
 * Keeps a copy of a record, in memory that is wiped.  rid and amends may be NULL; *used is
 * the Rid that the record has then.  Nothing is written.
 */
extern void apm_submission_add(ApmSubmission *all, ApmSlice pid, Jsonb *record, const ApmUuid *rid,
							   const ApmUuid *amends, ApmUuid *used);

/* Is it time to flush, to bound memory? */
extern bool apm_submission_full(const ApmSubmission *all);

/* Encrypts and queues all records in the caller's transaction, and empties the submission. */
extern void apm_submission_flush(ApmSubmission *all);

extern void apm_submission_free(ApmSubmission *all);

/* Raises 22023 for what is no record: JSON null and the empty object. */
extern void apm_record_check(Jsonb *record);

#endif /* APM_SUBMISSION_H */
