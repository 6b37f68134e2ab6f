/*
 * columns.c
 *	  Which attributes of a record may leave the house.
 *
 * Only those that an administrator declared exportable; a researcher can choose among them.  What he selects by says as
 * much of a row as a column of it does, so the same goes for that.
 */
#include "postgres.h"

#include "anonymize/acting.h"
#include "apm_errors.h"
#include "export/dataset.h"

static int
compare_names(const void *a, const void *b)
{
	const ApmSlice *left = a;
	const ApmSlice *right = b;
	int order = memcmp(left->data, right->data, Min(left->len, right->len));

	if (order != 0)
		return order;
	return left->len < right->len ? -1 : left->len > right->len;
}

/* The declared exportable attributes, ascending. */
static void
load_exportable(ApmColumnsOut *out)
{
	static ApmStatement get = {.sql = "SELECT a.name FROM ONLY apm.attribute AS a WHERE a.exportable"};
	uint64 rows = apm_run_latest(&get, NULL);

	out->n = (int) rows;
	out->names = palloc_array(ApmSlice, Max(rows, 1));
	for (uint64 row = 0; row < rows; row++)
		out->names[row] = apm_slice_copy(CurrentMemoryContext, apm_row_text(row, 1));
	qsort(out->names, out->n, sizeof(ApmSlice), compare_names);
}

/* Takes those that were named, each once. */
static void
take_named(const ApmSlice *names, int n, ApmColumnsOut *columns)
{
	ApmSlice *chosen = palloc_array(ApmSlice, Max(n, 1));
	int count = 0;

	for (int i = 0; i < n; i++)
	{
		if (bsearch(&names[i], columns->names, columns->n, sizeof(ApmSlice), compare_names) == NULL)
			ereport(
				ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("attribute %d of the list is not declared exportable", i + 1),
				 errhint(
					 "An administrator declares it: apm_declare_attribute(name, 'other', exportable => true).")));
		chosen[count++] = names[i];
	}
	qsort(chosen, count, sizeof(ApmSlice), compare_names);
	columns->n = 0;
	for (int i = 0; i < count; i++)
	{
		if (i == 0 || compare_names(&chosen[i - 1], &chosen[i]) != 0)
			columns->names[columns->n++] = chosen[i];
	}
	columns->by_name = true;
}

void
apm_columns_read(const ApmSlice *names, int n, ApmColumnsOut *out)
{
	memset(out, 0, sizeof(*out));
	load_exportable(out);
	if (names != NULL)
		take_named(names, n, out);
	if (out->n == 0)
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("no attribute to export"),
			 errhint(
				 "An administrator declares attributes: apm_declare_attribute(name, 'other', exportable => true).")));
}

void
apm_columns_check_selection(Jsonb *selection)
{
	ApmColumnsOut exportable;
	ApmFields fields;

	load_exportable(&exportable);
	/* one that is no object is the search's to refuse */
	if (!apm_fields_of(selection, &fields))
		return;
	for (int i = 0; i < fields.n; i++)
	{
		ApmSlice name = apm_field_name(&fields.v[i]);

		if (bsearch(&name, exportable.names, exportable.n, sizeof(ApmSlice), compare_names) == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("an attribute of the selection is not declared exportable"),
					 errhint("Who is in the dataset would say what the dataset does not. An administrator "
							 "declares attributes with apm_declare_attribute().")));
	}
}
