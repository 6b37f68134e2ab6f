/*
 * recordset.h
 *	  Records as the rows that a function returns.
 *
 * The columns are [pid text,] rid uuid, recorded_at timestamptz, record jsonb, [superseded_by uuid,]
 * flags text[]; those in brackets where the function's result has them.
 */
#ifndef APM_RECORDSET_H
#define APM_RECORDSET_H

#include "postgres.h"

#include "anonymize/reading.h"
#include "anonymize/result.h"

typedef struct ApmRecordSet
{
	ApmResult result;
	bool with_pid;
	bool with_superseded;
} ApmRecordSet;

/* As apm_result_start(). */
extern void apm_recordset_start(FunctionCallInfo fcinfo, ApmRecordSet *out);

/* A row; pid, in the server's encoding, where the result has that column. */
extern void apm_recordset_put(ApmRecordSet *set, const ApmReading *reading, ApmSlice pid);

/*
 * Asks for one patient and puts his records.  Raises AP001 when the contract refuses.  In no section, in a memory context
 * of the caller's that goes with the call.
 */
extern void apm_recordset_fetch(ApmRecordSet *set, const ApmAsk *ask, ApmSlice apid);

#endif /* APM_RECORDSET_H */
