/*
 * replay.c
 *	  A chain verified from its blocks alone.
 *
 * Each block goes through the questions of doc/format.md in their order, and the first that it
 * fails is the finding.  Nothing is judged before all of the block's rows, bodies and roots
 * are found good, so a fault in them leaves the state as it was; the genesis block's
 * state is given up whole.
 *
 * Frontier and parent are all that headers need; what verdicts need is the contract's state, into which every
 * transaction goes as it came.
 */
#include "replay_state.h"

#include <string.h>

#include "digest.h"

ApmStatus
apm_replay_found(ApmFault *fault, ApmFaultRule rule, uint64_t height, int64_t position)
{
	fault->rule = rule;
	fault->height = (int64_t) height;
	fault->position = position;
	return APM_OK;
}

ApmStatus
apm_replay_new(ApmReplay **out)
{
	ApmReplay *r = apm_core_alloc(sizeof(*r), false);
	ApmStatus status;

	if (r == NULL)
		return APM_ERR_MEMORY;
	status = apm_foresight_init(&r->foresight);
	if (status != APM_OK)
	{
		apm_replay_free(r);
		return status;
	}
	*out = r;
	return APM_OK;
}

void
apm_replay_free(ApmReplay *r)
{
	if (r == NULL)
		return;
	apm_contract_free(r->state);
	apm_foresight_free(&r->foresight);
	apm_core_free(r);
}

ApmStatus
apm_replay_foresee(ApmReplay *r, const ApmStoredBlock *block)
{
	return apm_foresight_block(&r->foresight, block);
}

/* What apm_block_check() asks; genesis' state, in which it has said who may sign it, is the one after its entries. */
static ApmStatus
check_header(const ApmReplay *r, const ApmStoredBlock *block, ApmFault *fault)
{
	bool genesis = r->height == 0;
	ApmSignature signature;
	ApmBlockFault found;

	memcpy(signature.bytes, block->signature.data, APM_SIGNATURE_LEN);
	found = apm_block_check(r->state, block->header.data, genesis ? NULL : &r->parent,
							genesis ? NULL : &r->parent_hash, &r->frontier, NULL, &signature);
	if (found == APM_BLOCK_UNDECIDED)
		return APM_ERR_MEMORY;
	return found == APM_BLOCK_OK ? APM_OK : apm_replay_found(fault, apm_fault_of_block(found), r->height, -1);
}

/* height, format, hash, and the header of any block but genesis */
ApmStatus
apm_replay_header(ApmReplay *r, const ApmStoredBlock *block, ApmSight *sight, ApmFault *fault)
{
	ApmStatus status;

	if (block->height != r->height)
		return apm_replay_found(fault, APM_FAULT_HEIGHT,
								block->height > r->height ? r->height : block->height, -1);
	if (block->signature.len != APM_SIGNATURE_LEN ||
		apm_header_decode(block->header, &sight->header) != APM_OK)
		return apm_replay_found(fault, APM_FAULT_FORMAT, r->height, -1);
	status = apm_header_hash(block->header.data, &sight->hash);
	if (status != APM_OK)
		return status;
	if (memcmp(&sight->hash, &block->hash, sizeof(ApmDigest)) != 0)
		return apm_replay_found(fault, APM_FAULT_HASH, r->height, -1);
	if (r->height > 0)
		return check_header(r, block, fault);
	return apm_contract_new(&sight->header.chain, &r->state);
}

/* genesis' header, contract; the chain is one block longer then */
ApmStatus
apm_replay_end(ApmReplay *r, const ApmStoredBlock *block, const ApmSight *sight, ApmFault *fault)
{
	ApmDigest contract;
	ApmDigest leaf;
	ApmSlice part = APM_SLICE(sight->hash.bytes, APM_DIGEST_LEN);
	ApmStatus status = APM_OK;

	if (r->height == 0)
		status = check_header(r, block, fault);
	if (status == APM_OK && fault->rule == APM_FAULT_NONE)
		status = apm_contract_digest(r->state, &contract);
	if (status != APM_OK || fault->rule != APM_FAULT_NONE)
		return status;
	if (memcmp(&contract, &sight->header.contract, sizeof(contract)) != 0)
		return apm_replay_found(fault, APM_FAULT_CONTRACT, r->height, -1);
	status = apm_merkle_leaf(&part, 1, &leaf);
	if (status == APM_OK)
		status = apm_frontier_append(&r->frontier, &leaf);
	if (status != APM_OK)
		return status;
	r->parent = sight->header;
	r->parent_hash = sight->hash;
	r->height++;
	r->counts.blocks++;
	r->counts.transactions += sight->count;
	return APM_OK;
}

/* As if the genesis block had not been tried. */
static void
give_up_genesis(ApmReplay *r)
{
	size_t at = 0;
	const ApmDigest *leaf;
	void *foreseen;

	apm_contract_free(r->state);
	r->state = NULL;
	memset(&r->counts, 0, sizeof(r->counts));
	while (apm_map_next(&r->foresight.voids, &at, &leaf, &foreseen))
		((ApmForeseen *) foreseen)->met = false;
}

ApmStatus
apm_replay_block(ApmReplay *r, const ApmStoredBlock *block, ApmFault *fault)
{
	bool genesis = r->height == 0;
	ApmSight sight = {0};
	ApmStatus status;

	*fault = (ApmFault){.rule = APM_FAULT_NONE, .height = -1, .position = -1};
	status = apm_replay_header(r, block, &sight, fault);
	if (status == APM_OK && fault->rule == APM_FAULT_NONE)
		status = apm_replay_entries(r, block, &sight, fault);
	for (size_t i = 0; i < sight.count && status == APM_OK && fault->rule == APM_FAULT_NONE; i++)
		status = apm_replay_entry(r, block, &sight, i, fault);
	if (status == APM_OK && fault->rule == APM_FAULT_NONE)
		status = apm_replay_end(r, block, &sight, fault);
	if (genesis && (status != APM_OK || fault->rule != APM_FAULT_NONE))
		give_up_genesis(r);
	apm_sight_free(&sight);
	return status;
}

bool
apm_replay_is_head(const ApmReplay *r, const ApmHead *head)
{
	return r->height > 0 && head->header.height == r->height - 1 &&
		   memcmp(&head->hash, &r->parent_hash, sizeof(ApmDigest)) == 0;
}

void
apm_replay_counts(const ApmReplay *r, ApmReplayCounts *out)
{
	*out = r->counts;
}

bool
apm_replay_chain(const ApmReplay *r, ApmDigest *out)
{
	if (r->height == 0)
		return false;
	*out = r->parent.chain;
	return true;
}
