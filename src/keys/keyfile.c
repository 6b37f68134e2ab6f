/*
 * keyfile.c
 *	  Files in apm.key_directory: read with suspicion, written durably.
 *
 * Whoever can put a file where the server looks for a key chooses the key; whoever can
 * read one has it.  So the directory must belong to the server's user and be writable by
 * nobody else, and must not lie in the data directory, where a base backup would
 * take it along.  A file must be a regular one of the same user, not a link, and
 * a secret one readable by nobody else.  It is opened without following a link and without
 * waiting for a pipe's other end, and judged by its descriptor, not by its name.  Each
 * refusal has words of its own: a DBA reads them, and file names are no secret.
 *
 * Durability does not follow the setting fsync: a key or a sign-state that is lost
 * cannot be computed again from anything.
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "miscadmin.h"
#include "storage/fd.h"

#include "apm_errors.h"
#include "apm_guc.h"
#include "keys/keyfile.h"

#define CHAIN_HEX 16

/* Reports on a name in the key directory. */
#define refuse_file(name, ...) ereport(ERROR, (errcode(ERRCODE_APM_KEY_REFUSED), errmsg(__VA_ARGS__, name)))

static bool
directory_is_set(void)
{
	return apm_key_directory != NULL && apm_key_directory[0] != '\0';
}

/* Does the real path lie in (or equal) the data directory? */
static bool
inside_data_directory(const char *path)
{
	char *real = realpath(path, NULL);
	char *data = realpath(DataDir, NULL);
	bool known = real != NULL && data != NULL;
	bool inside = false;

	if (known)
	{
		size_t len = strlen(data);

		inside = strncmp(real, data, len) == 0 && (real[len] == '/' || real[len] == '\0');
	}
	free(real);
	free(data);
	if (!known)
		ereport(ERROR, (errcode(ERRCODE_APM_KEY_REFUSED),
						errmsg("could not tell whether the key directory lies in the data directory")));
	return inside;
}

bool
apm_keyfile_directory_exists(void)
{
	struct stat st;

	if (!directory_is_set())
		return false;
	if (!is_absolute_path(apm_key_directory) || strlen(apm_key_directory) >= MAXPGPATH - NAMEDATALEN)
		ereport(ERROR, (errcode(ERRCODE_APM_KEY_REFUSED),
						errmsg("the key directory must be given by an absolute path")));
	if (stat(apm_key_directory, &st) != 0)
	{
		if (errno == ENOENT)
			return false;
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not look at the key directory: %m")));
	}
	if (!S_ISDIR(st.st_mode))
		ereport(ERROR, (errcode(ERRCODE_APM_KEY_REFUSED), errmsg("the key directory is not a directory")));
	if (st.st_uid != geteuid())
		ereport(ERROR, (errcode(ERRCODE_APM_KEY_REFUSED), errmsg("the key directory belongs to another user"),
						errhint("It must belong to the user that the server runs as.")));
	if ((st.st_mode & (S_IWGRP | S_IWOTH)) != 0)
		ereport(ERROR, (errcode(ERRCODE_APM_KEY_REFUSED), errmsg("the key directory is writable by others"),
						errhint("Its mode should be 0700.")));
	if (inside_data_directory(apm_key_directory))
		ereport(ERROR,
				(errcode(ERRCODE_APM_KEY_REFUSED), errmsg("the key directory lies in the data directory"),
				 errhint("A backup of the data directory must not hold the keys.")));
	return true;
}

static void
require_directory(void)
{
	if (!directory_is_set())
		ereport(ERROR, (errcode(ERRCODE_APM_KEY_MISSING), errmsg("apm.key_directory is not set"),
						errhint("Set it to a directory of the server's user outside the data directory.")));
	if (!apm_keyfile_directory_exists())
		ereport(ERROR, (errcode(ERRCODE_APM_KEY_MISSING), errmsg("the key directory does not exist"),
						errhint("SELECT apm_keygen() makes it, with keys in it.")));
}

/* Makes entries of a directory durable. */
static void
sync_directory(const char *path)
{
	int fd = OpenTransientFile(path, O_RDONLY | O_DIRECTORY | PG_BINARY);

	if (fd < 0 || fsync(fd) != 0)
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not write the key directory to disk: %m")));
	CloseTransientFile(fd);
}

void
apm_keyfile_make_directory(void)
{
	if (directory_is_set() && !apm_keyfile_directory_exists())
	{
		char parent[MAXPGPATH];

		if (mkdir(apm_key_directory, S_IRWXU) != 0 && errno != EEXIST)
			ereport(ERROR, (errcode_for_file_access(), errmsg("could not make the key directory: %m")));
		strlcpy(parent, apm_key_directory, sizeof(parent));
		get_parent_directory(parent);
		sync_directory(parent);
	}
	require_directory();
}

List *
apm_keyfile_names(void)
{
	DIR *dir;
	struct dirent *entry;
	List *names = NIL;

	require_directory();
	dir = AllocateDir(apm_key_directory);
	while ((entry = ReadDir(dir, apm_key_directory)) != NULL)
		names = lappend(names, pstrdup(entry->d_name));
	FreeDir(dir);
	return names;
}

/* Raises unless what is open may be trusted with this access. */
static void
judge_file(int fd, const char *name, ApmFileAccess access, size_t max)
{
	mode_t forbidden = access == APM_FILE_PRIVATE ? S_IRWXG | S_IRWXO : S_IWGRP | S_IWOTH;
	struct stat st;

	if (fstat(fd, &st) != 0)
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not look at key file \"%s\": %m", name)));
	if (S_ISDIR(st.st_mode))
		refuse_file(name, "key file \"%s\" is a directory");
	if (!S_ISREG(st.st_mode))
		refuse_file(name, "key file \"%s\" is not a regular file");
	if (st.st_uid != geteuid())
		ereport(ERROR,
				(errcode(ERRCODE_APM_KEY_REFUSED), errmsg("key file \"%s\" belongs to another user", name),
				 errhint("It must belong to the user that the server runs as.")));
	if ((st.st_mode & forbidden) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_APM_KEY_REFUSED), errmsg("key file \"%s\" has group or other access", name),
				 errhint("Its mode should be %s.", access == APM_FILE_PRIVATE ? "0600" : "0644")));
	if (st.st_size == 0)
		refuse_file(name, "key file \"%s\" is empty");
	if ((size_t) st.st_size > max)
		refuse_file(name, "key file \"%s\" is too long");
}

static char *
path_of(const char *name)
{
	return psprintf("%s/%s", apm_key_directory, name);
}

bool
apm_keyfile_read(const char *name, ApmFileAccess access, size_t max, ApmBuf *out)
{
	size_t start = out->len;
	ssize_t got;
	int fd;

	require_directory();
	fd = OpenTransientFile(path_of(name), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | PG_BINARY);
	if (fd < 0)
	{
		if (errno == ENOENT)
			return false;
		if (errno == ELOOP)
			refuse_file(name, "key file \"%s\" is a symbolic link");
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not open key file \"%s\": %m", name)));
	}
	judge_file(fd, name, access, max);

	/* one byte more than allowed, so that a file that grows meanwhile is seen */
	if (!apm_buf_reserve(out, max + 1))
		apm_raise(APM_ERR_MEMORY, "read a key file");
	while ((got = read(fd, out->data + out->len, start + max + 1 - out->len)) > 0)
		out->len += got;
	if (got < 0)
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not read key file \"%s\": %m", name)));
	CloseTransientFile(fd);
	if (out->len - start > max)
		refuse_file(name, "key file \"%s\" is too long");
	return true;
}

/* A new file with these bytes, written to disk. */
static void
write_new(const char *path, const char *name, ApmFileAccess access, ApmSlice bytes)
{
	mode_t mode = access == APM_FILE_PRIVATE ? 0600 : 0644;
	int fd;

	/* what a crash left: nobody else writes this name now */
	if (unlink(path) != 0 && errno != ENOENT)
		ereport(ERROR, (errcode_for_file_access(),
						errmsg("could not remove an old copy of key file \"%s\": %m", name)));
	fd = OpenTransientFilePerm(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | PG_BINARY, mode);
	if (fd < 0)
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not make key file \"%s\": %m", name)));
	errno = 0;
	if (write(fd, bytes.data, bytes.len) != (ssize_t) bytes.len || fchmod(fd, mode) != 0 || fsync(fd) != 0)
	{
		int saved = errno != 0 ? errno : ENOSPC;

		unlink(path);
		errno = saved;
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not write key file \"%s\": %m", name)));
	}
	CloseTransientFile(fd);
}

bool
apm_keyfile_create(const char *name, ApmFileAccess access, ApmSlice bytes)
{
	char *temporary;
	bool made;
	int failure;

	require_directory();
	temporary = psprintf("%s/.%s.%d", apm_key_directory, name, MyProcPid);
	write_new(temporary, name, access, bytes);

	/* link() leaves a name that is taken alone, where rename() would replace it */
	made = link(temporary, path_of(name)) == 0;
	failure = errno;
	unlink(temporary);
	errno = failure;
	if (!made && failure != EEXIST)
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not make key file \"%s\": %m", name)));
	sync_directory(apm_key_directory);
	return made;
}

void
apm_keyfile_replace(const char *name, ApmSlice bytes)
{
	char *temporary;

	require_directory();
	temporary = psprintf("%s/.%s.new", apm_key_directory, name);
	write_new(temporary, name, APM_FILE_PRIVATE, bytes);
	if (rename(temporary, path_of(name)) != 0)
	{
		int saved = errno;

		unlink(temporary);
		errno = saved;
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not replace file \"%s\": %m", name)));
	}
	sync_directory(apm_key_directory);
}

void
apm_keyfile_remove(const char *name)
{
	require_directory();
	if (unlink(path_of(name)) != 0 && errno != ENOENT)
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not remove key file \"%s\": %m", name)));
	/* also where it was gone: whoever removed it may not have come so far */
	sync_directory(apm_key_directory);
}

/* Opens a private file that is there for writing. */
static int
open_to_write(const char *name)
{
	int fd;

	require_directory();
	fd = OpenTransientFile(path_of(name), O_WRONLY | O_NOFOLLOW | O_NONBLOCK | PG_BINARY);
	if (fd < 0)
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not open file \"%s\": %m", name)));
	judge_file(fd, name, APM_FILE_PRIVATE, SIZE_MAX);
	return fd;
}

static void
sync_file(int fd, const char *name)
{
	if (fsync(fd) != 0)
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not write file \"%s\" to disk: %m", name)));
	CloseTransientFile(fd);
}

void
apm_keyfile_write_behind(const char *name, size_t kept, ApmSlice bytes)
{
	int fd = open_to_write(name);

	errno = 0;
	if (ftruncate(fd, (off_t) kept) != 0 ||
		pwrite(fd, bytes.data, bytes.len, (off_t) kept) != (ssize_t) bytes.len)
	{
		if (errno == 0)
			errno = ENOSPC;
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not write file \"%s\": %m", name)));
	}
	sync_file(fd, name);
}

void
apm_keyfile_overwrite(const char *name, size_t at, ApmSlice bytes)
{
	int fd = open_to_write(name);

	errno = 0;
	if (pwrite(fd, bytes.data, bytes.len, (off_t) at) != (ssize_t) bytes.len)
	{
		if (errno == 0)
			errno = ENOSPC;
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not write file \"%s\": %m", name)));
	}
	if (fdatasync(fd) != 0)
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not write file \"%s\" to disk: %m", name)));
	CloseTransientFile(fd);
}

void
apm_keyfile_sync(const char *name)
{
	sync_file(open_to_write(name), name);
}

bool
apm_keyfile_stamp(const char *name, ApmFileStamp *out)
{
	struct stat st;
	char *path;
	bool there;

	if (!directory_is_set())
		require_directory();
	memset(out, 0, sizeof(*out));
	path = path_of(name);
	there = lstat(path, &st) == 0;
	if (!there && errno != ENOENT)
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not look at file \"%s\": %m", name)));
	pfree(path);
	if (!there)
		return false;
	out->device = st.st_dev;
	out->inode = st.st_ino;
	out->size = st.st_size;
	out->modified = st.st_mtim;
	out->changed = st.st_ctim;
	return true;
}

char *
apm_keyfile_of_chain(const char *prefix, const ApmDigest *chain, const char *suffix)
{
	char hex[CHAIN_HEX + 1];

	apm_hex_encode(chain->bytes, CHAIN_HEX / 2, hex);
	return psprintf("%s-%s%s", prefix, hex, suffix);
}

int
apm_keyfile_open_lock(const char *name)
{
	int fd;

	require_directory();
	fd = BasicOpenFilePerm(path_of(name), O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
	if (fd < 0)
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not open lock file \"%s\": %m", name)));
	return fd;
}
