/*
 * start.h
 *	  How a worker process is asked for.  Private to src/worker and its tests.
 */
#ifndef APM_WORKER_START_H
#define APM_WORKER_START_H

#include "postmaster/bgworker.h"
#include "storage/dsm.h"

#include "worker/state.h"

/* What bgw_extra carries; the database is in bgw_main_arg. */
typedef struct ApmWorkerStart
{
	Oid role;
	bool once;
	dsm_handle report; /* of a one-shot worker: an ApmWorkerReport */
} ApmWorkerStart;

/* How a one-shot worker ended, written by it and read by its starter after its end. */
typedef struct ApmWorkerReport
{
	bool done;	  /* it came to its end in good order */
	bool failed;  /* an error ended it; the rest is about that */
	bool missing; /* the extension is not in this database */
	int code;	  /* SQLSTATE */
	char text[APM_ERROR_TEXT_LEN];
} ApmWorkerReport;

/*
 * Registers a worker, which nobody restarts.  The postmaster tells notify_pid about its start
 * and end.  NULL when max_worker_processes is used up.
 */
extern BackgroundWorkerHandle *apm_worker_start(ApmWorkerKind kind, Oid database, const ApmWorkerStart *start,
												int notify_pid);

#endif /* APM_WORKER_START_H */
