/*
 * proof.h
 *	  Proofs that need no ledger: a transaction stands in a chain with this head; one head grew out of
 *	  another.  Both are O(log n) in the length of the chain.
 *
 * Inclusion: the signed transaction gives its leaf, the leaf with its path the root in its block's header, the hash
 * of that header with its path the history root in the head's header (or it is the head itself):
 *
 *		{"type": "apm proof", "version": 1, "head": height, "header": hex, "history": [hex, ...],
 *		 "position": n, "path": [hex, ...], "rule": n, "transaction": base64url of the signed transaction}
 *
 * rule 0 is valid; a refused query is proved with the rule that refused it.  history is the audit path of the block in the tree of
 * the hashes of blocks 0 to head - 1; empty if the block is the head.
 *
 * Consistency: the tree of hashes of blocks 0 to old - 1 is a part of that of 0 to new - 1, and so is the old head:
 *
 *		{"type": "apm consistency", "version": 1, "old": height, "new": height, "history": [hex, ...],
 *		 "inclusion": [hex, ...]}
 *
 * history is the consistency proof of RFC 9162, 2.1.4, between the two heads' history roots, inclusion the audit path of the old head
 * in the new one's tree.  Both are empty where old is new; history is empty where old is 0.
 */
#ifndef APM_CORE_PROOF_H
#define APM_CORE_PROOF_H

#include "contract.h"
#include "head.h"

typedef struct ApmProof
{
	uint64_t head; /* height of the head that it leads to */
	uint8_t encoded[APM_HEADER_LEN];
	ApmPath history;
	uint32_t position;
	ApmPath path;
	uint16_t rule;
	ApmBuf transaction; /* signed transaction, tag 'A' */

	/* filled in by apm_proof_verify() */
	ApmHeader header;
	ApmOpened opened; /* points into transaction */
} ApmProof;

extern void apm_proof_free(ApmProof *proof);
extern void apm_proof_write(const ApmProof *proof, ApmBuf *out);
/* APM_ERR_FORMAT: not a proof.  Free it in any case. */
extern ApmStatus apm_proof_read(ApmSlice text, ApmProof *out);
/*
 * Does it prove its transaction to stand in the chain of this head (which apm_head_read() has checked)?
 * APM_ERR_FORMAT, APM_ERR_VERIFY; APM_ERR_RANGE if it was made for another head, whose consistency with this one is
 * to be proved.
 */
extern ApmStatus apm_proof_verify(ApmProof *proof, const ApmHead *head);

typedef struct ApmConsistency
{
	uint64_t old_height;
	uint64_t new_height;
	ApmPath history;
	ApmPath inclusion;
} ApmConsistency;

extern void apm_consistency_write(const ApmConsistency *proof, ApmBuf *out);
extern ApmStatus apm_consistency_read(ApmSlice text, ApmConsistency *out);
/* Has the chain of new grown out of that of old?  APM_ERR_RANGE if the proof is of other heights. */
extern ApmStatus apm_consistency_verify(const ApmConsistency *proof, const ApmHead *old_head,
										const ApmHead *new_head);

#endif /* APM_CORE_PROOF_H */
