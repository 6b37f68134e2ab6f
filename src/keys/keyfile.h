/*
 * keyfile.h
 *	  Files in apm.key_directory: read with suspicion, written durably.
 *
 * A name is a plain file name.  Every function checks the directory first and raises
 * AP003 when it is not fit to hold keys (not absolute, inside the data directory,
 * another's, writable by others) and AP002 when it is not set or not there.
 */
#ifndef APM_KEYFILE_H
#define APM_KEYFILE_H

#include "postgres.h"

#include <sys/types.h>
#include <time.h>

#include "nodes/pg_list.h"

#include "core/bytes.h"

/* Who may read a file: its owner alone, or everybody. */
typedef enum ApmFileAccess
{
	APM_FILE_PRIVATE,
	APM_FILE_PUBLIC
} ApmFileAccess;

/* Is apm.key_directory set and there?  Raises AP003 if it is and is not fit. */
extern bool apm_keyfile_directory_exists(void);
/* Makes the directory if it is not there (its parent must be), mode 0700. */
extern void apm_keyfile_make_directory(void);

/* Names of all files in the directory, palloc'd strings in no order. */
extern List *apm_keyfile_names(void);

/*
 * Appends a file's bytes to out.  False if there is no such file.  Raises AP003 unless
 * it is a regular file of the server's user with fitting access and at most max bytes.
 */
extern bool apm_keyfile_read(const char *name, ApmFileAccess access, size_t max, ApmBuf *out);

/* Makes a file; false, and nothing changed, if the name is taken.  Durable when it returns. */
extern bool apm_keyfile_create(const char *name, ApmFileAccess access, ApmSlice bytes);
/*
 * Puts bytes in the place of what a private file held, or of nothing; atomic, durable
 * when it returns.  The caller sees to it that nobody else replaces it meanwhile.
 */
extern void apm_keyfile_replace(const char *name, ApmSlice bytes);

/* Removes a file, durably; nothing happens if there is none. */
extern void apm_keyfile_remove(const char *name);

/*
 * Puts bytes behind the first so many of a private file that is there, in the place of what follows them; durable when
 * it returns.  A crash leaves those first ones as they are, and behind them some of the new, or zeros.  The
 * caller sees to it that nobody else writes the file meanwhile.
 */
extern void apm_keyfile_write_behind(const char *name, size_t kept, ApmSlice bytes);
/*
 * Puts bytes in the place of as many in the middle of a private file that is there; durable when it returns, and the rest
 * of the file as it was.  A crash leaves some of the new and some of the old in their place.
 */
extern void apm_keyfile_overwrite(const char *name, size_t at, ApmSlice bytes);
/* What the file holds becomes durable, whoever wrote it. */
extern void apm_keyfile_sync(const char *name);

/* Tells one content of a file from the next, without reading it; to be compared by its bytes. */
typedef struct ApmFileStamp
{
	dev_t device;
	ino_t inode;
	off_t size;
	struct timespec modified;
	struct timespec changed;
} ApmFileStamp;

/* False, and all zeros, if there is no such file.  Looks at its directory entry and no further. */
extern bool apm_keyfile_stamp(const char *name, ApmFileStamp *out);

/* The name of a file that belongs to a chain: prefix, "-", the chain id's first 16 hex digits, suffix; palloc'd. */
extern char *apm_keyfile_of_chain(const char *prefix, const ApmDigest *chain, const char *suffix);

/*
 * Opens (and makes, empty, if need be) a private file that is only there to be locked;
 * a descriptor that the caller keeps.
 */
extern int apm_keyfile_open_lock(const char *name);

#endif /* APM_KEYFILE_H */
