/*
 * apm_errors.c
 *	  How an answer of the core becomes a PostgreSQL error.
 *
 * The core never jumps and knows no messages; it answers a status.  Whoever calls it
 * knows what it was doing, and that is all that a message says: no value, no reason
 * why something sealed did not open.
 */
#include "postgres.h"

#include "apm_errors.h"

static int
status_errcode(ApmStatus status)
{
	switch (status)
	{
		case APM_ERR_MEMORY:
			return ERRCODE_OUT_OF_MEMORY;
		case APM_ERR_FORMAT:
			return ERRCODE_DATA_CORRUPTED;
		case APM_ERR_RANGE:
			return ERRCODE_PROGRAM_LIMIT_EXCEEDED;
		case APM_ERR_OPEN:
			return ERRCODE_APM_CANNOT_OPEN;
		case APM_ERR_VERIFY:
			return ERRCODE_APM_TAMPERED;
		case APM_ERR_KEY:
			return ERRCODE_APM_KEY_REFUSED;
		case APM_ERR_CRYPTO:
			return ERRCODE_APM_CRYPTO;
		case APM_OK:
		case APM_ERR_MORE:
			break;
	}
	return ERRCODE_INTERNAL_ERROR;
}

static const char *
status_reason(ApmStatus status)
{
	switch (status)
	{
		case APM_ERR_MEMORY:
			return "out of memory";
		case APM_ERR_FORMAT:
			return "malformed data";
		case APM_ERR_RANGE:
			return "a size or number is out of bounds";
		case APM_ERR_OPEN:
			return "it cannot be opened";
		case APM_ERR_VERIFY:
			return "a signature or proof does not verify";
		case APM_ERR_KEY:
			return "not a key of this kind";
		case APM_ERR_CRYPTO:
			return "the cryptographic library failed";
		case APM_OK:
		case APM_ERR_MORE:
			break;
	}
	return "unexpected status";
}

void
apm_raise(ApmStatus status, const char *doing)
{
	ereport(ERROR,
			(errcode(status_errcode(status)), errmsg("could not %s: %s", doing, status_reason(status))));
	pg_unreachable();
}
