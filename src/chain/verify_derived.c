/*
 * verify_derived.c
 *	  The derived tables against the ledger.
 *
 * A transaction says what rows it must have left, so each is looked up with its block.  Two
 * transactions cannot have left one row, because rows have keys and the contract
 * refuses seconds; so where the totals agree as well there is no row that nothing made.  What an
 * erasure voided has left other rows (verify_void.c).
 *
 * Of our own patients the sealed profiles are here as well; each must be the one whose digest the
 * chain has.
 */
#include "postgres.h"

#include "apm_errors.h"
#include "apm_sql.h"
#include "chain/verify.h"

static bool
is_digest(ApmSlice stored, const ApmDigest *digest)
{
	return stored.len == APM_DIGEST_LEN && memcmp(stored.data, digest->bytes, APM_DIGEST_LEN) == 0;
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

/* Row of: ordinality, origin, version, profile, height, position, changed_height, erased_height. */
static bool
verify_patient_row(ApmWalk *walk, const ApmEntries *e, uint64 row, int32 place)
{
	const ApmTransaction *tx = &e->opened[place].tx;
	const ApmPatientFields *fields = &tx->u.patient;
	uint32 version = (uint32) apm_row_int4(row, 3);
	ApmDigest home;
	bool good = apm_contract_home(walk->state, APM_MEMBER_ORIGIN, &tx->origin, &home) &&
				is_digest(apm_row_bytea(row, 2), &home) && fields->version <= version && apm_row_null(row, 8);

	if (fields->version == 1)
		good = good && apm_row_int8(row, 5) == (int64) e->block.height && apm_row_int4(row, 6) == place;
	if (fields->version == version)
		good = good && is_digest(apm_row_bytea(row, 4), &fields->profile) &&
			   apm_row_int8(row, 7) == (int64) e->block.height;
	return good || apm_walk_fault_detail(walk, APM_FAULT_DERIVED, walk->at, place,
										 "apm.ledger_patient: the row is not what the transaction made");
}

static bool
verify_patients(ApmWalk *walk, const ApmEntries *e)
{
	static ApmStatement get = {
		.sql =
			"SELECT u.ordinality::pg_catalog.int4, p.origin, p.version, p.profile, p.height, p.position,"
			" p.changed_height, p.erased_height FROM pg_catalog.unnest($1) WITH ORDINALITY AS u (apid, ordinality)"
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
			return apm_walk_fault_detail(walk, APM_FAULT_DERIVED, walk->at, places[i],
										 "apm.ledger_patient: a row is missing");
		if (!verify_patient_row(walk, e, i, places[i]))
			return false;
	}
	return true;
}

/* row: that of the record; amended: that of the one which it amends. */
static bool
verify_record(ApmWalk *walk, const ApmEntries *e, int i, const ApmRecordRow *row, const ApmRecordRow *amended)
{
	const ApmPrimaryFields *fields = &e->opened[i].tx.u.primary;

	if (!row->there)
		return apm_walk_fault_detail(walk, APM_FAULT_DERIVED, walk->at, i,
									 "apm.ledger_record: a row is missing");
	if (row->apid.len != fields->apid.len || memcmp(row->apid.data, fields->apid.data, row->apid.len) != 0 ||
		memcmp(&row->tid, &e->entries[i].tid, sizeof(ApmUuid)) != 0 ||
		row->height != (int64) e->block.height || row->position != i ||
		!is_digest(row->leaf, &e->entries[i].leaf))
		return apm_walk_fault_detail(walk, APM_FAULT_DERIVED, walk->at, i,
									 "apm.ledger_record: the row is not what the transaction made");
	return (fields->flags & APM_PRIMARY_AMENDS) == 0 ||
		   (amended->superseded && memcmp(&amended->superseded_by, &fields->rid, sizeof(ApmUuid)) == 0) ||
		   apm_walk_fault_detail(walk, APM_FAULT_DERIVED, walk->at, i,
								 "apm.ledger_record: the amended record is not superseded");
}

/* Their rows were read when the contract's state was loaded. */
static bool
verify_records(ApmWalk *walk, const ApmEntries *e)
{
	const ApmRecordRow *rows = e->records;

	for (int i = 0; i < e->n; i++)
	{
		if (!e->kept[i])
			continue;
		if (e->entries[i].rule == APM_RULE_NONE && e->opened[i].tx.kind == APM_KIND_PRIMARY &&
			!verify_record(walk, e, i, &rows[0], &rows[1]))
			return false;
		rows += 2;
	}
	return true;
}

/* Tables that rows are only added to. */
static bool
verify_rows(ApmWalk *walk, const ApmEntries *e)
{
	ApmContents contents = {
		.height = e->block.height,
		.time_us = e->block.time_us,
		.n = e->n,
		.entries = e->entries,
		.opened = e->opened,
		.voids = e->voids,
	};

	for (ApmDerived table = 0; table < APM_DERIVED_TABLES; table++)
	{
		int32 missing;

		walk->counts.derived[table] += apm_derived_check(table, &contents, &missing);
		if (missing >= 0)
			return apm_walk_fault_detail(walk, APM_FAULT_DERIVED, walk->at, missing,
										 "%s: a row that the transaction made is missing or altered",
										 apm_derived_name(table));
	}
	return true;
}

/* Row of: ordinality, sealed profile, is the patient here? */
static bool
verify_profile_row(ApmWalk *walk, const ApmEntries *e, uint64 row, int32 place)
{
	const ApmPatientFields *fields = &e->opened[place].tx.u.patient;
	ApmDigest digest;

	if (apm_row_null(row, 2))
		return !apm_row_bool(row, 3) || apm_walk_fault_detail(walk, APM_FAULT_PROFILE, walk->at, place,
															  "apm.profile: a row is missing");
	apm_check(apm_profile_digest(fields->version, apm_row_bytea(row, 2), &digest), "hash a profile");
	return memcmp(&digest, &fields->profile, sizeof(digest)) == 0 ||
		   apm_walk_fault(walk, APM_FAULT_PROFILE, walk->at, place);
}

/* The sealed profiles of our own patients. */
static bool
verify_profiles(ApmWalk *walk, const ApmEntries *e)
{
	static ApmStatement get = {
		.sql =
			"SELECT u.ordinality::pg_catalog.int4, f.sealed, p.apid IS NOT NULL"
			" FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) WITH ORDINALITY"
			" AS u (apid, version, ordinality) LEFT JOIN ONLY apm.profile AS f ON f.apid = u.apid AND f.version = u.version"
			" LEFT JOIN ONLY apm.patient AS p ON p.apid = u.apid ORDER BY u.ordinality",
		.nargs = 2,
		.types = {TEXTARRAYOID, INT4ARRAYOID},
	};
	int32 *places = palloc_array(int32, Max(e->n, 1));
	int all = places_of(e, APM_KIND_PATIENT, places);
	ApmSlice *apids = palloc_array(ApmSlice, Max(all, 1));
	int32 *versions = palloc_array(int32, Max(all, 1));
	Datum args[2];
	int n = 0;

	for (int i = 0; i < all; i++)
	{
		const ApmTransaction *tx = &e->opened[places[i]].tx;
		ApmDigest home;

		if (!apm_contract_home(walk->state, APM_MEMBER_ORIGIN, &tx->origin, &home) ||
			memcmp(&home, &walk->identity.origin_home, sizeof(home)) != 0)
			continue;
		places[n] = places[i];
		apids[n] = tx->u.patient.apid;
		versions[n++] = (int32) tx->u.patient.version;
	}
	if (n == 0)
		return true;
	args[0] = apm_text_array(apids, n);
	args[1] = apm_int4_array(versions, n);
	apm_run(&get, args);
	for (int i = 0; i < n; i++)
	{
		if (!verify_profile_row(walk, e, i, places[i]))
			return false;
	}
	return true;
}

/* What the block's entries add to what must be there. */
static void
count_entries(ApmWalk *walk, const ApmEntries *e)
{
	walk->counts.leaves += e->n;
	for (int i = 0; i < e->n; i++)
	{
		const ApmTransaction *tx = &e->opened[i].tx;

		if (!e->kept[i])
			continue;
		walk->counts.bodies++;
		if (e->entries[i].rule != APM_RULE_NONE)
			continue;
		if (tx->kind == APM_KIND_PATIENT)
		{
			walk->counts.profile_versions++;
			walk->counts.patients += tx->u.patient.version == 1;
		}
		if (tx->kind == APM_KIND_PRIMARY)
		{
			walk->counts.records++;
			walk->counts.amendments += (tx->u.primary.flags & APM_PRIMARY_AMENDS) != 0;
		}
	}
}

bool
apm_verify_derived(ApmWalk *walk, const ApmEntries *e)
{
	count_entries(walk, e);
	if (apm_verify_members(walk, e) && verify_patients(walk, e) && verify_records(walk, e) &&
		verify_rows(walk, e) && apm_verify_void_rows(walk, e) && verify_profiles(walk, e))
		return true;
	apm_verify_put_back(walk, e);
	return false;
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
			" (SELECT pg_catalog.count(p.erased_height) FROM ONLY apm.ledger_patient AS p),"
			" (SELECT pg_catalog.count(*) FROM ONLY apm.ledger_record),"
			" (SELECT pg_catalog.count(r.superseded_by) FROM ONLY apm.ledger_record AS r),"
			" (SELECT pg_catalog.count(*) FROM ONLY apm.ledger_void),"
			" (SELECT pg_catalog.count(*) FROM ONLY apm.member),"
			" (SELECT pg_catalog.count(m.ended_height) FROM ONLY apm.member AS m),"
			" (SELECT pg_catalog.count(m.ended_time) FROM ONLY apm.member AS m)",
	};
	const struct
	{
		const char *table;
		int64 expected;
	} totals[] = {
		{"apm.leaf", walk->counts.leaves},
		{"apm.body", walk->counts.bodies},
		{"apm.ledger_patient", walk->counts.patients},
		{"apm.ledger_patient", walk->counts.profile_versions},
		{"apm.ledger_patient", walk->counts.erased_patients},
		{"apm.ledger_record", walk->counts.records},
		{"apm.ledger_record", walk->counts.amendments},
		{"apm.ledger_void", walk->counts.erased},
		{"apm.member", walk->counts.members},
		{"apm.member", walk->counts.replaced_members},
		{"apm.member", walk->counts.replaced_members},
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
		if (apm_derived_total(table) != walk->counts.derived[table])
			more = apm_derived_name(table);
	}
	SPI_finish();
	return more == NULL || apm_walk_fault_detail(walk, APM_FAULT_DERIVED, -1, -1,
												 "%s: it says more than the ledger's transactions", more);
}
