/*
 * store.c
 *	  The table that is the cloud.
 *
 * Any table with the columns rid, apid, apr and tokens will do: a foreign table of whatever wrapper, or
 * a plain one.  Its name is not known when this is compiled, so these statements, alone in
 * apm, are put together, from constants and the quoted qualified name.  Which table it is can
 * change at any time, and what is attached can be renamed, altered or dropped; therefore
 * every transaction looks at it again, under a lock, before it uses a kept plan.  What is not
 * fit is an error that says so; the rows stay in the outbox.
 *
 * Whoever owns a table can put code into it (triggers, defaults, index expressions), which would
 * run with the rights of apm_worker and as code of ours.  So its owner must be a superuser; and,
 * since GRANT ALL lets somebody else put a trigger on it, the owner of each trigger's function.
 * A trigger's condition calls functions, too, and does not tell whose idea it was.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "catalog/pg_class.h"
#include "catalog/pg_index.h"
#include "catalog/pg_proc.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "apm_errors.h"
#include "apm_sql.h"
#include "cloud/store.h"

static const struct
{
	const char *name;
	Oid type;
	const char *what;
} columns[] = {
	{"rid", UUIDOID, "rid uuid"},
	{"apid", TEXTOID, "apid text"},
	{"apr", BYTEAOID, "apr bytea"},
	{"tokens", BYTEAARRAYOID, "tokens bytea[]"},
};

/* The statements for one table under one name. */
static struct
{
	Oid target;
	char *name; /* quoted and qualified; NULL: none yet */
	MemoryContext context;
	ApmStatement insert;
	ApmStatement present;
	ApmStatement select;
	ApmStatement match;
} store;

static void
unfit(const char *why)
{
	ereport(ERROR, (errcode(ERRCODE_APM_CLOUD), errmsg("the cloud store's table is not fit: %s", why),
					errhint("Attach a table with rid uuid, apid text, apr bytea and tokens bytea[] by "
							"apm_cloud_attach(). Nothing is lost: records wait in apm.outbox.")));
}

static bool
is_our_column(const char *name)
{
	for (size_t i = 0; i < lengthof(columns); i++)
	{
		if (strcmp(columns[i].name, name) == 0)
			return true;
	}
	return false;
}

static void
check_columns(TupleDesc desc)
{
	for (size_t c = 0; c < lengthof(columns); c++)
	{
		bool found = false;

		for (int i = 0; i < desc->natts && !found; i++)
		{
			Form_pg_attribute a = TupleDescAttr(desc, i);

			found = !a->attisdropped && strcmp(NameStr(a->attname), columns[c].name) == 0 &&
					a->atttypid == columns[c].type && a->attgenerated == '\0';
		}
		if (!found)
			unfit(psprintf("it has no column %s", columns[c].what));
	}
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute a = TupleDescAttr(desc, i);

		if (!a->attisdropped && a->attnotnull && !a->atthasdef && a->attidentity == '\0' &&
			!is_our_column(NameStr(a->attname)))
			unfit("another column must be given a value");
	}
}

static bool
is_superusers_function(Oid function)
{
	HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	bool answer = HeapTupleIsValid(tuple) && superuser_arg(((Form_pg_proc) GETSTRUCT(tuple))->proowner);

	if (HeapTupleIsValid(tuple))
		ReleaseSysCache(tuple);
	return answer;
}

static void
check_triggers(const TriggerDesc *triggers)
{
	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
	{
		if (!is_superusers_function(triggers->triggers[i].tgfoid))
			unfit("the function of one of its triggers is not a superuser's");
		if (triggers->triggers[i].tgqual != NULL)
			unfit("one of its triggers has a condition");
	}
}

/* Has a plain table a unique key that lets a Rid be stored once? */
static bool
has_rid_key(Relation rel)
{
	AttrNumber rid = get_attnum(RelationGetRelid(rel), "rid");
	List *indexes = RelationGetIndexList(rel);
	ListCell *cell;
	bool found = false;

	foreach(cell, indexes)
	{
		HeapTuple tuple = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(lfirst_oid(cell)));
		Form_pg_index index;

		if (!HeapTupleIsValid(tuple))
			continue;
		index = (Form_pg_index) GETSTRUCT(tuple);
		if (index->indisunique && index->indisvalid && index->indimmediate && index->indnkeyatts == 1 &&
			index->indkey.values[0] == rid && heap_attisnull(tuple, Anum_pg_index_indpred, NULL))
			found = true;
		ReleaseSysCache(tuple);
	}
	list_free(indexes);
	return found;
}

void
apm_store_check(Oid target)
{
	Relation rel = try_relation_open(target, AccessShareLock);

	if (rel == NULL)
		unfit("it does not exist any more");
	if (rel->rd_rel->relkind != RELKIND_FOREIGN_TABLE && rel->rd_rel->relkind != RELKIND_RELATION)
		unfit("it is neither a foreign table nor a plain one");
	if (rel->rd_rel->relpersistence != RELPERSISTENCE_PERMANENT)
		unfit("it does not survive a crash");
	if (rel->rd_rel->relrowsecurity)
		unfit("row security hides rows of it");
	if (!superuser_arg(rel->rd_rel->relowner))
		unfit("its owner is not a superuser");
	check_triggers(rel->trigdesc);
	check_columns(RelationGetDescr(rel));
	if (rel->rd_rel->relkind == RELKIND_RELATION && !has_rid_key(rel))
		unfit("it has no unique key on rid");
	relation_close(rel, NoLock);
}

static void
forget_statement(ApmStatement *statement)
{
	if (statement->plan != NULL)
		SPI_freeplan(statement->plan);
	memset(statement, 0, sizeof(*statement));
}

/* Makes the statements for this table under its present name, unless they are made. */
static void
open_store(Oid target)
{
	char *name;
	MemoryContext old;

	apm_store_check(target);
	name = quote_qualified_identifier(get_namespace_name(get_rel_namespace(target)), get_rel_name(target));
	if (store.name != NULL && store.target == target && strcmp(store.name, name) == 0)
		return;

	forget_statement(&store.insert);
	forget_statement(&store.present);
	forget_statement(&store.select);
	forget_statement(&store.match);
	store.name = NULL;
	if (store.context == NULL)
		store.context = AllocSetContextCreate(TopMemoryContext, "apm cloud store", ALLOCSET_SMALL_SIZES);
	MemoryContextReset(store.context);

	old = MemoryContextSwitchTo(store.context);
	store.insert.sql =
		psprintf("INSERT INTO %s (rid, apid, apr, tokens) SELECT o.rid, o.apid, o.apr, o.tokens"
				 " FROM ONLY apm.outbox AS o WHERE o.id = ANY ($1)"
				 " AND o.rid <> ALL ($2) ORDER BY o.id"
				 " ON CONFLICT DO NOTHING",
				 name);
	store.insert.nargs = 2;
	store.insert.types[0] = INT8ARRAYOID;
	store.insert.types[1] = UUIDARRAYOID;
	store.present.sql = psprintf("SELECT c.rid FROM ONLY %s AS c WHERE c.rid = ANY ($1)", name);
	store.present.nargs = 1;
	store.present.types[0] = UUIDARRAYOID;
	store.select.sql = psprintf("SELECT c.rid, c.apr FROM ONLY %s AS c WHERE c.rid = ANY ($1)", name);
	store.select.nargs = 1;
	store.select.types[0] = UUIDARRAYOID;
	store.match.sql = psprintf("SELECT c.rid FROM ONLY %s AS c WHERE c.tokens @> $1 LIMIT $2", name);
	store.match.nargs = 2;
	store.match.types[0] = BYTEAARRAYOID;
	store.match.types[1] = INT8OID;
	store.target = target;
	store.name = pstrdup(name);
	MemoryContextSwitchTo(old);
}

Oid
apm_store_target(void)
{
	static ApmStatement target = {
		"SELECT coalesce((SELECT relation FROM ONLY apm.cloud_target),"
		" 'apm.cloud_record'::pg_catalog.regclass)::pg_catalog.oid::pg_catalog.int8",
		0,
		{0},
		NULL,
	};

	apm_run(&target, NULL);
	return (Oid) apm_row_int8(0, 1);
}

/* Those of n Rids that the store has; returns how many. */
static int
present(const ApmUuid *rids, int n, ApmUuid *out)
{
	Datum args[1] = {apm_uuid_array(rids, n)};
	int found = (int) Min(apm_run(&store.present, args), (uint64) n);

	for (int i = 0; i < found; i++)
	{
		if (apm_row_null((uint64) i, 1))
			unfit("a row of it has no rid");
		apm_row_uuid((uint64) i, 1, &out[i]);
	}
	return found;
}

void
apm_store_insert(Oid target, const ApmStoreRow *rows, int n, bool doubt)
{
	int64 *ids = palloc(sizeof(int64) * n);
	ApmUuid *rids = palloc(sizeof(ApmUuid) * n);
	ApmUuid *stored = palloc(sizeof(ApmUuid) * n);
	int nstored = 0;
	Datum args[2];

	for (int i = 0; i < n; i++)
	{
		ids[i] = rows[i].id;
		rids[i] = rows[i].rid;
	}
	open_store(target);
	if (doubt)
		nstored = present(rids, n, stored);
	args[0] = apm_int8_array(ids, n);
	args[1] = apm_uuid_array(stored, nstored);
	apm_run(&store.insert, args);
}

uint64
apm_store_select(Oid target, const ApmUuid *rids, int n)
{
	Datum args[1] = {apm_uuid_array(rids, n)};

	open_store(target);
	return apm_run(&store.select, args);
}

uint64
apm_store_match(Oid target, Datum tokens, int64 limit)
{
	Datum args[2] = {tokens, Int64GetDatum(limit)};

	open_store(target);
	return apm_run(&store.match, args);
}

ApmStoreFault
apm_store_fault(int sqlstate)
{
	switch (ERRCODE_TO_CATEGORY(sqlstate))
	{
		case ERRCODE_CONNECTION_EXCEPTION:
		case ERRCODE_INVALID_TRANSACTION_STATE: /* a standby in its place */
		case ERRCODE_TRANSACTION_ROLLBACK:
		case ERRCODE_INSUFFICIENT_RESOURCES:
		case ERRCODE_OPERATOR_INTERVENTION: /* it is shutting down, or our deadline */
		case ERRCODE_SYSTEM_ERROR:
			return APM_STORE_AWAY;

		case ERRCODE_DATA_EXCEPTION:
		case ERRCODE_INTEGRITY_CONSTRAINT_VIOLATION:
		case ERRCODE_WITH_CHECK_OPTION_VIOLATION:
		case ERRCODE_PROGRAM_LIMIT_EXCEEDED:
		case ERRCODE_PLPGSQL_ERROR: /* a trigger there refuses */
			return APM_STORE_ROW;

		default:
			return APM_STORE_UNFIT;
	}
}
