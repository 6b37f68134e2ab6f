/*
 * count.c
 *	  Counters of the ledger's state, loaded for the contract.
 *
 * A rule asks how many transactions of a sort an actor or a patient had in the last so many
 * seconds of block time, or ever.  Actors have running totals (apm.ledger_count), so that
 * a window is two index look-ups, however busy they are.  A patient's are counted in the
 * index of his queries and records, voided ones too, from the begin of the window on.  Where a window begins is a
 * height: that of the newest block which is not younger.
 *
 * The contract subtracts what a counter stood at when the window began from what it stands at
 * now.  Only the difference means anything, so of each subject the widest window
 * serves as the total.
 */
#include "postgres.h"

#include "catalog/pg_type_d.h"

#include "apm_errors.h"
#include "apm_sql.h"
#include "chain/count.h"

#define BLOCK_TIME_LEN 8

/* One counter of one subject in one window. */
typedef struct Window
{
	ApmCountNeed need;
	ApmSlice apid;	/* of a patient's counter */
	uint64 counted; /* what there is in the window */
} Window;

/* By counter and subject, then by window. */
static int
compare_windows(const void *a, const void *b)
{
	const ApmCountNeed *left = &((const Window *) a)->need;
	const ApmCountNeed *right = &((const Window *) b)->need;
	int order = (left->counter > right->counter) - (left->counter < right->counter);

	if (order == 0)
		order = memcmp(&left->subject, &right->subject, sizeof(ApmDigest));
	if (order == 0)
		order = (left->seconds > right->seconds) - (left->seconds < right->seconds);
	return order;
}

static bool
same_subject(const Window *a, const Window *b)
{
	return a->need.counter == b->need.counter &&
		   memcmp(&a->need.subject, &b->need.subject, sizeof(ApmDigest)) == 0;
}

/* The windows that are needed, each once, in order. */
static Window *
collect_windows(const ApmNeeds *needs, int n, int *nwindows)
{
	Window *windows;
	int all = 0;
	int kept = 0;

	for (int i = 0; i < n; i++)
		all += needs[i].ncounts;
	windows = palloc_array(Window, Max(all, 1));
	all = 0;
	for (int i = 0; i < n; i++)
	{
		for (int k = 0; k < needs[i].ncounts; k++)
			windows[all++] = (Window){.need = needs[i].counts[k], .apid = needs[i].apid};
	}
	qsort(windows, all, sizeof(Window), compare_windows);
	for (int i = 0; i < all; i++)
	{
		if (kept == 0 || compare_windows(&windows[kept - 1], &windows[i]) != 0)
			windows[kept++] = windows[i];
	}
	*nwindows = kept;
	return windows;
}

/* The time at which a window ends before it begins to count: 0 for one without a begin. */
static uint64
window_begin(const Window *window, uint64 time_us)
{
	uint64 length = (uint64) window->need.seconds * 1000000;

	return window->need.seconds == 0 || length > time_us ? 0 : time_us - length;
}

/* As it stands in a header: its bytes are in the order of time. */
static ApmSlice
time_bytes(uint64 time_us)
{
	uint8 *bytes = palloc(BLOCK_TIME_LEN);

	for (int i = 0; i < BLOCK_TIME_LEN; i++)
		bytes[i] = (uint8) (time_us >> 8 * (BLOCK_TIME_LEN - 1 - i));
	return APM_SLICE(bytes, BLOCK_TIME_LEN);
}

/* The height of the newest block that is not after u.begin; null if there is none. */
#define BEGIN_HEIGHT                                                                                    \
	"(SELECT b.height FROM ONLY apm.block AS b WHERE pg_catalog.substring(b.header, 175, 8) <= u.begin" \
	" ORDER BY pg_catalog.substring(b.header, 175, 8) DESC, b.height DESC LIMIT 1)"

/* $1 are subjects, $2 begins of windows, $3 is the height of the block in making, $4 an actor's counter. */
#define COUNT_EACH(count)                          \
	"SELECT u.ordinality::pg_catalog.int4, " count \
	" FROM unnest($1, $2) WITH ORDINALITY AS u (subject, begin, ordinality)"

/* What an actor's counter stood at after the last block of which that is true. */
#define TOTAL_WHERE(condition)                                                      \
	"coalesce((SELECT c.total FROM ONLY apm.ledger_count AS c WHERE c.counter = $4" \
	" AND c.actor = u.subject AND " condition " ORDER BY c.height DESC LIMIT 1), 0)"

/* A patient's rows of which that is true. */
#define ROWS_WHERE(table, condition)                                                               \
	"(SELECT pg_catalog.count(*) FROM ONLY " table " AS l WHERE l.apid = u.subject AND " condition \
	" AND l.height < $3 AND l.height > coalesce(" BEGIN_HEIGHT ", -1))"

/* Counts in windows of one counter, all of which are of actors or all of patients. */
static void
count_in(ApmStatement *statement, Window *windows, int n, uint64 height, uint64 time_us)
{
	bool of_patient = apm_counter_of_patient(windows[0].need.counter);
	ApmSlice *subjects = palloc_array(ApmSlice, n);
	ApmSlice *begins = palloc_array(ApmSlice, n);
	Datum args[4];
	uint64 rows;

	for (int i = 0; i < n; i++)
	{
		subjects[i] = of_patient ? windows[i].apid : APM_SLICE(windows[i].need.subject.bytes, APM_STAFF_LEN);
		begins[i] = time_bytes(window_begin(&windows[i], time_us));
	}
	args[0] = of_patient ? apm_text_array(subjects, n) : apm_bytea_array(subjects, n);
	args[1] = apm_bytea_array(begins, n);
	args[2] = Int64GetDatum((int64) height);
	args[3] = Int16GetDatum(windows[0].need.counter);
	rows = apm_run(statement, args);
	for (uint64 row = 0; row < rows; row++)
		windows[apm_row_int4(row, 1) - 1].counted = (uint64) apm_row_int8(row, 2);
}

static void
count_windows(Window *windows, int n, uint64 height, uint64 time_us)
{
	static ApmStatement actors = {
		.sql = COUNT_EACH(TOTAL_WHERE("c.height < $3") " - " TOTAL_WHERE("c.height <= " BEGIN_HEIGHT)),
		.nargs = 4,
		.types = {BYTEAARRAYOID, BYTEAARRAYOID, INT8OID, INT2OID},
	};
	static ApmStatement queries = {
		.sql = COUNT_EACH(ROWS_WHERE("apm.ledger_query", "l.rule = 0")),
		.nargs = 3,
		.types = {TEXTARRAYOID, BYTEAARRAYOID, INT8OID},
	};
	static ApmStatement records = {
		.sql = COUNT_EACH(
			ROWS_WHERE("apm.ledger_record", "true") " + " ROWS_WHERE("apm.ledger_void", "l.kind = 2")),
		.nargs = 3,
		.types = {TEXTARRAYOID, BYTEAARRAYOID, INT8OID},
	};

	switch (windows[0].need.counter)
	{
		case APM_COUNT_PATIENT_QUERIES:
			count_in(&queries, windows, n, height, time_us);
			break;
		case APM_COUNT_PATIENT_RECORDS:
			count_in(&records, windows, n, height, time_us);
			break;
		default:
			count_in(&actors, windows, n, height, time_us);
	}
}

/* Enters the windows of one counter of one subject: where each began, and what there is now. */
static void
enter_subject(ApmContractState *state, const Window *windows, int n, uint64 time_us)
{
	const ApmCountNeed *need = &windows[0].need;
	uint64 total = 0;

	for (int i = 0; i < n; i++)
		total = Max(total, windows[i].counted);
	for (int i = 0; i < n; i++)
	{
		if (windows[i].need.seconds > 0)
			apm_check(apm_contract_load_count(state, need->counter, &need->subject,
											  window_begin(&windows[i], time_us), total - windows[i].counted),
					  "load a counter");
	}
	apm_check(apm_contract_load_count(state, need->counter, &need->subject, time_us, total),
			  "load a counter");
}

void
apm_state_load_counts(ApmContractState *state, MemoryContext context, const ApmNeeds *needs, int n,
					  uint64 height, uint64 time_us)
{
	MemoryContext old;
	Window *windows;
	int nwindows;
	int end;

	windows = collect_windows(needs, n, &nwindows);
	for (int start = 0; start < nwindows; start = end)
	{
		for (end = start + 1; end < nwindows && windows[end].need.counter == windows[start].need.counter;)
			end++;
		count_windows(&windows[start], end - start, height, time_us);
	}
	old = MemoryContextSwitchTo(context);
	for (int start = 0; start < nwindows; start = end)
	{
		for (end = start + 1; end < nwindows && same_subject(&windows[end], &windows[start]);)
			end++;
		enter_subject(state, &windows[start], end - start, time_us);
	}
	MemoryContextSwitchTo(old);
}
