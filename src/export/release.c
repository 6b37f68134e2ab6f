/*
 * release.c
 *	  Making a release of a study: from the order to a dataset whose digest is on the chain.
 *
 * Every patient of this hospital is asked for, or, with a selection, every patient who has a
 * record in it; a selection is itself a search on the ledger.  Whom the contract lets nobody read is
 * left out without a word; any other refusal ends the export.  The lines stay here until the export transaction,
 * which names their number and digest, is final.
 *
 * Two exports of one study at once want the same number; the contract lets one have it, and the
 * other takes the next.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "anonymize/publicfield.h"
#include "anonymize/reading.h"
#include "anonymize/search.h"
#include "anonymize/unicode.h"
#include "apm_errors.h"
#include "export/release.h"

#define NUMBER_TRIES 5

/* Whom to ask for, and which of their records. */
typedef struct Selection
{
	int n;
	ApmSlice *apids;
	HTAB *rids;		/* of the records; NULL: all */
	ApmUuid search; /* the Tid of the search, with rids */
} Selection;

/* What the callback needs. */
typedef struct Filling
{
	ApmDataset *set;
	const ApmSlice *apids; /* of the answers */
} Filling;

static void
select_all(Selection *selection)
{
	static ApmStatement get = {
		.sql = "SELECT p.apid FROM ONLY apm.ledger_patient AS p, ONLY apm.chain AS c"
			   " WHERE p.origin = c.origin AND p.erased_height IS NULL ORDER BY p.apid",
	};
	MemoryContext caller = CurrentMemoryContext;
	ApmSection section;
	bool *forgotten;
	int rows;

	apm_section_begin(&section);
	rows = (int) apm_run_latest(&get, NULL);
	selection->n = 0;
	selection->apids = MemoryContextAllocHuge(caller, sizeof(ApmSlice) * Max(rows, 1));
	for (int row = 0; row < rows; row++)
		selection->apids[row] = apm_slice_copy(caller, apm_row_text(row, 1));
	/* the ledger has whom it is still to erase */
	forgotten = palloc(sizeof(bool) * Max(rows, 1));
	apm_patients_forgotten(selection->apids, rows, forgotten);
	for (int row = 0; row < rows; row++)
	{
		if (!forgotten[row])
			selection->apids[selection->n++] = selection->apids[row];
	}
	apm_section_end(&section);
}

/* Puts the search on the ledger and takes whom it finds. */
static void
select_by_search(const ApmOrder *order, Selection *selection)
{
	HASHCTL control = {.keysize = APM_UUID_LEN, .entrysize = APM_UUID_LEN, .hcxt = CurrentMemoryContext};
	ApmSearchResult found;
	ApmBuf fields = {0};

	apm_public_fields_read(order->public_fields, &fields);
	apm_search_run(order->selection, APM_PURPOSE_RESEARCH, APM_SLICE(fields.data, fields.len), &found);
	apm_buf_reset(&fields);

	selection->search = found.tid;
	selection->n = found.npatients;
	selection->apids = palloc_array(ApmSlice, Max(found.npatients, 1));
	selection->rids =
		hash_create("apm records selected", 1024, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	for (int i = 0; i < found.npatients; i++)
	{
		const ApmSearched *patient = &found.patients[i];

		selection->apids[i] = patient->apid;
		for (int r = 0; r < patient->nrecords; r++)
			hash_search(selection->rids, patient->records[r].rid.bytes, HASH_ENTER, NULL);
	}
	if (selection->n == 0)
		selection->apids[selection->n++] = apm_search_nobody(&found.tid);
}

/* Of an answer's records those that are selected. */
static void
keep_selected(const Selection *selection, ApmGateQuestion *answer)
{
	int kept = 0;

	if (selection->rids == NULL)
		return;
	for (int i = 0; i < answer->nrecords; i++)
	{
		if (hash_search(selection->rids, answer->records[i].rid.bytes, HASH_FIND, NULL) != NULL)
			answer->records[kept++] = answer->records[i];
	}
	answer->nrecords = kept;
}

static void
fill(const ApmReading *reading, void *closure)
{
	Filling *filling = closure;

	apm_dataset_add(filling->set, filling->apids[reading->question], reading->tx->time_us, reading->own);
}

/*
 * Asks for these patients and adds the records of those whom the contract allows; AP001 if it refuses the
 * export itself.
 */
static void
export_patients(const ApmOrder *order, const Selection *selection, int first, int n, ApmDataset *set)
{
	ApmAsk ask = {.scope = APM_SCOPE_EXPORT,
				  .list = APM_GATE_CURRENT,
				  .purpose = APM_PURPOSE_RESEARCH,
				  .basis = order->study.id};
	ApmSlice *allowed = palloc_array(ApmSlice, n);
	Filling filling = {.set = set, .apids = allowed};
	ApmGateQuestion *answers;
	ApmBuf fields = {0};
	int count = 0;

	apm_public_fields_read(order->public_fields, &fields);
	ask.fields = APM_SLICE(fields.data, fields.len);
	answers = apm_gate_ask(&ask, &selection->apids[first], n);
	for (int i = 0; i < n; i++)
	{
		if (apm_gate_concerns_patient(&answers[i]))
			continue;
		apm_gate_require(&answers[i]);
		keep_selected(selection, &answers[i]);
		allowed[count] = selection->apids[first + i];
		answers[count++] = answers[i];
	}
	apm_reading_run(answers, allowed, count, fill, &filling);
	apm_buf_reset(&fields);
}

/* The name of an attribute as a JSON string. */
static void
put_name(ApmBuf *out, ApmSlice name)
{
	ApmBuf utf8 = {0};

	apm_utf8_put(&utf8, name, "the name of an attribute");
	apm_json_put_string(out, APM_SLICE(utf8.data, utf8.len));
	apm_buf_reset(&utf8);
}

/* One member that is a text. */
static void
put_member(ApmBuf *out, const char *name, const char *value)
{
	char *start = psprintf(",\"%s\":", name);

	apm_put_raw(out, start, strlen(start));
	apm_json_put_string(out, APM_SLICE(value, strlen(value)));
	pfree(start);
}

/*
 * {"attributes":[...],"search":...,"step":...,"study":...}, in clear on the chain.  The search is
 * there if there is a selection: its transaction has the tokens of what was selected.
 */
static void
write_parameters(const ApmOrder *order, const Selection *selection, ApmBuf *out)
{
	char search[2 * APM_UUID_LEN + 1];

	apm_put_raw(out, "{\"attributes\":[", 15);
	for (int i = 0; i < order->columns.n; i++)
	{
		if (i > 0)
			apm_put_u8(out, ',');
		put_name(out, order->columns.names[i]);
	}
	apm_put_u8(out, ']');
	if (selection->rids != NULL)
	{
		apm_hex_encode(selection->search.bytes, APM_UUID_LEN, search);
		put_member(out, "search", search);
	}
	put_member(out, "step", apm_step_name(order->step));
	put_member(out, "study", order->study.name);
	apm_put_u8(out, '}');
	apm_check(apm_buf_status(out), "write the parameters of the export");
	if (out->len > APM_PARAMETERS_MAX)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("the export's parameters take more than %d bytes", APM_PARAMETERS_MAX),
						errhint("Export fewer attributes.")));
}

static uint32
releases_of(const ApmStudy *study)
{
	ApmSection section;
	uint32 count;

	apm_section_begin(&section);
	count = apm_study_releases(study);
	apm_section_end(&section);
	return count;
}

/* Puts the export on the chain. */
static void
publish(const ApmOrder *order, const Selection *selection, const ApmDataset *set)
{
	ApmExportFields fields = {.rows = (uint64) set->n};
	const ApmGateQuestion *answer = NULL;
	ApmBuf parameters = {0};

	memcpy(fields.study, order->study.id, APM_STUDY_LEN);
	apm_dataset_digest(set, &fields.digest);
	write_parameters(order, selection, &parameters);
	fields.parameters = APM_SLICE(parameters.data, parameters.len);
	for (int i = 0; i < NUMBER_TRIES && (answer == NULL || answer->rule == APM_RULE_RELEASE); i++)
	{
		CHECK_FOR_INTERRUPTS();
		fields.release = releases_of(&order->study) + 1;
		answer = apm_gate_ask_export(&fields);
	}
	apm_gate_require(answer);
	apm_buf_reset(&parameters);
}

void
apm_release_make(const ApmOrder *order, ApmDataset *set)
{
	MemoryContext part;
	MemoryContext caller;
	Selection selection = {0};

	if (order->selection != NULL)
		select_by_search(order, &selection);
	else
		select_all(&selection);

	apm_dataset_start(set, &order->study, &order->columns, order->step);
	part = AllocSetContextCreate(CurrentMemoryContext, "apm export", ALLOCSET_DEFAULT_SIZES);
	caller = MemoryContextSwitchTo(part);
	for (int done = 0; done < selection.n; done += APM_GATE_QUESTIONS)
	{
		export_patients(order, &selection, done, Min(APM_GATE_QUESTIONS, selection.n - done), set);
		MemoryContextReset(part);
	}
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(part);

	apm_dataset_shuffle(set);
	publish(order, &selection, set);
}
