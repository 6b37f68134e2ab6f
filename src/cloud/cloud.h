/*
 * cloud.h
 *	  What the rooms above ask of the cloud: put into the outbox, read back.
 */
#ifndef APM_CLOUD_H
#define APM_CLOUD_H

#include "postgres.h"

#include "core/bytes.h"

typedef struct ApmCloudRow
{
	ApmUuid		rid;
	ApmUuid		tid;
	ApmSlice	apid;
	ApmSlice	apr;			/* sealed for PK_APM */
} ApmCloudRow;

/* Into the outbox, in the caller's transaction; a Rid that is there already is left out.  Wakes the cloud worker at commit.  SPI and apm_privileged. */
extern void apm_outbox_put(const ApmCloudRow *rows, int n);
/* rows waiting in the outbox, cheaply bounded by limit */
extern int64 apm_outbox_depth(int64 limit);

/*
 * Reads the sealed aPRs of n Rids: the cloud worker looks in the outbox and in the cloud, in a transaction
 * of its own, outside the caller's snapshot.  out[i] belongs to rids[i]; apr.len = 0 where neither has it.
 * palloc'd.  Raises 08000 when the cloud does not answer, 55000 without preload.
 * A row that the cloud sends twice or unasked is an error (own SQLSTATE), not a choice.
 */
extern void apm_cloud_read(const ApmUuid *rids, int n, ApmSlice *out);

#endif							/* APM_CLOUD_H */
