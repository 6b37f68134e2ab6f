/*
 * survey.c
 *	  The ledger's records and the cloud's rows, held against each other.
 *
 * Both are walked in the order of their Rids, a portion of records at a time: each record is looked for in the cloud and
 * compared leaf by leaf, and the cloud is asked for all Rids that it has between them.  So memory stays flat, and nothing
 * that the cloud has is passed over.  The cloud worker reads for us (cloud.h), outside our snapshot.
 *
 * Others work on.  First the ledger is read, then outbox and cloud, then, for what seems wrong, the ledger once
 * more: a record that an erasure took meanwhile is not missing, and a row of a record that came meanwhile is not unknown.  Of a
 * patient who is erased no row may be there once his removal is done; so after that is seen, the cloud is asked again.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "apm_errors.h"
#include "apm_sql.h"
#include "cloud/cloud.h"
#include "keys/keyring.h"
#include "network/survey.h"

#define LIST_ROWS 4096

/* A record that the cloud should have. */
typedef struct ApmExpected
{
	ApmUuid rid;
	ApmUuid tid;
	ApmSlice apid;
	ApmDigest leaf;
	bool coming; /* the final transaction of its block has not been handled */
	ApmSurveyFinding finding;
	bool settled; /* the finding counts */
} ApmExpected;

/* A row of the cloud under a Rid that is not expected. */
typedef struct ApmStray
{
	ApmUuid rid;
	ApmSurveyFinding finding;
	bool settled;
} ApmStray;

/* The next records of the ledger. */
static int
expect(const ApmSurvey *survey, int limit, ApmExpected *out)
{
	static ApmStatement next = {
		"SELECT r.rid, r.tid, r.apid, r.leaf, r.height IN (SELECT q.height FROM ONLY apm.final_queue AS q)"
		" FROM ONLY apm.ledger_record AS r JOIN ONLY apm.ledger_patient AS p ON p.apid = r.apid"
		" JOIN ONLY apm.chain AS c ON c.origin = p.origin"
		" WHERE r.rid >= $1 AND r.height <= $2 ORDER BY r.rid LIMIT $3",
		3,
		{UUIDOID, INT8OID, INT8OID},
		NULL,
	};
	Datum args[3] = {apm_uuid_datum(&survey->from), Int64GetDatum(survey->height), Int64GetDatum(limit)};
	int n = (int) apm_run_latest(&next, args);

	for (int i = 0; i < n; i++)
	{
		memset(&out[i], 0, sizeof(out[i]));
		apm_row_uuid(i, 1, &out[i].rid);
		apm_row_uuid(i, 2, &out[i].tid);
		out[i].apid = apm_slice_copy(CurrentMemoryContext, apm_row_text(i, 3));
		apm_row_digest(i, 4, &out[i].leaf);
		out[i].coming = apm_row_bool(i, 5);
	}
	return n;
}

/* The id of the newest PK_APM. */
static void
newest_key(ApmKeyId *out)
{
	ApmKeyInfo *keys;
	int n = apm_key_list(&keys);

	memset(out, 0, sizeof(*out));
	for (int i = 0; i < n; i++)
	{
		if (keys[i].active && strcmp(keys[i].kind, "apm-envelope") == 0)
			(void) hex_decode(keys[i].id, 2 * APM_KEY_ID_LEN, (char *) out->bytes);
	}
}

static bool
same(ApmSlice a, ApmSlice b)
{
	return a.len == b.len && memcmp(a.data, b.data, a.len) == 0;
}

/* What the cloud's answer for a record comes to. */
static ApmSurveyFinding
judge(const ApmExpected *expected, const ApmCloudFound *row, const ApmKeyId *newest)
{
	ApmBuf plain = {0};
	ApmOpened opened;
	ApmSlice tokens;
	bool good;

	if (row->where == APM_CLOUD_OUTBOX)
		return APM_RECORD_PENDING;
	if (row->where == APM_CLOUD_NOWHERE)
		return expected->coming ? APM_RECORD_PENDING : APM_RECORD_MISSING;
	if (row->where != APM_CLOUD_STORED || row->tokens.data == NULL || !same(row->apid, expected->apid) ||
		apm_cloud_open(&expected->rid, expected->apid, &expected->leaf, row->apr, &plain, &opened) !=
			APM_CLOUD_GOOD)
		return APM_RECORD_ALTERED;

	/* what was signed says what stands beside it */
	tokens = APM_SLICE(opened.tx.u.primary.tokens.bytes,
					   (size_t) opened.tx.u.primary.tokens.count * APM_TOKEN_LEN);
	good = same(row->tokens, tokens);
	apm_buf_reset(&plain);
	if (!good)
		return APM_RECORD_ALTERED;
	return apm_envelope_is_for(row->apr, newest) ? APM_RECORD_GOOD : APM_RECORD_OLD_KEY;
}

/* Looks for each record in outbox and cloud. */
static void
compare(ApmExpected *records, int n)
{
	MemoryContext some =
		AllocSetContextCreate(CurrentMemoryContext, "apm cloud rows", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = CurrentMemoryContext;
	ApmUuid *rids = palloc(sizeof(ApmUuid) * Max(n, 1));
	ApmCloudFound *rows = palloc(sizeof(ApmCloudFound) * Max(n, 1));
	ApmKeyId newest;

	newest_key(&newest);
	for (int i = 0; i < n; i++)
		rids[i] = records[i].rid;
	for (int at = 0; at < n;)
	{
		int found;

		MemoryContextSwitchTo(some);
		found = apm_cloud_rows(rids + at, n - at, rows);
		for (int i = 0; i < found; i++)
		{
			CHECK_FOR_INTERRUPTS();
			records[at + i].finding = judge(&records[at + i], &rows[i], &newest);
			records[at + i].settled = records[at + i].finding <= APM_RECORD_PENDING;
		}
		at += found;
		MemoryContextSwitchTo(caller);
		MemoryContextReset(some);
	}
	MemoryContextDelete(some);
}

/* Of what seems wrong, only records that the ledger still has count. */
static void
settle(ApmExpected *records, int n)
{
	static ApmStatement there = {
		"SELECT r.rid FROM ONLY apm.ledger_record AS r WHERE r.rid = ANY ($1) ORDER BY r.rid",
		1,
		{UUIDARRAYOID},
		NULL,
	};
	ApmUuid *doubted = palloc(sizeof(ApmUuid) * Max(n, 1));
	int ndoubted = 0;
	int at = 0;
	Datum args[1];
	int found;

	for (int i = 0; i < n; i++)
	{
		if (!records[i].settled)
			doubted[ndoubted++] = records[i].rid;
	}
	if (ndoubted == 0)
		return;
	args[0] = apm_uuid_array(doubted, ndoubted);
	found = (int) apm_run_latest(&there, args);
	for (int i = 0; i < found; i++)
	{
		ApmUuid rid;

		apm_row_uuid(i, 1, &rid);
		while (memcmp(&records[at].rid, &rid, sizeof(rid)) != 0)
			at++;
		records[at].settled = true;
	}
}

/* Rows of the cloud's list whose Rids are not among the records; both are in order. */
static int
unexpected(const ApmExpected *records, int n, const ApmCloudListed *rows, int nrows,
		   const ApmCloudListed **out)
{
	int strays = 0;
	int at = 0;

	for (int i = 0; i < nrows; i++)
	{
		while (at < n && memcmp(&records[at].rid, &rows[i].rid, sizeof(ApmUuid)) < 0)
			at++;
		if (at == n || memcmp(&records[at].rid, &rows[i].rid, sizeof(ApmUuid)) != 0)
			out[strays++] = &rows[i];
	}
	return strays;
}

/*
 * What the ledger says of rows under Rids that were not expected.  A record may have come meanwhile, or be of a later
 * block, or its patient be about to leave; of one who is erased the cloud is asked once more, lest he was.
 */
static void
explain(const ApmCloudListed *const *rows, int n, ApmStray *out)
{
	static ApmStatement ask = {
		"SELECT EXISTS (SELECT FROM ONLY apm.ledger_record AS r WHERE r.rid = u.rid), p.erased_height IS NOT NULL,"
		" EXISTS (SELECT FROM ONLY apm.cloud_removal AS c WHERE c.apid = u.apid)"
		" OR p.erased_height IN (SELECT q.height FROM ONLY apm.final_queue AS q)"
		" FROM unnest($1, $2) WITH ORDINALITY AS u (rid, apid, place)"
		" LEFT JOIN ONLY apm.ledger_patient AS p ON p.apid = u.apid ORDER BY u.place",
		2,
		{UUIDARRAYOID, TEXTARRAYOID},
		NULL,
	};
	ApmUuid *rids = palloc(sizeof(ApmUuid) * n);
	ApmSlice *apids = palloc(sizeof(ApmSlice) * n);
	Datum args[2];

	for (int i = 0; i < n; i++)
	{
		rids[i] = rows[i]->rid;
		apids[i] = rows[i]->apid;
	}
	args[0] = apm_uuid_array(rids, n);
	args[1] = apm_text_array(apids, n);
	(void) apm_run_latest(&ask, args);
	for (int i = 0; i < n; i++)
	{
		bool leaving = !apm_row_null(i, 3) && apm_row_bool(i, 3);

		out[i].rid = rids[i];
		out[i].settled = !apm_row_bool(i, 1);
		out[i].finding = !apm_row_bool(i, 2) ? APM_ROW_UNKNOWN : leaving ? APM_ROW_LEAVING : APM_ROW_ERASED;
	}
	for (int i = 0; i < n; i++)
	{
		ApmCloudFound row;

		if (!out[i].settled || out[i].finding != APM_ROW_ERASED)
			continue;
		(void) apm_cloud_rows(&out[i].rid, 1, &row);
		out[i].settled = row.where == APM_CLOUD_STORED || row.where == APM_CLOUD_TWICE;
	}
}

/* Asks the cloud for all that it has in the portion, and tells of what has no right to be there. */
static void
find_strays(const ApmSurvey *survey, const ApmExpected *records, int n)
{
	MemoryContext some =
		AllocSetContextCreate(CurrentMemoryContext, "apm cloud list", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(some);
	ApmUuid from = survey->from;
	bool more = true;

	while (more)
	{
		ApmCloudListed *rows;
		int64 nameless;
		int nrows = apm_cloud_list(&from, &survey->last, LIST_ROWS, &rows, &nameless, &more);
		const ApmCloudListed **strays = palloc(sizeof(ApmCloudListed *) * Max(nrows, 1));
		int nstrays = unexpected(records, n, rows, nrows, strays);
		ApmStray *explained = palloc(sizeof(ApmStray) * Max(nstrays, 1));

		if (nstrays > 0)
			explain(strays, nstrays, explained);
		for (int i = 0; i < nstrays; i++)
		{
			if (explained[i].settled)
				survey->callback(explained[i].finding, &explained[i].rid, NULL, survey->closure);
		}
		for (int64 i = 0; i < nameless; i++)
			survey->callback(APM_ROW_UNKNOWN, NULL, NULL, survey->closure);
		more = more && nrows > 0 && apm_uuid_next(&rows[nrows - 1].rid, &from);
		CHECK_FOR_INTERRUPTS();
		MemoryContextReset(some);
	}
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(some);
}

int
apm_survey_portion(ApmSurvey *survey, int limit)
{
	MemoryContext portion = AllocSetContextCreate(CurrentMemoryContext, "apm survey", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(portion);
	ApmExpected *records = palloc(sizeof(ApmExpected) * limit);
	int n = expect(survey, limit, records);

	if (n == limit)
		survey->last = records[n - 1].rid;
	else
		memset(survey->last.bytes, 0xff, APM_UUID_LEN);
	compare(records, n);
	settle(records, n);
	for (int i = 0; i < n; i++)
	{
		if (records[i].settled)
			survey->callback(records[i].finding, &records[i].rid, &records[i].tid, survey->closure);
	}
	find_strays(survey, records, n);
	survey->finished = !apm_uuid_next(&survey->last, &survey->from);
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(portion);
	return n;
}
