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
	ApmUuid rid;
	ApmUuid tid;
	ApmSlice apid;
	ApmSlice apr;	 /* sealed for PK_APM */
	ApmSlice tokens; /* blind tokens, APM_TOKEN_LEN bytes each; may be empty */
} ApmCloudRow;

/*
 * Into the outbox, in the caller's transaction; a Rid that is there already is left
 * out.  Wakes the cloud worker at commit.  Expects SPI and apm_privileged.
 */
extern void apm_outbox_put(const ApmCloudRow *rows, int n);

/* Would the outbox hold more than apm.max_outbox rows with that many more?  As exact as apm_depth.h says. */
extern bool apm_outbox_full(int more);

/*
 * Reads the sealed aPRs of n Rids: the cloud worker looks in the outbox and in the
 * cloud, in a transaction of its own, outside the caller's snapshot.  out[i] belongs to
 * rids[i]; out[i].len = 0 where neither has it.  palloc'd in the current context.
 * Raises 08000 when the cloud does not answer, AP010 when its table is not fit, AP005
 * when it answers with a row twice or unasked (nobody here could choose), 55000 without
 * preload, and whatever apm_mailbox_call() does.  What comes back is what the cloud
 * says: the caller compares it with the ledger.
 */
extern void apm_cloud_read(const ApmUuid *rids, int n, ApmSlice *out);

/*
 * Asks outbox and cloud which records have all of these tokens (ntokens of APM_TOKEN_LEN bytes, at least one);
 * palloc'd, each Rid once.  Raises as apm_cloud_read() does; 54000 when there are more than limit.
 */
extern int apm_cloud_match(const uint8 *tokens, int ntokens, int limit, ApmUuid **rids);

/*
 * How many rows of the cloud are sealed for the key with this id, among others or alone, as the cloud says it?  Reads the
 * heads of all of them, in the caller's transaction.  Expects SPI and apm_privileged; raises what the store does.
 */
extern int64 apm_cloud_sealed_for(const ApmKeyId *id);

#endif /* APM_CLOUD_H */
