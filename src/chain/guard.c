/*
 * guard.c
 *	  Append-only, no TRUNCATE, and a notice of every write that is not ours.
 *
 * One thing leaves the ledger: the body of a transaction that an erasure voided, which our own code
 * deletes.
 *
 * The ledger's tables are ordinary tables, and a superuser is only a statement away from
 * any row.  Guards do not stop him from everything, since he can drop them; they stop the
 * statement written by mistake, and they make what is done on purpose show: a guard that
 * is missing or sleeps, and a write that did not come from our code, end mining and
 * reading until the chain was verified whole (apm_accept_rollback).  A restored dump is
 * such a write, too, and is let through for that reason.
 *
 * Guards are ENABLE ALWAYS, so they also fire under session_replication_role = replica
 * and in logical replication's apply.  That fires row triggers only, so whatever guards
 * the ledger itself is one; on the busier tables around it a notice a statement will do.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type_d.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "apm_errors.h"
#include "apm_sql.h"
#include "apm_user.h"
#include "chain/guard.h"

PG_FUNCTION_INFO_V1(apm_guard_keep);
PG_FUNCTION_INFO_V1(apm_guard_notice);

/* Every guard, as the extension's script creates it. */
typedef struct ApmGuard
{
	const char *table;
	const char *trigger;
	const char *function; /* in C */
	int16 type;			  /* pg_trigger.tgtype */
} ApmGuard;

#define CHANGES (TRIGGER_TYPE_UPDATE | TRIGGER_TYPE_DELETE)
#define BEFORE_ROW (TRIGGER_TYPE_BEFORE | TRIGGER_TYPE_ROW)

#define APPEND_ONLY(table)                                                                                 \
	{table, table "_append_only", "apm_guard_keep", BEFORE_ROW | CHANGES},                                 \
	{                                                                                                      \
		table, table "_no_change", "apm_guard_keep", TRIGGER_TYPE_BEFORE | CHANGES | TRIGGER_TYPE_TRUNCATE \
	}
#define WATCHED(table)                                                                             \
	{table, table "_noticed", "apm_guard_notice", TRIGGER_TYPE_INSERT | CHANGES},                  \
	{                                                                                              \
		table, table "_no_truncate", "apm_guard_keep", TRIGGER_TYPE_BEFORE | TRIGGER_TYPE_TRUNCATE \
	}

/* Column of apm.body */
#define BODY_TID 1

/* So long may nobody have looked at the guards though nothing was told of a change. */
#define LOOK_AGAIN_MS 1000

/* How often something was told of a change to the catalogs. */
static uint64 catalog_changes = 0;

static const ApmGuard guards[] = {
	APPEND_ONLY("block"),
	APPEND_ONLY("leaf"),
	APPEND_ONLY("body"),
	{"block", "block_links", "apm_guard_block", TRIGGER_TYPE_ROW | TRIGGER_TYPE_INSERT},
	{"leaf", "leaf_fits", "apm_guard_leaf", BEFORE_ROW | TRIGGER_TYPE_INSERT},
	{"body", "body_fits", "apm_guard_body", BEFORE_ROW | TRIGGER_TYPE_INSERT},
	{"verdict", "verdict_contract", "apm_contract_trigger", BEFORE_ROW | TRIGGER_TYPE_INSERT},
	WATCHED("chain"),
	WATCHED("tip"),
	WATCHED("member"),
	WATCHED("contract_item"),
	WATCHED("ledger_patient"),
	WATCHED("ledger_profile"),
	WATCHED("ledger_void"),
	WATCHED("ledger_record"),
	WATCHED("ledger_token"),
	WATCHED("ledger_query"),
	WATCHED("ledger_consent"),
	WATCHED("ledger_export"),
	WATCHED("ledger_count"),
	WATCHED("submission"),
	WATCHED("queue"),
	WATCHED("pool"),
	WATCHED("candidate"),
	WATCHED("final_queue"),
	WATCHED("outbox"),
	WATCHED("waiting"),
	WATCHED("final_transaction"),
	WATCHED("load_notice"),
};

static bool
is_ours(Relation relation)
{
	return RelationGetNamespace(relation) == get_namespace_oid("apm", true);
}

TriggerData *
apm_guard_called(FunctionCallInfo fcinfo, const char *table, int operation, bool before, bool row)
{
	TriggerData *data = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("a guard of apm was not called by the trigger manager")));
	if (!is_ours(data->tg_relation) ||
		(table != NULL && strcmp(RelationGetRelationName(data->tg_relation), table) != 0))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("a guard of apm was called for a table that is not its own")));
	if ((operation >= 0 && (data->tg_event & TRIGGER_EVENT_OPMASK) != (TriggerEvent) operation) ||
		(TRIGGER_FIRED_BEFORE(data->tg_event) != 0) != before ||
		(TRIGGER_FIRED_FOR_ROW(data->tg_event) != 0) != row)
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("a guard of apm was called at the wrong moment")));
	return data;
}

void
apm_guard_refuse(Relation relation, const char *rule, const char *detail)
{
	const char *table = RelationGetRelationName(relation);

	ereport(ERROR,
			(errcode(ERRCODE_APM_LEDGER_GUARD), errmsg("apm.%s refuses this by its rule \"%s\"", table, rule),
			 errdetail("%s", detail), errtableconstraint(relation, psprintf("%s_%s", table, rule))));
	pg_unreachable();
}

static void
write_notice(Relation relation)
{
	static ApmStatement put = {
		.sql = "INSERT INTO apm.load_notice (relation) SELECT $1"
			   " WHERE NOT EXISTS (SELECT FROM ONLY apm.load_notice AS n WHERE n.relation = $1)",
		.nargs = 1,
		.types = {NAMEOID},
	};
	ApmPrivileged saved;
	Datum args[1];

	apm_privileged_begin(&saved);
	SPI_connect();
	args[0] = DirectFunctionCall1(namein, CStringGetDatum(RelationGetRelationName(relation)));
	apm_run(&put, args);
	SPI_finish();
	apm_privileged_end(&saved);
}

/*
 * One notice a table will do, so a restore of a million rows writes and looks for it
 * once.  What is remembered holds for one (sub)transaction: rolling back to a savepoint
 * takes the notice back, too.
 */
void
apm_guard_note(Relation relation)
{
	static TransactionId transaction = InvalidTransactionId;
	static SubTransactionId subtransaction = InvalidSubTransactionId;
	static Oid noted[lengthof(guards)];
	static size_t nnoted = 0;

	if (apm_in_own_code())
		return;
	if (transaction != GetTopTransactionId() || subtransaction != GetCurrentSubTransactionId())
		nnoted = 0;
	for (size_t i = 0; i < nnoted; i++)
	{
		if (noted[i] == RelationGetRelid(relation))
			return;
	}
	write_notice(relation);
	transaction = GetTopTransactionId();
	subtransaction = GetCurrentSubTransactionId();
	if (nnoted < lengthof(noted))
		noted[nnoted++] = RelationGetRelid(relation);
}

/* Is this the body of a transaction that an erasure voided? */
static bool
is_void(TriggerData *data)
{
	static ApmStatement find = {
		.sql = "SELECT FROM ONLY apm.ledger_void AS v WHERE v.tid = $1",
		.nargs = 1,
		.types = {UUIDOID},
	};
	bool isnull;
	Datum args[] = {heap_getattr(data->tg_trigtuple, BODY_TID, RelationGetDescr(data->tg_relation), &isnull)};
	bool found;

	if (isnull)
		return false;
	SPI_connect();
	found = apm_run(&find, args) > 0;
	SPI_finish();
	return found;
}

/* Our own code takes bodies away; of each row is asked whether it may go. */
static bool
may_be_pruned(TriggerData *data)
{
	return apm_in_own_code() && TRIGGER_FIRED_BY_DELETE(data->tg_event) &&
		   strcmp(RelationGetRelationName(data->tg_relation), "body") == 0 &&
		   (TRIGGER_FIRED_FOR_STATEMENT(data->tg_event) || is_void(data));
}

/* BEFORE UPDATE OR DELETE FOR EACH ROW, or BEFORE UPDATE OR DELETE OR TRUNCATE FOR EACH STATEMENT. */
Datum
apm_guard_keep(PG_FUNCTION_ARGS)
{
	bool row =
		CALLED_AS_TRIGGER(fcinfo) && TRIGGER_FIRED_FOR_ROW(((TriggerData *) fcinfo->context)->tg_event);
	TriggerData *data = apm_guard_called(fcinfo, NULL, -1, true, row);

	if (TRIGGER_FIRED_BY_TRUNCATE(data->tg_event))
		apm_guard_refuse(data->tg_relation, "no_truncate", "The table cannot be truncated.");
	if (!may_be_pruned(data))
		apm_guard_refuse(
			data->tg_relation, "append_only",
			"Rows are added and never changed or deleted, but for bodies that an erasure voids.");
	return PointerGetDatum(row ? data->tg_trigtuple : NULL);
}

/* AFTER INSERT OR UPDATE OR DELETE FOR EACH STATEMENT. */
Datum
apm_guard_notice(PG_FUNCTION_ARGS)
{
	TriggerData *data = apm_guard_called(fcinfo, NULL, -1, false, false);

	apm_guard_note(data->tg_relation);
	PG_RETURN_POINTER(NULL);
}

/* The columns of guards[] as arrays for unnest. */
static void
guard_arrays(Datum *args)
{
	ApmSlice columns[3][lengthof(guards)];
	int16 types[lengthof(guards)];

	for (size_t i = 0; i < lengthof(guards); i++)
	{
		columns[0][i] = APM_SLICE(guards[i].table, strlen(guards[i].table));
		columns[1][i] = APM_SLICE(guards[i].trigger, strlen(guards[i].trigger));
		columns[2][i] = APM_SLICE(guards[i].function, strlen(guards[i].function));
		types[i] = guards[i].type;
	}
	for (int i = 0; i < 3; i++)
		args[i] = apm_text_array(columns[i], lengthof(guards));
	args[3] = apm_int2_array(types, lengthof(guards));
}

/* For each guard that is there as it was created: its table, its name, and whether it is ENABLE ALWAYS. */
static uint64
find_guards(void)
{
	static ApmStatement get = {
		.sql =
			"SELECT g.tab, g.tgname, t.tgenabled = 'A'"
			" FROM unnest($1, $2, $3, $4) AS g (tab, tgname, prosrc, tgtype)"
			" JOIN pg_catalog.pg_namespace AS n ON n.nspname = 'apm'"
			" JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = g.tab"
			" JOIN pg_catalog.pg_trigger AS t ON t.tgrelid = c.oid AND t.tgname = g.tgname AND t.tgtype = g.tgtype"
			" AND t.tgqual IS NULL AND t.tgattr::pg_catalog.text = '' AND NOT t.tgisinternal"
			" JOIN pg_catalog.pg_proc AS p ON p.oid = t.tgfoid AND p.pronamespace = n.oid AND p.prosrc = g.prosrc"
			" AND p.probin = '$libdir/apm'"
			" JOIN pg_catalog.pg_language AS l ON l.oid = p.prolang AND l.lanname = 'c'",
		.nargs = 4,
		.types = {TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, INT2ARRAYOID},
	};
	Datum args[4];

	guard_arrays(args);
	return apm_run(&get, args);
}

/*
 * Is there a way around the guards of a table?  A rule puts something else in the place of a
 * statement.  Written through a parent or a subscription, a table's statement triggers do not fire.  Row
 * security hides rows.
 */
static bool
has_bypass(void)
{
	static ApmStatement get = {
		.sql = "SELECT FROM unnest($1) AS g (tab)"
			   " JOIN pg_catalog.pg_namespace AS n ON n.nspname = 'apm'"
			   " JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = g.tab"
			   " WHERE c.relkind <> 'r' OR c.relrowsecurity"
			   " OR EXISTS (SELECT FROM pg_catalog.pg_rewrite AS r WHERE r.ev_class = c.oid)"
			   " OR EXISTS (SELECT FROM pg_catalog.pg_inherits AS i WHERE i.inhrelid = c.oid)"
			   " OR EXISTS (SELECT FROM pg_catalog.pg_subscription_rel AS s WHERE s.srrelid = c.oid)",
		.nargs = 1,
		.types = {TEXTARRAYOID},
	};
	Datum args[4];

	guard_arrays(args);
	return apm_run(&get, args) > 0;
}

static bool
look_at_guards(void)
{
	uint64 rows = find_guards();

	for (uint64 row = 0; row < rows; row++)
	{
		if (!apm_row_bool(row, 3))
			return false;
	}
	return rows == lengthof(guards) && !has_bypass();
}

static void
relation_changed(Datum arg, Oid relation)
{
	catalog_changes++;
}

static void
catalog_changed(Datum arg, int cache, uint32 hash)
{
	catalog_changes++;
}

static void
watch_catalogs(void)
{
	static const int caches[] = {PROCOID, NAMESPACEOID, LANGOID, SUBSCRIPTIONRELMAP};
	static bool watching = false;

	if (watching)
		return;
	CacheRegisterRelcacheCallback(relation_changed, (Datum) 0);
	for (size_t i = 0; i < lengthof(caches); i++)
		CacheRegisterSyscacheCallback(caches[i], catalog_changed, (Datum) 0);
	watching = true;
}

/*
 * Every stage asks before every batch, and to look costs as much as a small block.  Whoever changes a trigger, a rule, a
 * parent or a function tells every process, with his commit; so that they stand, is good until something is told.
 * Only a superuser's statement on pg_trigger itself tells nobody; for its sake it is good for a second.
 */
bool
apm_guards_stand(void)
{
	static TimestampTz stood_at = 0;
	static uint64 stood_changes = 0;
	TimestampTz now = GetCurrentTimestamp();
	uint64 changes;

	watch_catalogs();
	if (stood_at != 0 && stood_changes == catalog_changes && now >= stood_at &&
		!TimestampDifferenceExceeds(stood_at, now, LOOK_AGAIN_MS))
		return true;
	stood_at = 0;
	changes = catalog_changes;
	if (!look_at_guards())
		return false;
	stood_at = now;
	stood_changes = changes;
	return true;
}

/* ALTER TABLE takes no parameters; these names are from our own table. */
static void
enable_always(const char *table, const char *trigger)
{
	Oid relation = get_relname_relid(table, get_namespace_oid("apm", false));
	char *statement = psprintf("ALTER TABLE apm.%s ENABLE ALWAYS TRIGGER %s", quote_identifier(table),
							   quote_identifier(trigger));
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relation));
	Oid owner;
	Oid user;
	int security;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for relation %u", relation);
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);

	GetUserIdAndSecContext(&user, &security);
	SetUserIdAndSecContext(owner, security | SECURITY_LOCAL_USERID_CHANGE);
	if (SPI_execute(statement, false, 0) != SPI_OK_UTILITY)
		elog(ERROR, "could not enable a guard of apm");
	SetUserIdAndSecContext(user, security);
}

int
apm_guards_restore(void)
{
	uint64 rows = find_guards();
	char **asleep = palloc_array(char *, 2 * lengthof(guards));
	int n = 0;

	if (rows != lengthof(guards))
		ereport(ERROR,
				(errcode(ERRCODE_APM_LEDGER_GUARD), errmsg("a guard of the ledger is missing or altered"),
				 errhint("Create the extension in a new database and restore a dump of this one there.")));
	for (uint64 row = 0; row < rows; row++)
	{
		if (apm_row_bool(row, 3))
			continue;
		asleep[2 * n] = TextDatumGetCString(apm_text_datum(apm_row_text(row, 1)));
		asleep[2 * n + 1] = TextDatumGetCString(apm_text_datum(apm_row_text(row, 2)));
		n++;
	}
	if (has_bypass())
		ereport(ERROR, (errcode(ERRCODE_APM_LEDGER_GUARD),
						errmsg("a table of the ledger can be written past its guards"),
						errhint("Drop the rule, row security, parent table or subscription that somebody has "
								"given to a table of apm.")));
	for (int i = 0; i < n; i++)
		enable_always(asleep[2 * i], asleep[2 * i + 1]);
	return n;
}
