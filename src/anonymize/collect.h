/*
 * collect.h
 *	  Records that a statement submits row by row: kept until it ends.
 */
#ifndef APM_COLLECT_H
#define APM_COLLECT_H

#include "postgres.h"

#include "anonymize/submission.h"

/* Once, when the library is loaded. */
extern void apm_collect_init(void);

/* Keeps a record of the running statement; *used is the Rid that it has now. */
extern void apm_collect(const ApmGiven *given, ApmUuid *used);

/* At the end of the statement: encrypts and queues what the current subtransaction collected. */
extern void apm_collect_flush(void);

#endif /* APM_COLLECT_H */
