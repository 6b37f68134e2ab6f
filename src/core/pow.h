/*
 * pow.h
 *	  The proof-of-work search over a header's nonce.
 *
 * Keeps the midstate of the header's first three 64-byte SHA-256 blocks, so that a try costs two
 * compressions.  Bounded, so that a worker looks at its latch between slices.
 */
#ifndef APM_CORE_POW_H
#define APM_CORE_POW_H

#include "block.h"

/*
 * Tries up to max_tries nonces from start.  APM_OK: *nonce meets bits and *hash is the
 * block hash.  APM_ERR_MORE: none did; go on at start + max_tries.
 */
extern ApmStatus apm_pow_search(const uint8_t header[APM_HEADER_LEN], uint32_t bits, uint64_t start,
								uint64_t max_tries, uint64_t *nonce, ApmDigest *hash);

#endif /* APM_CORE_POW_H */
