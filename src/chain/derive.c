/*
 * derive.c
 *	  What follows from a block, written beside the ledger.
 *
 * The contract and every read ask what the ledger says about a patient, a record, a consent, a
 * counter.  It follows from the blocks, and is kept in tables of its own, which change with each
 * block in the transaction that appends it, so that none can run ahead of the ledger or fall
 * behind.  A few statements over arrays do it, so that the price of a block hardly
 * depends on how many transactions it has.  This file has what is changed later
 * (derive_rows.c what is not): members, patients, records, and what an erasure does to both.
 *
 * After an erasure a Rid of its patient is as if never seen, in the same block already; so a block is
 * taken in parts, each up to its next erasure.
 *
 * Every statement says ONLY: a table that somebody lets inherit from one of ours must not
 * add rows to what we read.
 */
#include "postgres.h"

#include "catalog/pg_type_d.h"

#include "apm_errors.h"
#include "apm_sql.h"
#include "chain/derive.h"
#include "chain/identity.h"
#include "core/digest.h"

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
 * Whoever registered a patient is known by the id of his first key.  Registrations first, then of each changed patient the block's last version: the
 * contract has let through only versions that follow one another.
 */
static void
derive_patients(const ApmContents *block)
{
	static ApmStatement registered = {
		.sql =
			"INSERT INTO apm.ledger_patient (apid, origin, version, profile, height, position, changed_height)"
			" SELECT p.apid, m.home, 1, p.profile, $1, p.position, $1"
			" FROM unnest($2, $3, $4, $5, $6) AS p (position, apid, origin, version, profile)"
			" JOIN ONLY apm.member AS m ON m.id = p.origin AND m.member = 2"
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
		c.positions[c.n] = block->first + i;
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
		c.positions[c.n] = block->first + i;
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

/* The key that is replaced ends with this block. */
static void
end_member(const ApmMembershipFields *fields, const ApmContents *block)
{
	static ApmStatement end = {
		.sql = "UPDATE ONLY apm.member AS m SET ended_height = $1, ended_time = $2"
			   " WHERE m.id = $3 AND m.member = $4 AND m.ended_height IS NULL",
		.nargs = 4,
		.types = {INT8OID, INT8OID, BYTEAOID, INT2OID},
	};
	Datum args[] = {
		Int64GetDatum((int64) block->height),
		Int64GetDatum((int64) block->time_us),
		apm_digest_datum(&fields->replaces),
		Int16GetDatum(fields->member),
	};

	apm_run_whole(&end, args, 1);
	apm_chain_identity_changed();
}

/* A key of the genesis block is the first of its member, any later one replaces another. */
static void
derive_member(const ApmMembershipFields *fields, const ApmContents *block)
{
	static ApmStatement put = {
		.sql = "INSERT INTO apm.member (id, member, spki, height, home) VALUES ($1, $2, $3, $4, coalesce("
			   "(SELECT m.home FROM ONLY apm.member AS m WHERE m.id = $5 AND m.member = $2), $1))",
		.nargs = 5,
		.types = {BYTEAOID, INT2OID, BYTEAOID, INT8OID, BYTEAOID},
	};
	ApmDigest id;
	Datum args[5];

	if (block->height > 0)
		end_member(fields, block);
	apm_check(apm_sha256(fields->spki, APM_SPKI_LEN, &id), "hash the key of a member");
	args[0] = apm_digest_datum(&id);
	args[1] = Int16GetDatum(fields->member);
	args[2] = apm_bytea_datum(APM_SLICE(fields->spki, APM_SPKI_LEN));
	args[3] = Int64GetDatum((int64) block->height);
	args[4] = apm_digest_datum(&fields->replaces);
	apm_run_whole(&put, args, 1);
}

/* The voids of an erasure as arrays: Tids, kinds, actors, leaves. */
void
apm_void_arrays(const ApmErasureFields *fields, Datum args[4])
{
	ApmUuid *tids = palloc_array(ApmUuid, fields->count);
	int16 *kinds = palloc_array(int16, fields->count);
	ApmSlice *actors = palloc_array(ApmSlice, fields->count);
	ApmDigest *leaves = palloc_array(ApmDigest, fields->count);
	ApmVoid *voids = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(ApmVoid) * fields->count);

	for (uint32 i = 0; i < fields->count; i++)
	{
		apm_erasure_void(fields, i, &voids[i]);
		tids[i] = voids[i].tid;
		kinds[i] = voids[i].kind;
		actors[i] = APM_SLICE(voids[i].actor, APM_STAFF_LEN);
		leaves[i] = voids[i].leaf;
	}
	args[0] = apm_uuid_array(tids, (int) fields->count);
	args[1] = apm_int2_array(kinds, (int) fields->count);
	args[2] = apm_bytea_array(actors, (int) fields->count);
	args[3] = apm_digest_array(leaves, (int) fields->count);
}

/* What the patient's registration, changes and records have left goes to ledger_void, one row for each void. */
static void
move_to_void(const ApmContents *block, int i)
{
	static ApmStatement move = {
		.sql =
			"INSERT INTO apm.ledger_void (tid, apid, kind, actor, height, position, leaf, erasure, erasure_height)"
			" SELECT u.tid, $5, u.kind, u.actor, r.height, r.position, u.leaf, $6, $7"
			" FROM unnest($1, $2, $3, $4) AS u (tid, kind, actor, leaf) JOIN ("
			"SELECT p.tid, 1 AS kind, p.leaf, p.height, p.position FROM ONLY apm.ledger_profile AS p WHERE p.apid = $5"
			" UNION ALL "
			"SELECT p.tid, 2 AS kind, p.leaf, p.height, p.position FROM ONLY apm.ledger_record AS p WHERE p.apid = $5"
			") AS r ON r.tid = u.tid AND r.kind = u.kind AND r.leaf = u.leaf",
		.nargs = 7,
		.types = {UUIDARRAYOID, INT2ARRAYOID, BYTEAARRAYOID, BYTEAARRAYOID, TEXTOID, UUIDOID, INT8OID},
	};
	const ApmErasureFields *fields = &block->opened[i].tx.u.erasure;
	Datum args[7];

	apm_void_arrays(fields, args);
	args[4] = apm_text_datum(fields->apid);
	args[5] = apm_uuid_datum(&block->entries[i].tid);
	args[6] = Int64GetDatum((int64) block->height);
	apm_run_whole(&move, args, fields->count);
}

static void
derive_erasure(const ApmContents *block, int i)
{
	static ApmStatement gone[] = {
		{.sql = "DELETE FROM ONLY apm.ledger_token AS t USING ONLY apm.ledger_record AS r"
				" WHERE r.apid = $1 AND t.rid = r.rid",
		 .nargs = 1,
		 .types = {TEXTOID}},
		{.sql = "DELETE FROM ONLY apm.ledger_record AS r WHERE r.apid = $1", .nargs = 1, .types = {TEXTOID}},
		{.sql = "DELETE FROM ONLY apm.ledger_profile AS p WHERE p.apid = $1", .nargs = 1, .types = {TEXTOID}},
	};
	static ApmStatement erased = {
		.sql = "UPDATE ONLY apm.ledger_patient AS p SET erased_height = $2,"
			   " profile = pg_catalog.decode(pg_catalog.repeat('00', 32), 'hex') WHERE p.apid = $1",
		.nargs = 2,
		.types = {TEXTOID, INT8OID},
	};
	Datum args[2];

	move_to_void(block, i);
	args[0] = apm_text_datum(block->opened[i].tx.u.erasure.apid);
	args[1] = Int64GetDatum((int64) block->height);
	for (size_t k = 0; k < lengthof(gone); k++)
		apm_run(&gone[k], args);
	apm_run_whole(&erased, args, 1);
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
			derive_member(&block->opened[i].tx.u.membership, block);
	}
	apm_derived_add(APM_DERIVED_ITEM, block);
}

/* What an erasure takes away, of transactions from start on and before end. */
static void
derive_part(const ApmContents *block, int start, int end)
{
	ApmContents part = *block;

	part.first += start;
	part.n = end - start;
	part.entries += start;
	part.opened += start;
	if (part.n == 0)
		return;
	derive_patients(&part);
	derive_records(&part);
	derive_amendments(&part);
	apm_derived_add(APM_DERIVED_PROFILE, &part);
	apm_derived_add(APM_DERIVED_TOKEN, &part);
}

void
apm_derive(const ApmContents *block)
{
	int start = 0;

	for (int i = 0; i < block->n; i++)
	{
		if (!apm_is_valid(block, i, APM_KIND_ERASURE))
			continue;
		derive_part(block, start, i);
		derive_erasure(block, i);
		start = i + 1;
	}
	derive_part(block, start, block->n);
	apm_derived_add(APM_DERIVED_QUERY, block);
	apm_derived_add(APM_DERIVED_CONSENT, block);
	apm_derived_add(APM_DERIVED_EXPORT, block);
	apm_derived_add(APM_DERIVED_COUNT, block);
}
