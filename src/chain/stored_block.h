/*
 * stored_block.h
 *	  Blocks as the tables have them, right or wrong.  For this room.
 */
#ifndef APM_CHAIN_STORED_BLOCK_H
#define APM_CHAIN_STORED_BLOCK_H

#include "postgres.h"

#include "core/stored.h"

/*
 * The block behind that one, by height and hash, with its leaf rows and bodies; height -1 begins.  False at the
 * end.  Expects SPI and apm_privileged; what it points to lives until SPI is left, or the next statement.
 */
extern bool apm_stored_block(int64 height, const ApmDigest *hash, ApmStoredBlock *out);

#endif /* APM_CHAIN_STORED_BLOCK_H */
