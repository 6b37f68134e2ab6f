/*
 * content.c
 *	  What the cloud is to have of a record: its aPR, from what the ledger keeps.
 *
 * The ledger has a record's signed transaction: nonce, body and proof.  The cloud gets just that, sealed for the
 * APM under a content key of the worker's own.  It is made when it is sent or read, so that the bytes of a record that waits stand
 * in the ledger alone, however long the cloud is away.  The outbox says which records wait.
 *
 * A record that an erasure has voided since has no content any more.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "apm_errors.h"
#include "chain/chain.h"
#include "cloud/cloud.h"
#include "cloud/store.h"
#include "keys/keyring.h"

void
apm_content_require_void(const ApmUuid *tids, int n)
{
	bool *voided;

	if (n == 0)
		return;
	voided = palloc_array(bool, n);
	apm_ledger_are_void(tids, n, voided);
	for (int i = 0; i < n; i++)
	{
		if (!voided[i])
			ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
							errmsg("the ledger has no body of a valid record that is not erased"),
							errhint("apm_verify() names the first fault.")));
	}
	pfree(voided);
}

static ApmSlice
seal(const ApmBody *body)
{
	ApmSigned parts = {.transaction = body->transaction, .proof = body->proof};
	ApmBuf plain = {0};
	ApmBuf sealed = {0};

	memcpy(parts.nonce, body->nonce, APM_NONCE_LEN);
	apm_signed_encode(&parts, &plain);
	apm_check(apm_buf_status(&plain), "write a record for the cloud");
	apm_check(apm_sealer_seal(apm_key_sealer(true, false, false), APM_SLICE(plain.data, plain.len),
							  (uint64) GetCurrentTimestamp(), &sealed),
			  "seal a record for the cloud");
	apm_buf_reset(&plain);
	return APM_SLICE(sealed.data, sealed.len);
}

void
apm_content_make(const ApmUuid *tids, int n, ApmSlice *aprs)
{
	ApmBody *bodies = palloc_array(ApmBody, Max(n, 1));
	ApmUuid *gone = palloc_array(ApmUuid, Max(n, 1));
	int ngone = 0;

	if (n > 0)
		apm_ledger_bodies(tids, n, bodies);
	for (int i = 0; i < n; i++)
	{
		aprs[i] = APM_SLICE(NULL, 0);
		if (bodies[i].transaction.len == 0)
			gone[ngone++] = tids[i];
		else
			aprs[i] = seal(&bodies[i]);
	}
	apm_content_require_void(gone, ngone);
	pfree(gone);
	pfree(bodies);
}
