/*
 * head.h
 *	  A digest of the ledger: the head of a chain, as its node signed it.  Kept where the server's
 *	  operators cannot write, it stands for everything before it.
 *
 * It is nothing but the last block's header with the block's signature and the key that this is of, as a small JSON
 * object:
 *
 *		{"type": "apm digest", "version": 1, "chain": hex, "height": n, "time": "2026-01-31T12:00:00.000000Z",
 *		 "hash": hex, "header": hex, "signature": hex, "node": hex of the SubjectPublicKeyInfo}
 *
 * Chain, height, time and hash repeat what the header says, for people; a reader refuses a digest in which they do
 * not, or whose signature is not of that key, or whose header does not name that key, or whose
 * hash does not meet the header's difficulty.  Members in any order, white space anywhere; none may be missing, twice or more than these.
 */
#ifndef APM_CORE_HEAD_H
#define APM_CORE_HEAD_H

#include "block.h"

#define APM_HEAD_TEXT_MAX 4096

typedef struct ApmHead
{
	uint8_t encoded[APM_HEADER_LEN];
	ApmSignature signature;
	uint8_t node[APM_SPKI_LEN];
	ApmHeader header; /* decoded */
	ApmDigest hash;
} ApmHead;

/* Fills in header and hash from the rest, and checks all that can be checked.  APM_ERR_FORMAT, APM_ERR_VERIFY. */
extern ApmStatus apm_head_check(ApmHead *head);
/* Appends the JSON text. */
extern void apm_head_write(const ApmHead *head, ApmBuf *out);
/* APM_ERR_FORMAT: not a digest; APM_ERR_VERIFY: one that is not signed by its node, or contradicts itself. */
extern ApmStatus apm_head_read(ApmSlice text, ApmHead *out);

/* "2026-01-31T12:00:00.000000Z" of microseconds since 1970 and back; years 1970 to 9999. */
#define APM_TIME_TEXT_LEN 27
extern ApmStatus apm_time_write(uint64_t time_us, char out[APM_TIME_TEXT_LEN + 1]);

#endif /* APM_CORE_HEAD_H */
