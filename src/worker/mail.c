/*
 * mail.c
 *	  The mailbox's slots and parcels; see mail.h.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/memutils.h"

#include "worker/mail.h"
#include "worker/state.h"

ApmMail *apm_mail = NULL;

static const uint8 legal_steps[] PG_USED_FOR_ASSERTS_ONLY = {
#define TO(state) (1 << APM_SLOT_##state)
	[APM_SLOT_FREE] = TO(REQUESTED),
	[APM_SLOT_REQUESTED] = TO(TAKEN) | TO(FREE),
	[APM_SLOT_TAKEN] = TO(ANSWERED) | TO(FREE),
	[APM_SLOT_ANSWERED] = TO(FREE),
#undef TO
};

/* One slot a process that can be a client or a worker: none can run out. */
Size
apm_mail_shmem_size(void)
{
	return MAXALIGN(add_size(offsetof(ApmMail, slot), mul_size(MaxBackends, sizeof(ApmSlot))));
}

void
apm_mail_shmem_startup(void)
{
	bool found;

	apm_mail = ShmemInitStruct("apm mailbox", apm_mail_shmem_size(), &found);
	if (found)
		return;
	memset(apm_mail, 0, apm_mail_shmem_size());
	apm_mail->slots = MaxBackends;
	for (int i = 0; i < apm_mail->slots; i++)
		apm_mail->slot[i].parcel.segment = DSM_HANDLE_INVALID;
}

void
apm_slot_step(ApmSlot *slot, ApmSlotState to)
{
	Assert(LWLockHeldByMeInMode(apm_shared->mailbox_lock, LW_EXCLUSIVE));
	Assert((legal_steps[slot->state] & (1 << to)) != 0);
	if (slot->state == APM_SLOT_REQUESTED)
		apm_mail->waiting--;
	if (to == APM_SLOT_REQUESTED)
		apm_mail->waiting++;
	slot->state = to;
}

dsm_handle
apm_parcel_pack(const void *data, Size len)
{
	dsm_segment *segment;
	dsm_handle handle;

	if (len <= APM_PARCEL_INLINE)
		return DSM_HANDLE_INVALID;
	segment = dsm_create(len, 0);
	memcpy(dsm_segment_address(segment), data, len);
	dsm_pin_segment(segment);
	handle = dsm_segment_handle(segment);
	dsm_detach(segment);
	return handle;
}

void
apm_parcel_load(ApmParcel *parcel, dsm_handle segment, const void *data, Size len)
{
	parcel->len = len;
	parcel->segment = segment;
	if (segment == DSM_HANDLE_INVALID && len > 0)
		memcpy(parcel->bytes, data, len);
}

void
apm_parcel_drop(dsm_handle segment)
{
	if (segment != DSM_HANDLE_INVALID)
		dsm_unpin_segment(segment);
}

void *
apm_parcel_open(const ApmParcel *parcel)
{
	char *bytes = MemoryContextAllocHuge(CurrentMemoryContext, Max(parcel->len, 1));
	dsm_segment *segment;

	if (parcel->segment == DSM_HANDLE_INVALID)
	{
		memcpy(bytes, parcel->bytes, parcel->len);
		return bytes;
	}
	segment = dsm_attach(parcel->segment);
	if (segment == NULL)
	{
		pfree(bytes);
		return NULL;
	}
	memcpy(bytes, dsm_segment_address(segment), parcel->len);
	dsm_detach(segment);
	return bytes;
}
