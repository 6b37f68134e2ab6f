/*
 * mailbox.c
 *	  Requests from a backend to a worker and the answers: both sides.
 *
 * Whatever happens to one side, the other must come to an end: an answer, or an error
 * that says why there is none.  So each slot has one owner at a time who may act on it
 * (mail.h); who leaves hands over or cleans up, in PG_FINALLY where an error jumps and
 * before_shmem_exit where the process ends.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "apm_compat.h"
#include "worker/mail.h"
#include "worker/mailbox.h"
#include "worker/state.h"
#include "worker/turn.h"

/* How long a caller waits for a worker that is on its way, and for a lost wake-up; milliseconds. */
#define COMING_PATIENCE 3000
#define COMING_POLL 50
#define NET_DEADLINE 5000

static ApmSlot *
my_slot(void)
{
	return &apm_mail->slot[apm_my_procno()];
}

/* Takes back whatever this backend has in its slot; what a worker answers later goes nowhere. */
static void
withdraw(void)
{
	ApmSlot *slot = my_slot();
	dsm_handle segment = DSM_HANDLE_INVALID;

	LWLockAcquire(apm_shared->mailbox_lock, LW_EXCLUSIVE);
	if (slot->state != APM_SLOT_FREE)
	{
		segment = slot->parcel.segment;
		slot->parcel.segment = DSM_HANDLE_INVALID;
		apm_slot_step(slot, APM_SLOT_FREE);
	}
	LWLockRelease(apm_shared->mailbox_lock);
	apm_parcel_drop(segment);
}

static void
withdraw_at_exit(int code, Datum arg)
{
	withdraw();
}

static void
post(ApmWorkerKind kind, const void *request, Size len)
{
	static bool registered = false;
	ApmSlot *slot = my_slot();
	dsm_handle segment;

	if (!registered)
		before_shmem_exit(withdraw_at_exit, (Datum) 0);
	registered = true;

	segment = apm_parcel_pack(request, len);
	LWLockAcquire(apm_shared->mailbox_lock, LW_EXCLUSIVE);
	apm_slot_step(slot, APM_SLOT_REQUESTED);
	slot->generation++;
	slot->database = MyDatabaseId;
	slot->kind = kind;
	apm_parcel_load(&slot->parcel, segment, request, len);
	LWLockRelease(apm_shared->mailbox_lock);
	apm_wake(kind);
}

static void
refuse_without_worker(ApmWorkerKind kind)
{
	ereport(ERROR, (errcode(ERRCODE_CANNOT_CONNECT_NOW),
					errmsg("worker \"%s\" is not running in this database", apm_worker_name(kind)),
					errhint("See apm.status and the server's log; apm.databases must name this database.")));
}

/* Raises when nobody will answer; how long to wait before the next look otherwise. */
static long
check_worker(ApmWorkerKind kind, TimestampTz since)
{
	switch (apm_state_presence(kind))
	{
		case APM_PRESENCE_HERE:
			return NET_DEADLINE;
		case APM_PRESENCE_COMING:
			if (TimestampDifferenceExceeds(since, GetCurrentTimestamp(), COMING_PATIENCE))
				refuse_without_worker(kind);
			return COMING_POLL;
		case APM_PRESENCE_NONE:
			break;
	}
	refuse_without_worker(kind);
	return 0;
}

/* A worker that is gone has answered what it took; what it had not taken waits for the next one. */
static void
wait_for_answer(ApmWorkerKind kind)
{
	ApmSlot *slot = my_slot();
	TimestampTz last_seen = GetCurrentTimestamp();

	for (;;)
	{
		ApmSlotState state;
		long delay;

		LWLockAcquire(apm_shared->mailbox_lock, LW_SHARED);
		state = slot->state;
		LWLockRelease(apm_shared->mailbox_lock);
		if (state == APM_SLOT_ANSWERED)
			return;
		delay = check_worker(kind, last_seen);
		if (delay == NET_DEADLINE)
			last_seen = GetCurrentTimestamp();
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, delay, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

static void
raise_failure(const void *data, Size len)
{
	ApmFailure failure;

	if (len != sizeof(failure))
		elog(ERROR, "malformed answer of a worker");
	memcpy(&failure, data, sizeof(failure));
	failure.message[sizeof(failure.message) - 1] = '\0';
	failure.hint[sizeof(failure.hint) - 1] = '\0';
	ereport(ERROR, (errcode(failure.sqlstate), errmsg("%s", failure.message),
					failure.hint[0] != '\0' ? errhint("%s", failure.hint) : 0));
}

void
apm_mailbox_call(ApmWorkerKind kind, const void *request, Size request_len, void **answer, Size *answer_len)
{
	volatile ApmAnswer result = APM_ANSWER_FAILED;

	if (RecoveryInProgress())
		ereport(ERROR, (errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
						errmsg("worker \"%s\" does not run on a standby", apm_worker_name(kind)),
						errhint("Ask the primary.")));
	if (apm_shared == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("worker \"%s\" cannot run, because apm is not preloaded", apm_worker_name(kind)),
				 errhint("Add apm to shared_preload_libraries and restart the server.")));

	PG_TRY();
	{
		post(kind, request, request_len);
		wait_for_answer(kind);
		/* answered: nobody else touches the slot */
		*answer = apm_parcel_open(&my_slot()->parcel);
		*answer_len = my_slot()->parcel.len;
		result = my_slot()->answer;
	}
	PG_FINALLY();
	{
		withdraw();
	}
	PG_END_TRY();

	if (*answer == NULL)
		elog(ERROR, "answer of a worker has vanished");
	if (result == APM_ANSWER_FAILED)
		raise_failure(*answer, *answer_len);
}

/* Takes one request; false if there is none.  The parcel is a copy, its segment still the caller's. */
static bool
take_one(ApmWorkerKind kind, ApmLetter *letter, ApmParcel *parcel)
{
	bool found = false;

	LWLockAcquire(apm_shared->mailbox_lock, LW_EXCLUSIVE);
	for (int i = 0; i < apm_mail->slots && apm_mail->waiting > 0 && !found; i++)
	{
		int number = (apm_mail->next + i) % apm_mail->slots;
		ApmSlot *slot = &apm_mail->slot[number];

		if (slot->state != APM_SLOT_REQUESTED || slot->database != MyDatabaseId || slot->kind != kind)
			continue;
		apm_slot_step(slot, APM_SLOT_TAKEN);
		slot->taker = MyProcPid;
		letter->slot = number;
		letter->generation = slot->generation;
		parcel->len = slot->parcel.len;
		parcel->segment = slot->parcel.segment;
		if (parcel->segment == DSM_HANDLE_INVALID)
			memcpy(parcel->bytes, slot->parcel.bytes, parcel->len);
		apm_mail->next = (number + 1) % apm_mail->slots;
		found = true;
	}
	LWLockRelease(apm_shared->mailbox_lock);
	return found;
}

/* The slot of a letter that this worker took and whose caller still waits, else NULL; lock held. */
static ApmSlot *
slot_of(const ApmLetter *letter)
{
	ApmSlot *slot = &apm_mail->slot[letter->slot];

	if (slot->state != APM_SLOT_TAKEN || slot->generation != letter->generation || slot->taker != MyProcPid)
		return NULL;
	return slot;
}

/* The request has been read: its segment is dropped, unless the caller left and did that. */
static void
drop_request(const ApmLetter *letter)
{
	dsm_handle segment = DSM_HANDLE_INVALID;
	ApmSlot *slot;

	LWLockAcquire(apm_shared->mailbox_lock, LW_EXCLUSIVE);
	slot = slot_of(letter);
	if (slot != NULL)
	{
		segment = slot->parcel.segment;
		slot->parcel.segment = DSM_HANDLE_INVALID;
	}
	LWLockRelease(apm_shared->mailbox_lock);
	apm_parcel_drop(segment);
}

/* Answers slot's caller; lock held. */
static void
put_answer(ApmSlot *slot, ApmAnswer kind, dsm_handle segment, const void *data, Size len)
{
	apm_slot_step(slot, APM_SLOT_ANSWERED);
	slot->answer = kind;
	apm_parcel_load(&slot->parcel, segment, data, len);
	SetLatch(&ProcGlobal->allProcs[slot - apm_mail->slot].procLatch);
}

static void
make_failure(ApmFailure *failure, int sqlstate, const char *message, const char *hint)
{
	memset(failure, 0, sizeof(*failure));
	failure->sqlstate = sqlstate;
	strlcpy(failure->message, message, sizeof(failure->message));
	strlcpy(failure->hint, hint != NULL ? hint : "", sizeof(failure->hint));
}

/* The worker ends: whoever waits for it learns that. */
static void
fail_taken_at_exit(int code, Datum arg)
{
	ApmFailure failure;

	make_failure(&failure, ERRCODE_CANNOT_CONNECT_NOW, "the worker ended before it had answered",
				 "It is started again; repeat the request.");
	for (int i = 0; i < apm_mail->slots; i++)
	{
		ApmSlot *slot = &apm_mail->slot[i];
		dsm_handle segment = DSM_HANDLE_INVALID;

		LWLockAcquire(apm_shared->mailbox_lock, LW_EXCLUSIVE);
		if (slot->state == APM_SLOT_TAKEN && slot->taker == MyProcPid)
		{
			segment = slot->parcel.segment;
			put_answer(slot, APM_ANSWER_FAILED, DSM_HANDLE_INVALID, &failure, sizeof(failure));
		}
		LWLockRelease(apm_shared->mailbox_lock);
		apm_parcel_drop(segment);
	}
}

int
apm_mailbox_take(ApmWorkerKind kind, ApmLetter *letters, int max)
{
	static bool registered = false;
	ApmParcel *parcel;
	int taken = 0;

	if (apm_shared == NULL || apm_turn_once())
		return 0;
	if (!registered)
		before_shmem_exit(fail_taken_at_exit, (Datum) 0);
	registered = true;

	parcel = palloc(sizeof(ApmParcel));
	while (taken < max && take_one(kind, &letters[taken], parcel))
	{
		ApmLetter *letter = &letters[taken];

		letter->request = apm_parcel_open(parcel);
		letter->request_len = parcel->len;
		if (letter->request == NULL)
			continue; /* withdrawn just now */
		drop_request(letter);
		taken++;
	}
	pfree(parcel);
	return taken;
}

/* A segment with the answer; false if there is no memory for it. */
static bool
pack_answer(const void *data, Size len, dsm_handle *segment)
{
	MemoryContext context = CurrentMemoryContext;
	volatile bool packed = true;

	PG_TRY();
	{
		*segment = apm_parcel_pack(data, len);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		FlushErrorState();
		packed = false;
	}
	PG_END_TRY();
	return packed;
}

void
apm_mailbox_answer(const ApmLetter *letter, ApmAnswer kind, const void *data, Size len)
{
	dsm_handle segment;
	ApmSlot *slot;

	if (!pack_answer(data, len, &segment))
	{
		apm_mailbox_fail(letter, ERRCODE_OUT_OF_MEMORY, "no shared memory for the answer",
						 "Dynamic shared memory of the operating system (/dev/shm) is too small.");
		return;
	}
	LWLockAcquire(apm_shared->mailbox_lock, LW_EXCLUSIVE);
	slot = slot_of(letter);
	if (slot != NULL)
		put_answer(slot, kind, segment, data, len);
	LWLockRelease(apm_shared->mailbox_lock);
	if (slot == NULL)
		apm_parcel_drop(segment);
}

void
apm_mailbox_fail(const ApmLetter *letter, int sqlstate, const char *message, const char *hint)
{
	ApmFailure failure;

	make_failure(&failure, sqlstate, message, hint);
	apm_mailbox_answer(letter, APM_ANSWER_FAILED, &failure, sizeof(failure));
}

bool
apm_mailbox_wanted(const ApmLetter *letter)
{
	bool wanted;

	LWLockAcquire(apm_shared->mailbox_lock, LW_SHARED);
	wanted = slot_of(letter) != NULL;
	LWLockRelease(apm_shared->mailbox_lock);
	return wanted;
}
