/*
 * apm.c
 *	  Where the library starts: settings and memory, then each room in the order of the
 *	  house.
 *
 * Loaded through shared_preload_libraries it has shared memory and workers; loaded
 * later, by the first function that is called, it can still do what one backend can
 * do alone, and each room says plainly what it cannot.
 */
#include "postgres.h"

#include "fmgr.h"

#include "apm_guc.h"
#include "apm_loghook.h"
#include "apm_memory.h"
#include "anonymize/anonymize.h"
#include "worker/worker.h"

PG_MODULE_MAGIC;

extern void _PG_init(void);

void
_PG_init(void)
{
	apm_memory_init();
	apm_guc_init();
	apm_loghook_init();
	apm_worker_init();
	apm_anonymize_init();
}
