/*
 * test_mailbox.c
 *	  A worker for the tests of src/worker: it answers letters as the letters ask.
 *
 * A letter is a text:
 *
 *		echo ANYTHING	is answered with itself
 *		size N			is answered with N bytes
 *		slow MS			is answered with itself after that time, or forgotten when nobody wants it
 *		late MS			is answered with itself after that time, wanted or not
 *		fail			is answered with a failure
 *		error			raises an error in the turn
 *		exit			ends the worker's process in the turn
 *
 * It serves as this database's cloud worker, so the database must not be in apm.databases.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "storage/ipc.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "apm_loghook.h"
#include "worker/mailbox.h"
#include "worker/start.h"
#include "worker/worker.h"

PG_MODULE_MAGIC;

extern PGDLLEXPORT void test_worker_main(Datum arg);

#define KIND APM_WORKER_CLOUD
#define MAX_LETTERS 64

typedef struct Held
{
	ApmLetter letter;
	TimestampTz due;
	bool late;
	char text[32];
} Held;

static Held held[MAX_LETTERS];
static int holding = 0;

static void
handle(const ApmLetter *letter)
{
	char *text = pnstrdup(letter->request, letter->request_len);

	if (strncmp(text, "echo ", 5) == 0)
		apm_mailbox_answer(letter, APM_ANSWER_OK, letter->request, letter->request_len);
	else if (strncmp(text, "size ", 5) == 0)
	{
		Size size = strtoul(text + 5, NULL, 10);
		char *bytes = MemoryContextAllocHuge(CurrentMemoryContext, size + 1);

		memset(bytes, 'x', size);
		apm_mailbox_answer(letter, APM_ANSWER_OK, bytes, size);
		pfree(bytes);
	}
	else if (strncmp(text, "slow ", 5) == 0 || strncmp(text, "late ", 5) == 0)
	{
		held[holding].late = text[0] == 'l';
		held[holding].letter = *letter;
		strlcpy(held[holding].text, text, sizeof(held[holding].text));
		held[holding++].due = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), atoi(text + 5));
	}
	else if (strcmp(text, "fail") == 0)
		apm_mailbox_fail(letter, MAKE_SQLSTATE('A', 'P', '0', '1', '0'), "asked to fail",
						 "Ask for something else.");
	else if (strcmp(text, "error") == 0)
		ereport(ERROR, (errcode(ERRCODE_DATA_EXCEPTION), errmsg("asked for an error")));
	else if (strcmp(text, "exit") == 0)
		proc_exit(1);
	else
		apm_mailbox_fail(letter, ERRCODE_SYNTAX_ERROR, "no such request", NULL);
}

/* Answers what is due; -1 or how long until the next one is. */
static int
answer_held(void)
{
	TimestampTz now = GetCurrentTimestamp();
	int next = APM_TURN_IDLE;

	for (int i = 0; i < holding; i++)
	{
		long left = TimestampDifferenceMilliseconds(now, held[i].due);

		if (left > 0 && (held[i].late || apm_mailbox_wanted(&held[i].letter)))
		{
			next = next == APM_TURN_IDLE ? left : Min(next, left);
			continue;
		}
		apm_mailbox_answer(&held[i].letter, APM_ANSWER_OK, held[i].text, strlen(held[i].text));
		held[i--] = held[--holding];
	}
	return next;
}

static int
turn(void)
{
	ApmLetter letters[MAX_LETTERS];
	int next = answer_held();
	int n = apm_mailbox_take(KIND, letters, MAX_LETTERS - holding);

	apm_turn_begin("answering letters");
	apm_turn_commit();
	for (int i = 0; i < n; i++)
		handle(&letters[i]);
	return n > 0 ? APM_TURN_AGAIN : next;
}

void
test_worker_main(Datum arg)
{
	static const ApmWorkerDesc desc = {.kind = KIND, .turn = turn};

	apm_worker_run(&desc, arg);
}

/* test_worker_start(library text): answers when the process has started */
PG_FUNCTION_INFO_V1(test_worker_start);
Datum
test_worker_start(PG_FUNCTION_ARGS)
{
	ApmWorkerStart start = {.role = get_role_oid(APM_WORKER_ROLE, false)};
	BackgroundWorker worker = {0};
	BackgroundWorkerHandle *registered;
	pid_t pid;

	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	strlcpy(worker.bgw_name, "test worker", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "test worker", BGW_MAXLEN);
	strlcpy(worker.bgw_library_name, text_to_cstring(PG_GETARG_TEXT_PP(0)), BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "test_worker_main", BGW_MAXLEN);
	worker.bgw_main_arg = ObjectIdGetDatum(MyDatabaseId);
	worker.bgw_notify_pid = MyProcPid;
	memcpy(worker.bgw_extra, &start, sizeof(start));
	if (!RegisterDynamicBackgroundWorker(&worker, &registered) ||
		WaitForBackgroundWorkerStartup(registered, &pid) != BGWH_STARTED)
		elog(ERROR, "the test worker did not start");
	PG_RETURN_INT32(pid);
}

/* test_call(request text) returns bytea */
PG_FUNCTION_INFO_V1(test_call);
Datum
test_call(PG_FUNCTION_ARGS)
{
	text *request = PG_GETARG_TEXT_PP(0);
	void *answer;
	Size len;
	bytea *result;

	apm_mailbox_call(KIND, VARDATA_ANY(request), VARSIZE_ANY_EXHDR(request), &answer, &len);
	result = palloc(VARHDRSZ + len);
	SET_VARSIZE(result, VARHDRSZ + len);
	memcpy(VARDATA(result), answer, len);
	PG_RETURN_BYTEA_P(result);
}

/* test_hide() returns void: as an entry point whose arguments name a patient does */
PG_FUNCTION_INFO_V1(test_hide);
Datum
test_hide(PG_FUNCTION_ARGS)
{
	apm_hide_statement();
	PG_RETURN_VOID();
}
