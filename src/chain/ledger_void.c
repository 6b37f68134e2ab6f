/*
 * ledger_void.c
 *	  What an erasure voids, and what has been voided.
 *
 * An erasure names every registration, change and record of its patient by leaf, Tid, kind and actor.  The
 * actor of what is not void yet stands in its body.  Of what is, the body is gone, and ledger_void has
 * the row that the erasure left; as of a block before that erasure it counts like the others.
 */
#include "postgres.h"

#include "catalog/pg_type_d.h"

#include "apm_errors.h"
#include "apm_sql.h"
#include "chain/identity.h"
#include "chain/ledger.h"

/* Where the actor stands in an encoded transaction: behind tag, version, kind, chain, origin and time. */
#define ACTOR_OF(body) "pg_catalog.substring(" body ".transaction, 76, 16)"

#define LIVE(kind, table)                                                                             \
	"SELECT " kind                                                                                    \
	"::pg_catalog.int2, t.leaf, " ACTOR_OF("b") ", t.tid FROM ONLY " table                            \
												" AS t LEFT JOIN ONLY apm.body AS b ON b.tid = t.tid" \
												" WHERE t.apid = u.apid AND t.height < $2"

uint64
apm_void_rows(const ApmSlice *apids, int n, uint64 before)
{
	static ApmStatement get = {
		.sql =
			"SELECT u.apid, e.leaf, e.kind, e.actor, e.tid FROM pg_catalog.unnest($1) AS u (apid)"
			" CROSS JOIN LATERAL (" LIVE("1", "apm.ledger_profile") " UNION ALL " LIVE(
				"2",
				"apm.ledger_record") " UNION ALL SELECT v.kind, v.leaf, v.actor, v.tid FROM ONLY apm.ledger_void AS v"
									 " WHERE v.apid = u.apid AND v.height < $2 AND v.erasure_height >= $2"
									 ") AS e (kind, leaf, actor, tid) ORDER BY e.leaf",
		.nargs = 2,
		.types = {TEXTARRAYOID, INT8OID},
	};
	Datum args[] = {apm_text_array(apids, n), Int64GetDatum((int64) before)};

	return apm_run(&get, args);
}

ApmSlice
apm_void_row(uint64 row, ApmVoid *out)
{
	ApmSlice actor = apm_row_null(row, 4) ? APM_SLICE(NULL, 0) : apm_row_bytea(row, 4);

	memset(out, 0, sizeof(*out));
	if (actor.len != APM_STAFF_LEN)
		ereport(ERROR, (errcode(ERRCODE_APM_TAMPERED), errmsg("the ledger lacks a transaction of a patient"),
						errhint("Run apm_verify().")));
	apm_row_digest(row, 2, &out->leaf);
	out->kind = (uint8) apm_row_int2(row, 3);
	memcpy(out->actor, actor.data, APM_STAFF_LEN);
	apm_row_uuid(row, 5, &out->tid);
	return apm_row_text(row, 1);
}

int
apm_ledger_voids(ApmSlice apid, ApmVoid **out)
{
	uint64 rows = apm_void_rows(&apid, 1, PG_INT64_MAX);
	ApmVoid *voids = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(ApmVoid) * Max(rows, 1));

	for (uint64 row = 0; row < rows; row++)
		(void) apm_void_row(row, &voids[row]);
	*out = voids;
	return (int) rows;
}

int
apm_ledger_erased(ApmSlice after, int limit, ApmSlice **apids, ApmUuid **tids)
{
	static ApmStatement get = {
		.sql =
			"SELECT p.apid, v.erasure FROM ONLY apm.chain AS c"
			" JOIN ONLY apm.ledger_patient AS p ON p.origin = c.origin"
			" CROSS JOIN LATERAL (SELECT l.erasure FROM ONLY apm.ledger_void AS l WHERE l.apid = p.apid LIMIT 1) AS v"
			" WHERE p.erased_height IS NOT NULL AND p.apid > $1 ORDER BY p.apid LIMIT $2",
		.nargs = 2,
		.types = {TEXTOID, INT4OID},
	};
	Datum args[] = {apm_text_datum(after), Int32GetDatum(limit)};
	uint64 rows = apm_run(&get, args);

	*apids = palloc_array(ApmSlice, Max(rows, 1));
	*tids = palloc_array(ApmUuid, Max(rows, 1));
	for (uint64 row = 0; row < rows; row++)
	{
		(*apids)[row] = apm_slice_copy(CurrentMemoryContext, apm_row_text(row, 1));
		apm_row_uuid(row, 2, &(*tids)[row]);
	}
	return (int) rows;
}

void
apm_ledger_are_void(const ApmUuid *tids, int n, bool *voided)
{
	static ApmStatement get = {
		.sql = "SELECT u.ordinality::pg_catalog.int4"
			   " FROM pg_catalog.unnest($1) WITH ORDINALITY AS u (tid, ordinality)"
			   " JOIN ONLY apm.ledger_void AS v ON v.tid = u.tid",
		.nargs = 1,
		.types = {UUIDARRAYOID},
	};
	Datum args[] = {apm_uuid_array(tids, n)};
	uint64 rows = apm_run(&get, args);

	memset(voided, 0, sizeof(bool) * n);
	for (uint64 row = 0; row < rows; row++)
		voided[apm_row_int4(row, 1) - 1] = true;
}
