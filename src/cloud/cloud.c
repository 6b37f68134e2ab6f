/*
 * cloud.c
 *	  The cloud worker: one turn.
 *
 * Somebody waits for a read; nobody waits for a push.  So letters come first.
 */
#include "postgres.h"

#include "cloud/store.h"
#include "worker/worker.h"

extern PGDLLEXPORT void apm_cloud_main(Datum main_arg) pg_attribute_noreturn();

static int
turn(void)
{
	int reading = apm_read_turn();
	int pushing = apm_push_turn();

	if (reading == APM_TURN_AGAIN || pushing == APM_TURN_IDLE)
		return reading;
	return pushing;
}

void
apm_cloud_main(Datum main_arg)
{
	static const ApmWorkerDesc desc = {.kind = APM_WORKER_CLOUD, .turn = turn};

	apm_worker_run(&desc, main_arg);
}
