/*
 * list.c
 *	  What stands in the cloud, whoever put it there, and taking out what nothing accounts for: both sides of the mailbox.
 *
 * A cloud can have rows of which the ledger knows nothing: somebody added them, or put back one that was removed.  A read
 * by Rids never meets them.  So whoever holds the cloud against the ledger asks for its Rids in their order, from one
 * to another, a bounded number at a time.
 *
 * Only this worker writes to the store, so strays are taken out here as well, after one more look at
 * whether they are some: a record may have come meanwhile under the Rid of a row that somebody had put there first.
 *
 * Request APM_ASK_LIST: u32 limit, two Rids.  Answer: u8 whether there are more, u64 rows without a Rid, u32 number, for
 * each its Rid and u32-length aPid.
 * Request APM_ASK_STRAYS: u8 whether those without a Rid as well, u32 number, that many Rids.  Answer: u64 rows that are gone.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "apm_errors.h"
#include "apm_sql.h"
#include "cloud/cloud.h"
#include "cloud/letter.h"
#include "cloud/store.h"
#include "core/pseudonym.h"

#define LIST_MAX 10000

static const char *const unordered = "the cloud store answers with other records than it was asked for";

/* A letter that asks for a list, and what is found for it. */
typedef struct ApmListing
{
	ApmUuid from;
	ApmUuid upto;
	int limit;
	MemoryContext context; /* of what is found */
	bool more;
	uint64 nameless;
	int n;
	ApmCloudListed *rows;
} ApmListing;

typedef struct ApmStrays
{
	bool nameless;
	ApmUuid *rids;
	int n;
	uint64 removed;
} ApmStrays;

static int
decode_list(ApmSlice answer, ApmCloudListed **out, int64 *nameless, bool *more)
{
	ApmReader r;
	uint32 n;

	apm_reader_init(&r, answer);
	*more = apm_get_u8(&r) != 0;
	*nameless = (int64) apm_get_u64(&r);
	n = apm_get_u32(&r);
	if (n > LIST_MAX + 1)
		apm_raise(APM_ERR_FORMAT, "read the cloud worker's answer");
	*out = palloc(sizeof(ApmCloudListed) * Max(n, 1));
	for (uint32 i = 0; i < n; i++)
	{
		apm_get_raw(&r, (*out)[i].rid.bytes, APM_UUID_LEN);
		(*out)[i].apid = apm_get_bytes(&r, APM_APID_MAX);
	}
	if (!apm_reader_done(&r))
		apm_raise(APM_ERR_FORMAT, "read the cloud worker's answer");
	return (int) n;
}

int
apm_cloud_list(const ApmUuid *from, const ApmUuid *upto, int limit, ApmCloudListed **out, int64 *nameless,
			   bool *more)
{
	ApmBuf request = {0};
	void *answer;
	Size len;

	apm_put_u8(&request, APM_ASK_LIST);
	apm_put_u32(&request, (uint32) limit);
	apm_put_raw(&request, from->bytes, APM_UUID_LEN);
	apm_put_raw(&request, upto->bytes, APM_UUID_LEN);
	apm_check(apm_buf_status(&request), "ask for a list");
	apm_mailbox_call(APM_WORKER_CLOUD, request.data, request.len, &answer, &len);
	apm_buf_reset(&request);
	return decode_list(APM_SLICE(answer, len), out, nameless, more);
}

int64
apm_cloud_remove_strays(const ApmUuid *rids, int n, bool nameless)
{
	ApmBuf request = {0};
	ApmReader r;
	uint64 removed;
	void *answer;
	Size len;

	apm_put_u8(&request, APM_ASK_STRAYS);
	apm_put_u8(&request, nameless);
	apm_put_u32(&request, (uint32) n);
	for (int i = 0; i < n; i++)
		apm_put_raw(&request, rids[i].bytes, APM_UUID_LEN);
	apm_check(apm_buf_status(&request), "ask for the removal of strays");
	apm_mailbox_call(APM_WORKER_CLOUD, request.data, request.len, &answer, &len);
	apm_buf_reset(&request);

	apm_reader_init(&r, APM_SLICE(answer, len));
	removed = apm_get_u64(&r);
	if (!apm_reader_done(&r))
		apm_raise(APM_ERR_FORMAT, "read the cloud worker's answer");
	return (int64) removed;
}

/* Enters n rows (rid, apid) of SPI_tuptable, which must be in order and within what was asked for. */
static void
enter_rows(ApmListing *listing, uint64 n)
{
	MemoryContext caller = MemoryContextSwitchTo(listing->context);

	listing->rows = palloc(sizeof(ApmCloudListed) * Max(n, 1));
	MemoryContextSwitchTo(caller);
	for (uint64 i = 0; i < n; i++)
	{
		ApmCloudListed *row = &listing->rows[i];
		const ApmUuid *before = i > 0 ? &listing->rows[i - 1].rid : &listing->from;
		ApmSlice apid = apm_row_null(i, 2) ? APM_SLICE("", 0) : apm_row_text(i, 2);

		if (apm_row_null(i, 1))
			ereport(ERROR, (errcode(ERRCODE_APM_TAMPERED), errmsg("%s", unordered)));
		apm_row_uuid(i, 1, &row->rid);
		if (memcmp(&row->rid, before, sizeof(ApmUuid)) < 0 ||
			memcmp(&row->rid, &listing->upto, sizeof(ApmUuid)) > 0)
			ereport(ERROR, (errcode(ERRCODE_APM_TAMPERED), errmsg("%s", unordered)));
		row->apid = apid.len <= APM_APID_MAX ? apm_slice_copy(listing->context, apid) : APM_SLICE("", 0);
	}
}

/* Of one row more than was asked for: those that the answer has, so that rows with one Rid are not torn apart. */
static int
cut(const ApmListing *listing)
{
	int n = listing->limit;

	while (n > 0 &&
		   memcmp(&listing->rows[n - 1].rid, &listing->rows[listing->limit].rid, sizeof(ApmUuid)) == 0)
		n--;
	return n > 0 ? n : listing->limit + 1;
}

/* A visit. */
static void
list_rows(void *closure)
{
	static const ApmUuid first = {{0}};
	ApmListing *listing = closure;
	Oid target;

	apm_turn_begin("listing the cloud");
	target = apm_store_target();
	apm_store_knock();
	listing->n = (int) apm_store_list(target, &listing->from, &listing->upto, (int64) listing->limit + 1);
	enter_rows(listing, (uint64) listing->n);
	listing->more = listing->n > listing->limit;
	if (listing->more)
		listing->n = cut(listing);
	listing->nameless = memcmp(&listing->from, &first, sizeof(ApmUuid)) == 0 ? apm_store_nameless(target) : 0;
	apm_store_answered();
	apm_turn_commit_async();
}

/* A visit. */
static void
remove_strays(void *closure)
{
	static ApmStatement unaccounted = {
		"SELECT u.rid FROM unnest($1) AS u (rid)"
		" WHERE NOT EXISTS (SELECT FROM ONLY apm.ledger_record AS r WHERE r.rid = u.rid)"
		" AND NOT EXISTS (SELECT FROM ONLY apm.outbox AS o WHERE o.rid = u.rid)",
		1,
		{UUIDARRAYOID},
		NULL,
	};
	ApmStrays *strays = closure;
	Datum args[1];
	Oid target;
	int n;

	apm_turn_begin("removing strays from the cloud");
	target = apm_store_target();
	args[0] = apm_uuid_array(strays->rids, strays->n);
	n = (int) apm_run(&unaccounted, args);
	for (int i = 0; i < n; i++)
		apm_row_uuid((uint64) i, 1, &strays->rids[i]);
	apm_store_knock();
	strays->removed = apm_store_delete(target, strays->rids, n);
	if (strays->nameless)
		strays->removed += apm_store_delete_nameless(target);
	apm_store_answered();
	apm_turn_commit_async();
}

static void
serve_list(const ApmLetter *letter)
{
	ApmListing listing = {.context = CurrentMemoryContext};
	ApmVisitFailure failure;
	ApmBuf out = {0};
	uint32 limit;
	ApmReader r;

	apm_reader_init(&r, APM_SLICE(letter->request, letter->request_len));
	apm_expect_u8(&r, APM_ASK_LIST);
	limit = apm_get_u32(&r);
	apm_get_raw(&r, listing.from.bytes, APM_UUID_LEN);
	apm_get_raw(&r, listing.upto.bytes, APM_UUID_LEN);
	if (!apm_reader_done(&r) || limit < 1 || limit > LIST_MAX)
	{
		apm_letter_refuse(letter);
		return;
	}
	listing.limit = (int) limit;
	apm_store_visit(list_rows, &listing, &failure);
	apm_put_u8(&out, listing.more);
	apm_put_u64(&out, listing.nameless);
	apm_put_u32(&out, failure.message == NULL ? (uint32) listing.n : 0);
	for (int i = 0; failure.message == NULL && i < listing.n; i++)
	{
		apm_put_raw(&out, listing.rows[i].rid.bytes, APM_UUID_LEN);
		apm_put_bytes(&out, listing.rows[i].apid.data, listing.rows[i].apid.len);
	}
	apm_letter_answer(letter, &failure, &out);
}

static void
serve_strays(const ApmLetter *letter)
{
	ApmStrays strays = {0};
	ApmVisitFailure failure;
	ApmBuf out = {0};
	ApmReader r;
	uint32 n;

	apm_reader_init(&r, APM_SLICE(letter->request, letter->request_len));
	apm_expect_u8(&r, APM_ASK_STRAYS);
	strays.nameless = apm_get_u8(&r) != 0;
	n = apm_get_u32(&r);
	if (n > LIST_MAX + 1)
		r.failed = true;
	strays.n = r.failed ? 0 : (int) n;
	strays.rids = palloc(sizeof(ApmUuid) * Max(strays.n, 1));
	for (int i = 0; i < strays.n; i++)
		apm_get_raw(&r, strays.rids[i].bytes, APM_UUID_LEN);
	if (!apm_reader_done(&r))
	{
		apm_letter_refuse(letter);
		return;
	}
	apm_store_visit(remove_strays, &strays, &failure);
	apm_put_u64(&out, strays.removed);
	apm_letter_answer(letter, &failure, &out);
}

void
apm_list_serve(const ApmLetter *letters, int n)
{
	apm_letters_each(letters, n, serve_list);
}

void
apm_strays_serve(const ApmLetter *letters, int n)
{
	apm_letters_each(letters, n, serve_strays);
}
