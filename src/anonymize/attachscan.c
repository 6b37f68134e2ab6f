/*
 * attachscan.c
 *	  The rows of an attached table in the order of their key, some at a time.
 *
 * A backfill goes by the key, for a row keeps its key: one that is updated meanwhile can move
 * about in the table, but not to where the backfill has been.  Where the last batch ended is therefore a
 * key, and the next begins after it by a comparison of rows, which the key's index answers.
 *
 * The statement is text, since the table is not known before; names are quoted, and its operators are those of
 * the key's types, by schema and name, whatever the search_path says.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_operator.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "optimizer/plancat.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "anonymize/attachscan.h"
#include "apm_errors.h"

void
apm_as_owner_begin(Relation table, ApmAsOwner *saved)
{
	/* the index is there, so it is the way, whatever statistics a table has or lacks; and no row is filtered */
	static const char *const settings[][2] = {{"search_path", "pg_catalog, pg_temp"},
											  {"row_security", "off"},
											  {"enable_seqscan", "off"},
											  {"enable_bitmapscan", "off"},
											  {"enable_sort", "off"}};

	GetUserIdAndSecContext(&saved->user, &saved->security);
	SetUserIdAndSecContext(table->rd_rel->relowner, saved->security | SECURITY_RESTRICTED_OPERATION);
	saved->level = NewGUCNestLevel();
	for (size_t i = 0; i < lengthof(settings); i++)
		(void) set_config_option(settings[i][0], settings[i][1], PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
								 true, 0, false);
}

void
apm_as_owner_end(const ApmAsOwner *saved)
{
	AtEOXact_GUC(false, saved->level);
	SetUserIdAndSecContext(saved->user, saved->security);
}

/* An operator as a statement names it. */
static char *
operator_text(Oid operator)
{
	HeapTuple tuple = SearchSysCache1(OPEROID, ObjectIdGetDatum(operator));
	Form_pg_operator form;
	char *text;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for operator %u", operator);
	form = (Form_pg_operator) GETSTRUCT(tuple);
	text = psprintf("OPERATOR(%s.%s)", quote_identifier(get_namespace_name(form->oprnamespace)),
					NameStr(form->oprname));
	ReleaseSysCache(tuple);
	return text;
}

static const char *
key_name(const ApmAttachment *attachment, int i)
{
	return quote_identifier(
		NameStr(TupleDescAttr(attachment->desc, attachment->keys[i].attnum - 1)->attname));
}

/* Appends the condition that a row comes after the position in $1, $2 ... */
static void
put_condition(const ApmAttachment *attachment, StringInfo sql)
{
	const char *greater = NULL;

	appendStringInfoString(sql, " WHERE ROW(");
	for (int i = 0; i < attachment->nkeys; i++)
	{
		const char *own =
			operator_text(lookup_type_cache(attachment->keys[i].type, TYPECACHE_GT_OPR)->gt_opr);

		appendStringInfo(sql, "%st.%s", i > 0 ? ", " : "", key_name(attachment, i));
		if (greater != NULL && strcmp(greater, own) != 0)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("the types of the primary key's columns have operators in different schemas"),
					 errhint("A comparison of whole keys takes one operator.")));
		greater = own;
	}
	appendStringInfo(sql, ") %s ROW(", greater);
	for (int i = 0; i < attachment->nkeys; i++)
		appendStringInfo(sql, "%s$%d", i > 0 ? ", " : "", i + 1);
	appendStringInfoChar(sql, ')');
}

/* The statement; the last parameter is the limit. */
static char *
statement(const ApmAttachment *attachment, Relation table, bool from_start, bool wait)
{
	char *name = quote_qualified_identifier(get_namespace_name(RelationGetNamespace(table)),
											RelationGetRelationName(table));
	StringInfoData sql;

	initStringInfo(&sql);
	/* without the cast a column t would be taken for the row */
	appendStringInfo(&sql, "SELECT (t.*)::%s FROM %s%s AS t", name,
					 table->rd_rel->relkind == RELKIND_PARTITIONED_TABLE ? "" : "ONLY ", name);
	if (!from_start)
		put_condition(attachment, &sql);
	appendStringInfoString(&sql, " ORDER BY ");
	for (int i = 0; i < attachment->nkeys; i++)
		appendStringInfo(
			&sql, "%st.%s USING %s", i > 0 ? ", " : "", key_name(attachment, i),
			operator_text(lookup_type_cache(attachment->keys[i].type, TYPECACHE_LT_OPR)->lt_opr));
	appendStringInfo(&sql, " LIMIT $%d FOR KEY SHARE OF t%s", from_start ? 1 : attachment->nkeys + 1,
					 wait ? "" : " NOWAIT");
	return sql.data;
}

/* The value whose text this is. */
static Datum
value_of(const ApmTextColumn *column, char *text)
{
	int level = column->pinned ? apm_pin_output() : 0;
	Oid function;
	Oid parameter;
	Datum value;

	getTypeInputInfo(column->type, &function, &parameter);
	value = OidInputFunctionCall(function, text, parameter, -1);
	if (column->pinned)
		apm_unpin_output(level);
	return value;
}

uint64
apm_scan_rows(const ApmAttachment *attachment, Relation table, char *const *position, int limit, bool wait)
{
	MemoryContext caller = CurrentMemoryContext; /* SPI leaves its own */
	Oid types[INDEX_MAX_KEYS + 1];
	Datum args[INDEX_MAX_KEYS + 1];
	int n = 0;
	int result;

	for (; position != NULL && n < attachment->nkeys; n++)
	{
		types[n] = attachment->keys[n].type;
		args[n] = value_of(&attachment->keys[n], position[n]);
	}
	types[n] = INT8OID;
	args[n] = Int64GetDatum(limit);
	result = SPI_execute_with_args(statement(attachment, table, position == NULL, wait), n + 1, types, args,
								   NULL, false, 0);
	MemoryContextSwitchTo(caller);
	if (result != SPI_OK_SELECT)
		elog(ERROR, "could not read a table: %s", SPI_result_code_string(result));
	return SPI_processed;
}

void
apm_scan_row(const SPITupleTable *rows, uint64 n, HeapTuple out)
{
	bool null;
	Datum value = SPI_getbinval(rows->vals[n], rows->tupdesc, 1, &null);
	HeapTupleHeader header = DatumGetHeapTupleHeader(value);

	memset(out, 0, sizeof(*out));
	ItemPointerSetInvalid(&out->t_self);
	out->t_len = HeapTupleHeaderGetDatumLength(header);
	out->t_data = header;
}

int64
apm_scan_estimate(Relation table)
{
	List *relations = table->rd_rel->relkind == RELKIND_PARTITIONED_TABLE
						  ? find_all_inheritors(RelationGetRelid(table), AccessShareLock, NULL)
						  : list_make1_oid(RelationGetRelid(table));
	double total = 0;
	ListCell *cell;

	foreach(cell, relations)
	{
		Relation part = table_open(lfirst_oid(cell), AccessShareLock);
		BlockNumber pages;
		double tuples = 0;
		double visible;

		if (part->rd_rel->relkind == RELKIND_RELATION)
			estimate_rel_size(part, NULL, &pages, &tuples, &visible);
		total += tuples;
		table_close(part, AccessShareLock);
	}
	return (int64) total;
}
