/*
 * label.c
 *	  Security labels: what the columns of the administrator's own tables are.
 *
 *		SECURITY LABEL FOR apm ON COLUMN visit.name IS 'identifying';
 *
 * 'identifying', 'omit', 'searchable', 'exportable', or the last two together.  A label belongs to the column
 * and is dumped with it.  'omit' is all there is to know of a column that never becomes
 * part of a record.  The others say what an attribute is, and attributes have one
 * declaration for all records (apm.attribute), whatever table they come from; so a label declares the
 * attribute of the column's name, and is refused where that is declared otherwise.  Before its
 * table is attached a label is no more than checked; attaching declares.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/objectaddress.h"
#include "catalog/pg_class.h"
#include "commands/extension.h"
#include "commands/seclabel.h"
#include "utils/lsyscache.h"

#include "anonymize/attachment.h"
#include "apm_errors.h"

#define PROVIDER "apm"

/* The parts of a label that declare something. */
#define DECLARES (APM_LABEL_IDENTIFYING | APM_LABEL_SEARCHABLE | APM_LABEL_EXPORTABLE)

static void
bad_label(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("no such security label of apm"),
			 errhint("A column's label is \"identifying\", \"omit\", \"searchable\", \"exportable\" or "
					 "\"searchable, exportable\".")));
}

static uint8
read_word(const char *word, size_t len)
{
	static const struct
	{
		const char *word;
		uint8 bit;
	} words[] = {{"identifying", APM_LABEL_IDENTIFYING},
				 {"omit", APM_LABEL_OMIT},
				 {"searchable", APM_LABEL_SEARCHABLE},
				 {"exportable", APM_LABEL_EXPORTABLE}};

	for (size_t i = 0; i < lengthof(words); i++)
	{
		if (strlen(words[i].word) == len && memcmp(words[i].word, word, len) == 0)
			return words[i].bit;
	}
	bad_label();
	return 0;
}

/* Words between commas, blanks around them; raises 22023 for what is no label. */
static uint8
read_label(const char *text)
{
	const uint8 alone = APM_LABEL_IDENTIFYING | APM_LABEL_OMIT;
	uint8 label = 0;

	for (;;)
	{
		size_t blank = strspn(text, " ");
		size_t len = strcspn(text + blank, " ,");
		uint8 bit = read_word(text + blank, len);

		if (label != 0 && (label == bit || ((label | bit) & alone) != 0))
			bad_label();
		label |= bit;
		text += blank + len;
		text += strspn(text, " ");
		if (*text == '\0')
			return label;
		if (*text++ != ',')
			bad_label();
	}
}

uint8
apm_label_of(Oid table, AttrNumber attnum)
{
	ObjectAddress column;
	char *text;

	ObjectAddressSubSet(column, RelationRelationId, table, attnum);
	text = GetSecurityLabel(&column, PROVIDER);
	return text == NULL ? 0 : read_label(text);
}

/* Is there an attribute of that name, and is it what the label says?  In a section. */
static bool
find_declaration(const char *name, uint8 label, bool *fits)
{
	static ApmStatement find = {
		"SELECT (class = 'identifying') = $2 AND searchable = $3 AND exportable = $4 FROM ONLY apm.attribute"
		" WHERE name = $1",
		4,
		{TEXTOID, BOOLOID, BOOLOID, BOOLOID},
		NULL,
	};
	Datum args[] = {
		apm_text_datum(APM_SLICE(name, strlen(name))), BoolGetDatum((label & APM_LABEL_IDENTIFYING) != 0),
		BoolGetDatum((label & APM_LABEL_SEARCHABLE) != 0), BoolGetDatum((label & APM_LABEL_EXPORTABLE) != 0)};

	if (apm_run_latest(&find, args) == 0)
		return false;
	*fits = apm_row_bool(0, 1);
	return true;
}

/* In a section. */
static void
put_declaration(const char *name, uint8 label)
{
	static ApmStatement put = {
		"INSERT INTO apm.attribute (name, class, searchable, exportable)"
		" VALUES ($1, CASE WHEN $2 THEN 'identifying' ELSE 'other' END, $3, $4) ON CONFLICT (name) DO NOTHING",
		4,
		{TEXTOID, BOOLOID, BOOLOID, BOOLOID},
		NULL,
	};
	Datum args[] = {
		apm_text_datum(APM_SLICE(name, strlen(name))), BoolGetDatum((label & APM_LABEL_IDENTIFYING) != 0),
		BoolGetDatum((label & APM_LABEL_SEARCHABLE) != 0), BoolGetDatum((label & APM_LABEL_EXPORTABLE) != 0)};

	(void) apm_run(&put, args);
}

/*
 * The attribute becomes, or is, what the label of a column of that name says; a column without a
 * label says that it is nothing special.  Raises 55000 if it is declared otherwise.
 */
static void
declare(const char *name, uint8 label)
{
	ApmSection section;
	bool fits = true;

	apm_section_begin(&section);
	if (!find_declaration(name, label, &fits) && (label & DECLARES) != 0)
	{
		put_declaration(name, label);
		/* another session may have been faster */
		(void) find_declaration(name, label, &fits);
	}
	apm_section_end(&section);
	if (!fits)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("the attribute \"%s\" is not declared as the column's label says", name),
						errhint("An attribute has one declaration for all records: change it first with "
								"apm_declare_attribute(), or give the column another label.")));
}

/* The pid is no part of the record, so there is little to say of its column. */
static void
check_pid_label(uint8 label)
{
	if (label & (APM_LABEL_SEARCHABLE | APM_LABEL_EXPORTABLE))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("the column that names the patient can be neither searchable nor exportable"),
						errhint("It is no part of the record.")));
}

void
apm_labels_declare(Relation table, AttrNumber pid)
{
	TupleDesc desc = RelationGetDescr(table);

	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);
		uint8 label = attribute->attisdropped ? 0 : apm_label_of(RelationGetRelid(table), attribute->attnum);

		if (attribute->attnum == pid)
			check_pid_label(label);
		else if (label & DECLARES)
			declare(NameStr(attribute->attname), label);
	}
}

/* The new label of a column of an attached table holds at once, or is refused. */
static void
relabel_attached(Relation table, AttrNumber attnum, uint8 label)
{
	const ApmAttachment *attachment = apm_attachment_of(table);

	apm_require_admin("change what an attached table submits");
	if (attnum == attachment->pid.attnum)
		check_pid_label(label);
	else if (label != APM_LABEL_OMIT)
		declare(NameStr(TupleDescAttr(RelationGetDescr(table), attnum - 1)->attname), label);
}

/* Called before a label is stored, by somebody who owns the object; a label of NULL is taken away. */
static void
check_relabel(const ObjectAddress *object, const char *text)
{
	uint8 label = text == NULL ? 0 : read_label(text);
	Relation table;
	char kind;

	if (object->classId != RelationRelationId || object->objectSubId == 0)
	{
		if (text == NULL)
			return;
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("apm labels columns of tables only"),
						errhint("SECURITY LABEL FOR apm ON COLUMN table.column IS '...'")));
	}
	table = table_open(object->objectId, NoLock);
	kind = table->rd_rel->relkind;
	if (text != NULL && kind != RELKIND_RELATION && kind != RELKIND_PARTITIONED_TABLE)
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("apm labels columns of tables only"),
						errdetail("\"%s\" is not a table.", RelationGetRelationName(table))));
	/* those of a partition say nothing: what counts is the table that was attached */
	if (apm_is_attached(table) && !table->rd_rel->relispartition)
		relabel_attached(table, object->objectSubId, label);
	table_close(table, NoLock);
}

void
apm_label_init(void)
{
	register_label_provider(PROVIDER, check_relabel);
}
