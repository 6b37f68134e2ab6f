/*
 * passage.c
 *	  When transactions entered the pool.
 *
 * apm_trace() tells every station of a record with its time.  Each station keeps its own in a row, except
 * the pool, whose rows the chain takes away.  To write that time down at once would cost
 * a row a record; so the network server remembers it until the final transaction comes,
 * whose row has a column for it.  A restart loses what is under way then, and the trace
 * of those records says so by leaving the station out.
 */
#include "postgres.h"

#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "network/network_server.h"

#define PASSAGES_MAX 200000

typedef struct ApmPassage
{
	ApmUuid tid; /* key */
	TimestampTz pooled_at;
} ApmPassage;

static HTAB *passages = NULL;

void
apm_passage_note(const ApmUuid *tids, int n)
{
	TimestampTz now = GetCurrentTimestamp();

	/* what never comes back (it was there twice) must not pile up */
	if (passages != NULL && hash_get_num_entries(passages) > PASSAGES_MAX)
	{
		hash_destroy(passages);
		passages = NULL;
	}
	if (passages == NULL)
	{
		HASHCTL control = {
			.keysize = APM_UUID_LEN, .entrysize = sizeof(ApmPassage), .hcxt = TopMemoryContext};

		passages = hash_create("apm passages", 1024, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	for (int i = 0; i < n; i++)
	{
		ApmPassage *passage = hash_search(passages, tids[i].bytes, HASH_ENTER, NULL);

		passage->pooled_at = now;
	}
}

TimestampTz
apm_passage_recall(const ApmUuid *tid)
{
	ApmPassage *passage = NULL;

	if (passages != NULL)
		passage = hash_search(passages, tid->bytes, HASH_REMOVE, NULL);
	return passage != NULL ? passage->pooled_at : 0; /* a removed entry can be read until the next change */
}
