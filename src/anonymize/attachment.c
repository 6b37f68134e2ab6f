/*
 * attachment.c
 *	  A table of the administrator's whose rows are records: what of a row is what.
 *
 * A row is to become one record, whoever comes to it first: the trigger that sees it inserted, a
 * backfill, another one later.  So its Rid is not drawn but derived, by a keyed hash of the attachment
 * and the row's primary key, and apm.submission's own key decides.  The hash is over the key's text, which must
 * be the same in every session; settings that change it are pinned.  In the layout of UUID
 * version 7 the time is that of the attachment: a row has none that would stay.
 *
 * What is known of an attached table stands in its trigger: the columns are those that the trigger names
 * (UPDATE OF ..., though updates do nothing), their parts are its arguments.  Names or numbers in a
 * table of ours would go wrong when a column is renamed, or when a dump is restored and columns that were dropped
 * before are not there any more.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/sysattr.h"
#include "catalog/namespace.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "anonymize/attachment.h"
#include "apm_errors.h"
#include "core/digest.h"
#include "keys/keyring.h"

/* a row whose own time is this far in the past is late */
#define LATE_AFTER USECS_PER_HOUR

static void
not_attached(Relation table)
{
	ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					errmsg("table \"%s\" is not attached", RelationGetRelationName(table)),
					errhint("Tables are attached with apm_attach().")));
}

/*
 * The row trigger's function; InvalidOid without the extension.  Whoever inserts may have no right to look
 * into its schema.
 */
static Oid
trigger_function(void)
{
	oidvector *none = buildoidvector(NULL, 0);

	return GetSysCacheOid3(PROCNAMEARGSNSP, Anum_pg_proc_oid, CStringGetDatum("attached_insert"),
						   PointerGetDatum(none), ObjectIdGetDatum(get_namespace_oid("apm", true)));
}

static const Trigger *
find_trigger(const TriggerDesc *triggers)
{
	Oid function = triggers == NULL ? InvalidOid : trigger_function();

	if (!OidIsValid(function))
		return NULL;
	for (int i = 0; i < triggers->numtriggers; i++)
	{
		if (triggers->triggers[i].tgfoid == function)
			return &triggers->triggers[i];
	}
	return NULL;
}

bool
apm_is_attached(Relation table)
{
	return find_trigger(table->trigdesc) != NULL;
}

void
apm_attachment_require(Oid table, const char *doing)
{
	apm_require_admin(doing);
	if (!pg_class_ownercheck(table, GetUserId()))
		aclcheck_error(ACLCHECK_NOT_OWNER, get_relkind_objtype(get_rel_relkind(table)), get_rel_name(table));
}

/* Is the text of such a value the same under all settings? */
static bool
has_one_text(Oid type)
{
	switch (getBaseType(type))
	{
		case BOOLOID:
		case INT2OID:
		case INT4OID:
		case INT8OID:
		case OIDOID:
		case NUMERICOID:
		case CHAROID:
		case NAMEOID:
		case TEXTOID:
		case VARCHAROID:
		case BPCHAROID:
		case UUIDOID:
			return true;
		default:
			return type_is_enum(type);
	}
}

static void
open_text_column(TupleDesc desc, AttrNumber attnum, ApmTextColumn *out)
{
	Oid function;
	bool varlena;

	out->attnum = attnum;
	out->type = TupleDescAttr(desc, attnum - 1)->atttypid;
	out->pinned = !has_one_text(out->type);
	getTypeOutputInfo(out->type, &function, &varlena);
	fmgr_info(function, &out->output);
}

int
apm_pin_output(void)
{
	static const char *const settings[][2] = {{"bytea_output", "hex"},
											  {"datestyle", "ISO, MDY"},
											  {"extra_float_digits", "3"},
											  {"intervalstyle", "postgres"},
											  {"timezone", "UTC"}};
	int level = NewGUCNestLevel();

	for (size_t i = 0; i < lengthof(settings); i++)
		(void) set_config_option(settings[i][0], settings[i][1], PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
								 true, 0, false);
	return level;
}

void
apm_unpin_output(int level)
{
	AtEOXact_GUC(true, level);
}

static char *
text_of(const ApmTextColumn *column, Datum value)
{
	int level = column->pinned ? apm_pin_output() : 0;
	char *text = OutputFunctionCall(unconstify(FmgrInfo *, &column->output), value);

	if (column->pinned)
		apm_unpin_output(level);
	/* what fills a char(n) up is no part of its value */
	if (getBaseType(column->type) == BPCHAROID)
		text[bpchartruelen(text, strlen(text))] = '\0';
	return text;
}

/* What an argument of the trigger says of its column; raises if it is none of ours. */
static int
parts_of(Relation table, const char *argument)
{
	static const struct
	{
		const char *words;
		int parts;
	} known[] = {{"key", APM_COLUMN_KEY},
				 {"pid", APM_COLUMN_PID},
				 {"time", APM_COLUMN_TIME},
				 {"key pid", APM_COLUMN_KEY | APM_COLUMN_PID},
				 {"key time", APM_COLUMN_KEY | APM_COLUMN_TIME}};

	for (size_t i = 0; i < lengthof(known); i++)
	{
		if (strcmp(argument, known[i].words) == 0)
			return known[i].parts;
	}
	not_attached(table);
	return 0;
}

/* The columns that the trigger names. */
static void
open_named_columns(Relation table, const Trigger *trigger, ApmAttachment *out)
{
	Bitmapset *primary = RelationGetIndexAttrBitmap(table, INDEX_ATTR_BITMAP_PRIMARY_KEY);
	Bitmapset *keys = NULL;

	out->keys = palloc(sizeof(ApmTextColumn) * Max(trigger->tgnattr, 1));
	for (int i = 0; i < trigger->tgnattr; i++)
	{
		AttrNumber attnum = trigger->tgattr[i];
		int parts = parts_of(table, trigger->tgargs[i + 1]);

		if (parts & APM_COLUMN_KEY)
		{
			open_text_column(out->desc, attnum, &out->keys[out->nkeys++]);
			keys = bms_add_member(keys, attnum - FirstLowInvalidHeapAttributeNumber);
		}
		if (parts & APM_COLUMN_PID)
			open_text_column(out->desc, attnum, &out->pid);
		if (parts & APM_COLUMN_TIME)
			out->time = attnum;
	}
	if (out->pid.attnum == 0)
		not_attached(table);
	if (out->nkeys == 0 || !bms_equal(keys, primary))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the primary key of table \"%s\" is not the one that it was attached with",
						RelationGetRelationName(table)),
				 errhint("Detach the table with apm_detach(), and attach it again when it has its key.")));
	bms_free(keys);
	bms_free(primary);
}

/* Makes out call to_jsonb(), which asks for its argument's type. */
static void
open_to_jsonb(Oid type, FmgrInfo *out)
{
	Param *argument = makeNode(Param);

	argument->paramkind = PARAM_EXTERN;
	argument->paramtype = type;
	argument->paramtypmod = -1;
	fmgr_info(F_TO_JSONB, out);
	fmgr_info_set_expr((Node *) makeFuncExpr(F_TO_JSONB, JSONBOID, list_make1(argument), InvalidOid,
											 InvalidOid, COERCE_EXPLICIT_CALL),
					   out);
}

/* All other columns, but for those that labels of the attached table leave out. */
static void
open_record_columns(Relation table, ApmAttachment *out)
{
	out->columns = palloc(sizeof(ApmRecordColumn) * out->desc->natts);
	for (int i = 0; i < out->desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(out->desc, i);
		ApmRecordColumn *column = &out->columns[out->ncolumns];
		AttrNumber labelled;

		if (attribute->attisdropped || attribute->attnum == out->pid.attnum)
			continue;
		labelled = RelationGetRelid(table) == out->relation
					   ? attribute->attnum
					   : get_attnum(out->relation, NameStr(attribute->attname));
		if (apm_label_of(out->relation, labelled) & APM_LABEL_OMIT)
			continue;
		column->attnum = attribute->attnum;
		column->name = NameStr(attribute->attname);
		open_to_jsonb(attribute->atttypid, &column->to_jsonb);
		out->ncolumns++;
	}
}

/* The table that has been attached under this id; InvalidOid if there is none. */
static Oid
attached_as(const ApmUuid *id)
{
	static ApmStatement find = {
		"SELECT relation::pg_catalog.oid::pg_catalog.int8 FROM ONLY apm.attached_table WHERE id = $1",
		1,
		{UUIDOID},
		NULL,
	};
	Datum args[] = {apm_uuid_datum(id)};
	ApmSection section;
	Oid relation;

	apm_section_begin(&section);
	relation = apm_run_latest(&find, args) == 0 ? InvalidOid : (Oid) apm_row_int8(0, 1);
	apm_section_end(&section);
	return relation;
}

ApmAttachment *
apm_attachment_open(Relation table, const Trigger *trigger)
{
	ApmAttachment *out = palloc0(sizeof(ApmAttachment));
	Oid relid = RelationGetRelid(table);
	Datum id;

	if (trigger->tgnargs != trigger->tgnattr + 1)
		not_attached(table);
	id = DirectFunctionCall1(uuid_in, CStringGetDatum(trigger->tgargs[0]));
	memcpy(out->id.bytes, DatumGetUUIDP(id)->data, APM_UUID_LEN);
	out->relation = attached_as(&out->id);
	/* whoever may make triggers may have given this one to another table */
	if (out->relation != relid &&
		!(table->rd_rel->relispartition && list_member_oid(get_partition_ancestors(relid), out->relation)))
		not_attached(table);

	out->table = relid;
	out->desc = CreateTupleDescCopyConstr(RelationGetDescr(table));
	open_named_columns(table, trigger, out);
	open_record_columns(table, out);
	return out;
}

ApmAttachment *
apm_attachment_of(Relation table)
{
	/* a copy: the table's own can go while statements run */
	const Trigger *trigger = find_trigger(CopyTriggerDesc(table->trigdesc));

	if (trigger == NULL)
		not_attached(table);
	return apm_attachment_open(table, trigger);
}

static void
refuse_null(const ApmAttachment *attachment, const ApmTextColumn *column)
{
	ereport(ERROR, (errcode(ERRCODE_NOT_NULL_VIOLATION),
					errmsg("column \"%s\", which names the patient, must not be null",
						   NameStr(TupleDescAttr(attachment->desc, column->attnum - 1)->attname))));
}

/* The time that a row has of its own.  A date lasts until its end. */
static TimestampTz
time_of(Oid type, Datum value)
{
	int overflow;

	switch (getBaseType(type))
	{
		case DATEOID:
			if (DATE_IS_NOBEGIN(DatumGetDateADT(value)))
				return DT_NOBEGIN;
			if (DATE_IS_NOEND(DatumGetDateADT(value)))
				return DT_NOEND;
			return date2timestamptz_opt_overflow(DatumGetDateADT(value) + 1, &overflow);
		case TIMESTAMPOID:
			return timestamp2timestamptz_opt_overflow(DatumGetTimestamp(value), &overflow);
		default:
			return DatumGetTimestampTz(value);
	}
}

/* Says when the row was observed, and whether that is well behind the present. */
static void
read_time(const ApmAttachment *attachment, const Datum *values, const bool *nulls, ApmGiven *out)
{
	AttrNumber time = attachment->time;
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz at;

	out->late = false;
	out->observed_us = 0;
	if (time == 0 || nulls[time - 1])
		return;
	at = Min(now, time_of(TupleDescAttr(attachment->desc, time - 1)->atttypid, values[time - 1]));
	out->late = at < now - LATE_AFTER;
	out->observed_us = at > apm_time_of(1) ? apm_us_of(at) : 1; /* times of the chain begin with 1970 */
}

static void
deform(const ApmAttachment *attachment, HeapTuple row, Datum **values, bool **nulls)
{
	*values = palloc(sizeof(Datum) * attachment->desc->natts);
	*nulls = palloc(sizeof(bool) * attachment->desc->natts);
	heap_deform_tuple(row, attachment->desc, *values, *nulls);
}

static Jsonb *
record_of(const ApmAttachment *attachment, const Datum *values, const bool *nulls)
{
	ApmFields fields = {.v = palloc(sizeof(ApmField) * Max(attachment->ncolumns, 1))};

	for (int i = 0; i < attachment->ncolumns; i++)
	{
		const ApmRecordColumn *column = &attachment->columns[i];
		ApmField *field = &fields.v[fields.n];
		Jsonb *value;

		if (nulls[column->attnum - 1])
			continue;
		value = DatumGetJsonbP(
			FunctionCall1(unconstify(FmgrInfo *, &column->to_jsonb), values[column->attnum - 1]));
		field->name.type = jbvString;
		field->name.val.string.val = unconstify(char *, column->name);
		field->name.val.string.len = strlen(column->name);
		if (!JB_ROOT_IS_SCALAR(value))
		{
			field->value.type = jbvBinary;
			field->value.val.binary.data = &value->root;
			field->value.val.binary.len = VARSIZE(value) - VARHDRSZ;
		}
		else
			JsonbExtractScalar(&value->root, &field->value);
		fields.n++;
	}
	return apm_fields_jsonb(&fields);
}

/* A row that somebody made up of the table's type need not have a key. */
static void
read_key(const ApmAttachment *attachment, const Datum *values, const bool *nulls, char **texts)
{
	for (int i = 0; i < attachment->nkeys; i++)
	{
		const ApmTextColumn *column = &attachment->keys[i];

		if (nulls[column->attnum - 1])
			ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
							errmsg("column \"%s\", a part of the primary key, must not be null",
								   NameStr(TupleDescAttr(attachment->desc, column->attnum - 1)->attname))));
		texts[i] = text_of(column, values[column->attnum - 1]);
	}
}

void
apm_attachment_key(const ApmAttachment *attachment, HeapTuple row, char **texts)
{
	Datum *values;
	bool *nulls;

	deform(attachment, row, &values, &nulls);
	read_key(attachment, values, nulls, texts);
}

void
apm_attachment_rid(const ApmAttachment *attachment, char *const *key, ApmUuid *out)
{
	ApmBuf name = {.secret = true};
	uint64 attached_ms = 0;
	ApmSlice part;
	ApmDigest mac;

	apm_put_bytes(&name, "attached row", strlen("attached row"));
	apm_put_raw(&name, attachment->id.bytes, APM_UUID_LEN);
	for (int i = 0; i < attachment->nkeys; i++)
		apm_put_bytes(&name, key[i], strlen(key[i]));
	apm_check(apm_buf_status(&name), "name a row");
	part = APM_SLICE(name.data, name.len);
	apm_check(apm_hmac_sha256(apm_key_secret(APM_SECRET_INDEX), APM_SECRET_LEN, &part, 1, &mac),
			  "name a row");
	apm_buf_reset(&name);

	for (int i = 0; i < 6; i++)
		attached_ms = attached_ms << 8 | attachment->id.bytes[i];
	apm_uuid7(attached_ms, mac.bytes, out);
}

void
apm_attachment_read(const ApmAttachment *attachment, HeapTuple row, ApmGiven *out, ApmUuid *rid)
{
	char **key = palloc(sizeof(char *) * attachment->nkeys);
	Datum *values;
	bool *nulls;
	char *pid;

	deform(attachment, row, &values, &nulls);
	read_key(attachment, values, nulls, key);
	apm_attachment_rid(attachment, key, rid);
	if (nulls[attachment->pid.attnum - 1])
		refuse_null(attachment, &attachment->pid);
	pid = text_of(&attachment->pid, values[attachment->pid.attnum - 1]);

	out->pid = APM_SLICE(pid, strlen(pid));
	out->rid = rid;
	out->record = record_of(attachment, values, nulls);
	read_time(attachment, values, nulls, out);
}
