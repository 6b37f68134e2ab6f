/*
 * mail.h
 *	  The mailbox's slots in shared memory.  Private to src/worker.
 *
 * Everything in a slot is written under apm_shared->mailbox_lock.  Who may act on a slot
 * depends on its state:
 *
 *		free		its backend posts a request
 *		requested	a worker takes it; its backend withdraws it
 *		taken		that worker answers it; its backend abandons it
 *		answered	its backend reads the answer
 *
 * The generation counts requests, so that a worker does not answer the one after the
 * one that it took.
 */
#ifndef APM_WORKER_MAIL_H
#define APM_WORKER_MAIL_H

#include "storage/dsm.h"

#include "worker/mailbox.h"

/* What fits into a slot: a query, and a dozen records of a kilobyte, do.  A segment costs a tenth of a millisecond. */
#define APM_PARCEL_INLINE 16384

/* Bytes on their way to another process. */
typedef struct ApmParcel
{
	Size len;
	dsm_handle segment; /* holds the bytes if they are more than fit here; else invalid */
	char bytes[APM_PARCEL_INLINE];
} ApmParcel;

typedef enum ApmSlotState
{
	APM_SLOT_FREE = 0,
	APM_SLOT_REQUESTED,
	APM_SLOT_TAKEN,
	APM_SLOT_ANSWERED
} ApmSlotState;

typedef struct ApmSlot
{
	ApmSlotState state;
	uint32 generation;
	Oid database;
	ApmWorkerKind kind;
	int taker; /* pid, while taken */
	ApmAnswer answer;
	ApmParcel parcel; /* the request, then the answer */
} ApmSlot;

typedef struct ApmMail
{
	int waiting; /* slots in state requested */
	int next;	 /* where the next search begins, so that no slot is served last always */
	int slots;
	ApmSlot slot[FLEXIBLE_ARRAY_MEMBER]; /* by number of PGPROC */
} ApmMail;

extern ApmMail *apm_mail; /* NULL without preload */

extern Size apm_mail_shmem_size(void);
/* Under AddinShmemInitLock. */
extern void apm_mail_shmem_startup(void);

/* Moves a slot from one state to another; lock held exclusively. */
extern void apm_slot_step(ApmSlot *slot, ApmSlotState to);

/*
 * Parcels.  Pack: raises if there is no memory; the segment outlives its maker until
 * somebody drops it.  Load: into the slot, under the lock.  Open: palloc'd; NULL if the
 * segment was dropped.  All but load may raise, and are called without the lock.
 */
extern dsm_handle apm_parcel_pack(const void *data, Size len);
extern void apm_parcel_load(ApmParcel *parcel, dsm_handle segment, const void *data, Size len);
extern void apm_parcel_drop(dsm_handle segment);
extern void *apm_parcel_open(const ApmParcel *parcel);

#endif /* APM_WORKER_MAIL_H */
