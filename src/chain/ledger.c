/*
 * ledger.c
 *	  The only file that writes the ledger's tables.
 *
 * A block, its leaves and its bodies are the ledger; tip, member, policy, ledger_patient
 * and ledger_record are what can be derived from it and is kept because the contract and
 * every read ask for it.  All of them change in one transaction and in one place, so that
 * none can run ahead of another, and with a few statements over arrays, so that the price
 * of a block hardly depends on how many transactions it has.
 *
 * Every statement says ONLY: a table that somebody lets inherit from one of ours must not
 * add rows to what we read.
 */
#include "postgres.h"

#include "catalog/pg_type_d.h"

#include "apm_errors.h"
#include "apm_sql.h"
#include "chain/ledger.h"

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

bool
apm_ledger_tip(ApmTip *out)
{
	static ApmStatement tip = {
		.sql =
			"SELECT t.hash, t.frontier, b.header FROM ONLY apm.tip AS t JOIN ONLY apm.block AS b ON b.hash = t.hash",
	};
	ApmSlice header;

	if (apm_run(&tip, NULL) == 0)
		return false;
	apm_row_digest(0, 1, &out->hash);
	apm_check(apm_frontier_decode(apm_row_bytea(0, 2), &out->frontier), "read the tip of the chain");
	header = apm_row_bytea(0, 3);
	apm_check(apm_header_decode(header, &out->header), "read the header of the last block");
	return true;
}

void
apm_history_append(ApmFrontier *frontier, const ApmDigest *hash)
{
	ApmSlice data = APM_SLICE(hash->bytes, APM_DIGEST_LEN);
	ApmDigest leaf;

	apm_check(apm_merkle_leaf(&data, 1, &leaf), "hash a block into the history");
	apm_check(apm_frontier_append(frontier, &leaf), "hash a block into the history");
}

bool
apm_ledger_keeps_body(const ApmEntry *entry)
{
	return entry->rule == APM_RULE_NONE || entry->kind == APM_KIND_QUERY;
}

static void
append_block(const ApmNewBlock *block)
{
	static ApmStatement put = {
		.sql = "INSERT INTO apm.block (hash, height, header, signature, stored_at)"
			   " VALUES ($1, $2, $3, $4, pg_catalog.clock_timestamp())",
		.nargs = 4,
		.types = {BYTEAOID, INT8OID, BYTEAOID, BYTEAOID},
	};
	Datum args[] = {
		apm_digest_datum(&block->hash),
		Int64GetDatum((int64) block->header.height),
		apm_bytea_datum(APM_SLICE(block->encoded, APM_HEADER_LEN)),
		apm_bytea_datum(APM_SLICE(block->signature.bytes, APM_SIGNATURE_LEN)),
	};

	apm_run_whole(&put, args, 1);
}

static void
append_leaves(const ApmNewBlock *block)
{
	static ApmStatement put = {
		.sql = "INSERT INTO apm.leaf (block, position, tid, kind, rule, leaf)"
			   " SELECT $1, e.position, e.tid, e.kind, e.rule, e.leaf"
			   " FROM unnest($2, $3, $4, $5, $6) AS e (position, tid, kind, rule, leaf)",
		.nargs = 6,
		.types = {BYTEAOID, INT4ARRAYOID, UUIDARRAYOID, INT2ARRAYOID, INT2ARRAYOID, BYTEAARRAYOID},
	};
	int32 *positions = palloc_array(int32, block->n);
	ApmUuid *tids = palloc_array(ApmUuid, block->n);
	int16 *kinds = palloc_array(int16, block->n);
	int16 *rules = palloc_array(int16, block->n);
	ApmDigest *leaves = palloc_array(ApmDigest, block->n);
	Datum args[6];

	for (int i = 0; i < block->n; i++)
	{
		positions[i] = i;
		tids[i] = block->entries[i].tid;
		kinds[i] = block->entries[i].kind;
		rules[i] = (int16) block->entries[i].rule;
		leaves[i] = block->entries[i].leaf;
	}
	args[0] = apm_digest_datum(&block->hash);
	args[1] = apm_int4_array(positions, block->n);
	args[2] = apm_uuid_array(tids, block->n);
	args[3] = apm_int2_array(kinds, block->n);
	args[4] = apm_int2_array(rules, block->n);
	args[5] = apm_digest_array(leaves, block->n);
	apm_run_whole(&put, args, (uint64) block->n);
}

static void
append_bodies(const ApmNewBlock *block)
{
	static ApmStatement put = {
		.sql = "INSERT INTO apm.body (tid, nonce, transaction, proof)"
			   " SELECT b.tid, b.nonce, b.transaction, b.proof"
			   " FROM unnest($1, $2, $3, $4) AS b (tid, nonce, transaction, proof)",
		.nargs = 4,
		.types = {UUIDARRAYOID, BYTEAARRAYOID, BYTEAARRAYOID, BYTEAARRAYOID},
	};
	ApmUuid *tids = palloc_array(ApmUuid, block->n);
	ApmSlice *nonces = palloc_array(ApmSlice, block->n);
	ApmSlice *transactions = palloc_array(ApmSlice, block->n);
	ApmSlice *proofs = palloc_array(ApmSlice, block->n);
	Datum args[4];
	int n = 0;

	for (int i = 0; i < block->n; i++)
	{
		const ApmSigned *envelope = &block->opened[i].envelope;

		if (!apm_ledger_keeps_body(&block->entries[i]))
			continue;
		tids[n] = block->entries[i].tid;
		nonces[n] = APM_SLICE(envelope->nonce, APM_NONCE_LEN);
		transactions[n] = envelope->transaction;
		proofs[n] = envelope->proof;
		n++;
	}
	if (n == 0)
		return;
	args[0] = apm_uuid_array(tids, n);
	args[1] = apm_bytea_array(nonces, n);
	args[2] = apm_bytea_array(transactions, n);
	args[3] = apm_bytea_array(proofs, n);
	apm_run_whole(&put, args, (uint64) n);
}

/* Is entry i a valid transaction of this kind? */
static bool
is_valid(const ApmNewBlock *block, int i, ApmKind kind)
{
	return block->entries[i].rule == APM_RULE_NONE && block->entries[i].kind == kind;
}

/*
 * Registrations first, then of each changed patient the block's last version: the
 * contract has let through only versions that follow one another.
 */
static void
derive_patients(const ApmNewBlock *block)
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

		if (!is_valid(block, i, APM_KIND_PATIENT))
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
	args[0] = Int64GetDatum((int64) block->header.height);
	args[1] = apm_int4_array(c.positions, c.n);
	args[2] = apm_text_array(c.apids, c.n);
	args[3] = apm_digest_array(c.origins, c.n);
	args[4] = apm_int4_array(c.versions, c.n);
	args[5] = apm_digest_array(c.digests, c.n);
	apm_run(&registered, args);
	apm_run(&changed, args);
}

static void
derive_records(const ApmNewBlock *block)
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

		if (!is_valid(block, i, APM_KIND_PRIMARY))
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
	args[0] = Int64GetDatum((int64) block->header.height);
	args[1] = apm_int4_array(c.positions, c.n);
	args[2] = apm_uuid_array(c.rids, c.n);
	args[3] = apm_text_array(c.apids, c.n);
	args[4] = apm_uuid_array(c.tids, c.n);
	args[5] = apm_digest_array(c.digests, c.n);
	apm_run_whole(&added, args, (uint64) c.n);
}

static void
derive_amendments(const ApmNewBlock *block)
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

		if (!is_valid(block, i, APM_KIND_PRIMARY) || (primary->flags & APM_PRIMARY_AMENDS) == 0)
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

static void
derive_policies(const ApmContractFields *fields, uint64 height)
{
	static ApmStatement put = {
		.sql = "INSERT INTO apm.policy (key, value, height)"
			   " SELECT p.key, p.value, $1 FROM unnest($2, $3) AS p (key, value)"
			   " ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value, height = EXCLUDED.height",
		.nargs = 3,
		.types = {INT8OID, INT2ARRAYOID, INT8ARRAYOID},
	};
	int16 keys[APM_POLICY_MAX];
	int64 values[APM_POLICY_MAX];
	Datum args[3];

	for (int i = 0; i < fields->count; i++)
	{
		keys[i] = (int16) fields->policies[i].key;
		values[i] = (int64) fields->policies[i].value;
	}
	args[0] = Int64GetDatum((int64) height);
	args[1] = apm_int2_array(keys, fields->count);
	args[2] = apm_int8_array(values, fields->count);
	apm_run_whole(&put, args, (uint64) fields->count);
}

/* Members and policies are few and change in the genesis block only. */
static void
derive_membership(const ApmNewBlock *block)
{
	for (int i = 0; i < block->n; i++)
	{
		if (is_valid(block, i, APM_KIND_MEMBERSHIP))
			derive_member(&block->opened[i].tx.u.membership, block->header.height);
		if (is_valid(block, i, APM_KIND_CONTRACT))
			derive_policies(&block->opened[i].tx.u.contract, block->header.height);
	}
}

static void
move_tip(const ApmNewBlock *block)
{
	static ApmStatement put = {
		.sql = "INSERT INTO apm.tip (one, height, hash, frontier) VALUES (true, $1, $2, $3)"
			   " ON CONFLICT (one) DO UPDATE"
			   " SET height = EXCLUDED.height, hash = EXCLUDED.hash, frontier = EXCLUDED.frontier",
		.nargs = 3,
		.types = {INT8OID, BYTEAOID, BYTEAOID},
	};
	ApmFrontier frontier = block->earlier;
	ApmBuf encoded = {0};
	Datum args[3];

	apm_history_append(&frontier, &block->hash);
	apm_frontier_encode(&frontier, &encoded);
	apm_check(apm_buf_status(&encoded), "encode the tip of the chain");
	args[0] = Int64GetDatum((int64) block->header.height);
	args[1] = apm_digest_datum(&block->hash);
	args[2] = apm_bytea_datum(APM_SLICE(encoded.data, encoded.len));
	apm_run_whole(&put, args, 1);
}

/*
 * Members come before the block, because the block's guard asks who may sign: genesis
 * brings its own.
 */
void
apm_ledger_append(const ApmNewBlock *block)
{
	derive_membership(block);
	append_block(block);
	append_leaves(block);
	append_bodies(block);
	derive_patients(block);
	derive_records(block);
	derive_amendments(block);
	move_tip(block);
}
