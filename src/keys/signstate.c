/*
 * signstate.c
 *	  What this node last signed, in a file outside the data directory.
 *
 * The file is written before each signature is committed, and a block waits for that.  To replace a
 * file takes two flushes, of the new one and of the directory, and each of them writes
 * metadata; so it is written in place, in one flush.  It has two pages, each with one state, and the older
 * one is overwritten: a crash in the middle of that leaves the newer one whole, and what was going
 * to be signed is not signed.  A serial number tells which is newer, since heights may go back.  The
 * checksum is there for disks and hands, not for attackers: who can write the file can sign, too.
 *
 * The lock is an flock on a file of its own, since the sign-state itself is another file
 * after each write.  It belongs to the process and ends with it, however it ends.  What it
 * keeps apart is servers and databases; processes of one database keep each other from
 * signing at the same time with PostgreSQL's own locks.  So the file says which database
 * of which running server holds it.
 */
#include "postgres.h"

#include <sys/file.h>
#include <unistd.h>

#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/timestamp.h"

#include "apm_compat.h"
#include "apm_errors.h"
#include "core/digest.h"
#include "keys/keyfile.h"
#include "keys/signstate.h"

#define STATE_TAG 'S'
#define STATE_VERSION 2
#define STATE_BODY_LEN (2 + 8 + APM_DIGEST_LEN + 8 + APM_DIGEST_LEN + 3 * 8 + 2 * 4)
#define STATE_LEN (STATE_BODY_LEN + APM_DIGEST_LEN)
#define PAGES 2
#define PAGE_LEN 4096 /* what disks write at once, or more */
#define FILE_LEN (PAGES * PAGE_LEN)
#define FILE_PREFIX "sign-state"

/* A page: zeros behind the state. */
static void
encode(const ApmSignState *state, uint64 serial, ApmBuf *out)
{
	static const uint8 zeros[PAGE_LEN - STATE_LEN];
	ApmDigest checksum;

	apm_put_u8(out, STATE_TAG);
	apm_put_u8(out, STATE_VERSION);
	apm_put_u64(out, serial);
	apm_put_raw(out, state->chain.bytes, APM_DIGEST_LEN);
	apm_put_u64(out, state->height);
	apm_put_raw(out, state->hash.bytes, APM_DIGEST_LEN);
	apm_put_u64(out, state->vote_source);
	apm_put_u64(out, state->vote_target);
	apm_put_u64(out, state->system_id);
	apm_put_u32(out, state->timeline);
	apm_put_u32(out, state->database);
	apm_check(apm_buf_status(out), "write the sign-state");
	apm_check(apm_sha256(out->data, out->len, &checksum), "write the sign-state");
	apm_put_raw(out, checksum.bytes, APM_DIGEST_LEN);
	apm_put_raw(out, zeros, sizeof(zeros));
	apm_check(apm_buf_status(out), "write the sign-state");
}

/* False unless these are the bytes of a page with a state. */
static bool
decode(ApmSlice in, ApmSignState *out, uint64 *serial)
{
	ApmReader r;
	ApmDigest checksum;
	ApmDigest computed;

	apm_reader_init(&r, APM_SLICE(in.data, STATE_LEN));
	apm_expect_u8(&r, STATE_TAG);
	apm_expect_u8(&r, STATE_VERSION);
	*serial = apm_get_u64(&r);
	apm_get_raw(&r, out->chain.bytes, APM_DIGEST_LEN);
	out->height = apm_get_u64(&r);
	apm_get_raw(&r, out->hash.bytes, APM_DIGEST_LEN);
	out->vote_source = apm_get_u64(&r);
	out->vote_target = apm_get_u64(&r);
	out->system_id = apm_get_u64(&r);
	out->timeline = apm_get_u32(&r);
	out->database = apm_get_u32(&r);
	apm_get_raw(&r, checksum.bytes, APM_DIGEST_LEN);
	if (!apm_reader_done(&r))
		return false;
	apm_check(apm_sha256(in.data, STATE_BODY_LEN, &computed), "read the sign-state");
	return apm_equal(checksum.bytes, computed.bytes, APM_DIGEST_LEN);
}

/* The newest state in the file and its page; false if there is no file.  *page is -1 if no page is whole. */
static bool
read_newest(const char *name, ApmSignState *out, uint64 *serial, int *page)
{
	ApmBuf bytes = {0};

	*page = -1;
	*serial = 0;
	if (!apm_keyfile_read(name, APM_FILE_PRIVATE, FILE_LEN, &bytes))
		return false;
	for (int i = 0; i < PAGES && bytes.len == FILE_LEN; i++)
	{
		ApmSignState state;
		uint64 its;

		if (!decode(APM_SLICE(bytes.data + i * PAGE_LEN, PAGE_LEN), &state, &its) ||
			(*page >= 0 && its <= *serial))
			continue;
		*out = state;
		*serial = its;
		*page = i;
	}
	apm_buf_reset(&bytes);
	return true;
}

bool
apm_signstate_read(const ApmDigest *chain, ApmSignState *out)
{
	char *name = apm_keyfile_of_chain(FILE_PREFIX, chain, "");
	uint64 serial;
	int page;

	if (!read_newest(name, out, &serial, &page))
		return false;
	if (page < 0)
		ereport(ERROR,
				(errcode(ERRCODE_APM_KEY_REFUSED), errmsg("file \"%s\" is not a whole sign-state", name)));
	if (!apm_equal(out->chain.bytes, chain->bytes, APM_DIGEST_LEN))
		ereport(ERROR,
				(errcode(ERRCODE_APM_KEY_REFUSED), errmsg("file \"%s\" belongs to another chain", name)));
	return true;
}

/* A new file, whatever there was: the state on its first page, nothing on the others. */
static void
write_file(const char *name, const ApmSignState *state)
{
	static const uint8 zeros[FILE_LEN - PAGE_LEN];
	ApmBuf bytes = {0};

	encode(state, 1, &bytes);
	apm_put_raw(&bytes, zeros, sizeof(zeros));
	apm_check(apm_buf_status(&bytes), "write the sign-state");
	apm_keyfile_replace(name, APM_SLICE(bytes.data, bytes.len));
	apm_buf_reset(&bytes);
}

void
apm_signstate_write(const ApmSignState *state)
{
	char *name = apm_keyfile_of_chain(FILE_PREFIX, &state->chain, "");
	ApmSignState newest;
	ApmBuf bytes = {0};
	uint64 serial;
	int page;

	if (!read_newest(name, &newest, &serial, &page) || page < 0)
	{
		write_file(name, state);
		return;
	}
	encode(state, serial + 1, &bytes);
	apm_keyfile_overwrite(name, (size_t) ((page + 1) % PAGES) * PAGE_LEN, APM_SLICE(bytes.data, bytes.len));
	apm_buf_reset(&bytes);
}

/* The database of the running server that we are in. */
typedef struct LockHolder
{
	int64 started; /* postmaster: when, and its process id */
	int64 postmaster;
	int64 database;
} LockHolder;

static LockHolder
lock_holder(void)
{
	LockHolder us = {.started = PgStartTime, .postmaster = PostmasterPid, .database = MyDatabaseId};

	return us;
}

/* Is the lock held for our own database?  A holder that has not signed the file yet counts as a stranger. */
static bool
held_for_us(int fd)
{
	LockHolder us = lock_holder();
	LockHolder them;

	return pread(fd, &them, sizeof(them), 0) == sizeof(them) && memcmp(&us, &them, sizeof(us)) == 0;
}

bool
apm_signstate_lock(const ApmDigest *chain)
{
	LockHolder us = lock_holder();
	/* a process serves one database, and a database one chain */
	static ApmDigest held_chain;
	static int held_fd = -1;
	int fd;

	if (held_fd >= 0 && apm_equal(held_chain.bytes, chain->bytes, APM_DIGEST_LEN))
		return true;

	fd = apm_keyfile_open_lock(apm_keyfile_of_chain(FILE_PREFIX, chain, ".lock"));
	if (flock(fd, LOCK_EX | LOCK_NB) != 0)
	{
		int saved = errno;
		bool ours = saved == EWOULDBLOCK && held_for_us(fd);

		close(fd);
		if (saved == EWOULDBLOCK)
			return ours;
		errno = saved;
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not lock the sign-state: %m")));
	}
	if (pwrite(fd, &us, sizeof(us), 0) != sizeof(us))
	{
		int saved = errno;

		close(fd);
		errno = saved;
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not write the lock of the sign-state: %m")));
	}
	if (held_fd >= 0)
		close(held_fd);
	else
		ReserveExternalFD();
	held_fd = fd;
	held_chain = *chain;
	return true;
}

void
apm_signstate_here(ApmSignState *out)
{
	memset(out, 0, sizeof(*out));
	out->system_id = GetSystemIdentifier();
	if (RecoveryInProgress())
		(void) GetXLogReplayRecPtr(&out->timeline);
	else
		out->timeline = GetWALInsertionTimeLine();
	out->database = MyDatabaseId;
}
