/*
 * gate_waiting.c
 *	  The letters of the query gate whose questions are in the pool or in a block.
 *
 * They are in the worker's memory only: when it ends, the mailbox fails what it had taken, and the
 * questions stay in the ledger without having been answered.  A final transaction names a Tid, so
 * questions are found by that; each knows its letter.
 */
#include "postgres.h"

#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "network/gatekeeper.h"

typedef struct ApmTidEntry
{
	ApmUuid tid; /* key */
	ApmAsked *asked;
} ApmTidEntry;

static HTAB *by_tid = NULL;
static dlist_head letters = DLIST_STATIC_INIT(letters);

static HTAB *
table(void)
{
	HASHCTL control = {.keysize = APM_UUID_LEN, .entrysize = sizeof(ApmTidEntry), .hcxt = TopMemoryContext};

	if (by_tid == NULL)
		by_tid = hash_create("apm questions waiting", 128, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	return by_tid;
}

/* The first n questions of a letter are found no more. */
static void
forget(ApmGateLetter *letter, int n)
{
	for (int i = 0; i < n; i++)
		hash_search(table(), letter->asked[i].tid.bytes, HASH_REMOVE, NULL);
}

void
apm_waiting_add(ApmGateLetter *letter)
{
	for (int i = 0; i < letter->n; i++)
	{
		bool there;
		ApmTidEntry *entry = hash_search(table(), letter->asked[i].tid.bytes, HASH_ENTER, &there);

		if (there)
		{
			forget(letter, i);
			apm_mailbox_fail(&letter->letter, ERRCODE_PROTOCOL_VIOLATION, "a query was asked twice", "");
			apm_gate_free(letter);
			return;
		}
		entry->asked = &letter->asked[i];
	}
	letter->since = GetCurrentTimestamp();
	letter->open = letter->n;
	dlist_push_tail(&letters, &letter->node);
}

ApmAsked *
apm_waiting_find(const ApmUuid *tid)
{
	ApmTidEntry *entry = hash_search(table(), tid->bytes, HASH_FIND, NULL);

	return entry != NULL ? entry->asked : NULL;
}

bool
apm_waiting_any(void)
{
	return !dlist_is_empty(&letters);
}

void
apm_waiting_remove(ApmGateLetter *letter)
{
	forget(letter, letter->n);
	dlist_delete(&letter->node);
	apm_gate_free(letter);
}

void
apm_waiting_fail(ApmGateLetter *letter, int sqlstate, const char *message, const char *hint)
{
	apm_mailbox_fail(&letter->letter, sqlstate, message, hint);
	apm_waiting_remove(letter);
}

void
apm_waiting_fail_all(int sqlstate, const char *message, const char *hint)
{
	while (!dlist_is_empty(&letters))
		apm_waiting_fail(dlist_head_element(ApmGateLetter, node, &letters), sqlstate, message, hint);
}

int
apm_waiting_tids(TimestampTz before, ApmUuid **out)
{
	Size n = 0;
	dlist_iter iter;

	*out = palloc(sizeof(ApmUuid) * Max(hash_get_num_entries(table()), 1));
	dlist_foreach(iter, &letters)
	{
		ApmGateLetter *letter = dlist_container(ApmGateLetter, node, iter.cur);

		for (int i = 0; i < letter->n && letter->since <= before; i++)
		{
			if (letter->asked[i].answer.len == 0)
				(*out)[n++] = letter->asked[i].tid;
		}
	}
	return (int) n;
}
