/*
 * rewrap.c
 *	  What the wrapping key wraps, moved to its successor.
 *
 * Patients' keys are wrapped, and records that wait are sealed, under the generation that their row names.  After a rotation
 * reception moves them to the newest one, a batch at a time, each batch in a transaction with its progress, so
 * that whatever ends the worker costs one batch.  What there is to do is read from the rows: nothing is remembered that
 * a crash could lose, and a row that somebody wrote late with the old generation is found like any other.
 *
 * It stands in nobody's way: a row that is locked is passed over and looked at again later; readers see the row as it
 * was, or as it is, each with its generation.
 *
 * A row that does not unwrap, because it was altered or its generation is missing, stays as it is and is passed over.  The
 * rotation then does not come to its end, and apm.status says why.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "anonymize/acting.h"
#include "anonymize/rotation.h"
#include "apm_errors.h"
#include "chain/chain.h"
#include "core/cipher.h"
#include "core/pseudonym.h"
#include "worker/worker.h"

#define BATCH_ROWS 500
#define BATCH_BYTES (32 * 1024 * 1024)
#define PAUSE_MS 1000 /* until rows that were locked are looked at again */

/* Is anything left that is older than that generation? */
#define ANYTHING_OLDER_THAN(generation)                                               \
	"(EXISTS (SELECT FROM ONLY apm.patient AS p WHERE p.generation < " generation ")" \
	" OR EXISTS (SELECT FROM ONLY apm.waiting AS w WHERE w.generation < " generation "))"

/* A table whose rows hold something under a generation, and how far a pass over it has come. */
typedef struct Table
{
	/* (name text, generation, content, ...) of rows before generation $1 and behind the place ($2, $3), a generation and a name */
	ApmStatement take;
	ApmStatement put; /* contents $2 under generation $3 to the names $1 */
	/* That content of a row of SPI_tuptable, brought from its generation to that one; false if it does not open. */
	bool (*bring)(uint64 row, ApmSlice content, uint32 to, ApmSlice *out);
	const char *first_name; /* before all others */
	int32 generation;		/* the place behind which the next batch begins; 0: before all rows */
	char name[APM_APID_MAX + 1];
} Table;

/* Did a row of this pass not move? */
static bool stuck = false;

/* The generation that everything is to be moved to; false where all is done. */
static bool
find_target(uint32 *target)
{
	static ApmStatement find = {
		"SELECT k.generation FROM (SELECT max(r.generation), bool_or(r.finished_at IS NULL)"
		" FROM ONLY apm.key_rotation AS r WHERE r.kind = 'apm-wrapping') AS k (generation, unfinished)"
		" WHERE k.unfinished OR " ANYTHING_OLDER_THAN("k.generation"),
		0,
		{0},
		NULL,
	};

	if (apm_run(&find, NULL) == 0)
		return false;
	*target = (uint32) apm_row_int4(0, 1);
	return true;
}

/* Which generation of the wrapping key was asked for last in this turn, and whether it is here. */
static struct
{
	uint32 generation; /* 0: none */
	bool here;
} asked;

/* Is that generation here?  Rows come by generation, so that each is looked for once a batch. */
static bool
have_generation(uint32 generation)
{
	if (generation != asked.generation)
	{
		asked.here = apm_key_have_wrapping(generation);
		asked.generation = generation;
	}
	return asked.here;
}

/* A patient's key. */
static bool
wrap_again(uint64 row, ApmSlice wrapped, uint32 to, ApmSlice *out)
{
	ApmSlice apid = apm_row_text(row, 1);
	uint32 from = (uint32) apm_row_int4(row, 2);
	uint8 *again = palloc(APM_WRAPPED_KEY_LEN);
	uint8 key[32];
	ApmStatus status;

	if (wrapped.len != APM_WRAPPED_KEY_LEN || !have_generation(from))
		return false;
	status = apm_key_unwrap(apm_key_wrapping(from), from, apid, wrapped.data, key);
	if (status == APM_OK)
		status = apm_key_wrap(apm_key_wrapping(to), to, apid, key, again);
	apm_wipe(key, sizeof(key));
	if (status != APM_OK && status != APM_ERR_OPEN)
		apm_raise(status, "wrap a patient's key anew");
	*out = APM_SLICE(again, APM_WRAPPED_KEY_LEN);
	return status == APM_OK;
}

/* A record that waits. */
static bool
seal_again(uint64 row, ApmSlice sealed, uint32 to, ApmSlice *out)
{
	uint32 from = (uint32) apm_row_int4(row, 2);
	ApmBuf text = {.secret = true};
	ApmBuf again = {0};
	ApmStatus status;
	ApmUuid rid;

	if (!have_generation(from))
		return false;
	apm_row_uuid(row, 4, &rid);
	status = apm_waiting_record_open(apm_key_wrapping(from), from, &rid, sealed, &text);
	if (status == APM_OK)
		status =
			apm_waiting_record_seal(apm_key_wrapping(to), to, &rid, APM_SLICE(text.data, text.len), &again);
	apm_buf_reset(&text);
	if (status != APM_OK && status != APM_ERR_OPEN)
		apm_raise(status, "seal a record that waits anew");
	*out = APM_SLICE(again.data, again.len);
	return status == APM_OK;
}

static Table tables[] = {
	{
		.take =
			{"SELECT p.apid, p.generation, p.wrapped_key FROM ONLY apm.patient AS p WHERE p.generation < $1"
			 " AND (p.generation, p.apid) > ($2, $3) ORDER BY p.generation, p.apid"
			 " LIMIT " CppAsString2(BATCH_ROWS) " FOR UPDATE SKIP LOCKED",
			 3,
			 {INT4OID, INT4OID, TEXTOID},
			 NULL},
		.put = {"UPDATE ONLY apm.patient AS p SET wrapped_key = u.content, generation = $3"
				" FROM unnest($1, $2) AS u (name, content) WHERE p.apid = u.name",
				3,
				{TEXTARRAYOID, BYTEAARRAYOID, INT4OID},
				NULL},
		.bring = wrap_again,
		.first_name = "",
	},
	{
		.take = {"SELECT w.id::pg_catalog.text, w.generation, w.sealed, w.rid FROM ONLY apm.waiting AS w"
				 " WHERE w.generation < $1 AND (w.generation, w.id) > ($2, $3::pg_catalog.int8)"
				 " ORDER BY w.generation, w.id LIMIT " CppAsString2(BATCH_ROWS) " FOR UPDATE SKIP LOCKED",
				 3,
				 {INT4OID, INT4OID, TEXTOID},
				 NULL},
		.put = {"UPDATE ONLY apm.waiting AS w SET sealed = u.content, generation = $3"
				" FROM unnest($1, $2) AS u (name, content) WHERE w.id = u.name::pg_catalog.int8",
				3,
				{TEXTARRAYOID, BYTEAARRAYOID, INT4OID},
				NULL},
		.bring = seal_again,
		.first_name = "0",
	},
};

/* The next rows of a table, as many as make a batch; returns how many, in SPI_tuptable. */
static int
take_rows(Table *table, uint32 to)
{
	const char *name = table->generation == 0 ? table->first_name : table->name;
	Datum args[] = {Int32GetDatum((int32) to), Int32GetDatum(table->generation),
					apm_text_datum(APM_SLICE(name, strlen(name)))};

	return (int) apm_run(&table->take, args);
}

/* A batch of a table; returns how many rows it saw, and adds to *moved how many it moved. */
static int
move_rows(Table *table, uint32 to, int *moved)
{
	int n = take_rows(table, to);
	ApmSlice *names = palloc_array(ApmSlice, Max(n, 1));
	ApmSlice *contents = palloc_array(ApmSlice, Max(n, 1));
	size_t bytes = 0;
	int count = 0;
	Datum args[3];
	int row;

	for (row = 0; row < n && bytes < BATCH_BYTES; row++)
	{
		ApmSlice content = apm_row_bytea(row, 3);

		bytes += content.len;
		names[count] = apm_row_text(row, 1);
		table->generation = apm_row_int4(row, 2);
		snprintf(table->name, sizeof(table->name), "%.*s", (int) names[count].len,
				 (const char *) names[count].data);
		if (table->bring(row, content, to, &contents[count]))
			count++;
		else
			stuck = true;
	}
	args[0] = apm_text_array(names, count);
	args[1] = apm_bytea_array(contents, count);
	args[2] = Int32GetDatum((int32) to);
	if (count > 0)
		apm_run_whole(&table->put, args, (uint64) count);
	*moved += count;
	return row;
}

static void
note_progress(uint32 to, int moved)
{
	static ApmStatement note = {
		"UPDATE ONLY apm.key_rotation SET items_done = items_done + $2 WHERE kind = 'apm-wrapping' AND generation = $1",
		2,
		{INT4OID, INT4OID},
		NULL,
	};
	Datum args[] = {Int32GetDatum((int32) to), Int32GetDatum(moved)};

	if (moved > 0)
		apm_run(&note, args);
}

/* Ends the rotation if nothing is left under an older generation; answers whether there is. */
static bool
finish(uint32 to)
{
	/* what was erased, sent or registered meanwhile makes the total another one than at the start */
	static ApmStatement done = {
		"UPDATE ONLY apm.key_rotation AS r SET finished_at = pg_catalog.now(), items_total = r.items_done"
		" WHERE r.kind = 'apm-wrapping' AND r.generation <= $1 AND r.finished_at IS NULL",
		1,
		{INT4OID},
		NULL,
	};
	static ApmStatement left = {
		"SELECT WHERE " ANYTHING_OLDER_THAN("$1"),
		1,
		{INT4OID},
		NULL,
	};
	Datum args[] = {Int32GetDatum((int32) to)};

	if (apm_run(&left, args) > 0)
		return true;
	apm_run(&done, args);
	return false;
}

/* Says once that rows cannot be moved. */
static void
tell_stuck(void)
{
	static const char *const message =
		"something is not under the new wrapping key, for it does not open under its own";
	static bool told = false;

	if (stuck && !told)
	{
		ereport(WARNING, (errcode(ERRCODE_APM_CANNOT_OPEN), errmsg("%s", message),
						  errhint("If a generation of the wrapping key is missing, bring it back.")));
		apm_turn_failed(ERRCODE_APM_CANNOT_OPEN, message);
	}
	told = stuck;
	stuck = false;
}

/* One batch of each; answers as a turn does. */
static int
move_batch(uint32 to)
{
	bool more = false;
	int moved = 0;

	for (size_t i = 0; i < lengthof(tables); i++)
		more = move_rows(&tables[i], to, &moved) > 0 || more;
	note_progress(to, moved);
	if (more)
		return APM_TURN_AGAIN;

	/* the end of a pass: what is left was locked, or does not open */
	for (size_t i = 0; i < lengthof(tables); i++)
		tables[i].generation = 0;
	if (!finish(to))
		stuck = false;
	else if (!stuck)
		return PAUSE_MS;
	tell_stuck();
	return APM_TURN_IDLE;
}

int
apm_rewrap_turn(void)
{
	int next = APM_TURN_IDLE;
	uint32 target;

	asked.generation = 0;
	apm_turn_begin("moving to the new wrapping key");
	if (find_target(&target) && !apm_chain_loaded() && have_generation(target))
		next = move_batch(target);
	apm_turn_commit();
	return next;
}
