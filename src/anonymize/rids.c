/*
 * rids.c
 *	  The Rids of a submission: which were used before, and taking the others.
 *
 * A Rid has one content for ever.  The unique index of apm.submission decides between sessions, the
 * fingerprint there between a client that repeats itself and two who chose the same Rid.
 */
#include "postgres.h"

#include "anonymize/submissionrow.h"
#include "anonymize/tombstone.h"
#include "apm_errors.h"

void
apm_rid_draw(ApmSubmittedRow *row)
{
	apm_check(apm_uuid7_random(row->time_us / 1000, &row->record.rid), "draw a record id");
	row->drawn = true;
}

static int
compare_rids(const void *a, const void *b)
{
	const ApmSubmittedRow *left = *(ApmSubmittedRow *const *) a;
	const ApmSubmittedRow *right = *(ApmSubmittedRow *const *) b;
	int order = memcmp(&left->record.rid, &right->record.rid, sizeof(ApmUuid));

	return order != 0 ? order : left < right ? -1 : 1;
}

/*
 * A row whose Rid has been submitted before; a client may repeat himself, as when he lost an answer.  Of a patient
 * who was forgotten nobody can tell whether he does.  A sensor must not learn that somebody was, and hears what he hears
 * of any record that he repeats.
 */
static void
repeat(const ApmFlush *flush, ApmSubmittedRow *row, const ApmDigest *before)
{
	bool excused = apm_tombstone_is(before) && apm_acting_is_sensor(&flush->all->who);

	if (row->source == APM_SOURCE_INSERT)
	{
		row->fate = APM_FATE_AGAIN;
		return;
	}
	if (row->source == APM_SOURCE_CLIENT && !excused &&
		!apm_equal(&row->fingerprint, before, sizeof(ApmDigest)))
		ereport(ERROR,
				(errcode(ERRCODE_APM_RID_REUSED), errmsg("the record id was used before, with other content"),
				 errhint("Repeat a submission with exactly the same pid and record, or draw a new id.")));
	row->fate = APM_FATE_REPEAT;
}

/* The open row of a Rid. */
static ApmSubmittedRow *
row_of(const ApmFlush *flush, const ApmUuid *rid)
{
	int low = 0;
	int high = flush->all->n;

	while (low < high)
	{
		int middle = (low + high) / 2;

		if (memcmp(&flush->by_rid[middle]->record.rid, rid, sizeof(ApmUuid)) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	/* the first of its Rid is the one that counts */
	Assert(low < flush->all->n);
	return flush->by_rid[low];
}

/* Marks what the table has already among n Rids. */
static void
mark_submitted(const ApmFlush *flush, const ApmUuid *rids, int n)
{
	static ApmStatement find = {
		"SELECT rid, fingerprint FROM apm.submission WHERE rid = ANY ($1)", 1, {UUIDARRAYOID}, NULL};
	Datum args[] = {apm_uuid_array(rids, n)};
	uint64 found = n > 0 ? apm_run_latest(&find, args) : 0;

	for (uint64 i = 0; i < found; i++)
	{
		ApmUuid rid;
		ApmDigest before;

		apm_row_uuid(i, 1, &rid);
		apm_row_digest(i, 2, &before);
		repeat(flush, row_of(flush, &rid), &before);
	}
}

/* Gives rows that need another Rid one, which nobody can have used. */
static void
draw_again(ApmFlush *flush)
{
	for (int i = 0; i < flush->all->n; i++)
	{
		ApmSubmittedRow *row = &flush->all->rows[i];

		if (row->fate != APM_FATE_AGAIN)
			continue;
		apm_rid_draw(row);
		row->fate = APM_FATE_OPEN;
	}
	qsort(flush->by_rid, flush->all->n, sizeof(ApmSubmittedRow *), compare_rids);
}

void
apm_rids_find(ApmFlush *flush)
{
	ApmSubmission *all = flush->all;
	ApmUuid *given = palloc(sizeof(ApmUuid) * all->n);
	int n = 0;

	flush->by_rid = palloc(sizeof(ApmSubmittedRow *) * all->n);
	for (int i = 0; i < all->n; i++)
		flush->by_rid[i] = &all->rows[i];
	qsort(flush->by_rid, all->n, sizeof(ApmSubmittedRow *), compare_rids);

	for (int i = 0; i < all->n; i++)
	{
		ApmSubmittedRow *row = flush->by_rid[i];
		const ApmSubmittedRow *first = row_of(flush, &row->record.rid);

		if (row != first)
			repeat(flush, row, &first->fingerprint);
		else if (!row->drawn)
			given[n++] = row->record.rid;
	}
	mark_submitted(flush, given, n);
	draw_again(flush);
}

/* A record may amend one that was submitted; whether it is this patient's, the contract says. */
void
apm_rids_check_amends(const ApmSubmission *all)
{
	static ApmStatement find = {"SELECT FROM apm.submission WHERE rid = $1", 1, {UUIDOID}, NULL};

	for (int i = 0; i < all->n; i++)
	{
		const ApmSubmittedRow *row = &all->rows[i];
		Datum args[] = {apm_uuid_datum(&row->record.amends)};

		if (row->fate == APM_FATE_OPEN && row->record.has_amends && apm_run_latest(&find, args) == 0)
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							errmsg("the record that is to be amended was never submitted")));
	}
}

/* Leaves out the rows of n Rids that another session has taken meanwhile; those in SPI_tuptable are ours. */
static void
withdraw_taken(ApmFlush *flush, const ApmUuid *rids, int n)
{
	ApmUuid *taken = palloc(sizeof(ApmUuid) * n);
	int ours = SPI_processed;
	int count = 0;

	/* what is returned comes in the order of what was given */
	for (int i = 0; i < n; i++)
	{
		ApmUuid next;

		if (i - count < ours)
			apm_row_uuid(i - count, 1, &next);
		if (i - count == ours || memcmp(&next, &rids[i], sizeof(next)) != 0)
			taken[count++] = rids[i];
	}
	mark_submitted(flush, taken, count);
	for (int i = 0; i < count; i++)
	{
		ApmSubmittedRow *row = row_of(flush, &taken[i]);

		if (row->fate != APM_FATE_REPEAT && row->fate != APM_FATE_AGAIN)
			elog(ERROR, "a record id is taken and not there");
		if (row->place >= 0)
			flush->out.items[row->place].withdrawn = true;
	}
	pfree(taken);
}

void
apm_rids_take(ApmFlush *flush)
{
	static ApmStatement put = {
		"INSERT INTO apm.submission (rid, fingerprint, tid, submitted_at, queued_at)"
		" SELECT rid, fingerprint, NULLIF(tid, '00000000-0000-0000-0000-000000000000'), at,"
		" CASE WHEN tid <> '00000000-0000-0000-0000-000000000000' THEN at END"
		" FROM unnest($1, $2, $3, $4) AS u (rid, fingerprint, tid, at)"
		" ON CONFLICT (rid) DO NOTHING RETURNING rid",
		4,
		{UUIDARRAYOID, BYTEAARRAYOID, UUIDARRAYOID, TIMESTAMPTZARRAYOID},
		NULL,
	};
	static const ApmUuid none;
	int count = flush->all->n;
	ApmUuid *rids = palloc(sizeof(ApmUuid) * count);
	ApmDigest *prints = palloc(sizeof(ApmDigest) * count);
	ApmUuid *tids = palloc(sizeof(ApmUuid) * count);
	TimestampTz *times = palloc(sizeof(TimestampTz) * count);
	Datum args[4];
	int n = 0;

	/* in order of Rid, so that two sessions with the same ones do not wait for each other */
	for (int i = 0; i < count; i++)
	{
		const ApmSubmittedRow *row = flush->by_rid[i];

		if (row->fate == APM_FATE_REPEAT)
			continue;
		rids[n] = row->record.rid;
		prints[n] = row->fingerprint;
		tids[n] = row->fate == APM_FATE_SEND ? flush->out.items[row->place].tid : none;
		times[n++] = apm_time_of(row->time_us);
	}
	if (n == 0)
		return;
	args[0] = apm_uuid_array(rids, n);
	args[1] = apm_digest_array(prints, n);
	args[2] = apm_uuid_array(tids, n);
	args[3] = apm_time_array(times, n);
	if (apm_run(&put, args) == (uint64) n)
		return;
	withdraw_taken(flush, rids, n);
}
