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
 *		run		the command
 *		record	that it was given out
 *
 * This worker serves readers, too.  So the file is written and the command runs beside everything else that it does, in
 * a process of their own, which is given up after a while.
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

#define PROGRAM_LIMIT_MS (30 * 1000)
#define PROGRAM_POLL_MS 50
#define BACKOFF_MIN_MS 1000
#define BACKOFF_MAX_MS (60 * 1000)

/* Where a digest is on its way out. */
typedef enum PublishStep
{
	STEP_NONE,	  /* there is none */
	STEP_TAKEN,	  /* it is to be filed */
	STEP_FILING,  /* its file is being written */
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
	TimestampTz give_up_at; /* what runs has until then */
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
	int fd = open(path, O_RDONLY | O_NOFOLLOW);
	ssize_t len;

	if (fd < 0)
		return errno;
	len = read(fd, found, sizeof(found));
	if (len < 0)
		return errno;
	close(fd);
	return (size_t) len == publishing.len && memcmp(found, publishing.text, publishing.len) == 0 ? 0 : EEXIST;
}

/* Writes a file that is not there yet.  0 or an errno. */
static int
write_new(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0644);

	if (fd < 0)
		return errno;
	errno = 0;
	if (write(fd, publishing.text, publishing.len) != (ssize_t) publishing.len || fchmod(fd, 0644) != 0 ||
		fsync(fd) != 0)
		return errno != 0 ? errno : ENOSPC;
	return close(fd) == 0 ? 0 : errno;
}

/* What is in the directory of that path is durable then.  0 or an errno. */
static int
sync_directory(const char *path)
{
	char directory[MAXPGPATH];
	int fd;

	strlcpy(directory, path, sizeof(directory));
	*strrchr(directory, '/') = '\0';
	fd = open(directory, O_RDONLY | O_DIRECTORY);
	/* file systems that cannot sync a directory say so, as PostgreSQL's own fsync_fname() knows */
	return fd >= 0 && (fsync(fd) == 0 || errno == EBADF || errno == EINVAL) ? 0 : errno;
}

/*
 * Writes the file whole and durably, unless it is there.  0 or an errno; EEXIST if another is there.  In a process of its
 * own: system calls only.
 */
static int
write_file(const char *path)
{
	char temporary[MAXPGPATH];
	int failure = compare_file(path);

	if (failure != ENOENT)
		return failure;
	strlcpy(temporary, path, sizeof(temporary));
	if (strlcat(temporary, ".new", sizeof(temporary)) >= sizeof(temporary))
		return ENAMETOOLONG;
	unlink(temporary); /* what a crash left */
	failure = write_new(temporary);
	if (failure == 0 && rename(temporary, path) != 0)
		failure = errno;
	if (failure != 0)
	{
		unlink(temporary);
		return failure;
	}
	return sync_directory(path);
}

/* It runs from now on. */
static void
begin_wait(PublishStep step)
{
	publishing.step = step;
	publishing.give_up_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), PROGRAM_LIMIT_MS);
}

/*
 * Has what runs ended?  If not, waits a moment, or less, since the latch is set for letters; or gives it up, goes back to
 * that step, and says that it was too late.
 */
static bool
has_ended(int *status, const char *activity, PublishStep back, const char *late)
{
	if (apm_program_ended(status))
		return true;
	if (GetCurrentTimestamp() >= publishing.give_up_at)
	{
		apm_program_kill();
		publishing.step = back;
		failed(late);
		return false;
	}
	apm_turn_activity(activity);
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, PROGRAM_POLL_MS,
					 PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	return false;
}

/* It has no file.  A later digest may do better. */
static void
not_filed(const char *why)
{
	publishing.step = STEP_NONE;
	failed(why);
}

static const char *
file_failure(int failure)
{
	return failure == EEXIST ? "the directory has another file of its name"
							 : psprintf("its file was not written: %s", strerror(failure));
}

/* Begins to write it into the directory, if there is one. */
static void
file(void)
{
	int failure;
	char *path;

	publishing.step = STEP_FILED;
	if (!is_set(apm_digest_directory))
		return;
	if (!is_absolute_path(apm_digest_directory))
	{
		not_filed("apm.digest_directory is not an absolute path");
		return;
	}
	path = psprintf("%s/apm-digest-" INT64_FORMAT ".json", apm_digest_directory, publishing.height);
	failure = apm_program_call(write_file, path);
	if (failure == 0)
		begin_wait(STEP_FILING);
	else
		not_filed(file_failure(failure));
}

/* Looks after the file. */
static void
look_at_file(void)
{
	int status;

	if (!has_ended(&status, "writing a digest", STEP_NONE, "its file was not written in time"))
		return;
	if (status == 0)
		publishing.step = STEP_FILED;
	else
		not_filed(file_failure(status != -1 && WIFEXITED(status) ? WEXITSTATUS(status) : EINTR));
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
	begin_wait(failure == 0 ? STEP_RUNNING : STEP_FILED);
	if (failure != 0)
		failed(psprintf("its command did not start: %s", strerror(failure)));
}

/* Looks after the command. */
static void
look_at_command(void)
{
	int status;

	if (!has_ended(&status, "waiting for the command that takes a digest", STEP_FILED,
				   "its command did not end in time"))
		return;
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
		if (publishing.step == STEP_FILING)
			look_at_file();
		if (publishing.step == STEP_FILED)
			start();
		if (publishing.step == STEP_RUNNING)
			look_at_command();
		if (publishing.step == STEP_GIVEN)
			record();
	}
	if (publishing.step == STEP_FILING || publishing.step == STEP_RUNNING)
		return APM_TURN_AGAIN;
	now = GetCurrentTimestamp();
	if (now < publishing.retry_at)
		return (int) TimestampDifferenceMilliseconds(now, publishing.retry_at) + 1;
	return APM_TURN_IDLE;
}
