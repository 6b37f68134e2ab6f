/*
 * keyring.c
 *	  This server's keys, each kind read when it is first asked for.
 *
 * A process that never seals for the chain never has the chain's key in its memory, and
 * a server that lacks a key does everything that does not need it: hence one ring
 * a kind, filled at the first question.  What is read lies in one memory context with the
 * life of the process, is wiped when that goes, and is forgotten as a whole at the first
 * question after a configuration reload, between two commands or two transactions, so
 * that an answer given to a command stays valid to its end.
 *
 * Absence is not remembered: apm_keygen() makes keys while workers run that looked for them
 * in vain, and a key service that does not answer for a moment must not make its key
 * missing until the next reload.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "postmaster/interrupt.h"
#include "storage/proc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "apm_errors.h"
#include "apm_guc.h"
#include "apm_memory.h"
#include "keys/keycommand.h"
#include "keys/keyfile.h"
#include "keys/keykind.h"
#include "keys/keyload.h"
#include "keys/keyring.h"

/* The keys of one kind, ascending by generation; the last is the active one. */
typedef struct ApmRing
{
	bool loaded;
	int count;
	ApmKey *keys;
} ApmRing;

static struct
{
	MemoryContext context;
	TimestampTz reloaded;			/* PgReloadTime when it was filled */
	LocalTransactionId transaction; /* the one that asked last */
	ApmRing rings[APM_KEY_KINDS];
	ApmSealer *sealers[8]; /* by recipients, bit 0 is the APM */
	ApmOpener *openers[3];
} keyring;

void
apm_key_forget(void)
{
	for (size_t i = 0; i < lengthof(keyring.sealers); i++)
		apm_sealer_free(keyring.sealers[i]);
	for (size_t i = 0; i < lengthof(keyring.openers); i++)
		apm_opener_free(keyring.openers[i]);
	for (int kind = 0; kind < APM_KEY_KINDS; kind++)
	{
		for (int i = 0; i < keyring.rings[kind].count; i++)
			apm_key_release(&keyring.rings[kind].keys[i]);
	}
	if (keyring.context != NULL)
		MemoryContextDelete(keyring.context);
	memset(&keyring, 0, sizeof(keyring));
}

/*
 * Every question begins here: an empty keyring, or one that was read after the last reload that anybody could
 * have been told of before this transaction began.  A procedure that commits many times, and a worker in the middle
 * of a turn, are told of a reload and do it later; they must not seal with a key that was replaced in the meantime,
 * since whoever retires that one waits for transactions to end (anonymize/retirement.c).
 */
static void
begin(void)
{
	bool outdated = keyring.reloaded != PgReloadTime;

	if (keyring.transaction != MyProc->lxid)
	{
		outdated = outdated || ConfigReloadPending;
		keyring.transaction = MyProc->lxid;
	}
	if (keyring.context != NULL && !outdated)
		return;
	apm_key_forget();
	keyring.transaction = MyProc->lxid;
	keyring.context = AllocSetContextCreate(apm_process_context(), "apm keyring", ALLOCSET_DEFAULT_SIZES);
	keyring.reloaded = PgReloadTime;
}

/* Reads one generation into the ring; false if it is not there. */
static bool
load_generation(int kind_index, uint32 generation, bool *retired)
{
	ApmRing *ring = &keyring.rings[kind_index];
	MemoryContext old;
	ApmKey key;

	if (!apm_key_load(&apm_key_kinds[kind_index], generation, keyring.context, &key, retired))
		return false;

	old = MemoryContextSwitchTo(keyring.context);
	if (ring->keys == NULL)
		ring->keys = palloc(sizeof(ApmKey));
	else
		ring->keys = repalloc(ring->keys, (ring->count + 1) * sizeof(ApmKey));
	ring->keys[ring->count++] = key;
	MemoryContextSwitchTo(old);
	return true;
}

static int
compare_generations(const ListCell *a, const ListCell *b)
{
	return (lfirst_int(a) > lfirst_int(b)) - (lfirst_int(a) < lfirst_int(b));
}

static void
load_from_files(int kind_index)
{
	List *generations = NIL;
	ListCell *cell;
	bool retired;

	if (!apm_keyfile_directory_exists())
		return;
	foreach(cell, apm_keyfile_names())
	{
		uint32 generation = apm_key_generation_of(&apm_key_kinds[kind_index], lfirst(cell));

		if (generation != 0)
			generations = list_append_unique_int(generations, (int) generation);
	}
	list_sort(generations, compare_generations);
	foreach(cell, generations)
		(void) load_generation(kind_index, (uint32) lfirst_int(cell), &retired);
}

/* Asks for one generation after the other; a command that does not look at %k would never end that. */
static void
load_from_command(int kind_index)
{
	const ApmKeyKind *kind = &apm_key_kinds[kind_index];
	bool retired = false;

	for (uint32 generation = 1; load_generation(kind_index, generation, &retired) || retired; generation++)
	{
		if (!kind->generations)
			break;
		if (generation == APM_GENERATIONS_MAX)
			ereport(ERROR, (errcode(ERRCODE_APM_KEY_REFUSED),
							errmsg("apm.secret_command has more than %d generations of key \"%s\"",
								   APM_GENERATIONS_MAX, kind->name),
							errhint("It must print one key for each value of %%k, and nothing for others.")));
		CHECK_FOR_INTERRUPTS();
	}
}

/* The ring of a kind, filled. */
static ApmRing *
ring_of(int kind_index)
{
	ApmRing *ring = &keyring.rings[kind_index];

	begin();
	if (ring->loaded)
		return ring;

	/* what an attempt left that an error ended */
	for (int i = 0; i < ring->count; i++)
		apm_key_release(&ring->keys[i]);
	ring->count = 0;

	if (apm_keycommand_is_set())
		load_from_command(kind_index);
	else
		load_from_files(kind_index);
	ring->loaded = ring->count > 0;
	return ring;
}

/* The same, read anew: what is asked for may be younger than the ring. */
static ApmRing *
read_again(int kind_index)
{
	for (int pair = APM_PAIR_APM; pair <= APM_PAIR_PB; pair++)
	{
		if (kind_index != APM_KIND_OF_PAIR(pair))
			continue;
		/* an opener borrows the ring's keys; sealers share them */
		apm_opener_free(keyring.openers[pair]);
		keyring.openers[pair] = NULL;
	}
	keyring.rings[kind_index].loaded = false;
	return ring_of(kind_index);
}

static const char *
missing_hint(const ApmKeyKind *kind, uint32 generation)
{
	if (apm_keycommand_is_set())
		return psprintf("apm.secret_command must print it when %%k is \"%s\".",
						apm_key_file_name(kind, generation == 0 ? 1 : generation));
	if (apm_key_directory == NULL || apm_key_directory[0] == '\0')
		return "The setting apm.key_directory says where keys are; it is not set.";
	if (generation != 0)
		return psprintf(
			"Put its file \"%s\" back into apm.key_directory: nothing else opens what it protects.",
			apm_key_file_name(kind, generation));
	return "SELECT apm_keygen() makes keys that never existed; one that was here must come back from its "
		   "backup into apm.key_directory.";
}

static void
raise_missing(int kind_index, uint32 generation, const char *half)
{
	const ApmKeyKind *kind = &apm_key_kinds[kind_index];
	char *name =
		generation == 0 ? pstrdup(kind->name) : psprintf("%s, generation %u", kind->name, generation);

	ereport(ERROR,
			(errcode(ERRCODE_APM_KEY_MISSING), errmsg("this server lacks the %s key \"%s\"", half, name),
			 errhint("%s", missing_hint(kind, generation))));
}

static const char *
half_name(int kind_index, bool private_half)
{
	if (apm_key_kinds[kind_index].form == APM_FORM_SECRET)
		return "secret";
	return private_half ? "private" : "public";
}

/* The active key of a kind; raises if there is none or, where asked for, if only its public half is here. */
static ApmKey *
active_key(int kind_index, bool private_half)
{
	ApmRing *ring = ring_of(kind_index);
	ApmKey *key = ring->count > 0 ? &ring->keys[ring->count - 1] : NULL;

	if (key == NULL || (private_half && !key->has_private))
		raise_missing(kind_index, 0, half_name(kind_index, private_half));
	return key;
}

const uint8_t *
apm_key_secret(ApmSecret secret)
{
	return active_key(APM_KIND_OF_SECRET(secret), true)->secret;
}

uint32
apm_key_wrapping_active(void)
{
	return active_key(APM_KIND_OF_WRAPPING, true)->generation;
}

static const uint8_t *
find_wrapping(const ApmRing *ring, uint32 generation)
{
	for (int i = 0; i < ring->count; i++)
	{
		if (ring->keys[i].generation == generation)
			return ring->keys[i].secret;
	}
	return NULL;
}

bool
apm_key_have_wrapping(uint32 generation)
{
	/* a row may have been wrapped anew while this process was in the middle of a command */
	return find_wrapping(ring_of(APM_KIND_OF_WRAPPING), generation) != NULL ||
		   find_wrapping(read_again(APM_KIND_OF_WRAPPING), generation) != NULL;
}

const uint8_t *
apm_key_wrapping(uint32 generation)
{
	const uint8_t *found = NULL;

	if (apm_key_have_wrapping(generation))
		found = find_wrapping(ring_of(APM_KIND_OF_WRAPPING), generation);
	if (found == NULL)
		raise_missing(APM_KIND_OF_WRAPPING, generation, "secret");
	return found;
}

ApmSealer *
apm_key_sealer(bool apm, bool ns, bool pb)
{
	const bool wanted[3] = {apm, ns, pb};
	const ApmRsa *recipients[3];
	size_t n = 0;
	int index = (apm ? 1 : 0) | (ns ? 2 : 0) | (pb ? 4 : 0);
	MemoryContext old;
	ApmStatus status;

	Assert(index != 0);
	begin();
	if (keyring.sealers[index] != NULL)
		return keyring.sealers[index];

	for (int pair = APM_PAIR_APM; pair <= APM_PAIR_PB; pair++)
	{
		if (wanted[pair])
			recipients[n++] = active_key(APM_KIND_OF_PAIR(pair), false)->rsa;
	}
	old = MemoryContextSwitchTo(keyring.context);
	status = apm_sealer_new(recipients, n, &keyring.sealers[index]);
	MemoryContextSwitchTo(old);
	apm_check(status, "prepare sealing");
	return keyring.sealers[index];
}

/* Opens what is sealed for any generation of the pair whose private key is in the ring. */
static ApmOpener *
opener_of(ApmPair pair)
{
	ApmRing *ring;
	ApmOpener *opener;
	MemoryContext old;
	ApmStatus status;

	begin();
	if (keyring.openers[pair] != NULL)
		return keyring.openers[pair];

	if (!apm_key_have_private(pair))
		raise_missing(APM_KIND_OF_PAIR(pair), 0, "private");
	ring = ring_of(APM_KIND_OF_PAIR(pair));
	old = MemoryContextSwitchTo(keyring.context);
	status = apm_opener_new(&opener);
	for (int i = 0; i < ring->count && status == APM_OK; i++)
	{
		if (ring->keys[i].has_private)
			status = apm_opener_add(opener, ring->keys[i].rsa);
	}
	MemoryContextSwitchTo(old);
	apm_check(status, "prepare opening");
	keyring.openers[pair] = opener;
	return opener;
}

/* Does the directory have a generation that is younger than the ring?  A command has no listing: it may have one. */
static bool
may_have_grown(int kind_index)
{
	ApmRing *ring = ring_of(kind_index);
	uint32 newest = ring->count > 0 ? ring->keys[ring->count - 1].generation : 0;
	ListCell *cell;

	if (apm_keycommand_is_set())
		return true;
	foreach(cell, apm_keyfile_names())
	{
		if (apm_key_generation_of(&apm_key_kinds[kind_index], lfirst(cell)) > newest)
			return true;
	}
	return false;
}

ApmStatus
apm_key_open(ApmPair pair, ApmSlice sealed, ApmBuf *out)
{
	ApmStatus status = apm_opener_open(opener_of(pair), sealed, out);

	/* whoever sealed it may have learnt of a new key before us */
	if (status == APM_ERR_OPEN && may_have_grown(APM_KIND_OF_PAIR(pair)))
	{
		(void) read_again(APM_KIND_OF_PAIR(pair));
		status = apm_opener_open(opener_of(pair), sealed, out);
	}
	return status;
}

const ApmEcKey *
apm_key_signer(ApmSigningKey key)
{
	return active_key(APM_KIND_OF_SIGNER(key), true)->ec;
}

/* The ring's private key with that id; NULL if it has none. */
static const ApmEcKey *
find_signer(const ApmRing *ring, const ApmDigest *id)
{
	for (int i = 0; i < ring->count; i++)
	{
		ApmDigest own;

		if (!ring->keys[i].has_private)
			continue;
		apm_ec_id(ring->keys[i].ec, &own);
		if (memcmp(&own, id, sizeof(own)) == 0)
			return ring->keys[i].ec;
	}
	return NULL;
}

/* The chain may name a key that was made after the ring was read. */
static const ApmEcKey *
look_for_signer(ApmSigningKey key, const ApmDigest *id)
{
	const ApmEcKey *found = find_signer(ring_of(APM_KIND_OF_SIGNER(key)), id);

	return found != NULL ? found : find_signer(read_again(APM_KIND_OF_SIGNER(key)), id);
}

bool
apm_key_have_signer_of(ApmSigningKey key, const ApmDigest *id)
{
	return look_for_signer(key, id) != NULL;
}

const ApmEcKey *
apm_key_signer_of(ApmSigningKey key, const ApmDigest *id)
{
	const ApmEcKey *found = look_for_signer(key, id);

	if (found == NULL)
		ereport(
			ERROR,
			(errcode(ERRCODE_APM_KEY_MISSING),
			 errmsg("this server lacks the key \"%s\" that the chain names as the one in force",
					apm_key_kinds[APM_KIND_OF_SIGNER(key)].name),
			 errhint("Bring it back from its backup; SELECT * FROM apm.key lists the keys that are here.")));
	return found;
}

/* Is any key of this kind here, and with its private half if that is asked for? */
static bool
have(int kind_index, bool private_half)
{
	ApmRing *ring = ring_of(kind_index);

	for (int i = 0; i < ring->count; i++)
	{
		if (ring->keys[i].has_private || !private_half)
			return true;
	}
	return false;
}

bool
apm_key_have_public(ApmPair pair)
{
	return have(APM_KIND_OF_PAIR(pair), false);
}

bool
apm_key_have_private(ApmPair pair)
{
	return have(APM_KIND_OF_PAIR(pair), true);
}

bool
apm_key_have_signer(ApmSigningKey key)
{
	return have(APM_KIND_OF_SIGNER(key), true);
}

bool
apm_key_have_secrets(void)
{
	/* the secrets come before the wrapping key */
	for (int kind = 0; kind <= APM_KIND_OF_WRAPPING; kind++)
	{
		if (!have(kind, false))
			return false;
	}
	return true;
}

int
apm_key_list(ApmKeyInfo **out)
{
	ApmKeyInfo *list = NULL;
	int n = 0;

	for (int kind = 0; kind < APM_KEY_KINDS; kind++)
	{
		ApmRing *ring = ring_of(kind);

		if (ring->count == 0)
			continue;
		list = list == NULL ? palloc(ring->count * sizeof(ApmKeyInfo))
							: repalloc(list, (n + ring->count) * sizeof(ApmKeyInfo));
		for (int i = 0; i < ring->count; i++)
		{
			ApmKey *key = &ring->keys[i];

			list[n].kind = apm_key_kinds[kind].name;
			apm_hex_encode(key->id.bytes, APM_KEY_ID_LEN, list[n].id);
			list[n].generation = key->generation;
			list[n].active = i == ring->count - 1;
			list[n].has_private = key->has_private;
			n++;
		}
	}
	*out = list;
	return n;
}
