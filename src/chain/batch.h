/*
 * batch.h
 *	  The pool rows of a block in making: taken, opened, judged.  For this room.
 *
 * Everything expects a transaction with SPI connected inside apm_privileged and raises
 * errors.  What a batch points to lives in its memory context, which its maker deletes.
 */
#ifndef APM_CHAIN_BATCH_H
#define APM_CHAIN_BATCH_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "chain/ledger.h"

#define APM_BATCH_ROWS 2048
#define APM_BATCH_BYTES (64 * 1024 * 1024)

typedef struct ApmBatch
{
	MemoryContext context;
	int n;
	int64 *seqs;		   /* of apm.pool, ascending unless a candidate is completed */
	TimestampTz *received; /* when the pool had them */
	ApmOpened *opened;	   /* their transactions */
	ApmEntry *entries;	   /* filled in by apm_contract_judge() */
	ApmContractState *state;
	uint64 height; /* of the block in making, and its time */
	uint64 time_us;
} ApmBatch;

/*
 * Takes the oldest pool rows, up to limit and up to APM_BATCH_BYTES, at least one if
 * there is any; opens them and puts aside what is poison.  Returns how many rows it
 * looked at; batch->n of them can be judged.
 */
extern int apm_pool_take(ApmBatch *batch, int limit);

/* Takes the rows of these entries, in this order.  False if one is missing or is not what the entry says. */
extern bool apm_pool_take_again(ApmBatch *batch, const ApmEntry *entries, int n);

/* Deletes the rows of these entries. */
extern void apm_pool_remove(const ApmEntry *entries, int n);

/*
 * Counts a failure of the oldest row; the last of a few puts it into quarantine, without
 * its content if that cannot be read.
 */
extern void apm_pool_blame_oldest(const char *reason, bool readable);

/*
 * Judges the batch: the contract's trigger fills in apm.verdict, and the entries from
 * that.  Sets up the batch's state; height and time_us are the caller's.
 */
extern void apm_contract_judge(ApmBatch *batch, const ApmDigest *chain);

/* Judges the transactions without the table: for a candidate whose verdicts are known. */
extern void apm_contract_judge_again(ApmBatch *batch, const ApmDigest *chain);

#endif /* APM_CHAIN_BATCH_H */
