/*
 * template.c
 *	  TT and TG: from what the APM sealed to what the chain judges.
 *
 * The paper's transaction generator fills a template with a fresh Tid and the aPR.  Here the Tid is
 * computed from the transaction, so that whoever fills the template again, after a crash or
 * because an envelope was sent twice, fills in the same; what is left to do is to open the
 * outer layer, take the transaction apart and seal it for the chain.  The signature is not
 * looked at: that is the contract's business, whose verdict leaves a trace.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "apm_errors.h"
#include "keys/keyring.h"
#include "worker/worker.h"
#include "network/network_server.h"

const char *
apm_template_open(ApmSlice sealed, ApmTemplate *out)
{
	ApmBuf plain = {.secret = true};
	ApmStatus status = apm_key_open(APM_PAIR_NS, sealed, &plain);

	/* whose fault it is must be told apart: lack of memory says nothing of the row */
	if (status == APM_ERR_MEMORY || status == APM_ERR_CRYPTO)
		apm_raise(status, "open an envelope of the queue");
	if (status != APM_OK)
		return "cannot be opened";

	out->plain = APM_SLICE(plain.data, plain.len);
	status = apm_open_signed(out->plain, &out->opened);
	if (status == APM_OK)
		return NULL;
	apm_buf_reset(&plain);
	if (status != APM_ERR_FORMAT)
		apm_raise(status, "take a transaction of the queue apart");
	return "is not a signed transaction";
}

ApmSlice
apm_template_seal(ApmSlice plain)
{
	ApmBuf out = {0};

	apm_check(
		apm_sealer_seal(apm_key_sealer(false, false, true), plain, (uint64) GetCurrentTimestamp(), &out),
		"seal a transaction for the chain");
	return APM_SLICE(out.data, out.len);
}
