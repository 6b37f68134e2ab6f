/*
 * dispatch.c
 *	  From the ledger to the cloud room: records that the cloud is to have, patients whom it is to forget.
 *
 * The ledger has all that the cloud is to have of a record, so the outbox only says which ones it is to have, and a record
 * can be sent again at any time, by the validator when it becomes final or by a rebuild years later.
 *
 * A valid record can be without a body: an erasure that came before its final transaction was handled has voided it.  Then
 * there is nothing to send.
 */
#include "postgres.h"

#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "apm_errors.h"
#include "chain/chain.h"
#include "cloud/cloud.h"
#include "keys/keyring.h"
#include "network/dispatch.h"

#define BODY_BYTES (32 * 1024 * 1024) /* aimed at, of one statement */
#define BODIES_FIRST 16
#define BODIES_MAX 1000

/* The outbox's row of a body; false if the record is not our APM's. */
static bool
make_row(const ApmUuid *tid, const ApmBody *body, ApmCloudRow *out)
{
	ApmTransaction tx;

	apm_check(apm_transaction_decode(body->transaction, &tx), "read a record's transaction");
	if (tx.kind != APM_KIND_PRIMARY || !apm_chain_is_ours(APM_MEMBER_ORIGIN, &tx.origin))
		return false;

	out->tid = *tid;
	out->rid = tx.u.primary.rid;
	out->apid = tx.u.primary.apid;
	out->tokens = APM_SLICE(tx.u.primary.tokens.bytes, (size_t) tx.u.primary.tokens.count * APM_TOKEN_LEN);
	return true;
}

/* Puts up to count records into the outbox; returns the bytes of their bodies. */
static size_t
send_some(const ApmUuid *tids, int count, bool replace)
{
	ApmBody *bodies = palloc(sizeof(ApmBody) * count);
	ApmCloudRow *rows = palloc(sizeof(ApmCloudRow) * count);
	ApmUuid *gone = palloc(sizeof(ApmUuid) * count);
	size_t bytes = 0;
	int ngone = 0;
	int n = 0;

	apm_ledger_bodies(tids, count, bodies);
	for (int i = 0; i < count; i++)
	{
		bytes += bodies[i].transaction.len;
		if (bodies[i].transaction.len == 0)
			gone[ngone++] = tids[i];
		else if (make_row(&tids[i], &bodies[i], &rows[n]))
			n++;
	}
	apm_content_require_void(gone, ngone);
	apm_outbox_put(rows, n, replace);
	return bytes;
}

void
apm_dispatch_records(const ApmUuid *tids, int n, bool replace)
{
	MemoryContext portion =
		AllocSetContextCreate(CurrentMemoryContext, "apm outbox portion", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(portion);
	int count = BODIES_FIRST;

	for (int at = 0; at < n;)
	{
		int these = Min(count, n - at);
		size_t bytes = send_some(tids + at, these, replace);

		at += these;
		count = (int) Min(Max(BODY_BYTES / Max(bytes / these, 1), 1), (size_t) Min(count * 4, BODIES_MAX));
		MemoryContextReset(portion);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(portion);
}

void
apm_dispatch_erasures(const ApmUuid *tids, int n)
{
	MemoryContext one = AllocSetContextCreate(CurrentMemoryContext, "apm erasure", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(one);

	for (int i = 0; i < n; i++)
	{
		ApmTransaction tx;
		ApmBody body;

		apm_ledger_bodies(&tids[i], 1, &body);
		apm_check(apm_transaction_decode(body.transaction, &tx), "read an erasure");
		if (tx.kind == APM_KIND_ERASURE && apm_chain_is_ours(APM_MEMBER_ORIGIN, &tx.origin))
			apm_cloud_forget(tx.u.erasure.apid);
		MemoryContextReset(one);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(one);
}
