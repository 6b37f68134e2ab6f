/*
 * powscan.h
 *	  The two ways in which nonces are tried: one that runs everywhere, and one for processors with SHA-256
 *	  instructions.
 */
#ifndef APM_CORE_POWSCAN_H
#define APM_CORE_POWSCAN_H

#include "bytes.h"

#define APM_POW_BLOCK_LEN 64
#define APM_POW_NONCE_AT 26 /* in the header's last block */

/* A header of which all but the nonce is known. */
typedef struct ApmPowTask
{
	uint32_t midstate[8];			 /* SHA-256's state after the header's whole blocks */
	uint8_t tail[APM_POW_BLOCK_LEN]; /* the header's last block, padded; the nonce in it is not looked at */
	uint32_t bits;					 /* that the hash must begin with as zeros: 1 to 63 */
} ApmPowTask;

static inline void
apm_pow_put_u64(uint8_t *at, uint64_t value)
{
	for (int i = 0; i < 8; i++)
		at[i] = (uint8_t) (value >> (56 - 8 * i));
}

/*
 * How many of these tries, of nonces from start on, come before the first that meets the task; tries if
 * none does.  Nonces wrap around at 2^64.  All scans answer the same.
 */
typedef uint64_t (*ApmPowScan)(const ApmPowTask *task, uint64_t start, uint64_t tries);

extern uint64_t apm_pow_scan_plain(const ApmPowTask *task, uint64_t start, uint64_t tries);

/* The fast one, or NULL where this processor has no such instructions or none that we know. */
extern ApmPowScan apm_pow_scan_lanes(void);

#endif /* APM_CORE_POWSCAN_H */
