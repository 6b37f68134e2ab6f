/*
 * waiting.h
 *	  Records that wait, sealed, for reception or for their patient, and the lock on a patient's
 *	  registration.
 */
#ifndef APM_WAITING_H
#define APM_WAITING_H

#include "postgres.h"

#include "anonymize/patient.h"

/*
 * Bytes of the text of a sensor's record.  Whatever profile it is joined with later, the
 * record then fits, so that nobody needs to look at a profile to refuse it.
 */
#define APM_SENSOR_RECORD_MAX (APM_RECORD_MAX - 2 * APM_PROFILE_MAX)

/* Where a record in apm.waiting stands. */
typedef enum ApmWaitReason
{
	APM_WAIT_NEW,	   /* reception has not looked at it */
	APM_WAIT_PATIENT,  /* nobody is registered by that pid */
	APM_WAIT_IDENTITY, /* its identifying attributes are not the patient's */
	APM_WAIT_FAILED,   /* it cannot be opened or handled: a key may be missing */
	APM_WAIT_REASONS
} ApmWaitReason;

/* As in the column reason. */
extern const char *const apm_wait_reasons[APM_WAIT_REASONS];

/* A record on its way into apm.waiting. */
typedef struct ApmWaiting
{
	ApmUuid rid;
	ApmDigest index;   /* of its patient */
	uint64 time_us;	   /* of its submission */
	uint32 generation; /* of the wrapping key that it is sealed under */
	ApmSlice sealed;
} ApmWaiting;

/*
 * Seals what the record's transaction will need, under the active wrapping key, so that it dies with that in old
 * copies of the table, too; 54000 for a record that is too large.
 */
extern void apm_waiting_seal(const ApmActing *who, const ApmRecord *record, const ApmDigest *index,
							 uint64 time_us, ApmWaiting *out);

/*
 * Puts n sealed records to wait for reception, in the caller's transaction, which cannot be prepared
 * then; wakes reception at its commit.  53400 when reception has apm.max_queue rows before it.  In a
 * section.
 */
extern void apm_waiting_put(const ApmWaiting *const *rows, int n);

/*
 * Opens what was put: the record, in secret memory, and a transaction that has its actor and time (time_us is not
 * looked at).  False if it is something else, or cannot be opened here; AP002 if that wrapping key is not here.
 */
extern bool apm_waiting_open(const ApmWaiting *waiting, ApmRecord *record, ApmTransaction *tx);

/*
 * A patient was registered or changed: hands what waits for him to reception again, at commit.  The
 * patient's lock is held.  In a section.
 */
extern void apm_waiting_release(const ApmDigest *index);

/*
 * A lock on a patient's registration, until the end of the transaction: exclusive for whoever registers or
 * changes the patient; shared for reception while it puts a record of his to wait, so that neither overlooks
 * the other, and exclusive while it destroys what is there of a patient.  Reception does not wait for it: false
 * if somebody has the patient under change.
 */
extern void apm_patient_lock(const ApmDigest *index);
extern bool apm_patient_try_lock(const ApmDigest *index, bool exclusive);

#endif /* APM_WAITING_H */
