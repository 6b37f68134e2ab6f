/*
 * destroy.c
 *	  Destroying what this server keeps of a patient beside the ledger.
 *
 * With the wrapped key goes whatever is sealed under the patient's key, wherever copies of it are; with the
 * index, the way from the pid to the pseudonym.  The rest is thrown away because nobody needs it any more.
 *
 * Somebody who found the patient before he was forgotten may still be at work, in a transaction that is
 * open for long: registrars hold the patient's lock, and a record that data rules look at holds the row of
 * his last values.  Both are taken first, or he is left for later.  What such a transaction still queues
 * the contract refuses.
 */
#include "postgres.h"

#include "anonymize/destroy.h"
#include "anonymize/tombstone.h"
#include "anonymize/waiting.h"
#include "apm_sql.h"

/*
 * Locks those patients who are free and there; marks whom it cannot lock, and sets the indexes of the
 * others.
 */
static int
lock_patients(const ApmSlice *apids, int n, bool *free, ApmDigest *indexes)
{
	static ApmStatement find = {
		"SELECT w.place, p.index_key FROM pg_catalog.unnest($1) WITH ORDINALITY AS w (apid, place)"
		" JOIN ONLY apm.patient AS p ON p.apid = w.apid",
		1,
		{TEXTARRAYOID},
		NULL,
	};
	Datum args[] = {apm_text_array(apids, n)};
	uint64 rows = apm_run(&find, args);
	int count = 0;

	for (uint64 row = 0; row < rows; row++)
	{
		int64 place = apm_row_int8(row, 1) - 1;

		apm_row_digest(row, 2, &indexes[count]);
		free[place] = free[place] && apm_patient_try_lock(&indexes[count], true);
		if (free[place])
			count++;
	}
	return count;
}

/* Marks those whose last values are locked by somebody else; locks the others'. */
static void
lock_last_values(const ApmSlice *apids, int n, bool *free)
{
	static ApmStatement held = {
		"SELECT w.place FROM pg_catalog.unnest($1) WITH ORDINALITY AS w (apid, place)"
		" WHERE EXISTS (SELECT FROM ONLY apm.last_value AS l WHERE l.apid = w.apid) AND w.apid <> ALL ($2)",
		2,
		{TEXTARRAYOID, TEXTARRAYOID},
		NULL,
	};
	static ApmStatement lock = {
		"SELECT l.apid FROM ONLY apm.last_value AS l WHERE l.apid = ANY ($1) FOR UPDATE SKIP LOCKED",
		1,
		{TEXTARRAYOID},
		NULL,
	};
	ApmSlice *locked = palloc(sizeof(ApmSlice) * Max(n, 1));
	Datum args[2] = {apm_text_array(apids, n)};
	uint64 rows = apm_run(&lock, args);

	for (uint64 row = 0; row < rows; row++)
		locked[row] = apm_row_text(row, 1);
	args[1] = apm_text_array(locked, (int) rows);
	rows = apm_run(&held, args);
	for (uint64 row = 0; row < rows; row++)
		free[apm_row_int8(row, 1) - 1] = false;
}

static void
delete_rows(const ApmSlice *apids, int n)
{
	static ApmStatement deletions[] = {
		{"DELETE FROM ONLY apm.note WHERE apid = ANY ($1)", 1, {TEXTARRAYOID}, NULL},
		{"DELETE FROM ONLY apm.last_value WHERE apid = ANY ($1)", 1, {TEXTARRAYOID}, NULL},
		{"DELETE FROM ONLY apm.profile WHERE apid = ANY ($1)", 1, {TEXTARRAYOID}, NULL},
		{"DELETE FROM ONLY apm.patient WHERE apid = ANY ($1)", 1, {TEXTARRAYOID}, NULL},
	};
	Datum args[] = {apm_text_array(apids, n)};

	for (int i = 0; i < (int) lengthof(deletions); i++)
		apm_run(&deletions[i], args);
}

void
apm_patients_destroy(const ApmSlice *apids, int n, bool *done)
{
	ApmDigest *indexes = palloc(sizeof(ApmDigest) * Max(n, 1));
	ApmSlice *doomed = palloc(sizeof(ApmSlice) * Max(n, 1));
	int nindexes;
	int count = 0;

	memset(done, true, sizeof(bool) * n);
	lock_last_values(apids, n, done);
	nindexes = lock_patients(apids, n, done, indexes);
	for (int i = 0; i < n; i++)
	{
		if (done[i])
			doomed[count++] = apids[i];
	}
	if (count == 0)
		return;
	apm_tombstone_waiting(indexes, nindexes);
	delete_rows(doomed, count);
	apm_tombstone_records(doomed, count);
}
