/*
 * open.c
 *	  Is what the cloud has for a record the record of the ledger?
 *
 * The ledger has the leaf, which is a hash over all that the APM signed; the aPR is the same, sealed.  So no body of the
 * ledger is needed to tell, only PrK_APM, which opens the outer layer; the record itself stays closed.
 */
#include "postgres.h"

#include "cloud/cloud.h"
#include "keys/keyring.h"

ApmCloudFault
apm_cloud_open(const ApmUuid *rid, ApmSlice apid, const ApmDigest *leaf, ApmSlice apr, ApmBuf *plain,
			   ApmOpened *opened)
{
	const ApmPrimaryFields *fields = &opened->tx.u.primary;

	if (apr.len == 0)
		return APM_CLOUD_MISSING;
	if (apm_key_open(APM_PAIR_APM, apr, plain) != APM_OK ||
		apm_open_signed(APM_SLICE(plain->data, plain->len), opened) != APM_OK || !opened->wellformed ||
		opened->tx.kind != APM_KIND_PRIMARY)
		return APM_CLOUD_ALTERED;
	if (memcmp(&fields->rid, rid, sizeof(ApmUuid)) != 0 || fields->apid.len != apid.len ||
		memcmp(fields->apid.data, apid.data, apid.len) != 0)
		return APM_CLOUD_ANOTHER;
	return memcmp(&opened->leaf, leaf, sizeof(ApmDigest)) == 0 ? APM_CLOUD_GOOD : APM_CLOUD_ALTERED;
}
