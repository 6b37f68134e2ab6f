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
#include "chain/ledger.h"
#include "core/digest.h"

static void
load_members(ApmContractState *state, MemoryContext context)
{
	static ApmStatement get = {.sql = "SELECT m.member, m.spki FROM ONLY apm.member AS m"};
	uint64 rows = apm_run(&get, NULL);
	MemoryContext old = MemoryContextSwitchTo(context);

	for (uint64 row = 0; row < rows; row++)
	{
		ApmSlice spki = apm_row_bytea(row, 2);

		if (spki.len != APM_SPKI_LEN)
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED), errmsg("a stored member key has the wrong length")));
		if (apm_row_int2(row, 1) == APM_MEMBER_NODE)
			apm_check(apm_contract_load_node(state, spki.data), "load a node of the chain");
		else
			apm_check(apm_contract_load_origin(state, spki.data), "load an origin of the chain");
	}
	MemoryContextSwitchTo(old);
}

static void
load_policies(ApmContractState *state, MemoryContext context)
{
	static ApmStatement get = {.sql = "SELECT p.key, p.value FROM ONLY apm.policy AS p"};
	uint64 rows = apm_run(&get, NULL);
	MemoryContext old = MemoryContextSwitchTo(context);

	for (uint64 row = 0; row < rows; row++)
		apm_check(
			apm_contract_load_policy(state, (uint16) apm_row_int2(row, 1), (uint64) apm_row_int8(row, 2)),
			"load a policy of the chain");
	MemoryContextSwitchTo(old);
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
apm_state_new(MemoryContext context, const ApmDigest *chain)
{
	ApmContractState *state = apm_state_empty(context, chain);

	load_members(state, context);
	load_policies(state, context);
	return state;
}

/* Only a valid transaction uses its Tid up: so says apm_contract_apply(), too. */
static void
load_tids(ApmContractState *state, MemoryContext context, const ApmUuid *tids, int n, uint64 height)
{
	static ApmStatement get = {
		.sql = "SELECT l.tid FROM ONLY apm.leaf AS l JOIN ONLY apm.block AS b ON b.hash = l.block"
			   " WHERE l.tid = ANY ($1) AND l.rule = 0 AND b.height < $2",
		.nargs = 2,
		.types = {UUIDARRAYOID, INT8OID},
	};
	Datum args[] = {apm_uuid_array(tids, n), Int64GetDatum((int64) height)};
	uint64 rows = apm_run(&get, args);
	MemoryContext old = MemoryContextSwitchTo(context);

	for (uint64 row = 0; row < rows; row++)
	{
		ApmUuid tid;

		apm_row_uuid(row, 1, &tid);
		apm_check(apm_contract_load_tid(state, &tid), "load a transaction id");
	}
	MemoryContextSwitchTo(old);
}

static void
load_patients(ApmContractState *state, MemoryContext context, const ApmSlice *apids, int n, uint64 height)
{
	static ApmStatement get = {
		.sql =
			"SELECT p.apid, p.origin, p.version, p.profile, p.erased_height IS NOT NULL AND p.erased_height < $2"
			" FROM ONLY apm.ledger_patient AS p WHERE p.apid = ANY ($1) AND p.height < $2",
		.nargs = 2,
		.types = {TEXTARRAYOID, INT8OID},
	};
	Datum args[] = {apm_text_array(apids, n), Int64GetDatum((int64) height)};
	uint64 rows = apm_run(&get, args);
	MemoryContext old = MemoryContextSwitchTo(context);

	for (uint64 row = 0; row < rows; row++)
	{
		ApmPatientState patient = {.known = true};

		apm_row_digest(row, 2, &patient.origin);
		patient.version = (uint32) apm_row_int4(row, 3);
		apm_row_digest(row, 4, &patient.profile);
		patient.erased = apm_row_bool(row, 5);
		apm_check(apm_contract_load_patient(state, apm_row_text(row, 1), &patient), "load a patient");
	}
	MemoryContextSwitchTo(old);
}

static void
load_records(ApmContractState *state, MemoryContext context, const ApmUuid *rids, int n, uint64 height)
{
	static ApmStatement get = {
		.sql = "SELECT r.rid, r.apid, s.rid IS NOT NULL FROM ONLY apm.ledger_record AS r"
			   " LEFT JOIN ONLY apm.ledger_record AS s ON s.rid = r.superseded_by AND s.height < $2"
			   " WHERE r.rid = ANY ($1) AND r.height < $2",
		.nargs = 2,
		.types = {UUIDARRAYOID, INT8OID},
	};
	Datum args[] = {apm_uuid_array(rids, n), Int64GetDatum((int64) height)};
	uint64 rows = apm_run(&get, args);
	MemoryContext old = MemoryContextSwitchTo(context);

	for (uint64 row = 0; row < rows; row++)
	{
		ApmRecordState record = {.known = true};
		ApmSlice apid = apm_row_text(row, 2);
		ApmUuid rid;

		apm_row_uuid(row, 1, &rid);
		record.superseded = apm_row_bool(row, 3);
		apm_check(apm_sha256(apid.data, apid.len, &record.patient), "load a record");
		apm_check(apm_contract_load_record(state, &rid, &record), "load a record");
	}
	MemoryContextSwitchTo(old);
}

void
apm_state_load(ApmContractState *state, MemoryContext context, const ApmNeeds *needs, int n, uint64 height)
{
	ApmUuid *tids = palloc_array(ApmUuid, Max(n, 1));
	ApmSlice *apids = palloc_array(ApmSlice, Max(n, 1));
	ApmUuid *rids = palloc_array(ApmUuid, Max(2 * n, 1));
	int napids = 0;
	int nrids = 0;

	for (int i = 0; i < n; i++)
	{
		tids[i] = needs[i].tid;
		if (needs[i].apid.len > 0)
			apids[napids++] = needs[i].apid;
		if (needs[i].has_rid)
			rids[nrids++] = needs[i].rid;
		if (needs[i].has_amends)
			rids[nrids++] = needs[i].amends;
	}
	if (n > 0)
		load_tids(state, context, tids, n, height);
	if (napids > 0)
		load_patients(state, context, apids, napids, height);
	if (nrids > 0)
		load_records(state, context, rids, nrids, height);
	pfree(tids);
	pfree(apids);
	pfree(rids);
}
