/*
 * reception.c
 *	  The APM's reception: what sensors submitted, matched with its patient and sent.
 *
 * A sensor's backend looks no patient up (waiting.c says why).  This worker does, as the APM:
 * it opens what is new in apm.waiting, a batch at a time in the order of arrival, finds the
 * patients, encrypts and queues what fits, with the time and the actor of the submission, and
 * marks the rest with the reason for which it goes on waiting.
 *
 * All of a batch is one transaction: a row is in apm.waiting or in the queue, whenever the
 * worker dies.  Whatever becomes of a row, its line in apm.submission is written once, so
 * that the sensor that repeats it finds the same amount of work.
 *
 * It waits for nobody.  A patient whom somebody registers or changes just now is left aside, with
 * all of his rows, so that they keep their order, until there is nothing else to do; then
 * all is looked at again, after a pause, or at once when the registration's commit wakes it.
 *
 * A row that cannot be opened or handled goes on waiting, marked "failed".  It holds nobody up, and nothing
 * is thrown away: what it lacks may be a key.  It is tried again when its patient is registered or
 * changed, and when reception starts.  An error does not say which row of a batch caused it; the next
 * ones then go one by one, until it is found.
 *
 * Beside that it carries out what was asked of the APM for good: patients who are to be forgotten (erasure.c), and what
 * old wrapping keys wrap, which moves to their successor (rewrap.c).
 *
 * Of a base that was loaded, or is being loaded, nothing is taken.  Nor is anything while the queue
 * is full, or while keys are missing; it says so.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "anonymize/datarule.h"
#include "anonymize/erasure.h"
#include "anonymize/known.h"
#include "anonymize/rotation.h"
#include "anonymize/waiting.h"
#include "apm_errors.h"
#include "chain/chain.h"
#include "keys/keyring.h"
#include "network/network.h"
#include "worker/worker.h"

#define BATCH_ROWS 1000
#define BATCH_BYTES (32 * 1024 * 1024)
#define PAUSE_MS 1000 /* until patients who were busy, or a full queue, are looked at again */

/* What becomes of a row. */
typedef enum Fate
{
	FATE_SEND,
	FATE_MARK, /* it waits for the reason that it has now */
	FATE_LEAVE /* it stays new, for its patient is busy */
} Fate;

typedef struct Row
{
	int64 id;
	ApmWaiting waiting;
	ApmRecord record;
	ApmTransaction tx; /* has the submission's time and actor */
	ApmFields identifying;
	ApmKnown *known; /* NULL: the row could not be opened */
	Fate fate;
	ApmWaitReason reason; /* of FATE_MARK */
	ApmUuid tid;		  /* of FATE_SEND, once it is encrypted */
} Row;

typedef struct Batch
{
	Row *rows;
	int n;
	bool more; /* there may be more than these */
	ApmKnownSet *patients;
	ApmDeclared declared;
} Batch;

extern PGDLLEXPORT void apm_reception_main(Datum main_arg) pg_attribute_noreturn();

/* How many of the next rows go one by one, since a batch with them failed. */
static int singly = 0;

/* Patients who are left aside until nothing else is new. */
static ApmDigest *busy = NULL;
static int nbusy = 0;

static bool
keys_are_here(void)
{
	return apm_key_have_private(APM_PAIR_APM) && apm_key_have_secrets() &&
		   apm_key_have_signer(APM_SIGN_ORIGIN) && apm_key_have_public(APM_PAIR_NS);
}

static ApmStageKeys keys = {
	.here = keys_are_here,
	.missing = "reception does not look at what sensors submit: a key is missing",
	.hint =
		"Reception needs the APM's secrets, envelope and signing keys, and the network server's public key."
		" See apm.key.",
};

/*
 * Beside what any row can cause: what belongs to its patient does not open, or is not what it must be; or
 * it was planted, and has no line in apm.submission.
 */
static bool
blames_row(int sqlstate)
{
	return apm_blames_row(sqlstate) || sqlstate == ERRCODE_APM_CANNOT_OPEN ||
		   sqlstate == ERRCODE_APM_TAMPERED || sqlstate == ERRCODE_APM_KEY_MISSING ||
		   sqlstate == ERRCODE_APM_LEDGER_GUARD;
}

static void
leave_aside(const ApmDigest *index)
{
	if (busy == NULL)
		busy = MemoryContextAlloc(TopMemoryContext, sizeof(ApmDigest));
	else
		busy = repalloc(busy, sizeof(ApmDigest) * (nbusy + 1));
	busy[nbusy++] = *index;
}

/* Opens a row; one that does not open fails. */
static void
open_row(Batch *batch, Row *row)
{
	ApmFields fields;

	row->fate = FATE_MARK;
	row->reason = APM_WAIT_FAILED;
	if (!apm_waiting_open(&row->waiting, &row->record, &row->tx))
		return;
	row->known = apm_known_enter(batch->patients, &row->waiting.index);
	if (apm_fields_of(row->record.value, &fields))
		apm_declared_pick(&batch->declared, &fields, APM_CLASS_IDENTIFYING, true, &row->identifying);
}

/* Reads the oldest new rows, as many as make a batch, but for those of busy patients. */
static void
claim(Batch *batch, int64 *oldest)
{
	/* the limits are constants: with a parameter the planner guesses, and may sort the whole table */
	static ApmStatement many = {
		"SELECT id, rid, index_key, generation, sealed FROM ONLY apm.waiting WHERE reason = 'new' AND index_key <> ALL ($1)"
		" ORDER BY id LIMIT " CppAsString2(BATCH_ROWS),
		1,
		{BYTEAARRAYOID},
		NULL,
	};
	static ApmStatement one = {
		"SELECT id, rid, index_key, generation, sealed FROM ONLY apm.waiting WHERE reason = 'new' AND index_key <> ALL ($1)"
		" ORDER BY id LIMIT 1",
		1,
		{BYTEAARRAYOID},
		NULL,
	};
	Datum args[] = {apm_digest_array(busy, nbusy)};
	int found = (int) apm_run(singly > 0 ? &one : &many, args);
	SPITupleTable *table = SPI_tuptable;
	size_t bytes = 0;

	*oldest = found > 0 ? apm_row_int8(0, 1) : 0;
	batch->rows = palloc0(sizeof(Row) * Max(found, 1));
	while (batch->n < found && bytes < BATCH_BYTES)
	{
		Row *row = &batch->rows[batch->n];

		row->id = apm_row_int8(batch->n, 1);
		apm_row_uuid(batch->n, 2, &row->waiting.rid);
		apm_row_digest(batch->n, 3, &row->waiting.index);
		row->waiting.generation = (uint32) apm_row_int4(batch->n, 4);
		row->waiting.sealed = apm_row_bytea(batch->n, 5);
		bytes += row->waiting.sealed.len;
		open_row(batch, row);
		batch->n++;
	}
	batch->more = batch->n < found || found == BATCH_ROWS || singly > 0;
	SPI_freetuptable(table);
}

static void
decide(Row *row)
{
	row->fate = FATE_MARK;
	if (row->known->patient == NULL)
		row->reason = APM_WAIT_PATIENT;
	else if (apm_patient_differs(row->known->patient, &row->identifying))
		row->reason = APM_WAIT_IDENTITY;
	else
		row->fate = FATE_SEND;
}

/* Decides all rows; those that would wait once more, under a lock against whoever registers their patient now. */
static void
decide_all(Batch *batch)
{
	ApmKnown **again = palloc(sizeof(ApmKnown *) * Max(batch->n, 1));
	int n = 0;

	apm_known_load_new(batch->patients);
	for (int i = 0; i < batch->n; i++)
	{
		Row *row = &batch->rows[i];

		if (row->known == NULL)
			continue;
		decide(row);
		if (row->fate == FATE_SEND || row->known->locked || row->known->busy)
			continue;
		row->known->locked = apm_patient_try_lock(&row->waiting.index, false);
		row->known->busy = !row->known->locked;
		if (row->known->busy)
			leave_aside(&row->waiting.index);
		else
			again[n++] = row->known;
	}
	apm_known_load(again, n);
	for (int i = 0; i < batch->n; i++)
	{
		Row *row = &batch->rows[i];

		if (row->known != NULL && row->known->busy)
			row->fate = FATE_LEAVE;
		else if (row->known != NULL && row->known->locked)
			decide(row);
	}
	pfree(again);
}

/*
 * Holds what is to be sent to what the contract asks.  Nobody is there any more to be told that a record is bad: what
 * is found out about one, now that its patient is known, goes along with it.
 */
static void
hold_all(Batch *batch)
{
	ApmProspect *prospects = palloc(sizeof(ApmProspect) * Max(batch->n, 1));
	Row **rows = palloc(sizeof(Row *) * Max(batch->n, 1));
	int n = 0;

	for (int i = 0; i < batch->n; i++)
	{
		Row *row = &batch->rows[i];

		if (row->fate != FATE_SEND)
			continue;
		row->record.dated = true;
		row->record.observed_us = row->tx.time_us;
		rows[n] = row;
		prospects[n++] = (ApmProspect){.patient = row->known->patient, .record = &row->record};
	}
	apm_records_hold(prospects, n, &batch->declared, APM_TOLD_NOTHING);
	for (int i = 0; i < n; i++)
	{
		if (!prospects[i].busy)
			continue;
		if (!rows[i]->known->busy)
			leave_aside(&rows[i]->waiting.index);
		rows[i]->known->busy = true;
		rows[i]->fate = FATE_LEAVE;
	}
	pfree(prospects);
	pfree(rows);
}

static void
encrypt_all(Batch *batch, ApmOutgoing *out)
{
	for (int i = 0; i < batch->n; i++)
	{
		Row *row = &batch->rows[i];
		int place;

		CHECK_FOR_INTERRUPTS();
		if (row->fate != FATE_SEND)
			continue;
		place = apm_record_add(out, row->known->patient, &row->record, &batch->declared, &row->tx);
		row->tid = out->items[place].tid;
	}
}

static void
write_sent(const Batch *batch)
{
	static ApmStatement leave = {
		"DELETE FROM ONLY apm.waiting WHERE rid = ANY ($1)", 1, {UUIDARRAYOID}, NULL};
	ApmUuid *rids = palloc(sizeof(ApmUuid) * batch->n);
	Datum args[1];
	int n = 0;

	for (int i = 0; i < batch->n; i++)
	{
		if (batch->rows[i].fate == FATE_SEND)
			rids[n++] = batch->rows[i].waiting.rid;
	}
	if (n == 0)
		return;
	args[0] = apm_uuid_array(rids, n);
	apm_run_whole(&leave, args, (uint64) n);
}

static void
write_marked(const Batch *batch)
{
	static ApmStatement mark = {
		"UPDATE ONLY apm.waiting AS w SET reason = u.reason FROM unnest($1, $2) AS u (rid, reason)"
		" WHERE w.rid = u.rid",
		2,
		{UUIDARRAYOID, TEXTARRAYOID},
		NULL,
	};
	ApmUuid *rids = palloc(sizeof(ApmUuid) * batch->n);
	ApmSlice *why = palloc(sizeof(ApmSlice) * batch->n);
	Datum args[2];
	int n = 0;

	for (int i = 0; i < batch->n; i++)
	{
		const char *reason = apm_wait_reasons[batch->rows[i].reason];

		if (batch->rows[i].fate != FATE_MARK)
			continue;
		rids[n] = batch->rows[i].waiting.rid;
		why[n++] = APM_SLICE(reason, strlen(reason));
	}
	if (n == 0)
		return;
	args[0] = apm_uuid_array(rids, n);
	args[1] = apm_text_array(why, n);
	apm_run_whole(&mark, args, (uint64) n);
}

/* The lines of apm.submission: all of them, also where there is nothing to say. */
static void
write_submissions(const Batch *batch)
{
	static ApmStatement name = {
		"UPDATE ONLY apm.submission AS s SET tid = NULLIF(u.tid, '00000000-0000-0000-0000-000000000000'),"
		" queued_at = CASE WHEN u.tid <> '00000000-0000-0000-0000-000000000000' THEN pg_catalog.now() END"
		" FROM unnest($1, $2) AS u (rid, tid) WHERE s.rid = u.rid",
		2,
		{UUIDARRAYOID, UUIDARRAYOID},
		NULL,
	};
	ApmUuid *rids = palloc(sizeof(ApmUuid) * batch->n);
	ApmUuid *tids = palloc(sizeof(ApmUuid) * batch->n);
	Datum args[2];
	int n = 0;

	for (int i = 0; i < batch->n; i++)
	{
		if (batch->rows[i].fate == FATE_LEAVE)
			continue;
		rids[n] = batch->rows[i].waiting.rid;
		tids[n++] = batch->rows[i].tid;
	}
	if (n == 0)
		return;
	args[0] = apm_uuid_array(rids, n);
	args[1] = apm_uuid_array(tids, n);
	apm_run_whole(&name, args, (uint64) n);
}

/* Says that rows failed: in the log, and in apm.status. */
static void
tell_failed(int sqlstate)
{
	static const char *const message =
		"a record that a sensor submitted cannot be handled and goes on waiting";

	ereport(WARNING,
			(errcode(sqlstate), errmsg("%s", message),
			 errhint("If a key is missing, bring it back and call apm_run_reception(), which tries again.")));
	apm_turn_failed(ERRCODE_APM_CANNOT_OPEN, message);
}

/* Does everything to a batch that has been claimed. */
static void
receive(Batch *batch)
{
	ApmOutgoing out;
	bool failed = false;

	apm_outgoing_start(&out, NULL);
	decide_all(batch);
	hold_all(batch);
	encrypt_all(batch, &out);
	write_sent(batch);
	write_marked(batch);
	write_submissions(batch);
	apm_outgoing_send(&out);

	for (int i = 0; i < batch->n; i++)
		failed = failed || batch->rows[i].known == NULL;
	if (failed)
		tell_failed(ERRCODE_APM_CANNOT_OPEN);
}

/* Is there room for these in the queue?  Says once if there is none. */
static bool
has_room(int n)
{
	static bool told = false;
	bool full = apm_queue_full(n);

	if (full && !told)
		apm_turn_failed(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED, "the queue is full");
	told = full;
	return !full;
}

/* One batch, in a transaction; answers as a turn does. */
static int
take_batch(int64 *oldest)
{
	Batch *batch;
	int next;

	apm_turn_begin("receiving what sensors submitted");
	batch = palloc0(sizeof(Batch));
	batch->patients = apm_known_new();
	apm_declared_load(&batch->declared);
	claim(batch, oldest);
	if (batch->n > 0 && apm_chain_loaded())
		next = APM_TURN_IDLE;
	else if (batch->n > 0 && !has_room(batch->n))
		next = PAUSE_MS;
	else
	{
		if (batch->n > 0)
			receive(batch);
		next = batch->more && batch->n > 0 ? APM_TURN_AGAIN : nbusy > 0 ? PAUSE_MS : APM_TURN_IDLE;
	}
	if (singly > 0)
		singly = batch->n > 0 ? singly - 1 : 0;
	apm_turn_commit();
	if (next != APM_TURN_AGAIN)
		nbusy = 0;
	return next;
}

/* The row that failed alone goes on waiting, out of the others' way. */
static void
put_aside(int64 id, int sqlstate)
{
	static ApmStatement mark = {
		"UPDATE ONLY apm.waiting SET reason = 'failed' WHERE id = $1 AND reason = 'new'", 1, {INT8OID}, NULL};
	Datum args[] = {Int64GetDatum(id)};

	apm_turn_begin("putting a row aside that failed");
	apm_run(&mark, args);
	apm_turn_commit();
	tell_failed(sqlstate);
}

/* What failed is new again, once in the life of a worker: what it lacked may be here by now. */
static void
retry_failed(void)
{
	static ApmStatement retry = {
		"UPDATE ONLY apm.waiting SET reason = 'new' WHERE reason = 'failed'", 0, {0}, NULL};
	static bool done = false;

	if (done)
		return;
	apm_turn_begin("trying again what failed");
	if (!apm_chain_loaded())
	{
		apm_run(&retry, NULL);
		done = true;
	}
	apm_turn_commit();
}

/* The next batch of what sensors submitted; a row that fails alone goes on waiting. */
static int
receive_turn(void)
{
	MemoryContext context = CurrentMemoryContext;
	volatile int sqlstate = 0;
	volatile int next = APM_TURN_IDLE;
	int64 *oldest = palloc0(sizeof(int64));

	retry_failed();
	PG_TRY();
	{
		next = take_batch(oldest);
	}
	PG_CATCH();
	{
		if (*oldest == 0) /* none was read that could be put aside */
			PG_RE_THROW();
		sqlstate = apm_turn_blame(context, blames_row);
	}
	PG_END_TRY();
	if (sqlstate == 0)
		return next;

	nbusy = 0;
	if (singly == 0)
	{
		singly = BATCH_ROWS;
		return APM_TURN_AGAIN;
	}
	singly--;
	put_aside(*oldest, sqlstate);
	return APM_TURN_AGAIN;
}

static int
turn(void)
{
	int next;

	if (!apm_stage_has_keys(&keys))
		return APM_KEYS_POLL_MS;
	next = apm_erasure_turn();
	next = apm_turn_sooner(next, apm_rewrap_turn());
	return apm_turn_sooner(next, receive_turn());
}

void
apm_reception_main(Datum main_arg)
{
	static const ApmWorkerDesc desc = {
		.kind = APM_WORKER_RECEPTION, .start = apm_worker_by_index, .turn = turn};

	apm_worker_run(&desc, main_arg);
}
