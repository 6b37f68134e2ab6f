/*
 * fault.h
 *	  What a verification can find, by name.  Every verifier (apm_verify(), apm-verify, others
 *	  that follow doc/format.md) names the same first fault of the same ledger.
 *
 * Of each block are asked, in this order: height, format, hash, and what block_check.c asks of a header;
 * then of each entry position, kind, body; then of each entry rule, missing, unwanted, leaf, tid, kind; then
 * count and root of all of them; then of each entry verdict or void; then contract.  Genesis says
 * itself who may sign it, so its header is checked after its entries and their verdicts.  doc/format.md has the table.
 */
#ifndef APM_CORE_FAULT_H
#define APM_CORE_FAULT_H

#include "contract.h"

typedef enum ApmFaultRule
{
	APM_FAULT_NONE = 0,

	/* of a block: as ApmBlockFault, and */
	APM_FAULT_FORMAT, /* the header cannot be read */
	APM_FAULT_HASH,	  /* is not stored under its hash */
	APM_FAULT_HEIGHT, /* none, or a second one, of this height */
	APM_FAULT_CHAIN,
	APM_FAULT_LINK,
	APM_FAULT_HISTORY,
	APM_FAULT_TIME,
	APM_FAULT_DIFFICULTY,
	APM_FAULT_WORK,
	APM_FAULT_COUNT,
	APM_FAULT_ROOT,
	APM_FAULT_CONTRACT,
	APM_FAULT_SIGNER,
	APM_FAULT_SIGNATURE,

	/* of an entry */
	APM_FAULT_POSITION, /* there is none at this place */
	APM_FAULT_BODY,		/* nonce, transaction and proof do not make a signed transaction */
	APM_FAULT_RULE,		/* no such rule in the contract */
	APM_FAULT_MISSING,	/* no body, and neither refused nor erased */
	APM_FAULT_UNWANTED, /* the body of a refused or erased transaction */
	APM_FAULT_LEAF,		/* not the leaf of its body */
	APM_FAULT_TID,		/* not the Tid of its body */
	APM_FAULT_KIND,		/* not the kind of its body, or of no kind */
	APM_FAULT_VERDICT,	/* not what the contract says */
	APM_FAULT_VOID,		/* an erasure that voids a leaf which does not stand before it, or twice */

	/* of what a server keeps beside its ledger */
	APM_FAULT_DERIVED, /* a derived table says something else */
	APM_FAULT_PROFILE, /* a profile is not the one of its digest */
	APM_FAULT_TIP,	   /* apm.tip is not the last block */
	APM_FAULT_ROW,	   /* a row cannot be read */

	/* against a digest that was kept */
	APM_FAULT_DIGEST /* the chain does not have this head */
} ApmFaultRule;

/* "format", "hash", ...; NULL if unknown */
extern const char *apm_fault_name(ApmFaultRule rule);
/* one sentence for people, without a capital and a full stop */
extern const char *apm_fault_text(ApmFaultRule rule);
/* APM_BLOCK_UNDECIDED has none */
extern ApmFaultRule apm_fault_of_block(ApmBlockFault fault);

typedef struct ApmFault
{
	ApmFaultRule rule; /* APM_FAULT_NONE: none was found */
	int64_t height;	   /* -1: of no block */
	int64_t position;  /* within the block; -1: of the block */
} ApmFault;

#endif /* APM_CORE_FAULT_H */
