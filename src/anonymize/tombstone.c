/*
 * tombstone.c
 *	  What stays of a record in apm.submission when its patient is forgotten: that its Rid was used.
 *
 * A Rid must not come to mean another record, so its row stays, and nothing in it but the Rid.  The
 * fingerprint is keyed, but with a key that is here for ever: whoever guesses pid and content could
 * recognize them.  The Tid leads to the ledger's row of what was voided, and that to the pseudonym.  So
 * does the time, nearly: a Tid begins with one.
 *
 * apm.submission is not indexed by Tid, for it is written with every record and looked at by Tid here
 * only.  Patients are therefore forgotten several at a time, and one scan serves all of them.
 */
#include "postgres.h"

#include "utils/guc.h"
#include "utils/timestamp.h"

#include "anonymize/tombstone.h"
#include "apm_sql.h"
#include "core/contract.h"

static const ApmDigest blank;

#define FORGET "fingerprint = $1, tid = NULL, submitted_at = NULL, queued_at = NULL"

bool
apm_tombstone_is(const ApmDigest *fingerprint)
{
	return memcmp(fingerprint, &blank, sizeof(blank)) == 0;
}

void
apm_tombstone_waiting(const ApmDigest *indexes, int n)
{
	static ApmStatement drop = {
		"WITH gone AS (DELETE FROM ONLY apm.waiting WHERE index_key = ANY ($2) RETURNING rid)"
		" UPDATE ONLY apm.submission AS s SET " FORGET " FROM gone WHERE s.rid = gone.rid",
		2,
		{BYTEAOID, BYTEAARRAYOID},
		NULL,
	};
	Datum args[] = {apm_digest_datum(&blank), apm_digest_array(indexes, n)};

	if (n > 0)
		apm_run(&drop, args);
}

/* Runs a statement that reads apm.submission whole, in a worker that is told to go by indexes. */
static uint64
run_scan(ApmStatement *statement, const Datum *args)
{
	int level = NewGUCNestLevel();
	uint64 rows;

	(void) set_config_option("enable_seqscan", "on", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0,
							 false);
	rows = apm_run(statement, args);
	AtEOXact_GUC(true, level);
	return rows;
}

void
apm_tombstone_records(const ApmSlice *apids, int n)
{
	static ApmStatement forget = {
		"UPDATE ONLY apm.submission AS s SET " FORGET
		" FROM (SELECT v.tid FROM ONLY apm.ledger_void AS v WHERE v.apid = ANY ($2)"
		" UNION ALL SELECT r.tid FROM ONLY apm.ledger_record AS r WHERE r.apid = ANY ($2)) AS t"
		" WHERE s.tid = t.tid",
		2,
		{BYTEAOID, TEXTARRAYOID},
		NULL,
	};
	Datum args[] = {apm_digest_datum(&blank), apm_text_array(apids, n)};

	(void) run_scan(&forget, args);
}

void
apm_tombstone_refused(TimestampTz *seen)
{
	static ApmStatement newest = {
		"SELECT pg_catalog.max(t.validated_at) FROM ONLY apm.final_transaction AS t"
		" WHERE t.rule <> 0 AND t.rule = $1 AND t.kind = $2 AND t.validated_at > $3",
		3,
		{INT2OID, INT2OID, TIMESTAMPTZOID},
		NULL,
	};
	static ApmStatement forget = {
		"UPDATE ONLY apm.submission AS s SET " FORGET " FROM ONLY apm.final_transaction AS t"
		" WHERE t.rule <> 0 AND t.rule = $2 AND t.kind = $3 AND t.validated_at > $4 AND s.tid = t.tid",
		4,
		{BYTEAOID, INT2OID, INT2OID, TIMESTAMPTZOID},
		NULL,
	};
	Datum rule = Int16GetDatum(APM_RULE_ERASED);
	Datum kind = Int16GetDatum(APM_KIND_PRIMARY);
	Datum since = TimestampTzGetDatum(*seen);
	Datum looked[] = {rule, kind, since};
	Datum args[] = {apm_digest_datum(&blank), rule, kind, since};

	apm_run(&newest, looked);
	if (apm_row_null(0, 1))
		return;
	/* final transactions are written down one after the other, so what is younger came later */
	*seen = apm_row_time(0, 1);
	(void) run_scan(&forget, args);
}

void
apm_tombstones_among(const ApmUuid *rids, int n, bool *erased)
{
	static ApmStatement find = {
		"SELECT w.place FROM pg_catalog.unnest($1) WITH ORDINALITY AS w (rid, place)"
		" JOIN ONLY apm.submission AS s ON s.rid = w.rid WHERE s.fingerprint = $2"
		" OR EXISTS (SELECT FROM ONLY apm.ledger_void AS v WHERE v.tid = s.tid)",
		2,
		{UUIDARRAYOID, BYTEAOID},
		NULL,
	};
	Datum args[] = {apm_uuid_array(rids, n), apm_digest_datum(&blank)};
	uint64 rows = apm_run_latest(&find, args);

	memset(erased, 0, sizeof(bool) * n);
	for (uint64 row = 0; row < rows; row++)
		erased[apm_row_int8(row, 1) - 1] = true;
}
