/*
 * gatekeeper.c
 *	  The query gate, the network server's side: takes letters, and sees to it that each comes to an end.
 *
 * Letters that wait together are written in one transaction (gate_write.c).  Each then waits
 * until the blocks of all its questions are final (gate_waiting.c, gate_answer.c).
 *
 * While the node refuses to serve, or the server lacks a key, every letter fails at once.  A letter with a question
 * that the chain has lost (quarantined, or removed by hand) fails when that is noticed.  When the
 * worker ends, the mailbox fails what it had taken.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "apm_errors.h"
#include "apm_sql.h"
#include "network/gatekeeper.h"
#include "network/network_server.h"

#define LETTERS 128
#define LETTERS_BYTES (32 * 1024 * 1024) /* taken in a turn, and one more letter */
#define STARTING_MS 5000				 /* so long may it be unknown whether the node serves */
#define STARTING_POLL_MS 50
#define LOST_AFTER_MS 2000 /* a letter that waits longer may be lost */
#define LOOK_MS 2000
#define MINER_AWAY_MS 15000 /* it is not coming back soon */

static const char *const no_reads = "this node serves no reads";

static ApmLetter taken[LETTERS]; /* their requests live until the turn ends */
static int ntaken = 0;
static bool more = false; /* letters may have been left */

/* Is it still too early to wonder why nobody has said whether the node serves? */
static bool
starting(void)
{
	static TimestampTz started_at = 0;

	if (started_at == 0)
		started_at = GetCurrentTimestamp();
	return apm_refusal_get() == APM_REFUSAL_UNKNOWN &&
		   !TimestampDifferenceExceeds(started_at, GetCurrentTimestamp(), STARTING_MS);
}

static int
refusal_sqlstate(ApmRefusal why)
{
	switch (why)
	{
		case APM_REFUSAL_NO_CHAIN:
			return ERRCODE_APM_NOT_SET_UP;
		case APM_REFUSAL_NO_KEY:
			return ERRCODE_APM_KEY_MISSING;
		case APM_REFUSAL_GUARD:
			return ERRCODE_APM_LEDGER_GUARD;
		case APM_REFUSAL_UNKNOWN:
			return ERRCODE_APM_WORKER_DOWN;
		case APM_REFUSAL_STANDBY:
			return ERRCODE_READ_ONLY_SQL_TRANSACTION;
		default:
			return ERRCODE_APM_ROLLED_BACK;
	}
}

/*
 * Takes the letters that wait; apm_gate_turn writes their questions.  Between the two the
 * server moves the queue on, so that what a reader has committed before he asks is in the
 * pool before his question, unless the queue holds more than a batch.
 */
bool
apm_gate_take(void)
{
	Size bytes = 0;

	ntaken = 0;
	more = false;
	if (starting())
		return false;
	while (ntaken < LETTERS && bytes < LETTERS_BYTES &&
		   apm_mailbox_take(APM_WORKER_NETWORK, &taken[ntaken], 1) == 1)
		bytes += taken[ntaken++].request_len;
	more = ntaken == LETTERS || bytes >= LETTERS_BYTES;
	return ntaken > 0;
}

/* Opens the letters that were taken, writes their questions and lets them wait; those that nobody wants are left. */
static void
accept_taken(void)
{
	ApmGateLetter *letters[LETTERS];
	int n = 0;

	for (int i = 0; i < ntaken; i++)
	{
		if (!apm_mailbox_wanted(&taken[i]))
			continue;
		letters[n] = apm_gate_open_letter(&taken[i]);
		if (letters[n] != NULL)
			n++;
	}
	if (n == 0)
		return;
	apm_gate_write(letters, n);
	for (int i = 0; i < n; i++)
	{
		if (letters[i] != NULL)
			apm_waiting_add(letters[i]);
	}
}

/* Of the questions that wait for long, those that are nowhere any more; palloc'd. */
static int
list_lost(ApmUuid **out)
{
	/* one snapshot: no FT is on its way, so the one that would answer was handled or never comes */
	static ApmStatement lost = {
		"SELECT u.tid FROM unnest($1) AS u (tid)"
		" WHERE NOT EXISTS (SELECT FROM ONLY apm.final_queue)"
		" AND NOT EXISTS (SELECT FROM ONLY apm.pool AS p WHERE p.tid = u.tid)",
		1,
		{UUIDARRAYOID},
		NULL,
	};
	ApmUuid *tids;
	Datum args[1];
	int n = apm_waiting_tids(TimestampTzPlusMilliseconds(GetCurrentTimestamp(), -LOST_AFTER_MS), &tids);

	*out = tids;
	if (n == 0)
		return 0;
	apm_turn_begin("looking after queries");
	args[0] = apm_uuid_array(tids, n);
	n = (int) apm_run(&lost, args);
	for (int i = 0; i < n; i++)
		apm_row_uuid(i, 1, &tids[i]);
	apm_turn_commit_async();
	return n;
}

static void
fail_lost(void)
{
	ApmUuid *lost;
	int n = list_lost(&lost);

	for (int i = 0; i < n; i++)
	{
		ApmAsked *asked = apm_waiting_find(&lost[i]);

		if (asked != NULL) /* else its letter has failed for another question */
			apm_waiting_fail(asked->letter, ERRCODE_APM_WORKER_DOWN, "the chain has lost the query",
							 "Nothing was read. Ask again; apm.quarantine may have the reason.");
	}
}

/* Now and then: fails letters that nobody will answer. */
static void
look_after_waiting(void)
{
	static TimestampTz miner_seen = 0;
	static TimestampTz looked_at = 0;
	TimestampTz now = GetCurrentTimestamp();

	if (miner_seen == 0 || apm_worker_runs(APM_WORKER_MINER))
		miner_seen = now;
	if (!apm_waiting_any() || !TimestampDifferenceExceeds(looked_at, now, LOOK_MS))
		return;
	looked_at = now;
	if (TimestampDifferenceExceeds(miner_seen, now, MINER_AWAY_MS))
		apm_waiting_fail_all(ERRCODE_APM_WORKER_DOWN, "the chain's worker does not run", "See apm.status.");
	else
		fail_lost();
}

/* Every letter there is gets the same error. */
static void
fail_all(int sqlstate, const char *hint)
{
	apm_waiting_fail_all(sqlstate, no_reads, hint);
	for (int i = 0; i < ntaken; i++)
		apm_mailbox_fail(&taken[i], sqlstate, no_reads, hint);
}

int
apm_gate_turn(bool have_keys)
{
	ApmRefusal refusal = apm_refusal_get();

	if (ntaken == 0 && starting())
	{
		apm_wake(APM_WORKER_MINER); /* it looks when it turns */
		return STARTING_POLL_MS;
	}
	if (refusal != APM_REFUSAL_NONE)
		fail_all(refusal_sqlstate(refusal), apm_refusal_text(refusal));
	else if (!have_keys)
		fail_all(ERRCODE_APM_KEY_MISSING, APM_NETWORK_KEYS_HINT);
	else
		accept_taken();
	look_after_waiting();
	if (more)
		return APM_TURN_AGAIN;
	return apm_waiting_any() ? LOOK_MS : APM_TURN_IDLE;
}
