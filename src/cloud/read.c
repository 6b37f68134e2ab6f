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
 * Whoever holds the cloud against the ledger asks for rows instead: all that the store says of a Rid, and also what a
 * reader would be refused with, namely where it is found and whether twice.
 *
 * Request: u8 APM_ASK_RECORDS or APM_ASK_ROWS, u32 number, that many Rids.  Answer: u32 number, for each in the order of
 * the request u8 ApmCloudWhere, u32-length aPR, and of rows u32-length aPid, u8 whether the tokens are some, u32-length
 * tokens.  An answer may be for the first of the Rids only, at least one: what is returned at once is bounded in bytes, and
 * the caller asks on.
 */
#include "postgres.h"

#include "utils/array.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "apm_errors.h"
#include "apm_sql.h"
#include "cloud/cloud.h"
#include "cloud/letter.h"
#include "cloud/store.h"
#include "core/transaction.h"

#define READ_RIDS 4096 /* of one request, and of one round */
#define READ_BYTES (64 * 1024 * 1024)

/* A letter, opened. */
typedef struct ApmAsking
{
	ApmLetter letter;
	bool whole; /* asks for rows */
	ApmUuid *rids;
	int n;
	int served; /* the first so many are read now */
} ApmAsking;

/* A Rid that somebody asks for, in the table of one round. */
typedef struct ApmAwaited
{
	ApmUuid rid; /* key */
	ApmCloudFound row;
} ApmAwaited;

/* A round. */
typedef struct ApmRound
{
	HTAB *awaited;
	bool whole;			   /* somebody asks for rows */
	MemoryContext context; /* of what is found, also before a failure */
} ApmRound;

static ApmStatus
encode_request(ApmLetterKind kind, const ApmUuid *rids, int n, ApmBuf *out)
{
	apm_put_u8(out, kind);
	apm_put_u32(out, (uint32_t) n);
	for (int i = 0; i < n; i++)
		apm_put_raw(out, rids[i].bytes, APM_UUID_LEN);
	return apm_buf_status(out);
}

static void
put_row(ApmBuf *out, const ApmCloudFound *row, bool whole)
{
	apm_put_u8(out, row->where);
	apm_put_bytes(out, row->apr.data, row->apr.len);
	if (!whole)
		return;
	apm_put_bytes(out, row->apid.data, row->apid.len);
	apm_put_u8(out, row->tokens.data != NULL);
	apm_put_bytes(out, row->tokens.data, row->tokens.len);
}

static void
get_row(ApmReader *r, bool whole, ApmCloudFound *out)
{
	memset(out, 0, sizeof(*out));
	out->where = apm_get_u8(r);
	out->apr = apm_get_bytes(r, MaxAllocSize);
	if (whole)
	{
		bool some;

		out->apid = apm_get_bytes(r, MaxAllocSize);
		some = apm_get_u8(r) != 0;
		out->tokens = apm_get_bytes(r, MaxAllocSize);
		if (!some)
			out->tokens.data = NULL;
	}
}

/* Asks for n Rids; fills in the first of them and returns how many. */
static int
ask(ApmLetterKind kind, const ApmUuid *rids, int n, ApmCloudFound *out)
{
	ApmBuf request = {0};
	ApmReader r;
	void *answer;
	Size len;
	uint32 answered;

	apm_check(encode_request(kind, rids, n, &request), "ask for records");
	apm_mailbox_call(APM_WORKER_CLOUD, request.data, request.len, &answer, &len);
	apm_buf_reset(&request);

	apm_reader_init(&r, APM_SLICE(answer, len));
	answered = apm_get_u32(&r);
	if (answered < 1 || answered > (uint32) n)
		apm_raise(APM_ERR_FORMAT, "read the cloud worker's answer");
	for (uint32 i = 0; i < answered; i++)
		get_row(&r, kind == APM_ASK_ROWS, &out[i]);
	if (!apm_reader_done(&r))
		apm_raise(APM_ERR_FORMAT, "read the cloud worker's answer");
	return (int) answered;
}

void
apm_cloud_read(const ApmUuid *rids, int n, ApmSlice *out)
{
	ApmCloudFound *found = palloc(sizeof(ApmCloudFound) * Min(n, READ_RIDS));
	int done = 0;

	while (done < n)
	{
		int answered = ask(APM_ASK_RECORDS, rids + done, Min(n - done, READ_RIDS), found);

		for (int i = 0; i < answered; i++)
			out[done + i] = found[i].apr;
		done += answered;
	}
	pfree(found);
}

int
apm_cloud_rows(const ApmUuid *rids, int n, ApmCloudFound *out)
{
	return ask(APM_ASK_ROWS, rids, Min(n, READ_RIDS), out);
}

/* Opens a letter; false and answered with a failure if it is not a request. */
static bool
open_letter(const ApmLetter *letter, ApmAsking *out)
{
	ApmReader r;
	uint32 n;

	apm_reader_init(&r, APM_SLICE(letter->request, letter->request_len));
	out->whole = apm_get_u8(&r) == APM_ASK_ROWS;
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
 * The bytes that each Rid of n letters takes in an answer; palloc'd.  The size of a record is told by its body in the
 * ledger: what the cloud says of itself would come too late.
 */
static int64 *
sizes_of(const ApmAsking *asked, int n)
{
	static ApmStatement get = {
		"SELECT coalesce(pg_catalog.octet_length(b.transaction), 0)"
		" FROM unnest($1) WITH ORDINALITY AS u (rid, place)"
		" LEFT JOIN ONLY apm.ledger_record AS r ON r.rid = u.rid"
		" LEFT JOIN ONLY apm.body AS b ON b.tid = r.tid ORDER BY u.place",
		1,
		{UUIDARRAYOID},
		NULL,
	};
	ApmUuid *rids;
	int64 *sizes;
	Datum args[1];
	int all = 0;

	for (int i = 0; i < n; i++)
		all += asked[i].n;
	rids = palloc(sizeof(ApmUuid) * all);
	sizes = palloc(sizeof(int64) * all);
	all = 0;
	for (int i = 0; i < n; i++)
	{
		memcpy(rids + all, asked[i].rids, sizeof(ApmUuid) * asked[i].n);
		all += asked[i].n;
	}
	args[0] = apm_uuid_array(rids, all);
	if (apm_run(&get, args) != (uint64) all)
		elog(ERROR, "records that are asked for are not found each once");
	for (int i = 0; i < all; i++)
		sizes[i] = apm_row_int4(i, 1) + 1024;
	return sizes;
}

/* How many of a letter's Rids, which have these sizes, fit into *budget bytes, at least one; takes them off. */
static int
fitting(const int64 *sizes, int n, int64 *budget)
{
	int fit = 0;

	while (fit < n && (fit == 0 || *budget > 0))
		*budget -= sizes[fit++];
	return fit;
}

/* How many of the letters make a round; sets how much of each is served. */
static int
plan_round(ApmAsking *asked, int n)
{
	int64 budget = READ_BYTES;
	int64 *sizes;
	int together = 0;
	int taken = 0;
	int rids = 0;

	while (together < n && (together == 0 || rids + asked[together].n <= READ_RIDS))
		rids += asked[together++].n;
	apm_turn_begin("planning a read");
	sizes = sizes_of(asked, together);
	while (taken < together && (taken == 0 || budget > 0))
	{
		asked[taken].served = fitting(sizes, asked[taken].n, &budget);
		sizes += asked[taken].n;
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
			ApmAwaited *entry = hash_search(awaited, asked[i].rids[k].bytes, HASH_ENTER, NULL);

			memset(&entry->row, 0, sizeof(entry->row));
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
		if (entry->row.where == APM_CLOUD_NOWHERE)
			(*out)[n++] = entry->rid;
	}
	return n;
}

/* Tokens of a row of SPI_tuptable, one behind the other; no data if they are anything else. */
static ApmSlice
tokens_of(uint64 row, int column, MemoryContext context)
{
	ArrayType *array;
	ApmBuf joined = {0};
	Datum *elements;
	bool *nulls;
	bool isnull;
	int n;
	Datum value = SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, &isnull);
	ApmSlice result;

	if (isnull)
		return APM_SLICE(NULL, 0);
	array = DatumGetArrayTypeP(value);
	if (ARR_NDIM(array) > 1)
		return APM_SLICE(NULL, 0);
	deconstruct_array(array, BYTEAOID, -1, false, TYPALIGN_INT, &elements, &nulls, &n);
	for (int i = 0; i < n; i++)
	{
		if (nulls[i] || VARSIZE_ANY_EXHDR(DatumGetByteaPP(elements[i])) != APM_TOKEN_LEN)
			return APM_SLICE(NULL, 0);
		apm_put_raw(&joined, VARDATA_ANY(DatumGetByteaPP(elements[i])), APM_TOKEN_LEN);
	}
	apm_check(apm_buf_status(&joined), "read a row of the cloud");
	result =
		apm_slice_copy(context, APM_SLICE(joined.len > 0 ? joined.data : (const uint8 *) "", joined.len));
	apm_buf_reset(&joined);
	return result;
}

/* Enters n rows (rid, apr, of whole ones apid, tokens) of SPI_tuptable; a Rid that nobody awaits raises. */
static void
enter_rows(const ApmRound *round, uint64 n, ApmCloudWhere where)
{
	bool whole = round->whole && where == APM_CLOUD_STORED;

	for (uint64 i = 0; i < n; i++)
	{
		ApmUuid rid;
		ApmAwaited *entry = NULL;

		if (!apm_row_null(i, 1))
		{
			apm_row_uuid(i, 1, &rid);
			entry = hash_search(round->awaited, rid.bytes, HASH_FIND, NULL);
		}
		if (entry == NULL)
			ereport(ERROR, (errcode(ERRCODE_APM_TAMPERED),
							errmsg("the cloud store answers with a record that was not asked for")));
		if (entry->row.where != APM_CLOUD_NOWHERE)
		{
			entry->row.where = APM_CLOUD_TWICE;
			continue;
		}
		entry->row.where = where;
		if (!apm_row_null(i, 2))
			entry->row.apr = apm_slice_copy(round->context, apm_row_bytea(i, 2));
		if (whole && !apm_row_null(i, 3))
			entry->row.apid = apm_slice_copy(round->context, apm_row_text(i, 3));
		if (whole)
			entry->row.tokens = tokens_of(i, 4, round->context);
	}
}

/*
 * Enters the rows of the outbox.  Those that did not bring their aPR along get it from the ledger; what an erasure has voided is nowhere.
 */
static void
enter_outbox(const ApmRound *round, const ApmUuid *rids, int n)
{
	static ApmStatement outbox = {
		"SELECT rid, apr, tid FROM ONLY apm.outbox WHERE rid = ANY ($1)",
		1,
		{UUIDARRAYOID},
		NULL,
	};
	Datum args[1] = {apm_uuid_array(rids, n)};
	int found = (int) apm_run(&outbox, args);
	ApmUuid *tids = palloc_array(ApmUuid, Max(found, 1));
	ApmAwaited **entries = palloc_array(ApmAwaited *, Max(found, 1));
	ApmSlice *aprs = palloc_array(ApmSlice, Max(found, 1));
	int count = 0;

	enter_rows(round, (uint64) found, APM_CLOUD_OUTBOX);
	for (int i = 0; i < found; i++)
	{
		ApmUuid rid;

		if (!apm_row_null(i, 2))
			continue;
		apm_row_uuid(i, 1, &rid);
		apm_row_uuid(i, 3, &tids[count]);
		entries[count++] = hash_search(round->awaited, rid.bytes, HASH_FIND, NULL);
	}
	apm_content_make(tids, count, aprs);
	for (int i = 0; i < count; i++)
	{
		if (aprs[i].data == NULL)
			entries[i]->row.where = APM_CLOUD_NOWHERE;
		else
			entries[i]->row.apr = apm_slice_copy(round->context, aprs[i]);
	}
}

/* A visit: reads what is awaited from outbox and store. */
static void
read_rows(void *closure)
{
	const ApmRound *round = closure;
	ApmUuid *rids;
	Oid target;
	int n;

	apm_turn_begin("reading from the cloud");
	target = apm_store_target(); /* before the outbox: attaching another moves rows there */
	n = missing(round->awaited, &rids);
	enter_outbox(round, rids, n);
	n = missing(round->awaited, &rids);
	if (n > 0)
	{
		apm_store_knock();
		enter_rows(round, apm_store_select(target, rids, n, round->whole), APM_CLOUD_STORED);
		apm_store_answered();
	}
	apm_turn_commit_async();
}

static bool
wholly_found(const ApmAsking *asking, HTAB *awaited)
{
	for (int i = 0; i < asking->served; i++)
	{
		ApmAwaited *entry = hash_search(awaited, asking->rids[i].bytes, HASH_FIND, NULL);

		if (entry->row.where == APM_CLOUD_NOWHERE)
			return false;
	}
	return true;
}

static void
answer(const ApmAsking *asking, HTAB *awaited)
{
	ApmBuf out = {0};
	bool twice = false;

	apm_put_u32(&out, (uint32_t) asking->served);
	for (int i = 0; i < asking->served; i++)
	{
		ApmAwaited *entry = hash_search(awaited, asking->rids[i].bytes, HASH_FIND, NULL);

		put_row(&out, &entry->row, asking->whole);
		twice |= entry->row.where == APM_CLOUD_TWICE;
	}
	if (twice && !asking->whole)
		apm_mailbox_fail(&asking->letter, ERRCODE_APM_TAMPERED, "the cloud store answers with a record twice",
						 "");
	else if (apm_buf_status(&out) == APM_OK)
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

	for (int i = 0; i < n; i++)
		reading.whole |= asked[i].whole;
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
