/*
 * cloud.c
 *	  The cloud worker: one turn.
 *
 * Somebody waits for an answer; nobody waits for a push or a digest.  So letters come first, and then who is to be
 * forgotten.
 */
#include "postgres.h"

#include "utils/guc.h"

#include "cloud/store.h"
#include "worker/worker.h"

extern PGDLLEXPORT void apm_cloud_main(Datum main_arg) pg_attribute_noreturn();

/*
 * Tables that fill and empty have no statistics worth the name, and the planner then sorts a
 * long queue to take its first rows.  Whatever is asked here goes by an index, that of the tokens
 * by way of a bitmap.
 */
static void
start(void)
{
	SetConfigOption("enable_seqscan", "off", PGC_USERSET, PGC_S_SESSION);
	SetConfigOption("enable_sort", "off", PGC_USERSET, PGC_S_SESSION);
}

static int
turn(void)
{
	int letters = apm_letters_turn();
	int removing = apm_removal_turn();
	int pushing = apm_push_turn();
	int publishing = apm_publish_turn();

	return apm_turn_sooner(apm_turn_sooner(letters, removing), apm_turn_sooner(pushing, publishing));
}

void
apm_cloud_main(Datum main_arg)
{
	static const ApmWorkerDesc desc = {.kind = APM_WORKER_CLOUD, .start = start, .turn = turn};

	apm_worker_run(&desc, main_arg);
}
