/*
 * derive.c
 *	  What follows from a block, written beside the ledger.
 *
 * The contract and every read ask what the ledger says about a patient, a record, a consent, a
 * counter.  It follows from the blocks, and is kept in tables of its own, which change with each
 * block in the transaction that appends it, so that none can run ahead of the ledger or fall
 * behind.  A few statements over arrays do it, so that the price of a block hardly
 * depends on how many transactions it has.  This file has what is changed later
 * (derive_rows.c what is not) and members.
 *
 * Every statement says ONLY: a table that somebody lets inherit from one of ours must not
 * add rows to what we read.
 */
#include "postgres.h"

#include "catalog/pg_type_d.h"

#include "apm_errors.h"
#include "apm_sql.h"
#include "chain/derive.h"

/* Values at the places of the chosen entries, ready for unnest. */
typedef struct ApmColumns
{
	int n;
	int32 *positions;
	ApmUuid *tids;
	ApmUuid *rids;
	ApmUuid *amends;
	ApmSlice *apids;
	ApmDigest *digests;
	ApmDigest *origins;
	int32 *versions;
} ApmColumns;

static void
columns_init(ApmColumns *c, int n)
{
	c->n = 0;
	c->positions = palloc_array(int32, n);
	c->tids = palloc_array(ApmUuid, n);
	c->rids = palloc_array(ApmUuid, n);
	c->amends = palloc_array(ApmUuid, n);
	c->apids = palloc_array(ApmSlice, n);
	c->digests = palloc_array(ApmDigest, n);
	c->origins = palloc_array(ApmDigest, n);
	c->versions = palloc_array(int32, n);
}

/*
 * Registrations first, then of each changed patient the block's last version: the
 * contract has let through only versions that follow one another.
 */
static void
derive_patients(const ApmContents *block)
{
	static ApmStatement registered = {
		.sql =
			"INSERT INTO apm.ledger_patient (apid, origin, version, profile, height, position, changed_height)"
			" SELECT p.apid, p.origin, 1, p.profile, $1, p.position, $1"
			" FROM unnest($2, $3, $4, $5, $6) AS p (position, apid, origin, version, profile)"
			" WHERE p.version = 1",
		.nargs = 6,
		.types = {INT8OID, INT4ARRAYOID, TEXTARRAYOID, BYTEAARRAYOID, INT4ARRAYOID, BYTEAARRAYOID},
	};
	static ApmStatement changed = {
		.sql = "UPDATE ONLY apm.ledger_patient AS l"
			   " SET version = p.version, profile = p.profile, changed_height = $1"
			   " FROM (SELECT DISTINCT ON (u.apid) u.apid, u.version, u.profile"
			   " FROM unnest($2, $3, $4, $5, $6) AS u (position, apid, origin, version, profile)"
			   " WHERE u.version > 1 ORDER BY u.apid, u.version DESC) AS p"
			   " WHERE l.apid = p.apid",
		.nargs = 6,
		.types = {INT8OID, INT4ARRAYOID, TEXTARRAYOID, BYTEAARRAYOID, INT4ARRAYOID, BYTEAARRAYOID},
	};
	ApmColumns c;
	Datum args[6];

	columns_init(&c, block->n);
	for (int i = 0; i < block->n; i++)
	{
		const ApmTransaction *tx = &block->opened[i].tx;

		if (!apm_is_valid(block, i, APM_KIND_PATIENT))
			continue;
		c.positions[c.n] = i;
		c.apids[c.n] = tx->u.patient.apid;
		c.origins[c.n] = tx->origin;
		c.versions[c.n] = (int32) tx->u.patient.version;
		c.digests[c.n] = tx->u.patient.profile;
		c.n++;
	}
	if (c.n == 0)
		return;
	args[0] = Int64GetDatum((int64) block->height);
	args[1] = apm_int4_array(c.positions, c.n);
	args[2] = apm_text_array(c.apids, c.n);
	args[3] = apm_digest_array(c.origins, c.n);
	args[4] = apm_int4_array(c.versions, c.n);
	args[5] = apm_digest_array(c.digests, c.n);
	apm_run(&registered, args);
	apm_run(&changed, args);
}

static void
derive_records(const ApmContents *block)
{
	static ApmStatement added = {
		.sql = "INSERT INTO apm.ledger_record (rid, apid, tid, height, position, leaf)"
			   " SELECT r.rid, r.apid, r.tid, $1, r.position, r.leaf"
			   " FROM unnest($2, $3, $4, $5, $6) AS r (position, rid, apid, tid, leaf)",
		.nargs = 6,
		.types = {INT8OID, INT4ARRAYOID, UUIDARRAYOID, TEXTARRAYOID, UUIDARRAYOID, BYTEAARRAYOID},
	};
	ApmColumns c;
	Datum args[6];

	columns_init(&c, block->n);
	for (int i = 0; i < block->n; i++)
	{
		const ApmPrimaryFields *primary = &block->opened[i].tx.u.primary;

		if (!apm_is_valid(block, i, APM_KIND_PRIMARY))
			continue;
		c.positions[c.n] = i;
		c.rids[c.n] = primary->rid;
		c.apids[c.n] = primary->apid;
		c.tids[c.n] = block->entries[i].tid;
		c.digests[c.n] = block->entries[i].leaf;
		c.n++;
	}
	if (c.n == 0)
		return;
	args[0] = Int64GetDatum((int64) block->height);
	args[1] = apm_int4_array(c.positions, c.n);
	args[2] = apm_uuid_array(c.rids, c.n);
	args[3] = apm_text_array(c.apids, c.n);
	args[4] = apm_uuid_array(c.tids, c.n);
	args[5] = apm_digest_array(c.digests, c.n);
	apm_run_whole(&added, args, (uint64) c.n);
}

static void
derive_amendments(const ApmContents *block)
{
	static ApmStatement superseded = {
		.sql = "UPDATE ONLY apm.ledger_record AS l SET superseded_by = a.rid"
			   " FROM unnest($1, $2) AS a (rid, amends) WHERE l.rid = a.amends",
		.nargs = 2,
		.types = {UUIDARRAYOID, UUIDARRAYOID},
	};
	ApmColumns c;

	columns_init(&c, block->n);
	for (int i = 0; i < block->n; i++)
	{
		const ApmPrimaryFields *primary = &block->opened[i].tx.u.primary;

		if (!apm_is_valid(block, i, APM_KIND_PRIMARY) || (primary->flags & APM_PRIMARY_AMENDS) == 0)
			continue;
		c.rids[c.n] = primary->rid;
		c.amends[c.n] = primary->amends;
		c.n++;
	}
	if (c.n > 0)
	{
		Datum args[] = {apm_uuid_array(c.rids, c.n), apm_uuid_array(c.amends, c.n)};

		apm_run_whole(&superseded, args, (uint64) c.n);
	}
}

static void
derive_member(const ApmMembershipFields *fields, uint64 height)
{
	static ApmStatement put = {
		.sql = "INSERT INTO apm.member (id, member, spki, height) VALUES ($1, $2, $3, $4)",
		.nargs = 4,
		.types = {BYTEAOID, INT2OID, BYTEAOID, INT8OID},
	};
	ApmEcKey *key;
	ApmDigest id;
	Datum args[4];

	apm_check(apm_ec_from_spki(APM_SLICE(fields->spki, APM_SPKI_LEN), &key), "read the key of a member");
	apm_ec_id(key, &id);
	apm_ec_free(key);
	args[0] = apm_digest_datum(&id);
	args[1] = Int16GetDatum(fields->member);
	args[2] = apm_bytea_datum(APM_SLICE(fields->spki, APM_SPKI_LEN));
	args[3] = Int64GetDatum((int64) height);
	apm_run_whole(&put, args, 1);
}

/*
 * Members and the contract come before the block, because the block's guard asks who may sign
 * and what its contract digest must be: genesis brings its own.
 */
void
apm_derive_contract(const ApmContents *block)
{
	for (int i = 0; i < block->n; i++)
	{
		if (apm_is_valid(block, i, APM_KIND_MEMBERSHIP))
			derive_member(&block->opened[i].tx.u.membership, block->height);
	}
	apm_derived_add(APM_DERIVED_ITEM, block);
}

void
apm_derive(const ApmContents *block)
{
	derive_patients(block);
	derive_records(block);
	derive_amendments(block);
	for (ApmDerived table = 0; table < APM_DERIVED_TABLES; table++)
	{
		if (table != APM_DERIVED_ITEM)
			apm_derived_add(table, block);
	}
}
