/*
 * make.c
 *	  Putting a block together and searching its nonce.
 */
#include "postgres.h"

#include "miscadmin.h"

#include "apm_errors.h"
#include "chain/make.h"
#include "core/pow.h"

#define FAR_AHEAD_US (UINT64_C(2) * 60 * 60 * 1000 * 1000)

/* Tries between two looks at interrupts: some ten milliseconds. */
#define SLICE_TRIES 65536

uint64
apm_block_time(const ApmHeader *parent, const ApmOpened *opened, int n)
{
	uint64 now = apm_now_us();
	uint64 time = now;

	if (parent != NULL)
		time = Max(time, parent->time_us);
	for (int i = 0; i < n; i++)
	{
		if (opened[i].wellformed && opened[i].tx.time_us <= now + FAR_AHEAD_US)
			time = Max(time, opened[i].tx.time_us);
	}
	return time;
}

void
apm_block_fill(ApmNewBlock *block, const ApmChainIdentity *identity, const ApmTip *tip, const ApmBatch *batch)
{
	ApmHeader *header = &block->header;

	memset(block, 0, sizeof(*block));
	block->n = batch->n;
	block->entries = batch->entries;
	block->opened = batch->opened;
	block->received = batch->received;
	header->chain = identity->chain;
	header->node = identity->node;
	header->height = batch->height;
	header->time_us = batch->time_us;
	header->count = (uint32) batch->n;
	header->bits = (uint32) apm_contract_policy(batch->state, APM_POLICY_DIFFICULTY);
	if (tip != NULL)
	{
		header->previous = tip->hash;
		block->earlier = tip->frontier;
	}
	apm_check(apm_frontier_root(&block->earlier, &header->history), "hash the blocks so far");
	apm_check(apm_entries_root(batch->entries, batch->n, &header->root), "hash the leaves of a block");
	apm_check(apm_contract_digest(batch->state, &header->contract), "hash the contract");
}

void
apm_block_mine(ApmNewBlock *block)
{
	ApmStatus status = APM_ERR_MORE;

	apm_header_encode(&block->header, block->encoded);
	for (uint64 start = 0; status == APM_ERR_MORE; start += SLICE_TRIES)
	{
		CHECK_FOR_INTERRUPTS();
		status = apm_pow_search(block->encoded, block->header.bits, start, SLICE_TRIES, &block->header.nonce,
								&block->hash);
	}
	apm_check(status, "search the nonce of a block");
	apm_header_encode(&block->header, block->encoded);
}
