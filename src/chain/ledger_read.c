/*
 * ledger_read.c
 *	  What the ledger says about patients and records, as of a block.
 *
 * A reader gets his answer as of the block that his query stands in, not as of whatever
 * is newest when he is answered: the list of records, the patient's profile and the
 * verdict then speak of one state.  The derived tables hold the newest state, and what
 * was before follows from them: a record is current as of a height if what supersedes it
 * came later, and each version of a profile has the height that brought it.
 */
#include "postgres.h"

#include "catalog/pg_type_d.h"

#include "apm_errors.h"
#include "apm_sql.h"
#include "chain/identity.h"
#include "chain/ledger.h"

void
apm_ledger_bodies(const ApmUuid *tids, int n, ApmBody *out)
{
	static ApmStatement get = {
		.sql = "SELECT u.ordinality::pg_catalog.int4, b.nonce, b.transaction, b.proof"
			   " FROM pg_catalog.unnest($1) WITH ORDINALITY AS u (tid, ordinality)"
			   " JOIN ONLY apm.body AS b ON b.tid = u.tid",
		.nargs = 1,
		.types = {UUIDARRAYOID},
	};
	Datum args[] = {apm_uuid_array(tids, n)};
	uint64 found = apm_run(&get, args);

	memset(out, 0, sizeof(ApmBody) * n);
	for (uint64 row = 0; row < found; row++)
	{
		ApmBody *body = &out[apm_row_int4(row, 1) - 1];
		ApmSlice nonce = apm_row_bytea(row, 2);

		if (nonce.len != APM_NONCE_LEN)
			ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("a stored nonce has the wrong length")));
		memcpy(body->nonce, nonce.data, APM_NONCE_LEN);
		body->transaction = apm_row_bytea(row, 3);
		body->proof = apm_row_bytea(row, 4);
	}
}

/*
 * The newest version is in ledger_patient itself; where it came later than asked, the one of then is looked up.  Of
 * one who is erased only the last version's number is left, and no digest: nobody may change him any more.
 */
uint64
apm_patient_rows(const ApmSlice *apids, int n, uint64 before)
{
	static ApmStatement get = {
		.sql = "SELECT p.apid, p.origin, coalesce(v.version, p.version), coalesce(v.profile, p.profile),"
			   " p.erased_height IS NOT NULL AND p.erased_height < $2"
			   " FROM ONLY apm.ledger_patient AS p LEFT JOIN LATERAL ("
			   "SELECT l.version, l.profile FROM ONLY apm.ledger_profile AS l"
			   " WHERE p.changed_height >= $2 AND l.apid = p.apid AND l.height < $2"
			   " ORDER BY l.version DESC LIMIT 1) AS v ON true"
			   " WHERE p.apid = ANY ($1) AND p.height < $2",
		.nargs = 2,
		.types = {TEXTARRAYOID, INT8OID},
	};
	Datum args[] = {apm_text_array(apids, n), Int64GetDatum((int64) before)};

	return apm_run(&get, args);
}

ApmSlice
apm_patient_row(uint64 row, ApmPatientState *out)
{
	memset(out, 0, sizeof(*out));
	out->known = true;
	apm_row_digest(row, 2, &out->origin);
	out->version = (uint32) apm_row_int4(row, 3);
	apm_row_digest(row, 4, &out->profile);
	out->erased = apm_row_bool(row, 5);
	return apm_row_text(row, 1);
}

static void
read_record(uint64 row, ApmRecordRow *out)
{
	out->there = true;
	out->apid = apm_row_text(row, 2);
	apm_row_uuid(row, 3, &out->tid);
	out->height = apm_row_int8(row, 4);
	out->position = apm_row_int4(row, 5);
	out->leaf = apm_row_bytea(row, 6);
	out->superseded = !apm_row_null(row, 7);
	if (out->superseded)
		apm_row_uuid(row, 7, &out->superseded_by);
	out->superseded_then = apm_row_bool(row, 8);
}

void
apm_record_rows(const ApmUuid *rids, int n, uint64 before, ApmRecordRow *out)
{
	static ApmStatement get = {
		.sql = "SELECT u.ordinality::pg_catalog.int4, r.apid, r.tid, r.height, r.position, r.leaf,"
			   " r.superseded_by, s.rid IS NOT NULL"
			   " FROM pg_catalog.unnest($1) WITH ORDINALITY AS u (rid, ordinality)"
			   " JOIN ONLY apm.ledger_record AS r ON r.rid = u.rid"
			   " LEFT JOIN ONLY apm.ledger_record AS s ON s.rid = r.superseded_by AND s.height < $2",
		.nargs = 2,
		.types = {UUIDARRAYOID, INT8OID},
	};
	Datum args[] = {apm_uuid_array(rids, n), Int64GetDatum((int64) before)};
	uint64 rows = apm_run(&get, args);

	memset(out, 0, sizeof(ApmRecordRow) * n);
	for (uint64 row = 0; row < rows; row++)
		read_record(row, &out[apm_row_int4(row, 1) - 1]);
}

static bool
same_apid(ApmSlice a, ApmSlice b)
{
	return a.len == b.len && memcmp(a.data, b.data, a.len) == 0;
}

void
apm_ledger_patients(const ApmSlice *apids, int n, uint64 height, ApmPatientState *out)
{
	uint64 rows = apm_patient_rows(apids, n, height + 1);

	memset(out, 0, sizeof(ApmPatientState) * n);
	for (uint64 row = 0; row < rows; row++)
	{
		ApmPatientState state;
		ApmSlice apid = apm_patient_row(row, &state);

		for (int i = 0; i < n; i++)
		{
			if (same_apid(apids[i], apid))
				out[i] = state;
		}
	}
}

void
apm_row_entry(uint64 row, int column, ApmEntry *out)
{
	apm_row_uuid(row, column, &out->tid);
	out->kind = (uint8) apm_row_int2(row, column + 1);
	out->rule = (uint16) apm_row_int2(row, column + 2);
	apm_row_digest(row, column + 3, &out->leaf);
}

/* Columns from column on: rid, leaf, superseded_by. */
static void
read_place(uint64 row, int column, ApmPlace *out)
{
	memset(out, 0, sizeof(*out));
	apm_row_uuid(row, column, &out->rid);
	apm_row_digest(row, column + 1, &out->leaf);
	out->superseded = !apm_row_null(row, column + 2);
	if (out->superseded)
		apm_row_uuid(row, column + 2, &out->superseded_by);
}

void
apm_ledger_records(ApmRecordList *lists, int n, uint64 height)
{
	static ApmStatement get = {
		.sql = "SELECT w.place::pg_catalog.int4, l.rid, l.leaf, l.superseded_by"
			   " FROM unnest($1, $2) WITH ORDINALITY AS w (apid, every, place)"
			   " CROSS JOIN LATERAL (SELECT r.rid, r.leaf, s.rid AS superseded_by, r.height, r.position"
			   " FROM ONLY apm.ledger_record AS r"
			   " LEFT JOIN ONLY apm.ledger_record AS s ON s.rid = r.superseded_by AND s.height <= $3"
			   " WHERE r.apid = w.apid AND r.height <= $3 AND (w.every <> 0 OR s.rid IS NULL)) AS l"
			   " ORDER BY w.place, l.height, l.position",
		.nargs = 3,
		.types = {TEXTARRAYOID, INT2ARRAYOID, INT8OID},
	};
	ApmSlice *apids = palloc_array(ApmSlice, n);
	int16 *every = palloc_array(int16, n);
	ApmPlace *places;
	Datum args[3];
	uint64 rows;

	for (int i = 0; i < n; i++)
	{
		apids[i] = lists[i].apid;
		every[i] = lists[i].all;
		lists[i].n = 0;
	}
	args[0] = apm_text_array(apids, n);
	args[1] = apm_int2_array(every, n);
	args[2] = Int64GetDatum((int64) height);
	rows = apm_run(&get, args);
	places = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(ApmPlace) * Max(rows, 1));
	for (uint64 row = 0; row < rows; row++)
	{
		ApmRecordList *list = &lists[apm_row_int4(row, 1) - 1];

		if (list->n++ == 0)
			list->places = &places[row];
		read_place(row, 2, &places[row]);
	}
}

static Datum
token_array(const ApmTokens *tokens)
{
	ApmSlice *each = palloc_array(ApmSlice, tokens->count);

	for (int i = 0; i < tokens->count; i++)
		each[i] = APM_SLICE(tokens->bytes + i * APM_TOKEN_LEN, APM_TOKEN_LEN);
	return apm_bytea_array(each, tokens->count);
}

/* Has a record all tokens of that array? */
#define HAS_TOKENS(tokens, rid)                                                                          \
	"NOT EXISTS (SELECT FROM pg_catalog.unnest(" tokens ") AS w (token)"                                 \
	" WHERE NOT EXISTS (SELECT FROM ONLY apm.ledger_token AS h WHERE h.token = w.token AND h.rid = " rid \
	"))"

/*
 * Goes through the records of the rarest token: counting each up to a thousand tells the rare
 * from the common, and costs little.
 */
int
apm_ledger_matches(const ApmTokens *tokens, uint64 height, int limit, ApmMatch **out)
{
	static ApmStatement get = {
		.sql =
			"WITH rarest (token) AS MATERIALIZED (SELECT u.token FROM pg_catalog.unnest($1) AS u (token)"
			" ORDER BY (SELECT pg_catalog.count(*) FROM (SELECT FROM ONLY apm.ledger_token AS c"
			" WHERE c.token = u.token LIMIT 1000) AS few) LIMIT 1)"
			" SELECT r.apid, r.rid, r.leaf, NULL::pg_catalog.uuid FROM rarest AS t"
			" JOIN ONLY apm.ledger_token AS l ON l.token = t.token JOIN ONLY apm.ledger_record AS r ON r.rid = l.rid"
			" WHERE r.height <= $2 AND NOT EXISTS ("
			"SELECT FROM ONLY apm.ledger_record AS s WHERE s.rid = r.superseded_by AND s.height <= $2)"
			" AND " HAS_TOKENS("$1", "l.rid") " ORDER BY r.height, r.position LIMIT $3",
		.nargs = 3,
		.types = {BYTEAARRAYOID, INT8OID, INT8OID},
	};
	Datum args[] = {token_array(tokens), Int64GetDatum((int64) height), Int64GetDatum((int64) limit + 1)};
	uint64 rows = apm_run(&get, args);
	ApmMatch *matches = palloc_array(ApmMatch, rows);

	for (uint64 row = 0; row < rows; row++)
	{
		matches[row].apid = apm_slice_copy(CurrentMemoryContext, apm_row_text(row, 1));
		read_place(row, 2, &matches[row].place);
	}
	*out = matches;
	return (int) rows;
}

void
apm_ledger_have_tokens(const ApmTokens *tokens, const ApmUuid *rids, int n, bool *have)
{
	static ApmStatement get = {
		.sql = "SELECT u.ordinality::pg_catalog.int4"
			   " FROM pg_catalog.unnest($1) WITH ORDINALITY AS u (rid, ordinality)"
			   " WHERE " HAS_TOKENS("$2", "u.rid"),
		.nargs = 2,
		.types = {UUIDARRAYOID, BYTEAARRAYOID},
	};
	Datum args[] = {apm_uuid_array(rids, n), token_array(tokens)};
	uint64 rows = apm_run_latest(&get, args);

	memset(have, 0, sizeof(bool) * n);
	for (uint64 row = 0; row < rows; row++)
		have[apm_row_int4(row, 1) - 1] = true;
}

ApmContractState *
apm_chain_contract(MemoryContext context)
{
	ApmChainIdentity identity;

	apm_chain_require(&identity);
	return apm_state_new(context, &identity.chain, PG_INT64_MAX);
}

/*
 * A registration that is still in the pool does not count: it may be refused.  Appending
 * a block wakes the network server, which then asks again.
 */
void
apm_ledger_known_patients(const ApmSlice *apids, int n, bool *known)
{
	static ApmStatement get = {
		.sql = "SELECT u.ordinality::pg_catalog.int4"
			   " FROM pg_catalog.unnest($1) WITH ORDINALITY AS u (apid, ordinality)"
			   " JOIN ONLY apm.ledger_patient AS p ON p.apid = u.apid",
		.nargs = 1,
		.types = {TEXTARRAYOID},
	};
	Datum args[] = {apm_text_array(apids, n)};
	uint64 rows = apm_run(&get, args);

	memset(known, 0, sizeof(bool) * n);
	for (uint64 row = 0; row < rows; row++)
		known[apm_row_int4(row, 1) - 1] = true;
}
