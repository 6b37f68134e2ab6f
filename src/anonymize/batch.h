/*
 * batch.h
 *	  Records that one statement submits, from the client's values to the queue.
 */
#ifndef APM_BATCH_H
#define APM_BATCH_H

#include "postgres.h"

#include "anonymize/patient.h"

typedef struct ApmBatch ApmBatch;

/*
 * An empty batch, for whom the session acts as now; lives in the current memory context.
 * Raises 42501 if he may not submit, and whatever the keyring raises.
 */
extern ApmBatch *apm_batch_new(void);

/* Does the session still act as the one that the batch is for? */
extern bool apm_batch_is_ours(const ApmBatch *batch);

/*
 * Keeps a copy of a record, in memory that is wiped.  rid and amends may be NULL; *used is
 * the Rid that the record has then.  Nothing is written.
 */
extern void apm_batch_add(ApmBatch *batch, ApmSlice pid, Jsonb *record, const ApmUuid *rid,
						  const ApmUuid *amends, ApmUuid *used);

extern int apm_batch_count(const ApmBatch *batch);
/* Is it time to flush, to bound memory? */
extern bool apm_batch_full(const ApmBatch *batch);

/* Encrypts and queues all records in the caller's transaction, and empties the batch. */
extern void apm_batch_flush(ApmBatch *batch);

extern void apm_batch_free(ApmBatch *batch);

/* Raises 22023 for what is no record: JSON null and the empty object. */
extern void apm_record_check(Jsonb *record);

#endif /* APM_BATCH_H */
