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

/* Behind which row of its table the next batch begins; zeros at the start of a pass. */
typedef struct Place
{
	int32 generation;
	char apid[APM_APID_MAX + 1]; /* of apm.patient */
	int64 id;					 /* of apm.waiting */
} Place;

static Place patients;
static Place waiting;

/* Did a row of this pass not move? */
static bool stuck = false;

/* The generation that everything is to be moved to; false where all is done. */
static bool
find_target(uint32 *target)
{
	static ApmStatement find = {
		"SELECT k.generation FROM (SELECT max(r.generation), bool_or(r.finished_at IS NULL)"
		" FROM ONLY apm.key_rotation AS r WHERE r.kind = 'apm-wrapping') AS k (generation, unfinished)"
		" WHERE k.unfinished"
		" OR EXISTS (SELECT FROM ONLY apm.patient AS p WHERE p.generation < k.generation)"
		" OR EXISTS (SELECT FROM ONLY apm.waiting AS w WHERE w.generation < k.generation)",
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

/* Wraps a patient's key anew; false if it does not unwrap. */
static bool
wrap_again(ApmSlice apid, uint32 from, uint32 to, ApmSlice wrapped, uint8 out[APM_WRAPPED_KEY_LEN])
{
	uint8 key[32];
	ApmStatus status;

	if (wrapped.len != APM_WRAPPED_KEY_LEN || !have_generation(from))
		return false;
	status = apm_key_unwrap(apm_key_wrapping(from), from, apid, wrapped.data, key);
	if (status == APM_OK)
		status = apm_key_wrap(apm_key_wrapping(to), to, apid, key, out);
	apm_wipe(key, sizeof(key));
	if (status != APM_OK && status != APM_ERR_OPEN)
		apm_raise(status, "wrap a patient's key anew");
	return status == APM_OK;
}

/* A batch of patients; returns how many rows it saw, and in *moved how many it moved. */
static int
move_patients(uint32 to, int *moved)
{
	static ApmStatement take = {
		"SELECT p.apid, p.generation, p.wrapped_key FROM ONLY apm.patient AS p WHERE p.generation < $1"
		" AND (p.generation, p.apid) > ($2, $3) ORDER BY p.generation, p.apid"
		" LIMIT " CppAsString2(BATCH_ROWS) " FOR UPDATE SKIP LOCKED",
		3,
		{INT4OID, INT4OID, TEXTOID},
		NULL,
	};
	static ApmStatement put = {
		"UPDATE ONLY apm.patient AS p SET wrapped_key = u.wrapped_key, generation = $3"
		" FROM unnest($1, $2) AS u (apid, wrapped_key) WHERE p.apid = u.apid",
		3,
		{TEXTARRAYOID, BYTEAARRAYOID, INT4OID},
		NULL,
	};
	Datum from[] = {Int32GetDatum((int32) to), Int32GetDatum(patients.generation),
					apm_text_datum(APM_SLICE(patients.apid, strlen(patients.apid)))};
	int n = (int) apm_run(&take, from);
	ApmSlice *apids = palloc(sizeof(ApmSlice) * Max(n, 1));
	ApmSlice *keys = palloc(sizeof(ApmSlice) * Max(n, 1));
	Datum args[3];

	*moved = 0;
	for (int i = 0; i < n; i++)
	{
		ApmSlice apid = apm_row_text(i, 1);
		uint8 *wrapped = palloc(APM_WRAPPED_KEY_LEN);

		patients.generation = apm_row_int4(i, 2);
		snprintf(patients.apid, sizeof(patients.apid), "%.*s", (int) apid.len, (const char *) apid.data);
		if (!wrap_again(apid, (uint32) patients.generation, to, apm_row_bytea(i, 3), wrapped))
		{
			stuck = true;
			continue;
		}
		apids[*moved] = apid;
		keys[(*moved)++] = APM_SLICE(wrapped, APM_WRAPPED_KEY_LEN);
	}
	args[0] = apm_text_array(apids, *moved);
	args[1] = apm_bytea_array(keys, *moved);
	args[2] = Int32GetDatum((int32) to);
	if (*moved > 0)
		apm_run_whole(&put, args, (uint64) *moved);
	return n;
}

/* Seals a record that waits anew; false if it does not open. */
static bool
seal_again(const ApmUuid *rid, uint32 from, uint32 to, ApmSlice sealed, ApmSlice *out)
{
	ApmBuf text = {.secret = true};
	ApmBuf again = {0};
	ApmStatus status;

	if (!have_generation(from))
		return false;
	status = apm_waiting_record_open(apm_key_wrapping(from), from, rid, sealed, &text);
	if (status == APM_OK)
		status =
			apm_waiting_record_seal(apm_key_wrapping(to), to, rid, APM_SLICE(text.data, text.len), &again);
	apm_buf_reset(&text);
	if (status != APM_OK && status != APM_ERR_OPEN)
		apm_raise(status, "seal a record that waits anew");
	*out = APM_SLICE(again.data, again.len);
	return status == APM_OK;
}

/* The same for records that wait. */
static int
move_waiting(uint32 to, int *moved)
{
	static ApmStatement take = {
		"SELECT w.id, w.generation, w.rid, w.sealed FROM ONLY apm.waiting AS w WHERE w.generation < $1"
		" AND (w.generation, w.id) > ($2, $3) ORDER BY w.generation, w.id"
		" LIMIT " CppAsString2(BATCH_ROWS) " FOR UPDATE SKIP LOCKED",
		3,
		{INT4OID, INT4OID, INT8OID},
		NULL,
	};
	static ApmStatement put = {
		"UPDATE ONLY apm.waiting AS w SET sealed = u.sealed, generation = $3"
		" FROM unnest($1, $2) AS u (rid, sealed) WHERE w.rid = u.rid",
		3,
		{UUIDARRAYOID, BYTEAARRAYOID, INT4OID},
		NULL,
	};
	Datum from[] = {Int32GetDatum((int32) to), Int32GetDatum(waiting.generation), Int64GetDatum(waiting.id)};
	int n = (int) apm_run(&take, from);
	ApmUuid *rids = palloc(sizeof(ApmUuid) * Max(n, 1));
	ApmSlice *sealed = palloc(sizeof(ApmSlice) * Max(n, 1));
	size_t bytes = 0;
	Datum args[3];
	int seen;

	*moved = 0;
	for (seen = 0; seen < n && bytes < BATCH_BYTES; seen++)
	{
		ApmSlice old = apm_row_bytea(seen, 4);

		bytes += old.len;
		waiting.id = apm_row_int8(seen, 1);
		waiting.generation = apm_row_int4(seen, 2);
		apm_row_uuid(seen, 3, &rids[*moved]);
		if (seal_again(&rids[*moved], (uint32) waiting.generation, to, old, &sealed[*moved]))
			(*moved)++;
		else
			stuck = true;
	}
	args[0] = apm_uuid_array(rids, *moved);
	args[1] = apm_bytea_array(sealed, *moved);
	args[2] = Int32GetDatum((int32) to);
	if (*moved > 0)
		apm_run_whole(&put, args, (uint64) *moved);
	return seen;
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
		"SELECT WHERE EXISTS (SELECT FROM ONLY apm.patient AS p WHERE p.generation < $1)"
		" OR EXISTS (SELECT FROM ONLY apm.waiting AS w WHERE w.generation < $1)",
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
	int patients_moved;
	int waiting_moved;
	bool more = move_patients(to, &patients_moved) > 0;

	more = move_waiting(to, &waiting_moved) > 0 || more;
	note_progress(to, patients_moved + waiting_moved);
	if (more)
		return APM_TURN_AGAIN;

	/* the end of a pass: what is left was locked, or does not open */
	memset(&patients, 0, sizeof(patients));
	memset(&waiting, 0, sizeof(waiting));
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
