/*
 * seal.h
 *	  Sealing a dataset for a researcher's OpenPGP key (RFC 4880), by pgcrypto.
 */
#ifndef APM_EXPORT_SEAL_H
#define APM_EXPORT_SEAL_H

#include "postgres.h"

#include "export/dataset.h"

/*
 * Raises 22023 unless this is an ASCII-armored OpenPGP public key that pgcrypto can seal for, and
 * 0A000 where pgcrypto is not installed.  Asked before any patient's data is.  In a section.
 */
extern void apm_pgp_check(ApmSlice armored_key);

/* The file of the dataset, sealed: a bytea in the current memory context.  54000 beyond 1 GB.  In a section. */
extern Datum apm_pgp_seal(const ApmDataset *set, ApmSlice armored_key);

#endif /* APM_EXPORT_SEAL_H */
