/*
 * state.c
 *	  The contract's state, loaded from the derived tables.
 *
 * The rules in src/core look at hash tables and know no database.  A batch of
 * transactions needs a few rows of large tables: which, the transactions say
 * (ApmNeeds), and one statement a table fetches them for the whole batch.
 *
 * A state holds keys in memory of OpenSSL's, which no memory context knows; so it is freed
 * when its context is, and by nobody before.  It outlives SPI and often the transaction,
 * so what is loaded is entered with the state's own memory context current.
 */
#include "postgres.h"

#include "catalog/pg_type_d.h"

#include "apm_errors.h"
#include "apm_sql.h"
#include "chain/count.h"
#include "chain/ledger.h"
#include "core/digest.h"

/* Runs a statement and enters each row of SPI_tuptable that it found, in the state's memory. */
static void
load(ApmContractState *state, MemoryContext context, ApmStatement *statement, const Datum *args,
	 void (*enter)(ApmContractState *state, uint64 row))
{
	uint64 rows = apm_run(statement, args);
	MemoryContext old = MemoryContextSwitchTo(context);

	for (uint64 row = 0; row < rows; row++)
		enter(state, row);
	MemoryContextSwitchTo(old);
}

/* Row of: member, spki, home, ended, ended_time. */
static void
enter_member(ApmContractState *state, uint64 row)
{
	ApmSlice spki = apm_row_bytea(row, 2);
	int16 kind = apm_row_int2(row, 1);
	ApmMemberState member = {.member = (uint8) kind, .ended = apm_row_bool(row, 4)};

	if (spki.len != APM_SPKI_LEN || (kind != APM_MEMBER_NODE && kind != APM_MEMBER_ORIGIN))
		ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("a stored member of the chain is none")));
	memcpy(member.spki, spki.data, APM_SPKI_LEN);
	apm_row_digest(row, 3, &member.home);
	if (member.ended)
		member.ended_us = (uint64) apm_row_int8(row, 5);
	apm_check(apm_contract_load_member(state, &member), "load a member of the chain");
}

void
apm_state_load_members(ApmContractState *state, MemoryContext context, uint64 from, uint64 before)
{
	static ApmStatement get = {
		.sql =
			"SELECT m.member, m.spki, m.home, m.ended_height IS NOT NULL AND m.ended_height < $2, m.ended_time"
			" FROM ONLY apm.member AS m WHERE m.height < $2 AND (m.height >= $1 OR m.ended_height >= $1)",
		.nargs = 2,
		.types = {INT8OID, INT8OID},
	};
	Datum args[] = {Int64GetDatum((int64) from), Int64GetDatum((int64) before)};

	load(state, context, &get, args, enter_member);
}

static void
enter_item(ApmContractState *state, uint64 row)
{
	ApmReader reader;
	ApmItem item;

	apm_reader_init(&reader, apm_row_bytea(row, 1));
	apm_item_get(&reader, &item);
	if (!apm_reader_done(&reader))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED), errmsg("a stored item of the contract cannot be read")));
	apm_check(apm_contract_load_item(state, &item, (uint64) apm_row_int8(row, 2)),
			  "load an item of the contract");
}

void
apm_state_load_items(ApmContractState *state, MemoryContext context, uint64 from, uint64 before)
{
	static ApmStatement get = {
		.sql = "SELECT i.item, i.block_time FROM ONLY apm.contract_item AS i"
			   " WHERE i.height >= $1 AND i.height < $2 ORDER BY i.height, i.position, i.ordinal",
		.nargs = 2,
		.types = {INT8OID, INT8OID},
	};
	Datum args[] = {Int64GetDatum((int64) from), Int64GetDatum((int64) before)};

	load(state, context, &get, args, enter_item);
}

bool
apm_state_changes_at(uint64 height)
{
	static ApmStatement find = {
		.sql = "SELECT WHERE EXISTS (SELECT FROM ONLY apm.contract_item AS i WHERE i.height = $1)"
			   " OR EXISTS (SELECT FROM ONLY apm.member AS m WHERE m.height = $1 OR m.ended_height = $1)",
		.nargs = 1,
		.types = {INT8OID},
	};
	Datum args[] = {Int64GetDatum((int64) height)};

	return apm_run(&find, args) > 0;
}

static void
free_state(void *state)
{
	apm_contract_free(state);
}

ApmContractState *
apm_state_empty(MemoryContext context, const ApmDigest *chain)
{
	MemoryContext old = MemoryContextSwitchTo(context);
	MemoryContextCallback *callback = palloc(sizeof(MemoryContextCallback));
	ApmContractState *state;

	apm_check(apm_contract_new(chain, &state), "make the contract's state");
	callback->func = free_state;
	callback->arg = state;
	MemoryContextRegisterResetCallback(context, callback);
	MemoryContextSwitchTo(old);
	return state;
}

ApmContractState *
apm_state_new(MemoryContext context, const ApmDigest *chain, uint64 height)
{
	ApmContractState *state = apm_state_empty(context, chain);

	apm_state_load_members(state, context, 0, height);
	apm_state_load_items(state, context, 0, height);
	return state;
}

static void
enter_tid(ApmContractState *state, uint64 row)
{
	ApmUuid tid;

	apm_row_uuid(row, 1, &tid);
	apm_check(apm_contract_load_tid(state, &tid), "load a transaction id");
}

/*
 * Only a valid transaction uses its Tid up: so says apm_contract_apply(), too.  Those of the block itself are
 * passed over by its hash, which is cheaper than by its height.
 */
static void
load_tids(ApmContractState *state, MemoryContext context, const ApmUuid *tids, int n, const ApmJudged *block)
{
	static ApmStatement get = {
		.sql = "SELECT l.tid FROM ONLY apm.leaf AS l JOIN ONLY apm.block AS b ON b.hash = l.block"
			   " WHERE l.tid = ANY ($1) AND l.rule = 0 AND l.block <> $3 AND b.height < $2",
		.nargs = 3,
		.types = {UUIDARRAYOID, INT8OID, BYTEAOID},
	};
	static const ApmDigest none;
	Datum args[] = {
		apm_uuid_array(tids, n),
		Int64GetDatum((int64) block->height),
		apm_digest_datum(block->hash != NULL ? block->hash : &none),
	};

	load(state, context, &get, args, enter_tid);
}

static void
load_patients(ApmContractState *state, MemoryContext context, const ApmSlice *apids, int n, uint64 height)
{
	uint64 rows = apm_patient_rows(apids, n, height);
	MemoryContext old = MemoryContextSwitchTo(context);

	for (uint64 row = 0; row < rows; row++)
	{
		ApmPatientState patient;
		ApmSlice apid = apm_patient_row(row, &patient);

		apm_check(apm_contract_load_patient(state, apid, &patient), "load a patient");
	}
	MemoryContextSwitchTo(old);
}

/* A state that goes from block to block has patients of earlier blocks, as their transactions left them. */
static bool
has_patient(const ApmContractState *state, ApmSlice apid)
{
	ApmPatientState patient;

	apm_check(apm_contract_patient(state, apid, &patient), "look for a patient");
	return patient.known;
}

static void
load_leaves(ApmContractState *state, MemoryContext context, const ApmSlice *apids, int n, uint64 height)
{
	uint64 rows = apm_void_rows(apids, n, height);
	MemoryContext old = MemoryContextSwitchTo(context);

	for (uint64 row = 0; row < rows; row++)
	{
		ApmVoid leaf;
		ApmSlice apid = apm_void_row(row, &leaf);

		apm_check(apm_contract_load_leaf(state, apid, &leaf), "load a leaf that an erasure voids");
	}
	MemoryContextSwitchTo(old);
}

/* places: in records, of each Rid. */
static void
load_records(ApmContractState *state, MemoryContext context, const ApmUuid *rids, const int *places, int n,
			 uint64 height, ApmRecordRow *records)
{
	ApmRecordRow *rows = palloc_array(ApmRecordRow, n);
	MemoryContext old;

	apm_record_rows(rids, n, height, rows);
	old = MemoryContextSwitchTo(context);
	for (int i = 0; i < n; i++)
	{
		const ApmRecordRow *row = &rows[i];
		ApmRecordState record = {.known = true, .superseded = row->superseded_then};

		if (records != NULL)
			records[places[i]] = *row;
		if (!row->there || row->height >= (int64) height)
			continue;
		apm_check(apm_sha256(row->apid.data, row->apid.len, &record.patient), "load a record");
		apm_check(apm_contract_load_record(state, &rids[i], &record), "load a record");
	}
	MemoryContextSwitchTo(old);
}

static void
enter_consent(ApmContractState *state, uint64 row)
{
	ApmSlice grantee = apm_row_bytea(row, 2);
	ApmConsentState consent = {
		.granted = apm_row_int2(row, 4) == APM_CONSENT_GRANT,
		.until_us = (uint64) apm_row_int8(row, 5),
		.order = apm_order((uint64) apm_row_int8(row, 6), (uint32) apm_row_int4(row, 7)),
	};

	if (grantee.len != APM_STAFF_LEN)
		ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("a stored grantee has the wrong length")));
	apm_check(apm_contract_load_consent(state, apm_row_text(row, 1), grantee.data,
										(uint16) apm_row_int2(row, 3), &consent),
			  "load a consent");
}

/*
 * Grants and revocations of patients.  Of each grantee and purpose the last of either counts; what the chain
 * said before it is history.
 */
static void
load_consents(ApmContractState *state, MemoryContext context, const ApmSlice *apids, int n, uint64 height)
{
	static ApmStatement get = {
		.sql =
			"SELECT u.apid, c.grantee, c.purpose, c.action, c.until_us, c.height, c.position"
			" FROM (SELECT DISTINCT v.apid FROM unnest($1) AS v (apid)) AS u"
			" CROSS JOIN LATERAL (SELECT DISTINCT ON (l.grantee, l.purpose, l.action)"
			" l.grantee, l.purpose, l.action, l.until_us, l.height, l.position"
			" FROM ONLY apm.ledger_consent AS l WHERE l.apid = u.apid AND l.height < $2 AND l.action IN (1, 2)"
			" ORDER BY l.grantee, l.purpose, l.action, l.height DESC, l.position DESC) AS c",
		.nargs = 2,
		.types = {TEXTARRAYOID, INT8OID},
	};
	Datum args[] = {apm_text_array(apids, n), Int64GetDatum((int64) height)};

	load(state, context, &get, args, enter_consent);
}

static void
copy_staff(uint64 row, int column, uint8 out[APM_STAFF_LEN])
{
	ApmSlice staff = apm_row_bytea(row, column);

	if (staff.len != APM_STAFF_LEN)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED), errmsg("a stored staff pseudonym has the wrong length")));
	memcpy(out, staff.data, APM_STAFF_LEN);
}

static void
enter_query(ApmContractState *state, uint64 row)
{
	ApmQueryState query = {.known = true};
	ApmUuid tid;

	apm_row_uuid(row, 1, &tid);
	query.scope = (uint8) apm_row_int2(row, 2);
	copy_staff(row, 3, query.actor);
	copy_staff(row, 4, query.acting);
	if (!apm_row_null(row, 5))
	{
		ApmSlice apid = apm_row_text(row, 5);

		apm_check(apm_sha256(apid.data, apid.len, &query.patient), "load a query");
	}
	query.reviewed = apm_row_bool(row, 6);
	apm_check(apm_contract_load_query(state, &tid, &query), "load a query");
}

/* Valid queries that others rest on. */
static void
load_queries(ApmContractState *state, MemoryContext context, const ApmUuid *tids, int n, uint64 height)
{
	static ApmStatement get = {
		.sql = "SELECT q.tid, q.scope, q.actor, q.acting, q.apid, EXISTS ("
			   "SELECT FROM ONLY apm.ledger_consent AS c WHERE c.reviewed = q.tid AND c.height < $2)"
			   " FROM ONLY apm.ledger_query AS q WHERE q.tid = ANY ($1) AND q.rule = 0 AND q.height < $2",
		.nargs = 2,
		.types = {UUIDARRAYOID, INT8OID},
	};
	Datum args[] = {apm_uuid_array(tids, n), Int64GetDatum((int64) height)};

	load(state, context, &get, args, enter_query);
}

static void
enter_study(ApmContractState *state, uint64 row)
{
	ApmSlice study = apm_row_bytea(row, 1);

	apm_check(apm_contract_load_study(state, study.data, (uint32) apm_row_int4(row, 2)), "load a study");
}

static void
load_studies(ApmContractState *state, MemoryContext context, const ApmSlice *studies, int n, uint64 height)
{
	static ApmStatement get = {
		.sql = "SELECT u.study, e.release FROM pg_catalog.unnest($1) AS u (study)"
			   " CROSS JOIN LATERAL (SELECT l.release FROM ONLY apm.ledger_export AS l"
			   " WHERE l.study = u.study AND l.height < $2 ORDER BY l.release DESC LIMIT 1) AS e",
		.nargs = 2,
		.types = {BYTEAARRAYOID, INT8OID},
	};
	Datum args[] = {apm_bytea_array(studies, n), Int64GetDatum((int64) height)};

	load(state, context, &get, args, enter_study);
}

void
apm_state_load(ApmContractState *state, MemoryContext context, const ApmNeeds *needs, int n,
			   const ApmJudged *block, ApmRecordRow *records)
{
	uint64 height = block->height;
	ApmUuid *tids = palloc_array(ApmUuid, Max(n, 1));
	ApmSlice *apids = palloc_array(ApmSlice, Max(n, 1));
	ApmUuid *rids = palloc_array(ApmUuid, Max(2 * n, 1));
	int *places = palloc_array(int, Max(2 * n, 1)); /* of the Rids */
	ApmSlice *consents = palloc_array(ApmSlice, Max(n, 1));
	ApmUuid *queries = palloc_array(ApmUuid, Max(n, 1));
	ApmSlice *studies = palloc_array(ApmSlice, Max(n, 1));
	ApmSlice *erased = palloc_array(ApmSlice, Max(n, 1));
	int nerased = 0;
	int napids = 0;
	int nrids = 0;
	int nconsents = 0;
	int nqueries = 0;
	int nstudies = 0;

	for (int i = 0; i < n; i++)
	{
		tids[i] = needs[i].tid;
		if (needs[i].apid.len > 0 && !has_patient(state, needs[i].apid))
			apids[napids++] = needs[i].apid;
		if (needs[i].has_rid)
		{
			places[nrids] = 2 * i;
			rids[nrids++] = needs[i].rid;
		}
		if (needs[i].has_amends)
		{
			places[nrids] = 2 * i + 1;
			rids[nrids++] = needs[i].amends;
		}
		if (needs[i].consents)
			consents[nconsents++] = needs[i].apid;
		if (needs[i].leaves)
			erased[nerased++] = needs[i].apid;
		if (needs[i].has_query)
			queries[nqueries++] = needs[i].query;
		if (needs[i].has_study)
			studies[nstudies++] = APM_SLICE(needs[i].study, APM_STUDY_LEN);
	}
	if (n > 0)
		load_tids(state, context, tids, n, block);
	if (napids > 0)
		load_patients(state, context, apids, napids, height);
	if (nerased > 0)
		load_leaves(state, context, erased, nerased, height);
	if (nrids > 0)
		load_records(state, context, rids, places, nrids, height, records);
	if (nconsents > 0)
		load_consents(state, context, consents, nconsents, height);
	if (nqueries > 0)
		load_queries(state, context, queries, nqueries, height);
	if (nstudies > 0)
		load_studies(state, context, studies, nstudies, height);
	apm_state_load_counts(state, context, needs, n, height, block->time_us);
}
