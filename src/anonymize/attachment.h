/*
 * attachment.h
 *	  A table of the administrator's whose rows are records: what of a row is what.
 *
 *		attach.c		apm_attach(), apm_detach()
 *		attached.c		the triggers of an attached table
 *		label.c			what security labels say of its columns
 *		backfill.c		apm_backfill(): rows that were there before
 */
#ifndef APM_ATTACHMENT_H
#define APM_ATTACHMENT_H

#include "postgres.h"

#include "access/htup.h"
#include "access/tupdesc.h"
#include "fmgr.h"
#include "utils/rel.h"
#include "utils/reltrigger.h"

#include "anonymize/jsontext.h"
#include "anonymize/submission.h"

/*
 * What the row trigger's arguments after the first (the attachment's id) say of the columns that the trigger
 * names, one each.  PostgreSQL itself thereby follows a column that is renamed, partitioned or restored, and
 * lets none be dropped or change its type.
 */
#define APM_COLUMN_KEY 0x01
#define APM_COLUMN_PID 0x02
#define APM_COLUMN_TIME 0x04

/* A column whose value is wanted as one text, whatever the session's settings. */
typedef struct ApmTextColumn
{
	AttrNumber attnum;
	Oid type;
	FmgrInfo output;
	bool pinned; /* its text depends on settings, which must be pinned */
} ApmTextColumn;

/* A column that becomes an attribute of the record. */
typedef struct ApmRecordColumn
{
	AttrNumber attnum;
	const char *name;
	FmgrInfo to_jsonb;
} ApmRecordColumn;

typedef struct ApmAttachment
{
	ApmUuid id;
	Oid table;
	Oid relation; /* what was attached: the table itself, or the one that it is a partition of */
	TupleDesc desc;
	int nkeys;
	ApmTextColumn *keys; /* the primary key */
	ApmTextColumn pid;
	AttrNumber time; /* 0: there is none */
	int ncolumns;
	ApmRecordColumn *columns;
} ApmAttachment;

/* Has the table, or partition, the trigger that makes it an attached one? */
extern bool apm_is_attached(Relation table);

/*
 * The attachment of a table, or of a partition, that has the trigger; lives in the current memory context, and is
 * good while the table is locked.  Raises 55000 if the trigger is not one that apm_attach() made for this table,
 * or the primary key is not the one that it was attached with.  Not in a section.
 */
extern ApmAttachment *apm_attachment_open(Relation table, const Trigger *trigger);

/* The same for a relation that must be attached; raises 55000 if it is not. */
extern ApmAttachment *apm_attachment_of(Relation table);

/*
 * Fills in pid, record, Rid, when the row was observed and whether it is late, from a row of the table;
 * source and amends are the caller's.  *rid is set also where the rest raises.  Runs output functions and casts of
 * the columns' types with the rights of whoever is current.
 */
extern void apm_attachment_read(const ApmAttachment *attachment, HeapTuple row, ApmGiven *out, ApmUuid *rid);

/* The texts of the key's columns, in the trigger's order; raises 22004 for a row without a key. */
extern void apm_attachment_key(const ApmAttachment *attachment, HeapTuple row, char **texts);

/*
 * The Rid that a row with this key has when it is submitted first: nobody without the key of pseudonyms can
 * tell one from another.
 */
extern void apm_attachment_rid(const ApmAttachment *attachment, char *const *key, ApmUuid *out);

/* Texts of values do not depend on the session's settings between these two; an error undoes it. */
extern int apm_pin_output(void);
extern void apm_unpin_output(int level);

/* The caller must own the table, and be superuser or apm_admin; doing completes "permission denied to ...". */
extern void apm_attachment_require(Oid table, const char *doing);

/* What a security label says of a column. */
#define APM_LABEL_IDENTIFYING 0x01
#define APM_LABEL_OMIT 0x02
#define APM_LABEL_SEARCHABLE 0x04
#define APM_LABEL_EXPORTABLE 0x08

/* Once, when the library is loaded: makes us a label provider. */
extern void apm_label_init(void);

/* The label of a column; 0: it has none. */
extern uint8 apm_label_of(Oid table, AttrNumber attnum);

/*
 * The labels of a table that is being attached become declarations of attributes.  Raises 55000, with the
 * attribute's name, where one is declared otherwise.
 */
extern void apm_labels_declare(Relation table, AttrNumber pid);

#endif /* APM_ATTACHMENT_H */
