/*
 * replay_foresee.c
 *	  The first pass over a chain: what its erasures void.
 *
 * An erasure stands behind what it voids, and what it voids cannot be judged without it: not
 * whose it was, nor for whom it counts.  So erasures are looked for before anything is judged, and taken if their
 * body is the one of their leaf; whether they are valid shows when the replay comes to them.
 *
 * A patient belongs to the origin that signed his erasure, and an origin is known by its first key.  The
 * key that signed may be a later one, which the replay does not know yet where the patient's first void
 * stands, so this pass notes the succession of keys as well.
 */
#include "replay_state.h"

#include <string.h>

#include "digest.h"
#include "room.h"

ApmStatus
apm_foresight_init(ApmForesight *f)
{
	ApmStatus status;

	memset(f, 0, sizeof(*f));
	status = apm_map_init(&f->voids, sizeof(ApmForeseen));
	return status == APM_OK ? apm_map_init(&f->replaced, sizeof(ApmDigest)) : status;
}

void
apm_foresight_free(ApmForesight *f)
{
	apm_map_free(&f->voids);
	apm_map_free(&f->replaced);
	apm_core_free(f->erasings);
	memset(f, 0, sizeof(*f));
}

/* Is the body a transaction of this kind with the row's leaf? */
static ApmStatus
read_proved(const ApmStoredEntry *e, ApmKind kind, ApmTransaction *tx, bool *proved)
{
	ApmDigest leaf;
	ApmStatus status;

	*proved = false;
	if (!e->kept || e->rule != APM_RULE_NONE || e->kind != (uint16_t) kind || e->nonce.len != APM_NONCE_LEN)
		return APM_OK;
	status = apm_transaction_leaf(e->nonce.data, e->transaction, &leaf);
	if (status != APM_OK || memcmp(&leaf, &e->leaf, sizeof(leaf)) != 0)
		return status;
	*proved = apm_transaction_decode(e->transaction, tx) == APM_OK && tx->kind == kind;
	return APM_OK;
}

/* If several name a leaf, the first has it. */
static ApmStatus
foresee_void(ApmForesight *f, const ApmVoid *voided)
{
	ApmForeseen foreseen = {.voided = *voided, .erasing = f->count - 1};
	void *value;
	ApmStatus status;

	if (apm_map_find(&f->voids, &voided->leaf) != NULL)
		return APM_OK;
	status = apm_map_put(&f->voids, &voided->leaf, &value);
	if (status == APM_OK)
		memcpy(value, &foreseen, sizeof(foreseen));
	return status;
}

static ApmStatus
foresee_erasure(ApmForesight *f, const ApmTransaction *tx, uint64_t height, size_t position)
{
	const ApmErasureFields *fields = &tx->u.erasure;
	ApmErasing *grown = apm_room(f->erasings, &f->capacity, f->count + 1, sizeof(*grown));
	ApmErasing *erasing;
	ApmStatus status = APM_OK;

	if (grown == NULL)
		return APM_ERR_MEMORY;
	f->erasings = grown;
	erasing = &f->erasings[f->count++];
	erasing->height = height;
	erasing->position = position;
	erasing->origin = tx->origin;
	erasing->apid_len = fields->apid.len;
	memcpy(erasing->apid, fields->apid.data, fields->apid.len);
	for (uint32_t i = 0; i < fields->count && status == APM_OK; i++)
	{
		ApmVoid voided;

		apm_erasure_void(fields, i, &voided);
		status = foresee_void(f, &voided);
	}
	return status;
}

/* Keys replace others everywhere but in the genesis block. */
static ApmStatus
foresee_member(ApmForesight *f, const ApmMembershipFields *fields, uint64_t height)
{
	static const ApmDigest nobody;
	bool first = memcmp(&fields->replaces, &nobody, sizeof(nobody)) == 0;
	ApmDigest id;
	void *value;
	ApmStatus status;

	if (fields->member != APM_MEMBER_ORIGIN || first != (height == 0))
		return APM_OK;
	status = apm_sha256(fields->spki, APM_SPKI_LEN, &id);
	if (status != APM_OK || apm_map_find(&f->replaced, &id) != NULL)
		return status;
	status = apm_map_put(&f->replaced, &id, &value);
	if (status != APM_OK)
		return status;
	memcpy(value, &fields->replaces, sizeof(ApmDigest));
	if (!f->has_first && first)
	{
		f->has_first = true;
		f->first = id;
	}
	return APM_OK;
}

ApmStatus
apm_foresight_block(ApmForesight *f, const ApmStoredBlock *block)
{
	ApmStatus status = APM_OK;

	for (size_t i = 0; i < block->count && status == APM_OK; i++)
	{
		ApmTransaction tx;
		bool proved;

		status = read_proved(&block->entries[i], APM_KIND_ERASURE, &tx, &proved);
		if (status == APM_OK && proved)
			status = foresee_erasure(f, &tx, block->height, i);
		if (status == APM_OK)
			status = read_proved(&block->entries[i], APM_KIND_MEMBERSHIP, &tx, &proved);
		if (status == APM_OK && proved)
			status = foresee_member(f, &tx.u.membership, block->height);
	}
	return status;
}

ApmForeseen *
apm_foresight_find(const ApmForesight *f, const ApmDigest *leaf, uint64_t height, size_t position)
{
	ApmForeseen *found = apm_map_find(&f->voids, leaf);
	const ApmErasing *erasing;

	if (found == NULL)
		return NULL;
	erasing = &f->erasings[found->erasing];
	if (erasing->height < height || (erasing->height == height && erasing->position <= position))
		return NULL;
	return found;
}

const ApmDigest *
apm_foresight_home(const ApmForesight *f, const ApmErasing *erasing)
{
	static const ApmDigest nobody;
	const ApmDigest *id = &erasing->origin;

	/* a chain of keys is no longer than there are keys; one that bites its tail is */
	for (size_t i = 0; i < f->replaced.count; i++)
	{
		const ApmDigest *before = apm_map_find(&f->replaced, id);

		if (before == NULL)
			break;
		if (memcmp(before, &nobody, sizeof(nobody)) == 0)
			return id;
		id = before;
	}
	return f->has_first ? &f->first : &erasing->origin;
}
