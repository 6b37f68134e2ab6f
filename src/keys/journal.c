/*
 * journal.c
 *	  Who was erased, in a file beside the keys.
 *
 * The file only grows, an entry at a time, and each entry has a hash that covers all before it.  So there
 * are two things that can be wrong with it, and they must be told apart.  A crash can leave the last entry
 * without its end: too short, or with zeros where the disk had not got to.  Nobody has acted on such an
 * entry, because whoever adds one waits for the disk first.  Anything else is somebody's hand, and is
 * refused: a journal that is not believed serves nobody, while one that is believed wrongly serves the
 * dead.
 *
 * The first entry makes the file, complete, under its name; later ones are written behind the last whole
 * one.  A lock on a file of its own keeps writers apart.  Readers take no lock: what they see of an entry
 * that is being written is an end like that of a crash, and the file has changed when they look again.
 */
#include "postgres.h"

#include <sys/file.h>
#include <unistd.h>

#include "miscadmin.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "apm_errors.h"
#include "core/digest.h"
#include "keys/journal.h"
#include "keys/keyfile.h"

#define ENTRY_TAG 'J'
#define ENTRY_VERSION 1
#define ENTRY_APID (2 + 8 + 2 + APM_STAFF_LEN + 2 + 4) /* where its aPid begins */
#define ENTRY_MAX (ENTRY_APID + APM_APID_MAX + APM_DIGEST_LEN)
#define FILE_PREFIX "erasure-journal"
/* how much others may add between our look at the file's size and our reading it */
#define GROWTH (1024 * 1024)

/* A file as it was read. */
typedef struct Journal
{
	int n;
	int capacity;
	ApmErased *entries;
	ApmDigest last; /* hash of the last whole entry; zeros: there is none */
	size_t good;	/* bytes up to its end */
} Journal;

/* What this process knows of the file. */
static struct
{
	uint64 serial; /* counts readings; 0: not read yet */
	ApmDigest chain;
	ApmFileStamp stamp;
	MemoryContext memory;
	HTAB *apids; /* NULL: nobody was erased */
} cache;

static void
damaged(const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_APM_KEY_REFUSED), errmsg("file \"%s\" is not a whole journal of erasures", name),
			 errdetail("An entry was altered, or one is missing."),
			 errhint("No patient is opened until it is put back from a copy of the key directory.")));
}

static void
hash_entry(const ApmDigest *before, ApmSlice entry, ApmDigest *out)
{
	ApmSlice parts[] = {APM_SLICE(before->bytes, APM_DIGEST_LEN), entry};

	apm_check(apm_sha256_parts(parts, lengthof(parts), out), "write the journal of erasures");
}

static void
encode(const ApmErased *erased, const ApmDigest *before, ApmBuf *out)
{
	ApmDigest hash;

	apm_put_u8(out, ENTRY_TAG);
	apm_put_u8(out, ENTRY_VERSION);
	apm_put_u64(out, erased->time_us);
	apm_put_u16(out, erased->reason);
	apm_put_raw(out, erased->actor, APM_STAFF_LEN);
	apm_put_u16(out, erased->roles);
	apm_put_bytes(out, erased->apid, strlen(erased->apid));
	apm_check(apm_buf_status(out), "write the journal of erasures");
	hash_entry(before, APM_SLICE(out->data, out->len), &hash);
	apm_put_raw(out, hash.bytes, APM_DIGEST_LEN);
	apm_check(apm_buf_status(out), "write the journal of erasures");
}

/* Reads one entry and checks that it follows; false if it is none. */
static bool
decode(ApmReader *r, const ApmDigest *before, ApmErased *out, ApmDigest *hash)
{
	const uint8 *start = r->pos;
	ApmDigest expected;
	ApmSlice apid;
	size_t len;

	memset(out, 0, sizeof(*out));
	apm_expect_u8(r, ENTRY_TAG);
	apm_expect_u8(r, ENTRY_VERSION);
	out->time_us = apm_get_u64(r);
	out->reason = apm_get_u16(r);
	apm_get_raw(r, out->actor, APM_STAFF_LEN);
	out->roles = apm_get_u16(r);
	apid = apm_get_bytes(r, APM_APID_MAX);
	len = r->pos - start;
	apm_get_raw(r, hash->bytes, APM_DIGEST_LEN);
	if (r->failed || apid.len == 0)
		return false;
	memcpy(out->apid, apid.data, apid.len);
	hash_entry(before, APM_SLICE(start, len), &expected);
	return memcmp(hash, &expected, sizeof(expected)) == 0;
}

/*
 * Could a crash have left this behind the last whole entry?  Its end is missing, or is zeros, and before those may stand
 * as much of it as the disk had got to, or nothing.
 */
static bool
is_torn(ApmSlice rest)
{
	static const uint8 zeros[APM_DIGEST_LEN];
	ApmReader r;
	uint32 len;

	if (rest.len >= APM_DIGEST_LEN && rest.len <= ENTRY_MAX &&
		memcmp(rest.data + rest.len - APM_DIGEST_LEN, zeros, APM_DIGEST_LEN) == 0)
		return true;

	/* the entry that begins here would be longer */
	apm_reader_init(&r, rest);
	(void) apm_get_slice(&r, ENTRY_APID - 4);
	len = apm_get_u32(&r);
	if (len > APM_APID_MAX)
		return false;
	(void) apm_get_slice(&r, len);
	(void) apm_get_slice(&r, APM_DIGEST_LEN);
	return r.failed;
}

static void
append(Journal *journal, const ApmErased *erased)
{
	if (journal->n == journal->capacity)
	{
		journal->capacity = Max(16, 2 * journal->capacity);
		journal->entries = journal->entries == NULL
							   ? palloc_array(ApmErased, journal->capacity)
							   : repalloc_array(journal->entries, ApmErased, journal->capacity);
	}
	journal->entries[journal->n++] = *erased;
}

/*
 * Reads the file, of which size bytes were seen, into the current memory context; AP003 if it was tampered
 * with.
 */
static void
read_file(const char *name, size_t size, Journal *out)
{
	ApmBuf bytes = {0};
	ApmReader r;

	memset(out, 0, sizeof(*out));
	if (!apm_keyfile_read(name, APM_FILE_PRIVATE, size + GROWTH, &bytes))
		return;
	apm_reader_init(&r, APM_SLICE(bytes.data, bytes.len));
	while (r.pos < r.end)
	{
		ApmSlice rest = APM_SLICE(r.pos, r.end - r.pos);
		ApmErased erased;
		ApmDigest hash;

		if (!decode(&r, &out->last, &erased, &hash))
		{
			if (!is_torn(rest))
				damaged(name);
			break;
		}
		append(out, &erased);
		out->last = hash;
		out->good = r.pos - bytes.data;
	}
	apm_buf_reset(&bytes);
}

static bool
is_among(const Journal *journal, const char *apid)
{
	for (int i = 0; i < journal->n; i++)
	{
		if (strcmp(journal->entries[i].apid, apid) == 0)
			return true;
	}
	return false;
}

/* Adds the entry, while nobody else writes. */
static void
add_entry(const char *name, const ApmErased *erased)
{
	ApmFileStamp stamp;
	ApmBuf entry = {0};
	Journal journal;
	ApmSlice bytes;

	read_file(name, apm_keyfile_stamp(name, &stamp) ? stamp.size : 0, &journal);
	if (is_among(&journal, erased->apid))
	{
		/* whoever wrote it may have died before the disk had it */
		apm_keyfile_sync(name);
		return;
	}
	encode(erased, &journal.last, &entry);
	bytes = APM_SLICE(entry.data, entry.len);
	if (journal.good > 0)
		apm_keyfile_write_behind(name, journal.good, bytes);
	else
		apm_keyfile_replace(name, bytes);
	apm_buf_reset(&entry);
	if (journal.entries != NULL)
		pfree(journal.entries);
}

/* Waits until nobody else writes; holders write a few bytes and let go. */
static void
lock_journal(int fd)
{
	while (flock(fd, LOCK_EX) != 0)
	{
		if (errno != EINTR)
			ereport(ERROR, (errcode_for_file_access(), errmsg("could not lock the journal of erasures: %m")));
		CHECK_FOR_INTERRUPTS();
	}
}

void
apm_journal_add(const ApmDigest *chain, const ApmErased *erased)
{
	char *name = apm_keyfile_of_chain(FILE_PREFIX, chain, "");
	int fd = apm_keyfile_open_lock(apm_keyfile_of_chain(FILE_PREFIX, chain, ".lock"));

	PG_TRY();
	{
		lock_journal(fd);
		add_entry(name, erased);
	}
	PG_FINALLY();
	{
		close(fd);
	}
	PG_END_TRY();
}

/* Reads the file anew into the cache. */
static void
fill_cache(const ApmDigest *chain, const char *name, const ApmFileStamp *stamp)
{
	MemoryContext memory =
		AllocSetContextCreate(TopMemoryContext, "apm journal of erasures", ALLOCSET_DEFAULT_SIZES);
	HASHCTL control = {.keysize = APM_APID_MAX + 1, .entrysize = APM_APID_MAX + 1, .hcxt = memory};
	HTAB *apids = NULL;
	Journal journal;

	/* on an error the old one stays, with the stamp of the old file, and the next question reads again */
	MemoryContextSetParent(memory, CurrentMemoryContext);
	read_file(name, stamp->size, &journal);
	if (journal.n > 0)
		apids =
			hash_create("apm erased patients", journal.n, &control, HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	for (int i = 0; i < journal.n; i++)
		(void) hash_search(apids, journal.entries[i].apid, HASH_ENTER, NULL);
	if (journal.entries != NULL)
		pfree(journal.entries);

	MemoryContextSetParent(memory, TopMemoryContext);
	if (cache.memory != NULL)
		MemoryContextDelete(cache.memory);
	cache.memory = memory;
	cache.apids = apids;
	cache.chain = *chain;
	cache.stamp = *stamp;
	cache.serial++;
}

/* Brings the cache up to date. */
static void
look(const ApmDigest *chain)
{
	char *name = apm_keyfile_of_chain(FILE_PREFIX, chain, "");
	ApmFileStamp stamp;

	(void) apm_keyfile_stamp(name, &stamp);
	if (cache.serial == 0 || memcmp(&cache.chain, chain, sizeof(*chain)) != 0 ||
		memcmp(&cache.stamp, &stamp, sizeof(stamp)) != 0)
		fill_cache(chain, name, &stamp);
	pfree(name);
}

bool
apm_journal_has(const ApmDigest *chain, ApmSlice apid)
{
	char key[APM_APID_MAX + 1] = {0};

	look(chain);
	if (cache.apids == NULL || apid.len > APM_APID_MAX)
		return false;
	memcpy(key, apid.data, apid.len);
	return hash_search(cache.apids, key, HASH_FIND, NULL) != NULL;
}

uint64
apm_journal_serial(const ApmDigest *chain)
{
	look(chain);
	return cache.serial;
}

int
apm_journal_read(const ApmDigest *chain, ApmErased **out)
{
	char *name = apm_keyfile_of_chain(FILE_PREFIX, chain, "");
	ApmFileStamp stamp;
	Journal journal;

	read_file(name, apm_keyfile_stamp(name, &stamp) ? stamp.size : 0, &journal);
	*out = journal.entries;
	return journal.n;
}
