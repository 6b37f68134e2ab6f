/*
 * letter.c
 *	  Letters in the cloud worker's mailbox: taken, told apart, and what becomes of them when the store fails.
 *
 * A store can be away, hang, be somebody's mistake or lie, and the caller must be able to tell
 * these apart without reading another server's message, which could carry anything.  A store
 * that took long not to answer is not asked again for some seconds, or a hundred callers in a
 * row would each wait for half a minute.
 */
#include "postgres.h"

#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "apm_errors.h"
#include "cloud/letter.h"
#include "cloud/store.h"

#define LETTERS 64
#define VISIT_TIMEOUT_MS (30 * 1000)
#define SLOW_MS 3000	   /* a failure that took longer is not repeated ... */
#define SLOW_PAUSE_MS 5000 /* ... for that long */

static TimestampTz no_visit_before = 0;

/* What a caller is told of an error: our own messages carry no value. */
static void
explain(const ErrorData *error, ApmVisitFailure *out)
{
	ApmStoreFault fault = apm_store_fault(error->sqlerrcode);

	out->sqlstate = error->sqlerrcode;
	out->away = fault == APM_STORE_AWAY;
	out->tampered = fault == APM_STORE_ROW || error->sqlerrcode == ERRCODE_APM_TAMPERED;
	if (out->away)
	{
		out->sqlstate = ERRCODE_CONNECTION_EXCEPTION;
		out->message = "the cloud store did not answer";
		out->hint = "Records keep queueing; reads work again when it does. See apm.status.";
	}
	else if (out->sqlstate == ERRCODE_APM_TAMPERED || out->sqlstate == ERRCODE_APM_CLOUD)
	{
		out->message = error->message;
		out->hint = error->hint != NULL ? error->hint : "";
	}
	else if (fault == APM_STORE_ROW)
	{
		out->sqlstate = ERRCODE_APM_TAMPERED;
		out->message = "the cloud store answers with something that is not a record";
		out->hint = "";
	}
	else
	{
		out->sqlstate = ERRCODE_APM_CLOUD;
		out->message = "the cloud store cannot be read";
		out->hint = "Look at the attached table, its server and the user mapping of apm_worker.";
	}
}

void
apm_store_visit(void (*visit)(void *closure), void *closure, ApmVisitFailure *failure)
{
	MemoryContext turn = CurrentMemoryContext;
	TimestampTz started = GetCurrentTimestamp();

	memset(failure, 0, sizeof(*failure));
	PG_TRY();
	{
		apm_deadline_start(VISIT_TIMEOUT_MS);
		visit(closure);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(turn);
		explain(CopyErrorData(), failure);
		FlushErrorState();
		apm_turn_abort();
	}
	PG_END_TRY();
	apm_deadline_stop();

	if (failure->away && TimestampDifferenceExceeds(started, GetCurrentTimestamp(), SLOW_MS))
		no_visit_before = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), SLOW_PAUSE_MS);
}

void
apm_store_knock(void)
{
	if (GetCurrentTimestamp() < no_visit_before)
		ereport(ERROR,
				(errcode(ERRCODE_CONNECTION_FAILURE), errmsg("the cloud store did not answer just now")));
}

void
apm_store_answered(void)
{
	apm_push_soon();
	apm_removal_soon();
}

void
apm_letter_fail(const ApmLetter *letter, const ApmVisitFailure *failure)
{
	apm_mailbox_fail(letter, failure->sqlstate, failure->message, failure->hint);
}

void
apm_letter_refuse(const ApmLetter *letter)
{
	apm_mailbox_fail(letter, ERRCODE_PROTOCOL_VIOLATION, "the cloud worker does not understand the request",
					 "");
}

void
apm_letter_answer(const ApmLetter *letter, const ApmVisitFailure *failure, ApmBuf *out)
{
	if (failure->message != NULL)
		apm_letter_fail(letter, failure);
	else if (apm_buf_status(out) == APM_OK)
		apm_mailbox_answer(letter, APM_ANSWER_OK, out->data, out->len);
	else
		apm_mailbox_fail(letter, ERRCODE_OUT_OF_MEMORY, "out of memory", "");
	apm_buf_reset(out);
}

void
apm_letters_each(const ApmLetter *letters, int n, void (*serve)(const ApmLetter *letter))
{
	MemoryContext one =
		AllocSetContextCreate(CurrentMemoryContext, "apm cloud letter", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(one);

	for (int i = 0; i < n; i++)
	{
		serve(&letters[i]);
		MemoryContextReset(one);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(one);
}

/* ApmLetterKind, as the letter says; 0: nothing. */
static uint8
kind_of(const ApmLetter *letter)
{
	return letter->request_len > 0 ? *(const uint8 *) letter->request : 0;
}

int
apm_letters_turn(void)
{
	static void (*const servers[])(const ApmLetter *letters, int n) = {
		[APM_ASK_RECORDS] = apm_read_serve,	 [APM_ASK_ROWS] = apm_read_serve,
		[APM_ASK_MATCHES] = apm_match_serve, [APM_ASK_LIST] = apm_list_serve,
		[APM_ASK_STRAYS] = apm_strays_serve, [APM_ASK_SEALED] = apm_sealed_serve,
	};
	ApmLetter letters[LETTERS];
	ApmLetter alike[LETTERS];
	int taken = apm_mailbox_take(APM_WORKER_CLOUD, letters, LETTERS);

	for (size_t kind = 1; kind < lengthof(servers); kind++)
	{
		int n = 0;

		for (int i = 0; i < taken; i++)
		{
			if (kind_of(&letters[i]) == kind)
				alike[n++] = letters[i];
		}
		servers[kind](alike, n);
	}
	for (int i = 0; i < taken; i++)
	{
		if (kind_of(&letters[i]) == 0 || kind_of(&letters[i]) >= lengthof(servers))
			apm_letter_refuse(&letters[i]);
	}
	return taken == LETTERS ? APM_TURN_AGAIN : APM_TURN_IDLE;
}
