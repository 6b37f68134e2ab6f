/*
 * server.c
 *	  The network server: one turn.
 *
 * Letters are taken, then a batch of the queue goes into the pool, then the letters' queries: a
 * reader finds what was committed before he asked, if the queue was no longer than a batch.
 * Last come the final transactions, which end somebody's waiting.
 *
 * Without PrK_NS, or a public key that its stages seal for, it does the stages that it can and says
 * which it cannot.
 */
#include "postgres.h"

#include "utils/guc.h"
#include "utils/timestamp.h"

#include "apm_errors.h"
#include "keys/keyring.h"
#include "worker/worker.h"
#include "network/network_server.h"

#define KEYS_POLL_MS 1000

static const char *const no_keys = "the network server takes nothing from its queues: a key is missing";

extern PGDLLEXPORT void apm_network_server_main(Datum main_arg) pg_attribute_noreturn();

/* Can an error with this SQLSTATE be what one row caused?  Any other is no reason to blame a row. */
static bool
is_rows_fault(int sqlstate)
{
	switch (ERRCODE_TO_CATEGORY(sqlstate))
	{
		case ERRCODE_DATA_EXCEPTION:
		case ERRCODE_INTEGRITY_CONSTRAINT_VIOLATION:
		case ERRCODE_PROGRAM_LIMIT_EXCEEDED:
		case ERRCODE_INTERNAL_ERROR: /* and damaged pages */
			return true;
		default:
			return false;
	}
}

int
apm_rows_fault(MemoryContext turn)
{
	int sqlstate;

	MemoryContextSwitchTo(turn);
	sqlstate = geterrcode();
	if (!is_rows_fault(sqlstate))
		PG_RE_THROW();
	FlushErrorState();
	apm_turn_abort();
	return sqlstate;
}

static bool
keys_are_here(void)
{
	return apm_key_have_private(APM_PAIR_NS) && apm_key_have_public(APM_PAIR_PB) &&
		   apm_key_have_public(APM_PAIR_APM);
}

/*
 * May it do the stages that open and seal?  Says so once when it may not, and looks again
 * now and then: nobody tells a worker when keys are made.
 */
static bool
have_keys(void)
{
	static bool told = false;
	static TimestampTz looked_at = 0;
	TimestampTz now = GetCurrentTimestamp();
	bool have = keys_are_here();

	if (!have && TimestampDifferenceExceeds(looked_at, now, KEYS_POLL_MS))
	{
		looked_at = now;
		apm_key_forget();
		have = keys_are_here();
	}
	if (!have && !told)
	{
		ereport(LOG, (errcode(ERRCODE_APM_KEY_MISSING), errmsg("%s", no_keys),
					  errhint("%s", APM_NETWORK_KEYS_HINT)));
		apm_turn_failed(ERRCODE_APM_KEY_MISSING, no_keys);
	}
	told = !have;
	return have;
}

/*
 * Tables that fill and empty have no statistics worth the name, and the planner then sorts a
 * long queue to take its first rows.  Whatever is asked here goes by an index.
 */
static void
start(void)
{
	SetConfigOption("enable_seqscan", "off", PGC_USERSET, PGC_S_SESSION);
	SetConfigOption("enable_bitmapscan", "off", PGC_USERSET, PGC_S_SESSION);
	SetConfigOption("enable_sort", "off", PGC_USERSET, PGC_S_SESSION);
}

static int
turn(void)
{
	bool open = have_keys();
	int next = open ? APM_TURN_IDLE : KEYS_POLL_MS;

	apm_gate_take();
	if (open)
		next = apm_sooner(next, apm_queue_turn());
	next = apm_sooner(next, apm_gate_turn(open));
	if (open)
		next = apm_sooner(next, apm_validator_turn());
	return next;
}

void
apm_network_server_main(Datum main_arg)
{
	static const ApmWorkerDesc desc = {.kind = APM_WORKER_NETWORK, .start = start, .turn = turn};

	apm_worker_run(&desc, main_arg);
}
