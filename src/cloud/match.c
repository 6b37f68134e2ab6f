/*
 * match.c
 *	  Which records have these tokens, as the cloud says: both sides of the mailbox.
 *
 * The ledger knows which records have which blind tokens, and decides what a search finds.  The
 * cloud stores the tokens beside the records and is asked as well, so that one that hides, adds
 * or moves is found when somebody searches.  The comparison with @> is done over there: only
 * Rids come back.  What is still in the outbox counts as stored.
 *
 * Request: u8 APM_ASK_MATCHES, u32 limit, u8 number, that many tokens.  Answer: u32 number, that
 * many Rids, each once.  More than limit is a failure, since what is returned is held in memory.
 */
#include "postgres.h"

#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "apm_errors.h"
#include "apm_sql.h"
#include "cloud/cloud.h"
#include "cloud/letter.h"
#include "cloud/store.h"
#include "core/transaction.h"

/* A letter, opened, and what is found for it. */
typedef struct ApmMatching
{
	int64 limit;
	int ntokens;
	ApmSlice tokens[APM_SEARCH_TOKENS_MAX];
	HTAB *found; /* of ApmFound */
} ApmMatching;

typedef struct ApmFound
{
	ApmUuid rid; /* key */
	bool stored; /* the store has said so */
} ApmFound;

static const char *const too_many = "more records match than can be returned";
static const char *const too_many_hint = "Search for more attributes at once.";

static int
decode_answer(ApmSlice answer, int limit, ApmUuid **rids)
{
	ApmReader r;
	uint32 n;

	apm_reader_init(&r, answer);
	n = apm_get_u32(&r);
	if (n > (uint32) limit)
		apm_raise(APM_ERR_FORMAT, "read the cloud worker's answer");
	*rids = palloc(sizeof(ApmUuid) * Max(n, 1));
	for (uint32 i = 0; i < n; i++)
		apm_get_raw(&r, (*rids)[i].bytes, APM_UUID_LEN);
	if (!apm_reader_done(&r))
		apm_raise(APM_ERR_FORMAT, "read the cloud worker's answer");
	return (int) n;
}

int
apm_cloud_match(const uint8 *tokens, int ntokens, int limit, ApmUuid **rids)
{
	ApmBuf request = {0};
	void *answer;
	Size len;

	Assert(ntokens >= 1 && ntokens <= APM_SEARCH_TOKENS_MAX && limit > 0);
	apm_put_u8(&request, APM_ASK_MATCHES);
	apm_put_u32(&request, (uint32) limit);
	apm_put_u8(&request, (uint8) ntokens);
	apm_put_raw(&request, tokens, (size_t) ntokens * APM_TOKEN_LEN);
	apm_check(apm_buf_status(&request), "ask for matches");
	apm_mailbox_call(APM_WORKER_CLOUD, request.data, request.len, &answer, &len);
	apm_buf_reset(&request);
	return decode_answer(APM_SLICE(answer, len), limit, rids);
}

static bool
open_letter(const ApmLetter *letter, ApmMatching *out)
{
	HASHCTL control = {.keysize = APM_UUID_LEN, .entrysize = sizeof(ApmFound), .hcxt = CurrentMemoryContext};
	ApmReader r;

	apm_reader_init(&r, APM_SLICE(letter->request, letter->request_len));
	apm_expect_u8(&r, APM_ASK_MATCHES);
	out->limit = apm_get_u32(&r);
	out->ntokens = apm_get_u8(&r);
	if (out->ntokens < 1 || out->ntokens > APM_SEARCH_TOKENS_MAX)
		r.failed = true;
	for (int i = 0; i < out->ntokens && !r.failed; i++)
		out->tokens[i] = apm_get_slice(&r, APM_TOKEN_LEN);
	if (!apm_reader_done(&r) || out->limit < 1 || out->limit > PG_INT32_MAX)
		return false;
	out->found = hash_create("apm records found", 256, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	return true;
}

/* Enters n rows (rid) of SPI_tuptable. */
static void
enter_rows(const ApmMatching *matching, uint64 n, bool stored)
{
	for (uint64 i = 0; i < n; i++)
	{
		ApmFound *entry;
		ApmUuid rid;
		bool there;

		if (apm_row_null(i, 1))
			ereport(ERROR, (errcode(ERRCODE_APM_TAMPERED),
							errmsg("the cloud store answers with a record that has no id")));
		apm_row_uuid(i, 1, &rid);
		entry = hash_search(matching->found, rid.bytes, HASH_ENTER, &there);
		if (there && entry->stored)
			ereport(ERROR,
					(errcode(ERRCODE_APM_TAMPERED), errmsg("the cloud store answers with a record twice")));
		entry->stored = stored;
	}
}

/* A visit: asks outbox and store, for one more than may be returned. */
static void
find_rows(void *closure)
{
	static ApmStatement outbox = {
		"SELECT rid FROM ONLY apm.outbox WHERE tokens @> $1 LIMIT $2",
		2,
		{BYTEAARRAYOID, INT8OID},
		NULL,
	};
	const ApmMatching *matching = closure;
	Datum args[2];
	Oid target;

	apm_turn_begin("searching in the cloud");
	target = apm_store_target(); /* before the outbox: attaching another moves rows there */
	args[0] = apm_bytea_array(matching->tokens, matching->ntokens);
	args[1] = Int64GetDatum(matching->limit + 1);
	enter_rows(matching, apm_run(&outbox, args), false);
	apm_store_knock();
	enter_rows(matching, apm_store_match(target, args[0], matching->limit + 1), true);
	apm_store_answered();
	apm_turn_commit_async();
}

static void
answer(const ApmLetter *letter, const ApmVisitFailure *failure, const ApmMatching *matching)
{
	ApmBuf out = {0};
	HASH_SEQ_STATUS scan;
	const ApmFound *entry;

	apm_put_u32(&out, (uint32_t) hash_get_num_entries(matching->found));
	hash_seq_init(&scan, matching->found);
	while ((entry = hash_seq_search(&scan)) != NULL)
		apm_put_raw(&out, entry->rid.bytes, APM_UUID_LEN);
	apm_letter_answer(letter, failure, &out);
}

static void
serve(const ApmLetter *letter)
{
	ApmMatching matching;
	ApmVisitFailure failure;

	if (!open_letter(letter, &matching))
	{
		apm_letter_refuse(letter);
		return;
	}
	apm_store_visit(find_rows, &matching, &failure);
	if (failure.message == NULL && hash_get_num_entries(matching.found) > matching.limit)
		apm_mailbox_fail(letter, ERRCODE_PROGRAM_LIMIT_EXCEEDED, too_many, too_many_hint);
	else
		answer(letter, &failure, &matching);
}

void
apm_match_serve(const ApmLetter *letters, int n)
{
	apm_letters_each(letters, n, serve);
}
