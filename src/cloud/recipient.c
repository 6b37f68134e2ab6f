/*
 * recipient.c
 *	  Which rows of the cloud a key opens.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "apm_sql.h"
#include "cloud/cloud.h"
#include "cloud/store.h"
#include "core/envelope.h"

int64
apm_cloud_sealed_for(const ApmKeyId *id)
{
	Oid target = apm_store_target();
	Oid types[2] = {BYTEAOID, INT4OID};
	Datum args[2] = {apm_bytea_datum(APM_SLICE(id->bytes, APM_KEY_ID_LEN)),
					 Int32GetDatum(APM_ENVELOPE_HEAD_MAX)};
	char *name;

	apm_store_check(target);
	name = quote_qualified_identifier(get_namespace_name(get_rel_namespace(target)), get_rel_name(target));
	if (SPI_execute_with_args(psprintf("SELECT pg_catalog.count(*) FROM ONLY %s AS c WHERE"
									   " pg_catalog.position(pg_catalog.substring(c.apr, 1, $2), $1) > 0",
									   name),
							  2, types, args, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not ask the cloud store");
	return apm_row_int8(0, 1);
}
