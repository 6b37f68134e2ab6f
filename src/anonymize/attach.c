/*
 * attach.c
 *	  apm_attach(), apm_detach(): the rows of a table that exists already become records.
 *
 * Attaching gives the table two triggers and remembers under which id: the Rids of its rows are derived
 * from that, so a table that is detached and attached again has the same one, and its rows are
 * not submitted twice.  The lock that a trigger needs lets nobody be half-way through an insert: a row either
 * was there before, and is a backfill's, or fires the trigger.
 *
 * The triggers are made with the caller's rights: he owns the table.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "catalog/catalog.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "anonymize/attachment.h"
#include "apm_errors.h"

PG_FUNCTION_INFO_V1(apm_attach);
PG_FUNCTION_INFO_V1(apm_detach);

/* What the triggers are to name. */
typedef struct Attaching
{
	Relation table;
	AttrNumber pid;
	AttrNumber time; /* 0: there is none */
	int n;
	struct
	{
		AttrNumber attnum;
		int parts;
	} columns[INDEX_MAX_KEYS + 2];
} Attaching;

static const char *
column_name(const Attaching *plan, AttrNumber attnum)
{
	return NameStr(TupleDescAttr(RelationGetDescr(plan->table), attnum - 1)->attname);
}

static char *
table_name(Relation table)
{
	return quote_qualified_identifier(get_namespace_name(RelationGetNamespace(table)),
									  RelationGetRelationName(table));
}

/* Raises unless rows of the relation can be records. */
static void
check_table(Relation table)
{
	const char *name = RelationGetRelationName(table);
	char kind = table->rd_rel->relkind;

	if (kind != RELKIND_RELATION && kind != RELKIND_PARTITIONED_TABLE)
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("\"%s\" is not a table", name)));
	if (table->rd_rel->relispartition)
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("\"%s\" is a partition", name),
						errhint("Attach the partitioned table.")));
	if (IsCatalogRelation(table) || strcmp(get_namespace_name(RelationGetNamespace(table)), "apm") == 0)
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
						errmsg("\"%s\" is not a table of the application's", name)));
	if (table->rd_rel->relpersistence == RELPERSISTENCE_TEMP)
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("\"%s\" is a temporary table", name)));
	if (apm_is_attached(table))
		ereport(ERROR, (errcode(ERRCODE_DUPLICATE_OBJECT), errmsg("table \"%s\" is attached already", name),
						errhint("apm_detach() ends it.")));
}

static AttrNumber
find_column(Relation table, const NameData *name)
{
	AttrNumber attnum = get_attnum(RelationGetRelid(table), NameStr(*name));

	if (attnum <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN), errmsg("table \"%s\" has no column \"%s\"",
														   RelationGetRelationName(table), NameStr(*name))));
	return attnum;
}

static void
check_time(const Attaching *plan)
{
	Oid type = getBaseType(TupleDescAttr(RelationGetDescr(plan->table), plan->time - 1)->atttypid);

	if (type != TIMESTAMPTZOID && type != TIMESTAMPOID && type != DATEOID)
		ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
						errmsg("column \"%s\" is no time", column_name(plan, plan->time)),
						errhint("The time of a record is a timestamptz, a timestamp or a date.")));
	if (plan->time == plan->pid)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("one column cannot be both the patient and the time")));
}

static void
add_column(Attaching *plan, AttrNumber attnum, int parts)
{
	for (int i = 0; i < plan->n; i++)
	{
		if (plan->columns[i].attnum == attnum)
		{
			plan->columns[i].parts |= parts;
			return;
		}
	}
	plan->columns[plan->n].attnum = attnum;
	plan->columns[plan->n++].parts = parts;
}

/* The columns of the primary key, in its order. */
static void
add_key(Attaching *plan)
{
	Oid oid = RelationGetPrimaryKeyIndex(plan->table);
	Relation index;

	if (!OidIsValid(oid))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_OBJECT_DEFINITION),
				 errmsg("table \"%s\" has no primary key", RelationGetRelationName(plan->table)),
				 errhint("By its key a row is known, so that it is submitted once: ALTER TABLE ... ADD "
						 "PRIMARY KEY (...), not deferrable.")));
	index = index_open(oid, AccessShareLock);
	for (int i = 0; i < IndexRelationGetNumberOfKeyAttributes(index); i++)
		add_column(plan, index->rd_index->indkey.values[i], APM_COLUMN_KEY);
	index_close(index, AccessShareLock);
}

/* The names of the key's columns, as a name array. */
static Datum
key_names(const Attaching *plan)
{
	Datum names[INDEX_MAX_KEYS];
	int n = 0;

	for (int i = 0; i < plan->n; i++)
	{
		if (plan->columns[i].parts & APM_COLUMN_KEY)
			names[n++] = CStringGetDatum(column_name(plan, plan->columns[i].attnum));
	}
	return PointerGetDatum(construct_array(names, n, NAMEOID, NAMEDATALEN, false, TYPALIGN_CHAR));
}

/* Forgets attachments of tables that are gone, before somebody else's table has their number. */
static void
forget_dropped(void)
{
	static ApmStatement forget = {
		"DELETE FROM ONLY apm.attached_table AS a WHERE NOT EXISTS"
		" (SELECT FROM pg_catalog.pg_class AS c WHERE c.oid = a.relation)",
		0,
		{0},
		NULL,
	};

	(void) apm_run(&forget, NULL);
}

/* Forgets what backfills could not submit of attachments that are not there any more. */
static void
forget_refusals(void)
{
	static ApmStatement forget = {
		"DELETE FROM ONLY apm.attached_refusal AS r WHERE NOT EXISTS"
		" (SELECT FROM ONLY apm.attached_table AS a WHERE a.id = r.id)",
		0,
		{0},
		NULL,
	};

	(void) apm_run(&forget, NULL);
}

/* Warns if the table was attached before and its rows were known by another key.  In a section. */
static void
compare_key(const Datum *args)
{
	static ApmStatement compare = {
		"SELECT FROM ONLY apm.attached_table WHERE relation = $1 AND key_columns <> $2",
		2,
		{REGCLASSOID, NAMEARRAYOID},
		NULL,
	};

	if (apm_run_latest(&compare, args) > 0)
		ereport(WARNING,
				(errmsg("the table was attached before, with another primary key"),
				 errhint("Its rows are taken for others than those: a backfill submits them again.")));
}

/*
 * Enters the table.  One that was attached before keeps its id, if its rows are still known by the same key; what is
 * known of a backfill is forgotten, for there may be rows of the time between.
 */
static void
enter_table(const Attaching *plan, ApmUuid *id)
{
	static ApmStatement enter = {
		"INSERT INTO apm.attached_table AS a (relation, key_columns, id, attached_at)"
		" VALUES ($1, $2, $3, pg_catalog.now()) ON CONFLICT (relation) DO UPDATE SET"
		" id = CASE WHEN a.key_columns = EXCLUDED.key_columns THEN a.id ELSE EXCLUDED.id END,"
		" key_columns = EXCLUDED.key_columns, attached_at = EXCLUDED.attached_at, detached_at = NULL,"
		" started_at = NULL, finished_at = NULL, position = NULL, rows_done = 0, rows_refused = 0,"
		" rows_estimated = NULL RETURNING id",
		3,
		{REGCLASSOID, NAMEARRAYOID, UUIDOID},
		NULL,
	};
	Datum args[3] = {ObjectIdGetDatum(RelationGetRelid(plan->table)), key_names(plan)};
	ApmSection section;

	apm_section_begin(&section);
	forget_dropped();
	compare_key(args);
	apm_check(apm_uuid7_random(apm_now_us() / 1000, id), "attach a table");
	args[2] = apm_uuid_datum(id);
	apm_run_whole(&enter, args, 1);
	apm_row_uuid(0, 1, id);
	forget_refusals();
	apm_section_end(&section);
}

static const char *
words_of(int parts)
{
	switch (parts)
	{
		case APM_COLUMN_KEY:
			return "key";
		case APM_COLUMN_PID:
			return "pid";
		case APM_COLUMN_TIME:
			return "time";
		case APM_COLUMN_KEY | APM_COLUMN_PID:
			return "key pid";
		default:
			return "key time";
	}
}

static void
execute(const char *sql)
{
	int result = SPI_execute(sql, false, 0);

	if (result != SPI_OK_UTILITY)
		elog(ERROR, "could not change a trigger: %s", SPI_result_code_string(result));
}

static void
make_triggers(const Attaching *plan, const ApmUuid *id)
{
	Datum shown = DirectFunctionCall1(uuid_out, apm_uuid_datum(id));
	StringInfoData columns;
	StringInfoData arguments;

	initStringInfo(&columns);
	initStringInfo(&arguments);
	appendStringInfo(&arguments, "'%s'", DatumGetCString(shown));
	for (int i = 0; i < plan->n; i++)
	{
		appendStringInfo(&columns, "%s%s", i > 0 ? ", " : "",
						 quote_identifier(column_name(plan, plan->columns[i].attnum)));
		appendStringInfo(&arguments, ", '%s'", words_of(plan->columns[i].parts));
	}
	SPI_connect();
	execute(psprintf("CREATE TRIGGER apm_attached AFTER INSERT OR UPDATE OF %s ON %s FOR EACH ROW"
					 " EXECUTE FUNCTION apm.attached_insert(%s)",
					 columns.data, table_name(plan->table), arguments.data));
	execute(psprintf("CREATE TRIGGER apm_attached_end AFTER INSERT ON %s FOR EACH STATEMENT"
					 " EXECUTE FUNCTION apm.attached_flush()",
					 table_name(plan->table)));
	SPI_finish();
}

/*
 * apm_attach(table regclass, pid_column name, time_column name DEFAULT NULL)
 */
Datum
apm_attach(PG_FUNCTION_ARGS)
{
	Attaching plan = {0};
	ApmUuid id;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("the table and the column that names the patient must not be null")));
	apm_attachment_require(PG_GETARG_OID(0), "attach a table");
	plan.table = table_open(PG_GETARG_OID(0), ShareRowExclusiveLock);
	check_table(plan.table);
	plan.pid = find_column(plan.table, PG_GETARG_NAME(1));
	add_key(&plan);
	add_column(&plan, plan.pid, APM_COLUMN_PID);
	if (!PG_ARGISNULL(2))
	{
		plan.time = find_column(plan.table, PG_GETARG_NAME(2));
		check_time(&plan);
		add_column(&plan, plan.time, APM_COLUMN_TIME);
	}
	apm_labels_declare(plan.table, plan.pid);
	enter_table(&plan, &id);
	make_triggers(&plan, &id);
	table_close(plan.table, NoLock);
	PG_RETURN_VOID();
}

/*
 * apm_detach(table regclass): what was submitted stays so.
 */
Datum
apm_detach(PG_FUNCTION_ARGS)
{
	static ApmStatement leave = {
		"UPDATE ONLY apm.attached_table AS a SET detached_at = pg_catalog.now(), key_columns = v.key_columns"
		" FROM apm.attachment AS v WHERE v.relation = a.relation AND a.relation = $1",
		1,
		{OIDOID},
		NULL,
	};
	Oid relation = PG_GETARG_OID(0);
	Datum args[] = {ObjectIdGetDatum(relation)};
	ApmSection section;
	Relation table;

	apm_attachment_require(relation, "detach a table");
	table = table_open(relation, AccessExclusiveLock);
	if (!apm_is_attached(table) || table->rd_rel->relispartition)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("table \"%s\" is not attached", RelationGetRelationName(table))));
	/* first, for the trigger knows what the key's columns are called now */
	apm_section_begin(&section);
	(void) apm_run(&leave, args);
	apm_section_end(&section);

	SPI_connect();
	execute(psprintf("DROP TRIGGER apm_attached ON %s", table_name(table)));
	execute(psprintf("DROP TRIGGER IF EXISTS apm_attached_end ON %s", table_name(table)));
	SPI_finish();
	table_close(table, NoLock);
	PG_RETURN_VOID();
}
