/*
 * tombstone.h
 *	  What stays of a record in apm.submission when its patient is forgotten: that its Rid was used.
 *
 * All functions are called in a section.
 */
#ifndef APM_TOMBSTONE_H
#define APM_TOMBSTONE_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "core/bytes.h"

/* Does a row with this fingerprint say no more than that? */
extern bool apm_tombstone_is(const ApmDigest *fingerprint);

/* Throws away what waits for the patients of n indexes, whatever the reason. */
extern void apm_tombstone_waiting(const ApmDigest *indexes, int n);

/* The records of n patients that the ledger has, or had before their erasure.  Reads the whole table. */
extern void apm_tombstone_records(const ApmSlice *apids, int n);

/*
 * Records that were under way and were refused because their patient is erased.  *seen is how far this has
 * come, at first DT_NOBEGIN; the caller keeps the new value once his transaction has committed.
 */
extern void apm_tombstone_refused(TimestampTz *seen);

/* Which of n Rids are of records that were erased, whether that has come here already or not? */
extern void apm_tombstones_among(const ApmUuid *rids, int n, bool *erased);

#endif /* APM_TOMBSTONE_H */
