/*
 * verify_derived.c
 *	  The derived tables against the ledger.
 *
 * A transaction says what rows it must have left, so each is looked up with its block.  Two
 * transactions cannot have left one row, because rows have keys and the contract
 * refuses seconds; so where the totals agree as well there is no row that nothing made.
 *
 * ledger_patient keeps the newest version of a profile only.  To judge an older change of
 * a profile the version of then is needed: it is kept on the way, for those patients that
 * have more than one.
 */
#include "postgres.h"

#include "utils/hsearch.h"

#include "apm_errors.h"
#include "apm_sql.h"
#include "chain/verify.h"
#include "core/digest.h"

/* The version at the walk's place of a patient whose profile changes sometime. */
typedef struct ChangedProfile
{
	ApmDigest patient; /* SHA-256 of the aPid; hash key */
	ApmDigest origin;
	uint32 version;
	ApmDigest profile;
} ChangedProfile;

static bool
is_digest(ApmSlice stored, const ApmDigest *digest)
{
	return stored.len == APM_DIGEST_LEN && memcmp(stored.data, digest->bytes, APM_DIGEST_LEN) == 0;
}

static void
patient_key(ApmSlice apid, ApmDigest *out)
{
	apm_check(apm_sha256(apid.data, apid.len, out), "hash a patient");
}

static void
remember_profile(ApmWalk *walk, const ApmTransaction *tx)
{
	ChangedProfile *entry;
	ApmDigest key;

	patient_key(tx->u.patient.apid, &key);
	entry = hash_search(walk->profiles, &key, HASH_ENTER, NULL);
	entry->origin = tx->origin;
	entry->version = tx->u.patient.version;
	entry->profile = tx->u.patient.profile;
}

/*
 * The patient transactions before the first block of the walk, where the patient has
 * another version by now.
 */
static void
remember_earlier(ApmWalk *walk)
{
	static ApmStatement get = {
		.sql = "SELECT y.transaction FROM ONLY apm.block AS b JOIN ONLY apm.leaf AS l ON l.block = b.hash"
			   " JOIN ONLY apm.body AS y ON y.tid = l.tid"
			   " WHERE b.height < $1 AND l.kind = $2 AND l.rule = 0 ORDER BY b.height, l.position",
		.nargs = 2,
		.types = {INT8OID, INT2OID},
	};
	Datum args[] = {Int64GetDatum(walk->from), Int16GetDatum(APM_KIND_PATIENT)};
	uint64 rows;

	SPI_connect();
	rows = apm_run(&get, args);
	for (uint64 row = 0; row < rows; row++)
	{
		ApmTransaction tx;

		/* one that cannot be read belongs to a block that this walk does not look into */
		if (apm_transaction_decode(apm_row_bytea(row, 1), &tx) == APM_OK && tx.kind == APM_KIND_PATIENT)
			remember_profile(walk, &tx);
	}
	SPI_finish();
}

void
apm_verify_begin_profiles(ApmWalk *walk)
{
	HASHCTL control = {
		.keysize = sizeof(ApmDigest), .entrysize = sizeof(ChangedProfile), .hcxt = walk->context};

	walk->profiles = hash_create("apm changed profiles", 64, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	if (walk->from > 0)
		remember_earlier(walk);
}

void
apm_verify_load_profiles(ApmWalk *walk, const ApmEntries *e)
{
	MemoryContext old = MemoryContextSwitchTo(walk->context);

	for (int i = 0; i < e->n; i++)
	{
		const ApmTransaction *tx = &e->opened[i].tx;
		ApmPatientState patient = {.known = true};
		const ChangedProfile *entry;
		ApmDigest key;

		if (!e->kept[i] || !e->opened[i].wellformed || tx->kind != APM_KIND_PATIENT)
			continue;
		patient_key(tx->u.patient.apid, &key);
		entry = hash_search(walk->profiles, &key, HASH_FIND, NULL);
		if (entry == NULL)
			continue;
		patient.origin = entry->origin;
		patient.version = entry->version;
		patient.profile = entry->profile;
		apm_check(apm_contract_load_patient(walk->state, tx->u.patient.apid, &patient), "load a patient");
	}
	MemoryContextSwitchTo(old);
}

/* Transactions of one kind that are valid: their places in the block. */
static int
places_of(const ApmEntries *e, ApmKind kind, int32 *places)
{
	int n = 0;

	for (int i = 0; i < e->n; i++)
	{
		if (e->kept[i] && e->entries[i].rule == APM_RULE_NONE && e->opened[i].tx.kind == kind)
			places[n++] = i;
	}
	return n;
}

/* Row of: ordinality, origin, version, profile, height, position, changed_height. */
static bool
verify_patient_row(ApmWalk *walk, const ApmEntries *e, uint64 row, int32 place)
{
	const ApmTransaction *tx = &e->opened[place].tx;
	const ApmPatientFields *fields = &tx->u.patient;
	uint32 version = (uint32) apm_row_int4(row, 3);
	bool good = is_digest(apm_row_bytea(row, 2), &tx->origin) && fields->version <= version;

	if (fields->version == 1)
		good = good && apm_row_int8(row, 5) == (int64) e->height && apm_row_int4(row, 6) == place;
	if (fields->version == version)
		good = good && is_digest(apm_row_bytea(row, 4), &fields->profile) &&
			   apm_row_int8(row, 7) == (int64) e->height;
	if (!good)
		return apm_walk_fault(walk, e->height, place,
							  "apm.ledger_patient: the row is not what the transaction made");
	if (version > 1)
		remember_profile(walk, tx);
	return true;
}

static bool
verify_patients(ApmWalk *walk, const ApmEntries *e)
{
	static ApmStatement get = {
		.sql = "SELECT u.ordinality::pg_catalog.int4, p.origin, p.version, p.profile, p.height, p.position,"
			   " p.changed_height FROM pg_catalog.unnest($1) WITH ORDINALITY AS u (apid, ordinality)"
			   " LEFT JOIN ONLY apm.ledger_patient AS p ON p.apid = u.apid ORDER BY u.ordinality",
		.nargs = 1,
		.types = {TEXTARRAYOID},
	};
	int32 *places = palloc_array(int32, Max(e->n, 1));
	int n = places_of(e, APM_KIND_PATIENT, places);
	ApmSlice *apids = palloc_array(ApmSlice, Max(n, 1));
	Datum args[1];

	if (n == 0)
		return true;
	for (int i = 0; i < n; i++)
		apids[i] = e->opened[places[i]].tx.u.patient.apid;
	args[0] = apm_text_array(apids, n);
	apm_run(&get, args);
	for (int i = 0; i < n; i++)
	{
		if (apm_row_null(i, 2))
			return apm_walk_fault(walk, e->height, places[i], "apm.ledger_patient: a row is missing");
		if (!verify_patient_row(walk, e, i, places[i]))
			return false;
	}
	return true;
}

/* Row of: ordinality, apid, tid, height, position, leaf, what supersedes the amended record. */
static bool
verify_record_row(ApmWalk *walk, const ApmEntries *e, uint64 row, int32 place)
{
	const ApmPrimaryFields *fields = &e->opened[place].tx.u.primary;
	ApmSlice apid = apm_row_text(row, 2);
	ApmUuid tid;
	ApmUuid superseded_by;

	apm_row_uuid(row, 3, &tid);
	if (apid.len != fields->apid.len || memcmp(apid.data, fields->apid.data, apid.len) != 0 ||
		memcmp(&tid, &e->entries[place].tid, sizeof(tid)) != 0 || apm_row_int8(row, 4) != (int64) e->height ||
		apm_row_int4(row, 5) != place || !is_digest(apm_row_bytea(row, 6), &e->entries[place].leaf))
		return apm_walk_fault(walk, e->height, place,
							  "apm.ledger_record: the row is not what the transaction made");
	if ((fields->flags & APM_PRIMARY_AMENDS) == 0)
		return true;
	if (!apm_row_null(row, 7))
		apm_row_uuid(row, 7, &superseded_by);
	if (apm_row_null(row, 7) || memcmp(&superseded_by, &fields->rid, sizeof(ApmUuid)) != 0)
		return apm_walk_fault(walk, e->height, place,
							  "apm.ledger_record: the amended record is not superseded");
	return true;
}

static bool
verify_records(ApmWalk *walk, const ApmEntries *e)
{
	static ApmStatement get = {
		.sql =
			"SELECT u.ordinality::pg_catalog.int4, r.apid, r.tid, r.height, r.position, r.leaf, a.superseded_by"
			" FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) WITH ORDINALITY"
			" AS u (rid, amends, ordinality) LEFT JOIN ONLY apm.ledger_record AS r ON r.rid = u.rid"
			" LEFT JOIN ONLY apm.ledger_record AS a ON a.rid = u.amends ORDER BY u.ordinality",
		.nargs = 2,
		.types = {UUIDARRAYOID, UUIDARRAYOID},
	};
	int32 *places = palloc_array(int32, Max(e->n, 1));
	int n = places_of(e, APM_KIND_PRIMARY, places);
	ApmUuid *rids = palloc_array(ApmUuid, Max(n, 1));
	ApmUuid *amends = palloc_array(ApmUuid, Max(n, 1));
	Datum args[2];

	if (n == 0)
		return true;
	for (int i = 0; i < n; i++)
	{
		rids[i] = e->opened[places[i]].tx.u.primary.rid;
		amends[i] = e->opened[places[i]].tx.u.primary.amends;
	}
	args[0] = apm_uuid_array(rids, n);
	args[1] = apm_uuid_array(amends, n);
	apm_run(&get, args);
	for (int i = 0; i < n; i++)
	{
		if (apm_row_null(i, 2))
			return apm_walk_fault(walk, e->height, places[i], "apm.ledger_record: a row is missing");
		if (!verify_record_row(walk, e, i, places[i]))
			return false;
	}
	return true;
}

/* Tables that rows are only added to. */
static bool
verify_rows(ApmWalk *walk, const ApmEntries *e)
{
	ApmContents contents = {
		.height = e->height, .time_us = e->time_us, .n = e->n, .entries = e->entries, .opened = e->opened};

	for (ApmDerived table = 0; table < APM_DERIVED_TABLES; table++)
	{
		int32 missing;

		walk->derived[table] += apm_derived_check(table, &contents, &missing);
		if (missing >= 0)
			return apm_walk_fault(walk, e->height, missing,
								  "%s: a row that the transaction made is missing or altered",
								  apm_derived_name(table));
	}
	return true;
}

bool
apm_verify_derived(ApmWalk *walk, const ApmEntries *e)
{
	return verify_patients(walk, e) && verify_records(walk, e) && verify_rows(walk, e);
}

bool
apm_verify_totals(ApmWalk *walk)
{
	static ApmStatement get = {
		.sql =
			"SELECT (SELECT pg_catalog.count(*) FROM ONLY apm.leaf),"
			" (SELECT pg_catalog.count(*) FROM ONLY apm.body),"
			" (SELECT pg_catalog.count(*) FROM ONLY apm.ledger_patient),"
			" (SELECT coalesce(pg_catalog.sum(p.version), 0)::pg_catalog.int8 FROM ONLY apm.ledger_patient AS p),"
			" (SELECT pg_catalog.count(*) FROM ONLY apm.ledger_record),"
			" (SELECT pg_catalog.count(r.superseded_by) FROM ONLY apm.ledger_record AS r),"
			" (SELECT pg_catalog.count(p.erased_height) FROM ONLY apm.ledger_patient AS p)",
	};
	const struct
	{
		const char *table;
		int64 expected;
	} totals[] = {
		{"apm.leaf", walk->leaves},
		{"apm.body", walk->bodies},
		{"apm.ledger_patient", walk->registrations},
		{"apm.ledger_patient", walk->profile_versions},
		{"apm.ledger_record", walk->records},
		{"apm.ledger_record", walk->amendments},
		{"apm.ledger_patient", 0},
	};
	const char *more = NULL;

	SPI_connect();
	apm_run(&get, NULL);
	for (int i = 0; i < (int) lengthof(totals) && more == NULL; i++)
	{
		if (apm_row_int8(0, i + 1) != totals[i].expected)
			more = totals[i].table;
	}
	for (ApmDerived table = 0; table < APM_DERIVED_TABLES && more == NULL; table++)
	{
		if (apm_derived_total(table) != walk->derived[table])
			more = apm_derived_name(table);
	}
	SPI_finish();
	return more == NULL ||
		   apm_walk_fault(walk, -1, -1, "%s: it says more than the ledger's transactions", more);
}
