/*
 * attachscan.h
 *	  The rows of an attached table in the order of their key, some at a time.
 */
#ifndef APM_ATTACHSCAN_H
#define APM_ATTACHSCAN_H

#include "anonymize/attachment.h"

/*
 * Between these two the current user is the table's owner, in a security-restricted operation: code that
 * belongs to him, like a type's output function, does not run with the rights of whoever looks at his table.  An
 * error undoes it.
 */
typedef struct ApmAsOwner
{
	Oid user;
	int security;
	int level;
} ApmAsOwner;

extern void apm_as_owner_begin(Relation table, ApmAsOwner *saved);
extern void apm_as_owner_end(const ApmAsOwner *saved);

/*
 * Reads at most limit rows whose key comes after a position (texts of the key's columns; NULL: from the
 * start) and locks them against deletion; returns how many, in SPI_tuptable, in order.  With wait false raises 55P03 if
 * somebody is changing one.  Expects SPI, as the owner.
 */
extern uint64 apm_scan_rows(const ApmAttachment *attachment, Relation table, char *const *position, int limit,
							bool wait);

/* A row of SPI_tuptable as apm_scan_rows() left it. */
extern void apm_scan_row(const SPITupleTable *rows, uint64 n, HeapTuple out);

/* How many rows there are, about. */
extern int64 apm_scan_estimate(Relation table);

#endif /* APM_ATTACHSCAN_H */
