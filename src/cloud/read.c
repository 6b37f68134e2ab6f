/*
 * read.c
 *	  Reading records back by their Rids: both sides of the mailbox.
 *
 * A reader must see what the cloud holds now.  Through his own foreign transaction he would
 * not (its snapshot is frozen), nor with his own rights; so the cloud worker reads for him,
 * in a fresh transaction, from the outbox what is still on its way and from the store the
 * rest.  It is the only one who moves rows from one to the other, so none can be missed.
 *
 * Letters that wait together are read together, in one statement.  One bad answer must not
 * spoil the others: when a common statement fails, each letter is read alone.
 *
 * Request: u8 APM_ASK_RECORDS, u32 number, that many Rids.  Answer: u32 number, for each a u32-length aPR in the
 * order of the request, empty where there is none.  An answer may be for the first of the Rids
 * only, at least one: what is returned at once is bounded in bytes, and the caller asks on.
 */
#include "postgres.h"

#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "apm_errors.h"
#include "apm_sql.h"
#include "cloud/cloud.h"
#include "cloud/letter.h"
#include "cloud/store.h"

#define READ_RIDS 4096 /* of one request */
#define READ_BYTES (64 * 1024 * 1024)

/* A letter, opened. */
typedef struct ApmAsking
{
	ApmLetter letter;
	ApmUuid *rids;
	int n;
	int served; /* the first so many are read now */
} ApmAsking;

/* A Rid that somebody asks for, in the table of one round. */
typedef struct ApmAwaited
{
	ApmUuid rid; /* key */
	ApmSlice apr;
	bool found;
} ApmAwaited;

/* A round. */
typedef struct ApmRound
{
	HTAB *awaited;
	MemoryContext context; /* of what is found, also before a failure */
} ApmRound;

static ApmStatus
encode_request(const ApmUuid *rids, int n, ApmBuf *out)
{
	apm_put_u8(out, APM_ASK_RECORDS);
	apm_put_u32(out, (uint32_t) n);
	for (int i = 0; i < n; i++)
		apm_put_raw(out, rids[i].bytes, APM_UUID_LEN);
	return apm_buf_status(out);
}

/* The first answered Rids' aPRs; returns how many. */
static int
decode_answer(const void *answer, Size len, int asked, ApmSlice *out)
{
	ApmReader r;
	uint32 n;

	apm_reader_init(&r, APM_SLICE(answer, len));
	n = apm_get_u32(&r);
	if (n < 1 || n > (uint32) asked)
		apm_raise(APM_ERR_FORMAT, "read the cloud worker's answer");
	for (uint32 i = 0; i < n; i++)
		out[i] = apm_get_bytes(&r, MaxAllocSize);
	if (!apm_reader_done(&r))
		apm_raise(APM_ERR_FORMAT, "read the cloud worker's answer");
	return (int) n;
}

void
apm_cloud_read(const ApmUuid *rids, int n, ApmSlice *out)
{
	int done = 0;

	while (done < n)
	{
		int asked = Min(n - done, READ_RIDS);
		ApmBuf request = {0};
		void *answer;
		Size len;

		apm_check(encode_request(rids + done, asked, &request), "ask for records");
		apm_mailbox_call(APM_WORKER_CLOUD, request.data, request.len, &answer, &len);
		apm_buf_reset(&request);
		done += decode_answer(answer, len, asked, out + done);
	}
}

/* Opens a letter; false and answered with a failure if it is not a request. */
static bool
open_letter(const ApmLetter *letter, ApmAsking *out)
{
	ApmReader r;
	uint32 n;

	apm_reader_init(&r, APM_SLICE(letter->request, letter->request_len));
	apm_expect_u8(&r, APM_ASK_RECORDS);
	n = apm_get_u32(&r);
	if (n < 1 || n > READ_RIDS)
		r.failed = true;
	out->letter = *letter;
	out->n = r.failed ? 0 : (int) n;
	out->served = 0;
	out->rids = palloc(sizeof(ApmUuid) * Max(out->n, 1));
	for (int i = 0; i < out->n; i++)
		apm_get_raw(&r, out->rids[i].bytes, APM_UUID_LEN);
	if (apm_reader_done(&r))
		return true;
	apm_letter_refuse(letter);
	return false;
}

/*
 * How many of a letter's Rids fit into *budget bytes, at least one; takes them off.  The size of
 * a record is told by its body in the ledger: what the cloud says of itself would come too late.
 */
static int
fitting(const ApmAsking *asking, int64 *budget)
{
	static ApmStatement sizes = {
		"SELECT coalesce(pg_catalog.octet_length(b.transaction), 0)"
		" FROM unnest($1) WITH ORDINALITY AS u (rid, place)"
		" LEFT JOIN ONLY apm.ledger_record AS r ON r.rid = u.rid"
		" LEFT JOIN ONLY apm.body AS b ON b.tid = r.tid ORDER BY u.place",
		1,
		{UUIDARRAYOID},
		NULL,
	};
	Datum args[1] = {apm_uuid_array(asking->rids, asking->n)};
	int n = (int) apm_run(&sizes, args);
	int fit = 0;

	while (fit < n && (fit == 0 || *budget > 0))
	{
		*budget -= apm_row_int4(fit, 1) + 1024;
		fit++;
	}
	return fit;
}

/* How many of the letters make a round; sets how much of each is served. */
static int
plan_round(ApmAsking *asked, int n)
{
	int64 budget = READ_BYTES;
	int taken = 0;

	apm_turn_begin("planning a read");
	while (taken < n && (taken == 0 || budget > 0))
	{
		asked[taken].served = fitting(&asked[taken], &budget);
		taken++;
	}
	apm_turn_commit_async();
	return taken;
}

/* A table of all Rids that are served, none found yet. */
static HTAB *
await(const ApmAsking *asked, int n)
{
	HASHCTL control = {
		.keysize = APM_UUID_LEN, .entrysize = sizeof(ApmAwaited), .hcxt = CurrentMemoryContext};
	HTAB *awaited = hash_create("apm records awaited", 256, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);

	for (int i = 0; i < n; i++)
	{
		for (int k = 0; k < asked[i].served; k++)
		{
			bool there;
			ApmAwaited *entry = hash_search(awaited, asked[i].rids[k].bytes, HASH_ENTER, &there);

			entry->found = false;
			entry->apr = APM_SLICE("", 0);
		}
	}
	return awaited;
}

/* The Rids that are not found yet; palloc'd. */
static int
missing(HTAB *awaited, ApmUuid **out)
{
	HASH_SEQ_STATUS scan;
	ApmAwaited *entry;
	int n = 0;

	*out = palloc(sizeof(ApmUuid) * Max(hash_get_num_entries(awaited), 1));
	hash_seq_init(&scan, awaited);
	while ((entry = hash_seq_search(&scan)) != NULL)
	{
		if (!entry->found)
			(*out)[n++] = entry->rid;
	}
	return n;
}

/* Enters n rows (rid, apr) of SPI_tuptable; a Rid that nobody awaits, or that came before, raises. */
static void
enter_rows(HTAB *awaited, uint64 n, MemoryContext context)
{
	for (uint64 i = 0; i < n; i++)
	{
		ApmUuid rid;
		ApmAwaited *entry = NULL;

		if (!apm_row_null(i, 1))
		{
			apm_row_uuid(i, 1, &rid);
			entry = hash_search(awaited, rid.bytes, HASH_FIND, NULL);
		}
		if (entry == NULL)
			ereport(ERROR, (errcode(ERRCODE_APM_TAMPERED),
							errmsg("the cloud store answers with a record that was not asked for")));
		if (entry->found)
			ereport(ERROR,
					(errcode(ERRCODE_APM_TAMPERED), errmsg("the cloud store answers with a record twice")));
		entry->found = true;
		if (!apm_row_null(i, 2))
			entry->apr = apm_slice_copy(context, apm_row_bytea(i, 2));
	}
}

/* A visit: reads what is awaited from outbox and store. */
static void
read_rows(void *closure)
{
	static ApmStatement outbox = {
		"SELECT rid, apr FROM ONLY apm.outbox WHERE rid = ANY ($1)",
		1,
		{UUIDARRAYOID},
		NULL,
	};
	const ApmRound *round = closure;
	ApmUuid *rids;
	Datum args[1];
	Oid target;
	int n;

	apm_turn_begin("reading from the cloud");
	target = apm_store_target(); /* before the outbox: attaching another moves rows there */
	n = missing(round->awaited, &rids);
	args[0] = apm_uuid_array(rids, n);
	enter_rows(round->awaited, apm_run(&outbox, args), round->context);
	n = missing(round->awaited, &rids);
	if (n > 0)
	{
		apm_store_knock();
		enter_rows(round->awaited, apm_store_select(target, rids, n), round->context);
		apm_push_soon();
	}
	apm_turn_commit_async();
}

static bool
wholly_found(const ApmAsking *asking, HTAB *awaited)
{
	for (int i = 0; i < asking->served; i++)
	{
		ApmAwaited *entry = hash_search(awaited, asking->rids[i].bytes, HASH_FIND, NULL);

		if (!entry->found)
			return false;
	}
	return true;
}

static void
answer(const ApmAsking *asking, HTAB *awaited)
{
	ApmBuf out = {0};

	apm_put_u32(&out, (uint32_t) asking->served);
	for (int i = 0; i < asking->served; i++)
	{
		ApmAwaited *entry = hash_search(awaited, asking->rids[i].bytes, HASH_FIND, NULL);

		apm_put_bytes(&out, entry->apr.data, entry->apr.len);
	}
	if (apm_buf_status(&out) == APM_OK)
		apm_mailbox_answer(&asking->letter, APM_ANSWER_OK, out.data, out.len);
	else
		apm_mailbox_fail(&asking->letter, ERRCODE_OUT_OF_MEMORY, "out of memory", "");
	apm_buf_reset(&out);
}

/*
 * Serves the letters of one round.  When the store fails, those that the outbox alone could
 * serve are served; when it cheats, each letter is read again alone, and fails if the cheat is in its own rows.
 */
static void
serve(ApmAsking *asked, int n)
{
	MemoryContext round =
		AllocSetContextCreate(CurrentMemoryContext, "apm cloud read", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(round);
	HTAB *awaited = await(asked, n);
	ApmRound reading = {.awaited = awaited, .context = round};
	ApmVisitFailure failure;

	apm_store_visit(read_rows, &reading, &failure);
	for (int i = 0; i < n; i++)
	{
		if (failure.message == NULL || (!failure.tampered && wholly_found(&asked[i], awaited)))
			answer(&asked[i], awaited);
		else if (n > 1 && !failure.away)
			serve(&asked[i], 1);
		else
			apm_letter_fail(&asked[i].letter, &failure);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(round);
}

void
apm_read_serve(const ApmLetter *letters, int n)
{
	ApmAsking *asked = palloc(sizeof(ApmAsking) * Max(n, 1));
	int opened = 0;

	for (int i = 0; i < n; i++)
	{
		if (open_letter(&letters[i], &asked[opened]))
			opened++;
	}
	for (int at = 0; at < opened;)
	{
		int together = plan_round(&asked[at], opened - at);

		serve(&asked[at], together);
		at += together;
	}
}
