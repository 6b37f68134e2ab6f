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

#include "keys/keyring.h"
#include "worker/worker.h"
#include "network/network_server.h"

extern PGDLLEXPORT void apm_network_server_main(Datum main_arg) pg_attribute_noreturn();

static bool
keys_are_here(void)
{
	return apm_key_have_private(APM_PAIR_NS) && apm_key_have_public(APM_PAIR_PB) &&
		   apm_key_have_public(APM_PAIR_APM);
}

static ApmStageKeys keys = {
	.here = keys_are_here,
	.missing = "the network server takes nothing from its queues: a key is missing",
	.hint = APM_NETWORK_KEYS_HINT,
};

static int
turn(void)
{
	bool open = apm_stage_has_keys(&keys);
	int next = open ? APM_TURN_IDLE : APM_KEYS_POLL_MS;
	bool asked = apm_gate_take();
	int held = asked ? 0 : apm_queue_held();

	/* then it was a record that has to wait which woke us, and neither a letter nor the chain */
	if (open && held > 0 && !apm_is_hurried())
		return held;
	if (open)
		next = apm_turn_sooner(next, held > 0 ? held : apm_queue_turn());
	next = apm_turn_sooner(next, apm_gate_turn(open));
	if (open)
		next = apm_turn_sooner(next, apm_validator_turn());
	return next;
}

void
apm_network_server_main(Datum main_arg)
{
	static const ApmWorkerDesc desc = {
		.kind = APM_WORKER_NETWORK, .start = apm_worker_by_index, .turn = turn};

	apm_worker_run(&desc, main_arg);
}
