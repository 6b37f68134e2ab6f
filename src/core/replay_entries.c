/*
 * replay_entries.c
 *	  The entries of a block: as rows, against their bodies, against the header, and judged.
 */
#include "replay_state.h"

#include <string.h>

void
apm_sight_free(ApmSight *sight)
{
	apm_core_free(sight->entries);
	apm_core_free(sight->opened);
	apm_core_free(sight->voids);
}

/* What is opened points into the stored block. */
static ApmStatus
make_room(const ApmStoredBlock *block, ApmSight *sight)
{
	sight->count = block->count;
	sight->entries = apm_core_alloc((block->count + 1) * sizeof(ApmEntry), false);
	sight->opened = apm_core_alloc((block->count + 1) * sizeof(ApmOpened), false);
	sight->voids = apm_core_alloc((block->count + 1) * sizeof(ApmForeseen *), false);
	if (sight->entries == NULL || sight->opened == NULL || sight->voids == NULL)
		return APM_ERR_MEMORY;
	return APM_OK;
}

static ApmStatus
open_body(const ApmStoredEntry *stored, ApmOpened *opened)
{
	ApmSigned envelope = {.transaction = stored->transaction, .proof = stored->proof};

	if (stored->nonce.len != APM_NONCE_LEN)
		return APM_ERR_FORMAT;
	memcpy(envelope.nonce, stored->nonce.data, APM_NONCE_LEN);
	return apm_open_envelope(&envelope, opened);
}

/* position, kind, body */
static ApmStatus
read_row(const ApmReplay *r, const ApmStoredBlock *block, size_t i, ApmSight *sight, ApmFault *fault)
{
	const ApmStoredEntry *stored = &block->entries[i];
	ApmEntry *entry = &sight->entries[i];
	ApmStatus status = APM_OK;

	if (stored->position != i)
		return apm_replay_found(fault, APM_FAULT_POSITION, r->height, (int64_t) i);
	if (stored->kind > UINT8_MAX)
		return apm_replay_found(fault, APM_FAULT_KIND, r->height, (int64_t) i);
	if (stored->kept)
		status = open_body(stored, &sight->opened[i]);
	if (status == APM_ERR_FORMAT)
		return apm_replay_found(fault, APM_FAULT_BODY, r->height, (int64_t) i);
	entry->tid = stored->tid;
	entry->kind = (uint8_t) stored->kind;
	entry->rule = stored->rule;
	entry->leaf = stored->leaf;
	return status;
}

/* The void of an entry that is valid by its row; each stands for one entry, the first. */
static ApmForeseen *
find_void(const ApmReplay *r, const ApmSight *sight, const ApmEntry *entry, size_t i)
{
	ApmForeseen *found;

	if (entry->rule != APM_RULE_NONE)
		return NULL;
	found = apm_foresight_find(&r->foresight, &entry->leaf, r->height, i);
	if (found == NULL || found->met || found->sight == sight->serial)
		return NULL;
	found->sight = sight->serial;
	return found;
}

/* missing, unwanted: what is valid keeps its body unless it is erased, what is refused loses it unless it is a query */
static ApmFaultRule
check_kept(const ApmEntry *entry, bool kept, bool voided)
{
	bool keeps = entry->rule == APM_RULE_NONE ? !voided : entry->kind == APM_KIND_QUERY;

	if (kept == keeps)
		return APM_FAULT_NONE;
	return keeps ? APM_FAULT_MISSING : APM_FAULT_UNWANTED;
}

/*
 * leaf, tid, kind: of the body, or of the void.  What was refused and left no body is proved by the header's root
 * alone.
 */
static ApmFaultRule
check_row(const ApmEntry *entry, const ApmOpened *opened, const ApmForeseen *voided)
{
	const ApmUuid *tid;
	uint8_t kind;

	if (opened != NULL)
	{
		if (memcmp(&opened->leaf, &entry->leaf, sizeof(ApmDigest)) != 0)
			return APM_FAULT_LEAF;
		tid = &opened->tid;
		kind = opened->wellformed ? (uint8_t) opened->tx.kind : 0;
	}
	else if (voided != NULL)
	{
		tid = &voided->voided.tid;
		kind = voided->voided.kind;
	}
	else
		return APM_FAULT_NONE;
	if (memcmp(tid, &entry->tid, sizeof(ApmUuid)) != 0)
		return APM_FAULT_TID;
	return kind == entry->kind ? APM_FAULT_NONE : APM_FAULT_KIND;
}

static ApmFaultRule
check_entry(const ApmReplay *r, const ApmSight *sight, size_t i, bool kept)
{
	const ApmEntry *entry = &sight->entries[i];
	ApmFaultRule rule;

	if (entry->rule != APM_RULE_NONE && apm_contract_rule_name(r->state, entry->rule) == NULL)
		return APM_FAULT_RULE;
	rule = check_kept(entry, kept, sight->voids[i] != NULL);
	return rule == APM_FAULT_NONE ? check_row(entry, kept ? &sight->opened[i] : NULL, sight->voids[i]) : rule;
}

static ApmStatus
check_all(const ApmReplay *r, const ApmSight *sight, ApmFault *fault)
{
	ApmBlockFault found = apm_block_check_entries(&sight->header, sight->entries, sight->count);

	if (found == APM_BLOCK_UNDECIDED)
		return APM_ERR_MEMORY;
	return found == APM_BLOCK_OK ? APM_OK : apm_replay_found(fault, apm_fault_of_block(found), r->height, -1);
}

ApmStatus
apm_replay_entries(ApmReplay *r, const ApmStoredBlock *block, ApmSight *sight, ApmFault *fault)
{
	ApmStatus status = make_room(block, sight);

	sight->serial = ++r->sights;
	for (size_t i = 0; i < block->count && status == APM_OK && fault->rule == APM_FAULT_NONE; i++)
		status = read_row(r, block, i, sight, fault);
	for (size_t i = 0; i < block->count && status == APM_OK && fault->rule == APM_FAULT_NONE; i++)
	{
		ApmFaultRule rule;

		sight->voids[i] = find_void(r, sight, &sight->entries[i], i);
		rule = check_entry(r, sight, i, block->entries[i].kept);
		if (rule != APM_FAULT_NONE)
			(void) apm_replay_found(fault, rule, r->height, (int64_t) i);
	}
	return status == APM_OK && fault->rule == APM_FAULT_NONE ? check_all(r, sight, fault) : status;
}

/* Did all that the erasure names come before it, and is it the one that was to have it? */
static bool
voids_stand(const ApmReplay *r, const ApmErasureFields *fields, size_t position)
{
	const ApmForesight *f = &r->foresight;

	for (uint32_t i = 0; i < fields->count; i++)
	{
		const ApmForeseen *found;
		ApmVoid voided;

		apm_erasure_void(fields, i, &voided);
		found = apm_map_find(&f->voids, &voided.leaf);
		if (found == NULL || !found->met || f->erasings[found->erasing].height != r->height ||
			f->erasings[found->erasing].position != position)
			return false;
	}
	return true;
}

/* The verdict once more, and what it changes. */
static ApmStatus
judge(ApmReplay *r, const ApmSight *sight, size_t i, ApmFault *fault)
{
	const ApmOpened *opened = &sight->opened[i];
	const ApmTransaction *tx = &opened->tx;
	uint64_t time_us = sight->header.time_us;
	uint16_t rule = apm_contract_evaluate(r->state, opened, r->height, time_us);

	if (rule == APM_RULE_UNDECIDED)
		return APM_ERR_MEMORY;
	if (rule != sight->entries[i].rule)
		return apm_replay_found(fault, APM_FAULT_VERDICT, r->height, (int64_t) i);
	if (rule != APM_RULE_NONE)
		return APM_OK;
	if (tx->kind == APM_KIND_ERASURE && !voids_stand(r, &tx->u.erasure, i))
		return apm_replay_found(fault, APM_FAULT_VOID, r->height, (int64_t) i);
	return apm_contract_apply(r->state, opened, r->height, (uint32_t) i, time_us);
}

/* What an erasure says of the entry is all that is left to go by. */
static ApmStatus
pass_void(ApmReplay *r, const ApmSight *sight, ApmForeseen *found)
{
	const ApmErasing *erasing = &r->foresight.erasings[found->erasing];

	found->met = true;
	r->counts.erased++;
	return apm_contract_apply_void(r->state, APM_SLICE(erasing->apid, erasing->apid_len),
								   apm_foresight_home(&r->foresight, erasing), &found->voided,
								   sight->header.time_us);
}

ApmStatus
apm_replay_entry(ApmReplay *r, const ApmStoredBlock *block, const ApmSight *sight, size_t i, ApmFault *fault)
{
	if (block->entries[i].kept)
		return judge(r, sight, i, fault);
	if (sight->voids[i] != NULL)
		return pass_void(r, sight, sight->voids[i]);
	r->counts.refused++;
	return APM_OK;
}
