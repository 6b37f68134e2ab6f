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
#include "core/envelope.h"

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

typedef enum StoreText
{
	STORE_INSERT,
	STORE_PRESENT,
	STORE_SELECT,
	STORE_ROWS,
	STORE_MATCH,
	STORE_LIST,
	STORE_NAMELESS,
	STORE_DELETE,
	STORE_DELETE_NAMELESS,
	STORE_OF_PATIENTS,
	STORE_FORGET,
	STORE_PAGE,
	STORE_SEALED,
	STORE_TEXTS
} StoreText;

/* What is asked of the store; %s is its table. */
static const struct
{
	const char *sql;
	int nargs;
	Oid types[4];
} texts[STORE_TEXTS] = {
	/* what an erasure has voided since it was put into the outbox is not stored any more */
	[STORE_INSERT] = {"INSERT INTO %s (rid, apid, apr, tokens)"
					  " SELECT o.rid, o.apid, coalesce(u.apr, o.apr), o.tokens"
					  " FROM unnest($1, $3) AS u (id, apr) JOIN ONLY apm.outbox AS o ON o.id = u.id"
					  " WHERE o.rid <> ALL ($2) AND (u.apr IS NOT NULL OR o.apr IS NOT NULL)"
					  " AND NOT EXISTS (SELECT FROM ONLY apm.ledger_patient AS p"
					  " WHERE p.apid = o.apid AND p.erased_height IS NOT NULL)"
					  " ON CONFLICT DO NOTHING",
					  3,
					  {INT8ARRAYOID, UUIDARRAYOID, BYTEAARRAYOID}},
	[STORE_PRESENT] = {"SELECT c.rid FROM ONLY %s AS c WHERE c.rid = ANY ($1)", 1, {UUIDARRAYOID}},
	[STORE_SELECT] = {"SELECT c.rid, c.apr FROM ONLY %s AS c WHERE c.rid = ANY ($1)", 1, {UUIDARRAYOID}},
	[STORE_ROWS] = {"SELECT c.rid, c.apr, c.apid, c.tokens FROM ONLY %s AS c WHERE c.rid = ANY ($1)",
					1,
					{UUIDARRAYOID}},
	/* the second condition follows from the first, and lets an index leave out rows without tokens */
	[STORE_MATCH] = {"SELECT c.rid FROM ONLY %s AS c WHERE c.tokens @> $1 AND c.tokens <> '{}' LIMIT $2",
					 2,
					 {BYTEAARRAYOID, INT8OID}},
	[STORE_LIST] = {"SELECT c.rid, c.apid FROM ONLY %s AS c WHERE c.rid >= $1 AND c.rid <= $2"
					" ORDER BY c.rid LIMIT $3",
					3,
					{UUIDOID, UUIDOID, INT8OID}},
	[STORE_NAMELESS] = {"SELECT pg_catalog.count(*) FROM ONLY %s AS c WHERE c.rid IS NULL", 0, {0}},
	[STORE_DELETE] = {"DELETE FROM ONLY %s AS c WHERE c.rid = ANY ($1)", 1, {UUIDARRAYOID}},
	[STORE_DELETE_NAMELESS] = {"DELETE FROM ONLY %s AS c WHERE c.rid IS NULL", 0, {0}},
	[STORE_OF_PATIENTS] = {"SELECT c.rid FROM ONLY %s AS c WHERE c.apid = ANY ($1) LIMIT $2",
						   2,
						   {TEXTARRAYOID, INT8OID}},
	[STORE_PAGE] = {"SELECT c.rid FROM ONLY %s AS c WHERE c.rid >= $1 ORDER BY c.rid OFFSET $2 LIMIT 1",
					2,
					{UUIDOID, INT8OID}},
	[STORE_SEALED] = {"SELECT pg_catalog.count(*) FROM ONLY %s AS c WHERE c.rid >= $1 AND c.rid <= $2"
					  " AND pg_catalog.position(pg_catalog.substring(c.apr, 1, $4), $3) > 0",
					  4,
					  {UUIDOID, UUIDOID, BYTEAOID, INT4OID}},
	[STORE_FORGET] = {"DELETE FROM ONLY %s AS c WHERE c.apid = ANY ($1)", 1, {TEXTARRAYOID}},
};

/* The statements for one table under one name. */
static struct
{
	Oid target;
	char *name; /* quoted and qualified; NULL: none yet */
	MemoryContext context;
	ApmStatement statements[STORE_TEXTS];
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

/* Makes the statements for this table under its present name, unless they are made. */
static void
open_store(Oid target)
{
	char *name;

	apm_store_check(target);
	name = quote_qualified_identifier(get_namespace_name(get_rel_namespace(target)), get_rel_name(target));
	if (store.name != NULL && store.target == target && strcmp(store.name, name) == 0)
		return;

	store.name = NULL;
	for (int i = 0; i < STORE_TEXTS; i++)
	{
		if (store.statements[i].plan != NULL)
			SPI_freeplan(store.statements[i].plan);
		memset(&store.statements[i], 0, sizeof(ApmStatement));
	}
	if (store.context == NULL)
		store.context = AllocSetContextCreate(TopMemoryContext, "apm cloud store", ALLOCSET_SMALL_SIZES);
	MemoryContextReset(store.context);
	for (int i = 0; i < STORE_TEXTS; i++)
	{
		char *sql = psprintf(texts[i].sql, name);

		store.statements[i].sql = MemoryContextStrdup(store.context, sql);
		store.statements[i].nargs = texts[i].nargs;
		memcpy(store.statements[i].types, texts[i].types, sizeof(texts[i].types));
	}
	store.target = target;
	store.name = MemoryContextStrdup(store.context, name);
}

/* Runs one of them. */
static uint64
ask(Oid target, StoreText text, const Datum *args)
{
	open_store(target);
	return apm_run(&store.statements[text], args);
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
present(Oid target, const ApmUuid *rids, int n, ApmUuid *out)
{
	Datum args[1] = {apm_uuid_array(rids, n)};
	int found = (int) Min(ask(target, STORE_PRESENT, args), (uint64) n);

	for (int i = 0; i < found; i++)
	{
		if (apm_row_null((uint64) i, 1))
			unfit("a row of it has no rid");
		apm_row_uuid((uint64) i, 1, &out[i]);
	}
	return found;
}

/* What each row's aPR is, as far as it did not bring it along. */
static ApmSlice *
make_contents(const ApmStoreRow *rows, int n)
{
	ApmUuid *tids = palloc_array(ApmUuid, n);
	ApmSlice *made = palloc_array(ApmSlice, n);
	ApmSlice *aprs = palloc0_array(ApmSlice, n);
	int count = 0;

	for (int i = 0; i < n; i++)
	{
		if (!rows[i].has_apr)
			tids[count++] = rows[i].tid;
	}
	apm_content_make(tids, count, made);
	count = 0;
	for (int i = 0; i < n; i++)
	{
		if (!rows[i].has_apr)
			aprs[i] = made[count++];
	}
	return aprs;
}

void
apm_store_insert(Oid target, const ApmStoreRow *rows, int n, bool doubt)
{
	int64 *ids = palloc(sizeof(int64) * n);
	ApmUuid *rids = palloc(sizeof(ApmUuid) * n);
	ApmUuid *others = palloc(sizeof(ApmUuid) * n); /* to be replaced, then those that are stored */
	int nothers = 0;
	Datum args[3];

	for (int i = 0; i < n; i++)
	{
		ids[i] = rows[i].id;
		rids[i] = rows[i].rid;
		if (rows[i].replaces)
			others[nothers++] = rows[i].rid;
	}
	if (nothers > 0)
		(void) apm_store_delete(target, others, nothers);
	nothers = doubt ? present(target, rids, n, others) : 0;
	args[0] = apm_int8_array(ids, n);
	args[1] = apm_uuid_array(others, nothers);
	args[2] = apm_bytea_array(make_contents(rows, n), n);
	(void) ask(target, STORE_INSERT, args);
}

uint64
apm_store_select(Oid target, const ApmUuid *rids, int n, bool whole)
{
	Datum args[1] = {apm_uuid_array(rids, n)};

	return ask(target, whole ? STORE_ROWS : STORE_SELECT, args);
}

uint64
apm_store_match(Oid target, Datum tokens, int64 limit)
{
	Datum args[2] = {tokens, Int64GetDatum(limit)};

	return ask(target, STORE_MATCH, args);
}

uint64
apm_store_list(Oid target, const ApmUuid *from, const ApmUuid *upto, int64 limit)
{
	Datum args[3] = {apm_uuid_datum(from), apm_uuid_datum(upto), Int64GetDatum(limit)};

	return ask(target, STORE_LIST, args);
}

uint64
apm_store_nameless(Oid target)
{
	(void) ask(target, STORE_NAMELESS, NULL);
	return (uint64) apm_row_int8(0, 1);
}

uint64
apm_store_delete(Oid target, const ApmUuid *rids, int n)
{
	Datum args[1] = {apm_uuid_array(rids, n)};

	return ask(target, STORE_DELETE, args);
}

uint64
apm_store_delete_nameless(Oid target)
{
	return ask(target, STORE_DELETE_NAMELESS, NULL);
}

bool
apm_store_forget(Oid target, const ApmSlice *apids, int n, int limit)
{
	Datum args[2] = {apm_text_array(apids, n), Int64GetDatum(limit)};
	int found = (int) ask(target, STORE_OF_PATIENTS, args);
	ApmUuid *rids = palloc(sizeof(ApmUuid) * Max(found, 1));
	int named = 0;

	if (found < limit)
	{
		(void) ask(target, STORE_FORGET, args);
		return true;
	}
	for (int i = 0; i < found; i++)
	{
		if (!apm_row_null((uint64) i, 1))
			apm_row_uuid((uint64) i, 1, &rids[named++]);
	}
	(void) apm_store_delete(target, rids, named);
	if (named < found)
		(void) apm_store_delete_nameless(target);
	return false;
}

bool
apm_store_page(Oid target, const ApmUuid *from, int64 rows, ApmUuid *last)
{
	Datum args[2] = {apm_uuid_datum(from), Int64GetDatum(rows - 1)};

	if (ask(target, STORE_PAGE, args) > 0)
	{
		apm_row_uuid(0, 1, last);
		return true;
	}
	memset(last->bytes, 0xff, APM_UUID_LEN);
	return false;
}

int64
apm_store_sealed(Oid target, const ApmUuid *from, const ApmUuid *upto, const ApmKeyId *key)
{
	Datum args[4] = {apm_uuid_datum(from), apm_uuid_datum(upto),
					 apm_bytea_datum(APM_SLICE(key->bytes, APM_KEY_ID_LEN)),
					 Int32GetDatum(APM_ENVELOPE_HEAD_MAX)};

	(void) ask(target, STORE_SEALED, args);
	return apm_row_int8(0, 1);
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
