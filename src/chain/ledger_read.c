/*
 * ledger_read.c
 *	  What the ledger says about patients and records, as of a block.
 *
 * A reader gets his answer as of the block that his query stands in, not as of whatever
 * is newest when he is answered: the list of records, the patient's profile and the
 * verdict then speak of one state.  The derived tables hold the newest state, and what
 * was before follows from them: a record is current as of a height if what supersedes it
 * came later, and a profile's earlier version is named in the transaction that changed it.
 */
#include "postgres.h"

#include "catalog/pg_type_d.h"

#include "apm_errors.h"
#include "apm_sql.h"
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
 * The patient's profile as of height, when a later block changed it: the first change
 * after height names what it replaced.  Looks through the patient transactions of the
 * blocks since, which are few.
 */
static void
profile_before(ApmSlice apid, uint64 height, ApmPatientState *out)
{
	static ApmStatement later = {
		.sql = "SELECT b.transaction FROM ONLY apm.block AS k JOIN ONLY apm.leaf AS l ON l.block = k.hash"
			   " JOIN ONLY apm.body AS b ON b.tid = l.tid"
			   " WHERE k.height > $1 AND l.kind = $2 AND l.rule = 0 ORDER BY k.height, l.position",
		.nargs = 2,
		.types = {INT8OID, INT2OID},
	};
	Datum args[] = {Int64GetDatum((int64) height), Int16GetDatum(APM_KIND_PATIENT)};
	uint64 rows = apm_run(&later, args);

	for (uint64 row = 0; row < rows; row++)
	{
		ApmTransaction tx;
		const ApmPatientFields *fields = &tx.u.patient;

		apm_check(apm_transaction_decode(apm_row_bytea(row, 1), &tx), "read a transaction of the ledger");
		if (fields->apid.len == apid.len && memcmp(fields->apid.data, apid.data, apid.len) == 0)
		{
			out->version = fields->version - 1;
			out->profile = fields->old_profile;
			return;
		}
	}
	ereport(ERROR,
			(errcode(ERRCODE_APM_TAMPERED), errmsg("the ledger lacks the change of a profile that it counts"),
			 errhint("Run apm_verify().")));
}

bool
apm_ledger_patient(ApmSlice apid, uint64 height, ApmPatientState *out)
{
	static ApmStatement get = {
		.sql = "SELECT p.origin, p.version, p.profile, p.changed_height,"
			   " p.erased_height IS NOT NULL AND p.erased_height <= $2"
			   " FROM ONLY apm.ledger_patient AS p WHERE p.apid = $1 AND p.height <= $2",
		.nargs = 2,
		.types = {TEXTOID, INT8OID},
	};
	Datum args[] = {apm_text_datum(apid), Int64GetDatum((int64) height)};

	memset(out, 0, sizeof(*out));
	if (apm_run(&get, args) == 0)
		return false;
	out->known = true;
	apm_row_digest(0, 1, &out->origin);
	out->version = (uint32) apm_row_int4(0, 2);
	apm_row_digest(0, 3, &out->profile);
	out->erased = apm_row_bool(0, 5);
	if (apm_row_int8(0, 4) > (int64) height)
		profile_before(apid, height, out);
	return true;
}

int
apm_ledger_records(ApmSlice apid, uint64 height, ApmPlace **out)
{
	static ApmStatement get = {
		.sql = "SELECT r.rid, r.tid, r.leaf, r.height, r.position FROM ONLY apm.ledger_record AS r"
			   " WHERE r.apid = $1 AND r.height <= $2 AND NOT EXISTS ("
			   "SELECT FROM ONLY apm.ledger_record AS s WHERE s.rid = r.superseded_by AND s.height <= $2)"
			   " ORDER BY r.height, r.position",
		.nargs = 2,
		.types = {TEXTOID, INT8OID},
	};
	Datum args[] = {apm_text_datum(apid), Int64GetDatum((int64) height)};
	uint64 rows = apm_run(&get, args);
	ApmPlace *places = palloc_array(ApmPlace, Max(rows, 1));

	for (uint64 row = 0; row < rows; row++)
	{
		apm_row_uuid(row, 1, &places[row].rid);
		apm_row_uuid(row, 2, &places[row].tid);
		apm_row_digest(row, 3, &places[row].leaf);
		places[row].height = (uint64) apm_row_int8(row, 4);
		places[row].position = (uint32) apm_row_int4(row, 5);
	}
	*out = places;
	return (int) rows;
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
