/*
 * erasure.c
 *	  What becomes of a request to forget a patient.
 *
 * apm_forget() leaves a request, and reception does the rest.  It looks at how things are and not at what
 * it did before, so that it can be killed anywhere:
 *
 *		asked		the erasure is built from what the ledger has of the patient now, signed with the actor of the
 *					request, and queued: the request is sent
 *		sent		refused because something of the patient came in between: asked, once more
 *					refused otherwise: that is the end of it, and the patient is back
 *		(ledger)	whom the ledger has as erased is entered in the journal, durably; then he is destroyed and his
 *					request is done, in one transaction.  From then on nothing leads from the request to him.
 *		(journal)	whoever is in the journal and is here, or is not erased in the ledger, came back with an older state
 *					of the database.  He is destroyed, and a new request asks the ledger to erase him once more.
 *
 * The journal comes before the destruction.  The other way round, a crash between the two and then a
 * restored backup would bring him back, with nobody to remember.
 *
 * An idle turn costs one statement: what was carried out last is remembered by the height of the newest
 * erasure, and by the journal's serial.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "anonymize/destroy.h"
#include "anonymize/erasure.h"
#include "anonymize/request.h"
#include "anonymize/tombstone.h"
#include "apm_errors.h"
#include "chain/chain.h"
#include "keys/journal.h"
#include "network/network.h"
#include "worker/worker.h"

#define PAGE 1000			   /* erased patients looked at together */
#define BATCH 100			   /* destroyed together */
#define PAUSE_MS 1000		   /* until a request that is under way, or a busy patient, is looked at again */
#define FAILURE_PAUSE_MS 10000 /* until what failed is tried again */

/* How far this process has come. */
typedef struct Progress
{
	int64 height;		 /* all erasures up to that block are carried out; -1: not known */
	uint64 journal;		 /* serial of the journal that is obeyed; 0: of none */
	TimestampTz refused; /* see apm_tombstone_refused() */
} Progress;

static Progress progress = {.height = -1, .refused = DT_NOBEGIN};

/* What there may be to do. */
typedef struct Outlook
{
	ApmDigest chain;
	int64 height; /* of the newest erasure */
	uint64 journal;
	bool requests; /* there are some that have not ended */
} Outlook;

/* False where there is no chain. */
static bool
look(Outlook *out)
{
	static ApmStatement get = {
		"SELECT c.chain, coalesce((SELECT pg_catalog.max(v.erasure_height) FROM ONLY apm.ledger_void AS v), 0),"
		" EXISTS (SELECT FROM ONLY apm.erasure AS e WHERE e.apid IS NOT NULL) FROM ONLY apm.chain AS c",
		0,
		{0},
		NULL,
	};

	if (apm_run(&get, NULL) == 0)
		return false;
	apm_row_digest(0, 1, &out->chain);
	out->height = apm_row_int8(0, 2);
	out->requests = apm_row_bool(0, 3);
	out->journal = apm_journal_serial(&out->chain);
	return true;
}

/* A patient who is to be destroyed. */
typedef struct Doomed
{
	ApmErased entry; /* for the journal */
	int64 voided;	 /* transactions in the ledger */
} Doomed;

/* Takes what the journal needs from the transaction that erased him. */
static void
read_erasure(const ApmUuid *tid, Doomed *out)
{
	const ApmErasureFields *erasure;
	ApmTransaction tx;
	ApmBody body;

	apm_ledger_bodies(tid, 1, &body);
	if (body.transaction.len == 0)
		ereport(ERROR,
				(errcode(ERRCODE_APM_TAMPERED), errmsg("the ledger lacks the transaction of an erasure"),
				 errhint("Run apm_verify().")));
	apm_check(apm_transaction_decode(body.transaction, &tx), "read an erasure");
	erasure = &tx.u.erasure;
	if (tx.kind != APM_KIND_ERASURE || erasure->apid.len > APM_APID_MAX)
		apm_raise(APM_ERR_FORMAT, "read an erasure");
	memset(out, 0, sizeof(*out));
	memcpy(out->entry.apid, erasure->apid.data, erasure->apid.len);
	memcpy(out->entry.actor, tx.actor, APM_STAFF_LEN);
	out->entry.roles = tx.roles;
	out->entry.reason = erasure->reason;
	out->entry.time_us = tx.time_us;
	out->voided = erasure->count;
}

/*
 * Enters them in the journal, destroys them and ends their requests.  Whoever is busy is left for the next
 * time; false if all are.
 */
static bool
carry_out(const Outlook *outlook, const Doomed *doomed, int n)
{
	ApmSlice *apids = palloc_array(ApmSlice, n);
	int64 *voided = palloc_array(int64, n);
	bool *destroyed = palloc_array(bool, n);
	int count = 0;

	for (int i = 0; i < n; i++)
	{
		apids[i] = APM_SLICE(doomed[i].entry.apid, strlen(doomed[i].entry.apid));
		if (!apm_journal_has(&outlook->chain, apids[i]))
			apm_journal_add(&outlook->chain, &doomed[i].entry);
	}
	apm_patients_destroy(apids, n, destroyed);
	for (int i = 0; i < n; i++)
	{
		if (!destroyed[i])
			continue;
		apids[count] = apids[i];
		voided[count++] = doomed[i].voided;
	}
	apm_requests_finish(apids, voided, count);
	return count > 0;
}

/*
 * The erasures, up to BATCH, of those of n erased patients of whom something is here, or who are not in the
 * journal. *pending is set if the final transaction of one is still to come.
 */
static int
pick_due(const Outlook *outlook, const ApmSlice *apids, ApmUuid *tids, int n, bool *pending)
{
	static ApmStatement find = {
		"SELECT EXISTS (SELECT FROM ONLY apm.patient AS p WHERE p.apid = u.apid)"
		" OR EXISTS (SELECT FROM ONLY apm.erasure AS e WHERE e.apid = u.apid),"
		" EXISTS (SELECT FROM ONLY apm.final_transaction AS t WHERE t.tid = u.tid AND t.rule = 0)"
		" FROM unnest($1, $2) WITH ORDINALITY AS u (apid, tid, place) ORDER BY u.place",
		2,
		{TEXTARRAYOID, UUIDARRAYOID},
		NULL,
	};
	Datum args[] = {apm_text_array(apids, n), apm_uuid_array(tids, n)};
	int count = 0;

	apm_run(&find, args);
	for (int i = 0; i < n && count < BATCH; i++)
	{
		if (!apm_row_bool(i, 1) && apm_journal_has(&outlook->chain, apids[i]))
			continue;
		if (apm_row_bool(i, 2))
			tids[count++] = tids[i];
		else
			*pending = true;
	}
	return count;
}

/* Carries out what the ledger has erased. */
static int
follow_ledger(const Outlook *outlook, Progress *next)
{
	ApmSlice after = APM_SLICE("", 0);
	Doomed *doomed = palloc_array(Doomed, BATCH);
	bool pending = false;
	ApmSlice *apids;
	ApmUuid *tids;
	int found;
	int due;

	do
	{
		found = apm_ledger_erased(after, PAGE, &apids, &tids);
		due = found > 0 ? pick_due(outlook, apids, tids, found, &pending) : 0;
		after = found > 0 ? apids[found - 1] : after;
	} while (due == 0 && found == PAGE);
	for (int i = 0; i < due; i++)
		read_erasure(&tids[i], &doomed[i]);
	if (due > 0)
		return carry_out(outlook, doomed, due) ? APM_TURN_AGAIN : PAUSE_MS;
	if (pending)
		return PAUSE_MS;
	next->height = outlook->height;
	return APM_TURN_IDLE;
}

/* Carries out for whom the ledger has nothing to erase, since it never admitted him. */
static int
follow_requests(const Outlook *outlook)
{
	ApmErased *entries = palloc_array(ApmErased, BATCH);
	Doomed *doomed = palloc0(sizeof(Doomed) * BATCH);
	int n = apm_requests_unknown(entries, BATCH);

	for (int i = 0; i < n; i++)
		doomed[i].entry = entries[i];
	if (n == 0)
		return APM_TURN_IDLE;
	return carry_out(outlook, doomed, n) ? APM_TURN_AGAIN : PAUSE_MS;
}

/* Destroys who is in the journal and here, and has the ledger erase whom it still has. */
static int
follow_journal(const Outlook *outlook, Progress *next)
{
	static ApmStatement here = {
		"SELECT p.apid FROM ONLY apm.patient AS p WHERE p.apid = ANY ($1) LIMIT $2",
		2,
		{TEXTARRAYOID, INT4OID},
		NULL,
	};
	ApmErased *entries;
	int n = apm_journal_read(&outlook->chain, &entries);
	ApmSlice *apids = palloc_array(ApmSlice, Max(n, 1));
	bool destroyed[BATCH] = {false};
	Datum args[2];
	int left;

	for (int i = 0; i < n; i++)
		apids[i] = APM_SLICE(entries[i].apid, strlen(entries[i].apid));
	args[0] = apm_text_array(apids, n);
	args[1] = Int32GetDatum(BATCH);
	left = n > 0 ? (int) apm_run(&here, args) : 0;
	for (int i = 0; i < left; i++)
		apids[i] = apm_row_text(i, 1);
	if (left > 0)
		apm_patients_destroy(apids, left, destroyed);
	for (int i = 0; i < left; i++)
	{
		if (destroyed[i])
			return APM_TURN_AGAIN;
	}
	if (left > 0)
		return PAUSE_MS;
	next->journal = outlook->journal;
	return n > 0 && apm_requests_ask_again(entries, n) > 0 ? APM_TURN_AGAIN : APM_TURN_IDLE;
}

/* Brings requests on their way; there are some. */
static int
move_requests(Progress *next)
{
	bool erased = false;

	if (apm_requests_review(&erased) > 0)
		return APM_TURN_AGAIN;
	if (erased)
		next->height = -1;
	if (apm_queue_full(1))
		return PAUSE_MS;
	return apm_request_send() ? APM_TURN_AGAIN : PAUSE_MS;
}

/* The first step for which there is something to do; *next is how far that comes. */
static int
take_step(const Outlook *outlook, Progress *next)
{
	int wanted = APM_TURN_IDLE;

	apm_tombstone_refused(&next->refused);
	/* a journal that was replaced or lost gets from the ledger whom it lacks */
	if (outlook->height != next->height || outlook->journal != next->journal)
		wanted = follow_ledger(outlook, next);
	if (wanted != APM_TURN_AGAIN && outlook->journal != next->journal)
		wanted = apm_turn_sooner(wanted, follow_journal(outlook, next));
	if (wanted != APM_TURN_AGAIN && outlook->requests)
		wanted = apm_turn_sooner(wanted, follow_requests(outlook));
	if (wanted != APM_TURN_AGAIN && outlook->requests)
		wanted = apm_turn_sooner(wanted, move_requests(next));
	return wanted;
}

/* In a transaction. */
static int
step(void)
{
	Progress next = progress;
	int wanted = APM_TURN_IDLE;
	Outlook outlook;

	apm_turn_begin("forgetting patients");
	/* of a base that is being loaded the ledger may not be there yet */
	if (look(&outlook) && !apm_chain_loaded())
		wanted = take_step(&outlook, &next);
	apm_turn_commit();
	progress = next;
	return wanted;
}

/* Errors that lie with a patient or the journal, and that records need not wait for. */
static bool
blames_erasure(int sqlstate)
{
	return apm_blames_row(sqlstate) || sqlstate == ERRCODE_APM_CANNOT_OPEN ||
		   sqlstate == ERRCODE_APM_TAMPERED || sqlstate == ERRCODE_APM_KEY_MISSING ||
		   sqlstate == ERRCODE_APM_KEY_REFUSED || sqlstate == ERRCODE_APM_LEDGER_GUARD;
}

int
apm_erasure_turn(void)
{
	static const char *const message = "a patient who is to be forgotten cannot be";
	static TimestampTz not_before = 0;
	MemoryContext turn = CurrentMemoryContext;
	volatile int sqlstate = 0;
	volatile int wanted = FAILURE_PAUSE_MS;

	if (GetCurrentTimestamp() < not_before)
		return FAILURE_PAUSE_MS;
	PG_TRY();
	{
		wanted = step();
	}
	PG_CATCH();
	{
		sqlstate = apm_turn_blame(turn, blames_erasure);
	}
	PG_END_TRY();
	if (sqlstate != 0)
	{
		apm_request_leave_aside();
		not_before = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), FAILURE_PAUSE_MS);
		ereport(WARNING, (errcode(sqlstate), errmsg("%s", message),
						  errhint("It is tried again; apm.erasure_request lists the requests.")));
		apm_turn_failed(sqlstate, message);
	}
	return wanted;
}
