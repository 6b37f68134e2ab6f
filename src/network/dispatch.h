/*
 * dispatch.h
 *	  Inside the network room: from the ledger to the cloud room.
 */
#ifndef APM_DISPATCH_H
#define APM_DISPATCH_H

#include "postgres.h"

#include "core/bytes.h"

/*
 * Puts n valid records, by their Tids, into the outbox, in portions that fit into memory: each is taken from the ledger and
 * sealed for PK_APM.  Records of another origin are left out, and those that an erasure has voided.  With replace as
 * apm_outbox_put().  Raises XX001 where a body is gone otherwise.  Expects SPI and apm_privileged.
 */
extern void apm_dispatch_records(const ApmUuid *tids, int n, bool replace);

/* Tells the cloud room of the patients whom n valid erasures are about.  Expects SPI and apm_privileged. */
extern void apm_dispatch_erasures(const ApmUuid *tids, int n);

#endif /* APM_DISPATCH_H */
