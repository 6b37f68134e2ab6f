/*
 * ledger_query.c
 *	  Queries as the ledger has them: who asked, for what, and what became of it.
 *
 * The derived table finds them; what they say comes from their bodies, each of which must
 * be the one whose digest its block has.  So a history is either what the chain holds or an error.
 */
#include "postgres.h"

#include "catalog/pg_type_d.h"

#include "apm_errors.h"
#include "apm_sql.h"
#include "chain/chain.h"
#include "chain/identity.h"

/* What read_row() takes. */
#define QUERY_COLUMNS                                                                        \
	"q.tid, q.height, q.position, q.rule, l.leaf, k.hash, k.header, b.nonce, b.transaction," \
	" EXISTS (SELECT FROM ONLY apm.ledger_consent AS c WHERE c.reviewed = q.tid)"
#define QUERY_TABLES                                                                        \
	" FROM ONLY apm.ledger_query AS q LEFT JOIN ONLY apm.block AS k ON k.height = q.height" \
	" LEFT JOIN ONLY apm.leaf AS l ON l.block = k.hash AND l.position = q.position"         \
	" AND l.tid = q.tid AND l.rule = q.rule"                                                \
	" LEFT JOIN ONLY apm.body AS b ON b.tid = q.tid"

static void
fault(void)
{
	ereport(ERROR, (errcode(ERRCODE_APM_TAMPERED), errmsg("a query in the ledger is not what its block says"),
					errhint("Run apm_verify().")));
}

/* The transaction of a body, if it is the one with that leaf and Tid. */
static void
open_body(ApmSlice nonce, ApmSlice transaction, ApmQueryRow *out)
{
	ApmDigest leaf;
	ApmUuid tid;

	if (nonce.len != APM_NONCE_LEN || apm_transaction_decode(transaction, &out->tx) != APM_OK ||
		out->tx.kind != APM_KIND_QUERY)
		fault();
	apm_check(apm_transaction_leaf(nonce.data, transaction, &leaf), "hash a transaction");
	apm_transaction_tid(out->tx.time_us, &leaf, &tid);
	if (memcmp(&leaf, &out->leaf, sizeof(leaf)) != 0 || memcmp(&tid, &out->tid, sizeof(tid)) != 0)
		fault();
}

/* Row of SPI_tuptable with QUERY_COLUMNS. */
static void
read_row(uint64 row, ApmQueryRow *out)
{
	ApmHeader header;
	ApmSlice encoded;
	ApmDigest hash;

	for (int column = 5; column <= 9; column++)
	{
		if (apm_row_null(row, column))
			fault();
	}
	memset(out, 0, sizeof(*out));
	apm_row_uuid(row, 1, &out->tid);
	out->height = (uint64) apm_row_int8(row, 2);
	out->position = (uint32) apm_row_int4(row, 3);
	out->rule = (uint16) apm_row_int2(row, 4);
	apm_row_digest(row, 5, &out->leaf);
	apm_row_digest(row, 6, &out->block);
	encoded = apm_row_bytea(row, 7);
	if (apm_header_decode(encoded, &header) != APM_OK || header.height != out->height)
		fault();
	apm_check(apm_header_hash(encoded.data, &hash), "hash a block");
	if (memcmp(&hash, &out->block, sizeof(hash)) != 0)
		fault();
	open_body(apm_row_bytea(row, 8), apm_row_bytea(row, 9), out);
	out->reviewed = apm_row_bool(row, 10);
}

/* So many rows of SPI_tuptable. */
static ApmQueryRow *
read_rows(uint64 rows)
{
	ApmQueryRow *queries = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(ApmQueryRow) * Max(rows, 1));

	for (uint64 row = 0; row < rows; row++)
		read_row(row, &queries[row]);
	return queries;
}

int
apm_ledger_queries(ApmSlice apid, uint64 height, ApmQueryRow **out)
{
	static ApmStatement get = {
		.sql = "SELECT " QUERY_COLUMNS QUERY_TABLES
			   " WHERE q.apid = $1 AND q.height <= $2 ORDER BY q.height, q.position",
		.nargs = 2,
		.types = {TEXTOID, INT8OID},
	};
	Datum args[] = {apm_text_datum(apid), Int64GetDatum((int64) height)};
	uint64 rows = apm_run_latest(&get, args);

	*out = read_rows(rows);
	for (uint64 row = 0; row < rows; row++)
	{
		ApmSlice whose = (*out)[row].tx.u.query.apid;

		if (whose.len != apid.len || memcmp(whose.data, apid.data, apid.len) != 0)
			fault();
	}
	return (int) rows;
}

bool
apm_ledger_query(const ApmUuid *tid, ApmQueryRow *out)
{
	static ApmStatement get = {
		.sql = "SELECT " QUERY_COLUMNS QUERY_TABLES " WHERE q.tid = $1",
		.nargs = 1,
		.types = {UUIDOID},
	};
	Datum args[] = {apm_uuid_datum(tid)};

	if (apm_run_latest(&get, args) == 0)
		return false;
	*out = *read_rows(1);
	return true;
}

int
apm_ledger_unreviewed(ApmQueryRow **out)
{
	static ApmStatement get = {
		.sql = "SELECT " QUERY_COLUMNS QUERY_TABLES " WHERE q.scope = 6 AND q.rule = 0 AND NOT EXISTS ("
			   "SELECT FROM ONLY apm.ledger_consent AS c WHERE c.reviewed = q.tid)"
			   " ORDER BY q.height, q.position",
	};
	uint64 rows = apm_run_latest(&get, NULL);

	*out = read_rows(rows);
	for (uint64 row = 0; row < rows; row++)
	{
		if ((*out)[row].tx.u.query.scope != APM_SCOPE_EMERGENCY)
			fault();
	}
	return (int) rows;
}
