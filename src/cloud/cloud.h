/*
 * cloud.h
 *	  What the rooms above ask of the cloud: put into the outbox, read back, forget.
 */
#ifndef APM_CLOUD_H
#define APM_CLOUD_H

#include "postgres.h"

#include "core/contract.h"

typedef struct ApmCloudRow
{
	ApmUuid rid;
	ApmUuid tid;
	ApmSlice apid;
	ApmSlice tokens; /* blind tokens, APM_TOKEN_LEN bytes each; may be empty */
} ApmCloudRow;

/* Raises XX001 unless each of n valid records, which have no body, was voided by an erasure.  Expects SPI and apm_privileged. */
extern void apm_content_require_void(const ApmUuid *tids, int n);

/*
 * Into the outbox, in the caller's transaction; a Rid that is there already is left
 * out.  With replace they take the place of what the cloud has for their Rids, whatever it is.  Wakes the cloud worker
 * at commit.  Expects SPI and apm_privileged.
 */
extern void apm_outbox_put(const ApmCloudRow *rows, int n, bool replace);

/*
 * From the caller's commit on, the cloud worker removes all that outbox and cloud have of a patient whom the ledger calls
 * erased, however long that takes.  Expects SPI and apm_privileged.
 */
extern void apm_cloud_forget(ApmSlice apid);

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

/* What is wrong with an aPR that came back. */
typedef enum ApmCloudFault
{
	APM_CLOUD_GOOD = 0,
	APM_CLOUD_MISSING,
	APM_CLOUD_ALTERED,
	APM_CLOUD_ANOTHER /* it is another record's */
} ApmCloudFault;

/*
 * Opens the outer layer of what came back for a Rid and compares it with the ledger: the leaf that stands there, the
 * patient whose record it is.  *opened borrows from *plain, and is good only if the answer is.
 */
extern ApmCloudFault apm_cloud_open(const ApmUuid *rid, ApmSlice apid, const ApmDigest *leaf, ApmSlice apr,
									ApmBuf *plain, ApmOpened *opened);

/* Where a Rid is found. */
typedef enum ApmCloudWhere
{
	APM_CLOUD_NOWHERE = 0,
	APM_CLOUD_OUTBOX,
	APM_CLOUD_STORED,
	APM_CLOUD_TWICE /* the cloud has several rows of it; what else is said is of one of them */
} ApmCloudWhere;

/* What is found there, as the cloud says it. */
typedef struct ApmCloudFound
{
	ApmCloudWhere where;
	ApmSlice apr;	 /* len = 0: none */
	ApmSlice apid;	 /* this and the next of stored rows only */
	ApmSlice tokens; /* APM_TOKEN_LEN bytes each; data NULL if the cloud has anything else there */
} ApmCloudFound;

/*
 * Reads what outbox or cloud have of n Rids, like apm_cloud_read(), and also what a reader is refused with.  Answers
 * for the first of them, at least one, as many as fit into memory well, and returns how many; the caller asks on.
 */
extern int apm_cloud_rows(const ApmUuid *rids, int n, ApmCloudFound *out);

/* A row of the cloud, whether it has a right to be there or not. */
typedef struct ApmCloudListed
{
	ApmUuid rid;
	ApmSlice apid; /* empty if it cannot be one */
} ApmCloudListed;

/*
 * Which rows the cloud has from one Rid to another, both included, in order, one of several with one Rid for each of
 * them.  Returns how many, at most about limit; *more: there are others behind the last of these.  *nameless: how many
 * have no Rid, if from is all zeros.  palloc'd.  Raises as apm_cloud_read() does.
 */
extern int apm_cloud_list(const ApmUuid *from, const ApmUuid *upto, int limit, ApmCloudListed **out,
						  int64 *nameless, bool *more);

/*
 * Deletes the cloud's rows of n Rids, and with nameless those that have none, in a transaction of its own.  What
 * ledger or outbox have by now stays.  Returns how many rows are gone.  Raises as apm_cloud_read() does.
 */
extern int64 apm_cloud_remove_strays(const ApmUuid *rids, int n, bool nameless);

/* How many rows of the cloud are sealed for that key?  Raises as apm_cloud_read() does. */
extern int64 apm_cloud_sealed_for(const ApmKeyId *key);

#endif /* APM_CLOUD_H */
