/*
 * result.h
 *	  Sets of rows that a function gives out, kept in memory whatever work_mem says: what is
 *	  spilled is written to a file in plain text.
 */
#ifndef APM_RESULT_H
#define APM_RESULT_H

#include "postgres.h"

#include "access/tupdesc.h"
#include "fmgr.h"
#include "utils/tuplestore.h"

typedef struct ApmResult
{
	Tuplestorestate *store;
	TupleDesc desc;
} ApmResult;

/*
 * Makes the result of a function that returns a set of rows, or of values: those are rows of one column.
 * Raises 0A000 where its caller takes no set.
 */
extern void apm_result_start(FunctionCallInfo fcinfo, ApmResult *out);

/* Adds a row; the values are copied. */
extern void apm_result_put(const ApmResult *result, const Datum *values, const bool *nulls);

#endif /* APM_RESULT_H */
