/*
 * verify_void.c
 *	  What an erasure voided: transactions whose bodies are rightly gone.
 *
 * ledger_void says which erasure took a transaction away, and proves nothing.  The erasure does: a valid transaction
 * further on that names the leaf.  So of each entry that ledger_void has, its erasure is read and asked; it is itself
 * verified when the walk comes to it.  One that stands behind the end of the walk is held against its own block, whose
 * node signed it.
 *
 * Erasures are remembered, up to a bound in bytes, because a patient's records are in many blocks.
 *
 * ledger_void may itself have been changed.  Whether a body is missing or only the row is wrong is told by all
 * erasures together; they are looked through only where there is a fault already.
 */
#include "postgres.h"

#include "catalog/pg_type_d.h"
#include "utils/memutils.h"

#include "apm_errors.h"
#include "apm_sql.h"
#include "chain/verify.h"

#define REMEMBERED_BYTES (64 * 1024 * 1024)

/* A row of ledger_void. */
typedef struct ApmVoidRow
{
	bool there;
	bool placed; /* it says that it is of the entry which has its Tid */
	ApmUuid erasure;
	ApmSlice apid;
	int16 kind;
	ApmSlice actor;
	ApmSlice leaf;
	int64 erasure_height;
} ApmVoidRow;

static bool
is_digest(ApmSlice stored, const ApmDigest *digest)
{
	return stored.len == APM_DIGEST_LEN && memcmp(stored.data, digest->bytes, APM_DIGEST_LEN) == 0;
}

/* The home of an origin's key; the key itself where apm.member does not have it, which is found elsewhere. */
static void
find_home(const ApmDigest *key, ApmDigest *out)
{
	static ApmStatement get = {
		.sql = "SELECT m.home FROM ONLY apm.member AS m WHERE m.id = $1 AND m.member = 2",
		.nargs = 1,
		.types = {BYTEAOID},
	};
	Datum args[] = {apm_digest_datum(key)};

	*out = *key;
	if (apm_run(&get, args) > 0)
		apm_row_digest(0, 1, out);
}

/* Does the block at that height have the root of its entries, and is it signed by a node that apm.member has? */
static bool
block_stands(const ApmDigest *hash)
{
	static ApmStatement header = {
		.sql = "SELECT b.header, b.signature, m.spki FROM ONLY apm.block AS b JOIN ONLY apm.member AS m"
			   " ON m.id = pg_catalog.substring(b.header, 187, 32) AND m.member = 1 WHERE b.hash = $1",
		.nargs = 1,
		.types = {BYTEAOID},
	};
	static ApmStatement leaves = {
		.sql =
			"SELECT l.tid, l.kind, l.rule, l.leaf FROM ONLY apm.leaf AS l WHERE l.block = $1 ORDER BY l.position",
		.nargs = 1,
		.types = {BYTEAOID},
	};
	Datum args[] = {apm_digest_datum(hash)};
	ApmSignature signature;
	ApmDigest computed;
	ApmHeader decoded;
	ApmEntry *entries;
	ApmSlice encoded;
	ApmEcKey *node;
	ApmDigest id;
	bool good;
	uint64 n;

	if (apm_run(&header, args) == 0)
		return false;
	encoded = apm_row_bytea(0, 1);
	if (apm_header_decode(encoded, &decoded) != APM_OK || apm_row_bytea(0, 2).len != APM_SIGNATURE_LEN)
		return false;
	memcpy(signature.bytes, apm_row_bytea(0, 2).data, APM_SIGNATURE_LEN);
	apm_check(apm_header_hash(encoded.data, &computed), "hash a block");
	if (apm_ec_from_spki(apm_row_bytea(0, 3), &node) != APM_OK)
		return false;
	apm_ec_id(node, &id);
	good = memcmp(&computed, hash, sizeof(*hash)) == 0 && memcmp(&id, &decoded.node, sizeof(id)) == 0 &&
		   apm_block_verify(node, hash, &signature) == APM_OK;
	apm_ec_free(node);
	n = apm_run(&leaves, args);
	entries = palloc0_array(ApmEntry, Max(n, 1));
	for (uint64 row = 0; row < n; row++)
		apm_row_entry(row, 1, &entries[row]);
	return good && apm_block_check_entries(&decoded, entries, n) == APM_BLOCK_OK;
}

/* The erasure that the row describes, if its body is there and is that of its leaf. */
static void
read_erasure(ApmWalk *walk, ApmWalkErasure *out)
{
	static ApmStatement get = {
		.sql = "SELECT k.height, l.position, k.hash, l.leaf, b.nonce, b.transaction FROM ONLY apm.leaf AS l"
			   " JOIN ONLY apm.block AS k ON k.hash = l.block JOIN ONLY apm.body AS b ON b.tid = l.tid"
			   " WHERE l.tid = $1 AND l.kind = 5 AND l.rule = 0 ORDER BY k.height, l.position LIMIT 1",
		.nargs = 1,
		.types = {UUIDOID},
	};
	Datum args[] = {apm_uuid_datum(&out->tid)};
	ApmTransaction tx;
	ApmDigest stored;
	ApmDigest block;
	ApmDigest leaf;
	ApmSlice nonce;
	ApmSlice body;

	if (apm_run(&get, args) == 0)
		return;
	out->height = apm_row_int8(0, 1);
	out->position = apm_row_int4(0, 2);
	apm_row_digest(0, 3, &block);
	apm_row_digest(0, 4, &stored);
	nonce = apm_row_bytea(0, 5);
	body = apm_row_bytea(0, 6);
	if (nonce.len != APM_NONCE_LEN || apm_transaction_decode(body, &tx) != APM_OK ||
		tx.kind != APM_KIND_ERASURE)
		return;
	apm_check(apm_transaction_leaf(nonce.data, body, &leaf), "hash a transaction");
	if (memcmp(&leaf, &stored, sizeof(leaf)) != 0)
		return;
	out->fields = tx.u.erasure;
	out->fields.apid = apm_slice_copy(walk->erasures_context, tx.u.erasure.apid);
	out->fields.voids = apm_slice_copy(walk->erasures_context, tx.u.erasure.voids);
	find_home(&tx.origin, &out->home);
	out->found = out->height <= walk->to || block_stands(&block);
}

/* Before a block, of which erasures are asked that must stay until it is done. */
static void
begin_erasures(ApmWalk *walk)
{
	HASHCTL control = {.keysize = sizeof(ApmUuid), .entrysize = sizeof(ApmWalkErasure)};

	if (walk->erasures != NULL && MemoryContextMemAllocated(walk->erasures_context, true) < REMEMBERED_BYTES)
		return;
	if (walk->erasures == NULL)
		walk->erasures_context = AllocSetContextCreate(walk->context, "apm erasures", ALLOCSET_DEFAULT_SIZES);
	MemoryContextReset(walk->erasures_context);
	control.hcxt = walk->erasures_context;
	walk->erasures = hash_create("apm erasures", 64, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

static const ApmWalkErasure *
find_erasure(ApmWalk *walk, const ApmUuid *tid)
{
	ApmWalkErasure *erasure = hash_search(walk->erasures, tid, HASH_FIND, NULL);
	ApmWalkErasure read = {.tid = *tid};

	if (erasure != NULL)
		return erasure;
	read_erasure(walk, &read);
	erasure = hash_search(walk->erasures, tid, HASH_ENTER, NULL);
	*erasure = read;
	return erasure;
}

/* Does the erasure stand behind entry i and name its leaf?  Then *out is what it says. */
static bool
names_entry(const ApmWalkErasure *erasure, const ApmEntries *e, int i, ApmVoid *out)
{
	int64 height = (int64) e->block.height;
	uint32 place;

	if (!erasure->found || erasure->height < height ||
		(erasure->height == height && erasure->position <= i) ||
		!apm_erasure_find(&erasure->fields, &e->entries[i].leaf, &place))
		return false;
	apm_erasure_void(&erasure->fields, place, out);
	return true;
}

/* Rows of ledger_void that have the Tid of an entry. */
static void
read_void_rows(ApmEntries *e)
{
	static ApmStatement get = {
		.sql =
			"SELECT l.position, v.erasure, v.apid, v.kind, v.actor, v.leaf, v.height, v.position, v.erasure_height"
			" FROM ONLY apm.leaf AS l JOIN ONLY apm.ledger_void AS v ON v.tid = l.tid WHERE l.block = $1",
		.nargs = 1,
		.types = {BYTEAOID},
	};
	Datum args[] = {apm_digest_datum(e->block.hash)};
	uint64 rows = apm_run(&get, args);

	for (uint64 row = 0; row < rows; row++)
	{
		int32 position = apm_row_int4(row, 1);
		ApmVoidRow *out;

		if (position < 0 || position >= e->n)
			continue;
		out = &e->void_rows[position];
		out->there = true;
		apm_row_uuid(row, 2, &out->erasure);
		out->apid = apm_slice_copy(CurrentMemoryContext, apm_row_text(row, 3));
		out->kind = apm_row_int2(row, 4);
		out->actor = apm_slice_copy(CurrentMemoryContext, apm_row_bytea(row, 5));
		out->leaf = apm_slice_copy(CurrentMemoryContext, apm_row_bytea(row, 6));
		out->placed = apm_row_int8(row, 7) == (int64) e->block.height && apm_row_int4(row, 8) == position;
		out->erasure_height = apm_row_int8(row, 9);
	}
}

void
apm_verify_find_voids(ApmWalk *walk, ApmEntries *e)
{
	e->voids = palloc0_array(ApmVoid, Max(e->n, 1));
	e->erasures = palloc0_array(const ApmWalkErasure *, Max(e->n, 1));
	e->void_rows = palloc0_array(ApmVoidRow, Max(e->n, 1));
	if (!walk->has_voids)
		return;
	begin_erasures(walk);
	read_void_rows(e);
	for (int i = 0; i < e->n; i++)
	{
		const ApmVoidRow *row = &e->void_rows[i];
		const ApmWalkErasure *erasure;

		if (!row->there || !row->placed || e->entries[i].rule != APM_RULE_NONE)
			continue;
		erasure = find_erasure(walk, &row->erasure);
		if (names_entry(erasure, e, i, &e->voids[i]))
			e->erasures[i] = erasure;
	}
}

/* Is the leaf that of a valid entry of an earlier place already? */
static bool
stands_earlier(const ApmEntries *e, int i)
{
	static ApmStatement get = {
		.sql = "SELECT FROM ONLY apm.leaf AS l JOIN ONLY apm.block AS b ON b.hash = l.block WHERE l.leaf = $1"
			   " AND l.rule = 0 AND (b.height < $2 OR (b.height = $2 AND l.position < $3)) LIMIT 1",
		.nargs = 3,
		.types = {BYTEAOID, INT8OID, INT4OID},
	};
	Datum args[] = {
		apm_digest_datum(&e->entries[i].leaf),
		Int64GetDatum((int64) e->block.height),
		Int32GetDatum(i),
	};

	return apm_run(&get, args) > 0;
}

/* Does any erasure at all name the entry?  Then *out is what it says. */
static bool
is_named(ApmWalk *walk, const ApmEntries *e, int i, ApmVoid *out)
{
	static ApmStatement get = {
		.sql = "SELECT l.tid FROM ONLY apm.leaf AS l WHERE l.kind = 5 AND l.rule = 0",
	};
	uint64 rows = apm_run(&get, NULL);
	ApmUuid *tids = palloc_array(ApmUuid, Max(rows, 1));

	for (uint64 row = 0; row < rows; row++)
		apm_row_uuid(row, 1, &tids[row]);
	begin_erasures(walk);
	for (uint64 row = 0; row < rows; row++)
	{
		if (names_entry(find_erasure(walk, &tids[row]), e, i, out))
			return !stands_earlier(e, i);
	}
	return false;
}

ApmFaultRule
apm_verify_why_not_void(ApmWalk *walk, const ApmEntries *e, int i)
{
	const ApmEntry *entry = &e->entries[i];
	ApmVoid found;

	if (e->kept[i] && !e->void_rows[i].there)
		return APM_FAULT_NONE;
	if (!is_named(walk, e, i, &found))
		return e->kept[i] ? APM_FAULT_DERIVED : APM_FAULT_MISSING;
	if (e->kept[i])
		return APM_FAULT_UNWANTED;
	if (memcmp(&found.tid, &entry->tid, sizeof(ApmUuid)) != 0)
		return APM_FAULT_TID;
	return found.kind == entry->kind ? APM_FAULT_DERIVED : APM_FAULT_KIND;
}

/* The voids of the erasure that ledger_void has as they must be. */
static int64
count_voids(const ApmEntries *e, int i)
{
	static ApmStatement count = {
		.sql = "SELECT pg_catalog.count(*) FROM unnest($1, $2, $3, $4) AS u (tid, kind, actor, leaf)"
			   " JOIN ONLY apm.ledger_void AS v ON v.tid = u.tid AND v.kind = u.kind AND v.actor = u.actor"
			   " AND v.leaf = u.leaf WHERE v.apid = $5 AND v.erasure = $6 AND v.erasure_height = $7"
			   " AND (v.height < $7 OR (v.height = $7 AND v.position < $8))",
		.nargs = 8,
		.types = {UUIDARRAYOID, INT2ARRAYOID, BYTEAARRAYOID, BYTEAARRAYOID, TEXTOID, UUIDOID, INT8OID,
				  INT4OID},
	};
	const ApmErasureFields *fields = &e->opened[i].tx.u.erasure;
	Datum args[8];

	apm_void_arrays(fields, args);
	args[4] = apm_text_datum(fields->apid);
	args[5] = apm_uuid_datum(&e->entries[i].tid);
	args[6] = Int64GetDatum((int64) e->block.height);
	args[7] = Int32GetDatum(i);
	apm_run(&count, args);
	return apm_row_int8(0, 1);
}

/* Tids and leaves of the erasure's voids, and its place. */
static void
standing_args(const ApmEntries *e, int i, Datum args[4])
{
	Datum voids[4];

	apm_void_arrays(&e->opened[i].tx.u.erasure, voids);
	args[0] = voids[0];
	args[1] = voids[3];
	args[2] = Int64GetDatum((int64) e->block.height);
	args[3] = Int32GetDatum(i);
}

/*
 * Somebody may have put back a body with all that follows from it, and taken away what said that it is void.  Then
 * nothing is wrong before the erasure that names it, and the fault is there where the body is.
 */
static bool
find_put_back(ApmWalk *walk, const ApmEntries *e, int i)
{
	static ApmStatement get = {
		.sql = "SELECT b.height, l.position FROM unnest($1, $2) AS u (tid, leaf)"
			   " JOIN ONLY apm.leaf AS l ON l.tid = u.tid AND l.leaf = u.leaf AND l.rule = 0"
			   " JOIN ONLY apm.body AS y ON y.tid = u.tid JOIN ONLY apm.block AS b ON b.hash = l.block"
			   " WHERE b.height < $3 OR (b.height = $3 AND l.position < $4) ORDER BY 1, 2 LIMIT 1",
		.nargs = 4,
		.types = {UUIDARRAYOID, BYTEAARRAYOID, INT8OID, INT4OID},
	};
	Datum args[4];

	standing_args(e, i, args);
	if (apm_run(&get, args) == 0)
		return false;
	(void) apm_walk_fault(walk, APM_FAULT_UNWANTED, apm_row_int8(0, 1), apm_row_int4(0, 2));
	return true;
}

/* How many of the erasure's voids stand before it as valid entries without a body, whatever ledger_void says. */
static int64
count_standing(const ApmEntries *e, int i)
{
	static ApmStatement count = {
		.sql = "SELECT pg_catalog.count(*) FROM unnest($1, $2) AS u (tid, leaf) WHERE EXISTS ("
			   "SELECT FROM ONLY apm.leaf AS l JOIN ONLY apm.block AS b ON b.hash = l.block"
			   " WHERE l.tid = u.tid AND l.leaf = u.leaf AND l.rule = 0"
			   " AND (b.height < $3 OR (b.height = $3 AND l.position < $4)))"
			   " AND NOT EXISTS (SELECT FROM ONLY apm.body AS y WHERE y.tid = u.tid)",
		.nargs = 4,
		.types = {UUIDARRAYOID, BYTEAARRAYOID, INT8OID, INT4OID},
	};
	Datum args[4];

	standing_args(e, i, args);
	apm_run(&count, args);
	return apm_row_int8(0, 1);
}

static bool
verify_voided(ApmWalk *walk, const ApmEntries *e, int i)
{
	int64 count = e->opened[i].tx.u.erasure.count;

	if (count_voids(e, i) == count)
		return true;
	if (find_put_back(walk, e, i))
		return false;
	if (count_standing(e, i) < count)
		return apm_walk_fault(walk, APM_FAULT_VOID, walk->at, i);
	return apm_walk_fault_detail(walk, APM_FAULT_DERIVED, walk->at, i,
								 "apm.ledger_void: a row is missing or not what the erasure made");
}

bool
apm_verify_voided(ApmWalk *walk, const ApmEntries *e, int i)
{
	MemoryContext old = MemoryContextSwitchTo(e->context);
	bool good = verify_voided(walk, e, i);

	MemoryContextSwitchTo(old);
	return good;
}

/* Of a block whose derived rows are not as they must be: is it that bodies are there which should be gone? */
void
apm_verify_put_back(ApmWalk *walk, const ApmEntries *e)
{
	ApmVoid found;

	for (int i = 0; i < e->n; i++)
	{
		if (!e->kept[i] || e->entries[i].rule != APM_RULE_NONE || !is_named(walk, e, i, &found))
			continue;
		(void) apm_walk_fault(walk, APM_FAULT_UNWANTED, walk->at, i);
		return;
	}
}

/* The patient's row, as the erasure must have left it. */
static bool
patient_is_erased(const ApmWalk *walk, const ApmEntries *e, int i)
{
	static ApmStatement get = {
		.sql =
			"SELECT FROM ONLY apm.ledger_patient AS p, (SELECT pg_catalog.count(*) AS versions,"
			" pg_catalog.max(v.height) AS changed, pg_catalog.min(v.height) AS height"
			" FROM ONLY apm.ledger_void AS v WHERE v.apid = $1 AND v.kind = 1) AS c,"
			" ONLY apm.ledger_void AS r WHERE p.apid = $1 AND p.origin = $2 AND p.erased_height = $3"
			" AND p.profile = pg_catalog.decode(pg_catalog.repeat('00', 32), 'hex') AND p.version = c.versions"
			" AND p.changed_height = c.changed AND p.height = c.height AND r.apid = $1 AND r.kind = 1"
			" AND r.height = p.height AND r.position = p.position AND NOT EXISTS ("
			"SELECT FROM ONLY apm.ledger_void AS b WHERE b.apid = $1 AND b.kind = 1 AND b.height = r.height"
			" AND b.position < r.position)",
		.nargs = 3,
		.types = {TEXTOID, BYTEAOID, INT8OID},
	};
	const ApmTransaction *tx = &e->opened[i].tx;
	ApmDigest home;
	Datum args[3];

	if (!apm_contract_home(walk->state, APM_MEMBER_ORIGIN, &tx->origin, &home))
		return false;
	args[0] = apm_text_datum(tx->u.erasure.apid);
	args[1] = apm_digest_datum(&home);
	args[2] = Int64GetDatum((int64) e->block.height);
	return apm_run(&get, args) > 0;
}

static bool
row_fits(const ApmEntries *e, int i)
{
	const ApmVoidRow *row = &e->void_rows[i];
	const ApmWalkErasure *erasure = e->erasures[i];
	const ApmVoid *voided = &e->voids[i];

	return row->kind == voided->kind && is_digest(row->leaf, &voided->leaf) &&
		   row->actor.len == APM_STAFF_LEN && memcmp(row->actor.data, voided->actor, APM_STAFF_LEN) == 0 &&
		   row->erasure_height == erasure->height && row->apid.len == erasure->fields.apid.len &&
		   memcmp(row->apid.data, erasure->fields.apid.data, row->apid.len) == 0;
}

bool
apm_verify_void_rows(ApmWalk *walk, const ApmEntries *e)
{
	for (int i = 0; i < e->n; i++)
	{
		if (e->void_rows[i].there && (e->voids[i].kind == 0 || !row_fits(e, i)))
			return apm_walk_fault_detail(walk, APM_FAULT_DERIVED, walk->at, i,
										 "apm.ledger_void: the row is not what the erasure made");
		if (e->voids[i].kind == APM_KIND_PATIENT)
			walk->counts.profile_versions++;
		if (e->entries[i].kind != APM_KIND_ERASURE || e->entries[i].rule != APM_RULE_NONE)
			continue;
		if (!patient_is_erased(walk, e, i))
			return apm_walk_fault_detail(walk, APM_FAULT_DERIVED, walk->at, i,
										 "apm.ledger_patient: the row is not what the erasure made");
		walk->counts.erased_patients++;
		walk->counts.patients++;
	}
	return true;
}
