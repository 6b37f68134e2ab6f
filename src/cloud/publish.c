/*
 * publish.c
 *	  Digests of the ledger, given out every apm.digest_interval blocks.
 *
 * A digest is worth something where those who could rewrite the ledger cannot write.  How it comes
 * there is the operator's: into a directory that somebody else keeps, or through a command.  Both are slow and may fail for
 * as long as they like, and so it is done here and not by the miner: what leaves the server is this worker's.
 *
 *		take	the head of the chain, if it is so many blocks behind the last one given out
 *		file	into the directory; the file stands there whole, or not at all
 *		run		the command, beside everything else that this worker does
 *		record	that it was given out
 *
 * A digest that is taken is tried until it is through.  Whatever is interrupted begins again with the head of then, so
 * a command may be given a digest twice, and never too few.  A file that stands in the directory under the height of another
 * digest is evidence: it is not replaced.
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "miscadmin.h"
#include "pgstat.h"
#include "storage/fd.h"
#include "storage/latch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "apm_command.h"
#include "apm_compat.h"
#include "apm_errors.h"
#include "apm_guc.h"
#include "apm_sql.h"
#include "chain/chain.h"
#include "cloud/program.h"
#include "cloud/store.h"
#include "worker/worker.h"

#define COMMAND_LIMIT_MS (30 * 1000)
#define COMMAND_POLL_MS 50
#define BACKOFF_MIN_MS 1000
#define BACKOFF_MAX_MS (60 * 1000)

/* Where a digest is on its way out. */
typedef enum PublishStep
{
	STEP_NONE,	  /* there is none */
	STEP_TAKEN,	  /* it is to be filed */
	STEP_FILED,	  /* the command is to be run */
	STEP_RUNNING, /* the command runs */
	STEP_GIVEN	  /* it is to be recorded */
} PublishStep;

static struct
{
	PublishStep step;
	int64 height;
	ApmDigest hash;
	char text[APM_PROGRAM_INPUT_MAX];
	size_t len;
	TimestampTz give_up_at; /* the command has until then */
	int backoff_ms;			/* 0: the last one got through */
	TimestampTz retry_at;	/* with a backoff */
} publishing;

static bool
is_set(const char *setting)
{
	return setting != NULL && setting[0] != '\0';
}

/* It was not given out, for that reason, and is tried again. */
static void
failed(const char *why)
{
	char *message = psprintf("a digest of the ledger was not given out: %s", why);

	if (publishing.backoff_ms == 0)
		ereport(LOG, (errcode(ERRCODE_APM_DIGEST), errmsg("%s", message),
					  errhint("It is tried again. See apm.digest_directory and apm.digest_command.")));
	apm_turn_failed(ERRCODE_APM_DIGEST, message);
	publishing.backoff_ms =
		publishing.backoff_ms == 0 ? BACKOFF_MIN_MS : Min(publishing.backoff_ms * 2, BACKOFF_MAX_MS);
	publishing.retry_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), publishing.backoff_ms);
}

/*
 * Is a digest due?  One that was given out and is not behind us, of a chain that was set back since, does not
 * count.
 */
static bool
is_due(void)
{
	static ApmStatement look = {
		.sql =
			"SELECT t.height, p.height FROM ONLY apm.tip AS t LEFT JOIN ONLY apm.digest_published AS p ON true",
	};
	ApmRefusal why = apm_refusal_get();
	int64 tip;
	int64 last;

	/* not of a copy, or of half a restore */
	if ((why != APM_REFUSAL_NONE && why != APM_REFUSAL_UNKNOWN) || apm_chain_loaded())
		return false;
	if (apm_run(&look, NULL) == 0)
		return false;
	if (apm_row_null(0, 2))
		return true;
	tip = apm_row_int8(0, 1);
	last = apm_row_int8(0, 2);
	return tip < last || tip - last >= apm_digest_interval;
}

static void
take_head(void)
{
	ApmBuf text = {0};
	ApmHead head;

	if (!apm_chain_head(&head))
		return;
	apm_head_write(&head, &text);
	apm_put_u8(&text, '\n');
	apm_check(apm_buf_status(&text), "write a digest");
	Assert(text.len <= sizeof(publishing.text));
	memcpy(publishing.text, text.data, text.len);
	publishing.len = text.len;
	publishing.height = (int64) head.header.height;
	publishing.hash = head.hash;
	publishing.step = STEP_TAKEN;
}

/* A turn of its own.  A head that cannot be given out is shown, and keeps nothing else from being done. */
static void
take(void)
{
	MemoryContext turn = CurrentMemoryContext;

	PG_TRY();
	{
		apm_turn_begin("looking for a digest to give out");
		if (is_due())
			take_head();
		apm_turn_commit_async();
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(turn);
		error = CopyErrorData();
		if (error->sqlerrcode != ERRCODE_APM_TAMPERED)
			PG_RE_THROW();
		FlushErrorState();
		apm_turn_abort();
		failed(error->message);
	}
	PG_END_TRY();
}

/* What stands in that file already.  0: the digest; ENOENT: nothing; EEXIST: something else; or another errno. */
static int
compare_file(const char *path)
{
	char found[APM_PROGRAM_INPUT_MAX];
	ssize_t len;
	int failure;
	int fd = BasicOpenFile(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | PG_BINARY);

	if (fd < 0)
		return errno;
	len = read(fd, found, sizeof(found));
	failure = len < 0 ? errno : 0;
	close(fd);
	if (failure != 0)
		return failure;
	return (size_t) len == publishing.len && memcmp(found, publishing.text, publishing.len) == 0 ? 0 : EEXIST;
}

/* Writes the file whole and durably.  0 or an errno. */
static int
write_file(const char *path)
{
	char *temporary = psprintf("%s.new", path);
	int failure = 0;
	int fd;

	unlink(temporary); /* what a crash left */
	fd = BasicOpenFilePerm(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | PG_BINARY, 0644);
	if (fd < 0)
		return errno;
	errno = 0;
	if (write(fd, publishing.text, publishing.len) != (ssize_t) publishing.len || fchmod(fd, 0644) != 0)
		failure = errno != 0 ? errno : ENOSPC;
	close(fd);
	if (failure == 0 && durable_rename(temporary, path, DEBUG1) != 0)
		failure = errno != 0 ? errno : EIO;
	if (failure != 0)
		unlink(temporary);
	return failure;
}

/* Into the directory.  After a failure a later digest may do better. */
static void
file(void)
{
	int failure;
	char *path;

	publishing.step = STEP_FILED;
	if (!is_set(apm_digest_directory))
		return;
	apm_turn_activity("writing a digest");
	path = psprintf("%s/apm-digest-" INT64_FORMAT ".json", apm_digest_directory, publishing.height);
	failure = is_absolute_path(path) ? compare_file(path) : EINVAL;
	if (failure == ENOENT)
		failure = write_file(path);
	if (failure == 0)
		return;
	publishing.step = STEP_NONE;
	failed(failure == EEXIST   ? "the directory has another file of its name"
		   : failure == EINVAL ? "apm.digest_directory is not an absolute path"
							   : psprintf("its file was not written: %s", strerror(failure)));
}

/* Starts the command, if there is one. */
static void
start(void)
{
	char height[24];
	int failure;

	publishing.step = STEP_GIVEN;
	if (!is_set(apm_digest_command))
		return;
	snprintf(height, sizeof(height), INT64_FORMAT, publishing.height);
	failure = apm_program_start(apm_command_line(apm_digest_command, 'h', height),
								APM_SLICE(publishing.text, publishing.len));
	publishing.step = failure == 0 ? STEP_RUNNING : STEP_FILED;
	publishing.give_up_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), COMMAND_LIMIT_MS);
	if (failure != 0)
		failed(psprintf("its command did not start: %s", strerror(failure)));
}

/* The command has not ended: waits a moment, or less, since the latch is set for letters. */
static void
wait_for_command(void)
{
	apm_turn_activity("waiting for the command that takes a digest");
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, COMMAND_POLL_MS,
					 PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
}

/* Looks after the command. */
static void
look(void)
{
	int status;

	if (!apm_program_ended(&status))
	{
		if (GetCurrentTimestamp() < publishing.give_up_at)
			wait_for_command();
		else
		{
			apm_program_kill();
			publishing.step = STEP_FILED;
			failed("its command did not end in time");
		}
		return;
	}
	publishing.step = status == 0 ? STEP_GIVEN : STEP_FILED;
	if (status != -1 && WIFEXITED(status) && status != 0)
		failed(psprintf("its command ended with exit code %d", WEXITSTATUS(status)));
	else if (status != 0)
		failed("its command was ended from outside");
}

static void
record(void)
{
	static ApmStatement note = {
		.sql = "INSERT INTO apm.digest_published AS p (height, hash, published_at)"
			   " VALUES ($1, $2, pg_catalog.clock_timestamp()) ON CONFLICT (one) DO UPDATE"
			   " SET height = EXCLUDED.height, hash = EXCLUDED.hash, published_at = EXCLUDED.published_at",
		.nargs = 2,
		.types = {INT8OID, BYTEAOID},
	};
	Datum args[2];

	apm_turn_begin("recording a digest that was given out");
	args[0] = Int64GetDatum(publishing.height);
	args[1] = apm_digest_datum(&publishing.hash);
	apm_run(&note, args);
	apm_turn_commit();
	if (publishing.backoff_ms > 0)
		ereport(LOG, (errmsg("digests of the ledger are given out again")));
	publishing.backoff_ms = 0;
	publishing.step = STEP_NONE;
}

static bool
is_wanted(void)
{
	return apm_digest_interval > 0 && (is_set(apm_digest_directory) || is_set(apm_digest_command));
}

int
apm_publish_turn(void)
{
	TimestampTz now = GetCurrentTimestamp();

	if (!is_wanted())
	{
		apm_program_kill();
		publishing.step = STEP_NONE;
		return APM_TURN_IDLE;
	}
	if (now >= publishing.retry_at)
	{
		if (publishing.step == STEP_NONE)
			take();
		if (publishing.step == STEP_TAKEN)
			file();
		if (publishing.step == STEP_FILED)
			start();
		if (publishing.step == STEP_RUNNING)
			look();
		if (publishing.step == STEP_GIVEN)
			record();
	}
	if (publishing.step == STEP_RUNNING)
		return APM_TURN_AGAIN;
	now = GetCurrentTimestamp();
	if (now < publishing.retry_at)
		return (int) TimestampDifferenceMilliseconds(now, publishing.retry_at) + 1;
	return APM_TURN_IDLE;
}
