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

/* Where a record comes from, which says what it means that its Rid was submitted before. */
typedef enum ApmSource
{
	APM_SOURCE_CLIENT, /* he repeats himself: nothing is done with the same content, AP012 with other */
	APM_SOURCE_INSERT, /* a new row of an attached table, whose key an earlier one had: it gets another Rid */
	APM_SOURCE_BACKFILL /* a row of an attached table that may have been submitted: whoever came first counts */
} ApmSource;

/*
 * A record as it comes.  One from a table names its patient when it registers him, and leaves the rest of his
 * profile empty: what is in a row is said of the row.
 */
typedef struct ApmGiven
{
	ApmSource source;
	ApmSlice pid;
	Jsonb *record;
	const ApmUuid *rid;	   /* NULL: one is drawn */
	const ApmUuid *amends; /* NULL: none */
	bool late;			   /* observed well before it is submitted */
	uint64 observed_us;	   /* when; 0: now, or, if it is late, not known */
} ApmGiven;

/* Keeps a copy, in memory that is wiped; *used is the Rid that the record has now.  Nothing is written. */
extern void apm_submission_add(ApmSubmission *all, const ApmGiven *given, ApmUuid *used);

/* Is it time to flush, to bound memory? */
extern bool apm_submission_full(const ApmSubmission *all);

/* Encrypts and queues all records in the caller's transaction, and empties the submission. */
extern void apm_submission_flush(ApmSubmission *all);

extern void apm_submission_free(ApmSubmission *all);

/* Raises 22023 for what is no record: JSON null and the empty object. */
extern void apm_record_check(Jsonb *record);

#endif /* APM_SUBMISSION_H */
