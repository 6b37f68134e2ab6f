/*
 * member.c
 *	  Whose keys sign: the members of a chain, and how one key of theirs follows another.
 *
 * A member, a node or an origin, is known by the id of its first key.  Later ones come one after the
 * other, each endorsed by the one that it replaces, so a stranger who has the chain from its
 * genesis knows whose key it is.  No key is forgotten: an old one says whom a patient belongs to, and
 * what it signed while it was good stays good.
 */
#include "contract_state.h"

#include <stdlib.h>
#include <string.h>

#include "digest.h"

/* What is loaded stands in an earlier block; which, nobody asks any more. */
#define EARLIER_HEIGHT 0

/* SHA-256("apm member\0" || chain || u8 member || id of the replaced key || SPKI of its successor) */
static ApmStatus
endorsed_message(const ApmEcKey *replaced, const ApmDigest *chain, uint8_t member,
				 const uint8_t spki[APM_SPKI_LEN], ApmDigest *out)
{
	static const char label[] = "apm member";
	ApmDigest id;
	ApmSlice parts[] = {APM_SLICE(label, sizeof(label)), APM_SLICE(chain->bytes, APM_DIGEST_LEN),
						APM_SLICE(&member, 1), APM_SLICE(id.bytes, APM_DIGEST_LEN),
						APM_SLICE(spki, APM_SPKI_LEN)};

	apm_ec_id(replaced, &id);
	return apm_sha256_parts(parts, sizeof(parts) / sizeof(parts[0]), out);
}

ApmStatus
apm_member_endorse(const ApmEcKey *replaced, const ApmDigest *chain, uint8_t member,
				   const uint8_t spki[APM_SPKI_LEN], ApmSignature *out)
{
	ApmDigest message;
	ApmStatus status = endorsed_message(replaced, chain, member, spki, &message);

	return status == APM_OK ? apm_sign(replaced, &message, out) : status;
}

ApmStatus
apm_member_verify(const ApmEcKey *replaced, const ApmDigest *chain, const ApmMembershipFields *fields)
{
	ApmDigest message;
	ApmStatus status = endorsed_message(replaced, chain, fields->member, fields->spki, &message);

	return status == APM_OK ? apm_verify_signature(replaced, &message, &fields->endorsement) : status;
}

ApmStatus
apm_members_init(ApmContractState *s)
{
	ApmStatus status = APM_OK;

	for (int member = 1; member <= APM_MEMBERS && status == APM_OK; member++)
		status = apm_map_init(&s->members[member], sizeof(ApmMemberKey));
	return status;
}

void
apm_members_free(ApmContractState *s)
{
	for (int member = 1; member <= APM_MEMBERS; member++)
	{
		size_t at = 0;
		const ApmDigest *id;
		void *value;

		while (apm_map_next(&s->members[member], &at, &id, &value))
			apm_ec_free(((ApmMemberKey *) value)->key);
		apm_map_free(&s->members[member]);
	}
}

static ApmMemberKey *
find_key(const ApmContractState *s, ApmMember member, const ApmDigest *id)
{
	return apm_map_find(&s->members[member], id);
}

/* Enters a key in place of the same one; how it stands is taken from *like, but for the key. */
static ApmStatus
enter_key(ApmContractState *s, uint8_t member, const uint8_t spki[APM_SPKI_LEN], const ApmMemberKey *like)
{
	ApmEcKey *key;
	ApmMemberKey *entry;
	ApmDigest id;
	void *value;
	ApmStatus status;

	if (member != APM_MEMBER_NODE && member != APM_MEMBER_ORIGIN)
		return APM_ERR_RANGE;
	status = apm_ec_from_spki(APM_SLICE(spki, APM_SPKI_LEN), &key);
	if (status != APM_OK)
		return status;
	apm_ec_id(key, &id);
	status = apm_map_put(&s->members[member], &id, &value);
	if (status != APM_OK)
	{
		apm_ec_free(key);
		return status;
	}
	entry = value;
	apm_ec_free(entry->key);
	*entry = *like;
	entry->key = key;
	return APM_OK;
}

ApmStatus
apm_contract_load_member(ApmContractState *s, const ApmMemberState *m)
{
	ApmMemberKey like = {.home = m->home,
						 .from_height = EARLIER_HEIGHT,
						 .ended = m->ended,
						 .ended_us = m->ended_us,
						 .ended_height = EARLIER_HEIGHT};

	return enter_key(s, m->member, m->spki, &like);
}

ApmStatus
apm_members_apply(ApmContractState *s, const ApmMembershipFields *f, uint64_t height, uint64_t time_us)
{
	ApmMember member = (ApmMember) f->member;
	ApmMemberKey *replaced = find_key(s, member, &f->replaces);
	ApmMemberKey like = {.from_height = height};
	ApmStatus status = APM_OK;

	if (replaced != NULL)
		like.home = replaced->home;
	else
		status = apm_sha256(f->spki, APM_SPKI_LEN, &like.home);
	if (status == APM_OK)
		status = enter_key(s, f->member, f->spki, &like);
	if (status != APM_OK)
		return status;
	/* where it lies may have changed */
	replaced = find_key(s, member, &f->replaces);
	if (replaced != NULL)
	{
		replaced->ended = true;
		replaced->ended_us = time_us;
		replaced->ended_height = height;
	}
	return APM_OK;
}

const ApmMemberKey *
apm_contract_key(const ApmContractState *s, ApmMember member, const ApmDigest *id)
{
	return find_key(s, member, id);
}

const ApmEcKey *
apm_contract_node(const ApmContractState *s, const ApmDigest *id)
{
	const ApmMemberKey *entry = find_key(s, APM_MEMBER_NODE, id);

	return entry != NULL && !entry->ended ? entry->key : NULL;
}

/* A key signs from the block after its own on, to the block that ends it; those of genesis sign that, too. */
const ApmEcKey *
apm_contract_block_signer(const ApmContractState *s, const ApmDigest *id, uint64_t height)
{
	const ApmMemberKey *entry = find_key(s, APM_MEMBER_NODE, id);

	if (entry == NULL || (height > 0 && entry->from_height >= height) ||
		(entry->ended && entry->ended_height < height))
		return NULL;
	return entry->key;
}

bool
apm_contract_current(const ApmContractState *s, ApmMember member, const ApmDigest *home, ApmDigest *id)
{
	size_t at = 0;
	const ApmDigest *key_id;
	void *value;

	while (apm_map_next(&s->members[member], &at, &key_id, &value))
	{
		const ApmMemberKey *entry = value;

		if (!entry->ended && memcmp(&entry->home, home, sizeof(*home)) == 0)
		{
			*id = *key_id;
			return true;
		}
	}
	return false;
}

bool
apm_contract_home(const ApmContractState *s, ApmMember member, const ApmDigest *id, ApmDigest *home)
{
	const ApmMemberKey *entry = find_key(s, member, id);

	if (entry == NULL)
		return false;
	*home = entry->home;
	return true;
}

static int
compare_digests(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(ApmDigest));
}

/* u32 count and the ids of the keys in force, ascending. */
ApmStatus
apm_members_put(const ApmContractState *s, ApmMember member, ApmBuf *out)
{
	const ApmMap *members = &s->members[member];
	ApmDigest *ids;
	size_t at = 0;
	size_t n = 0;
	const ApmDigest *id;
	void *value;

	ids = apm_core_alloc((members->count + 1) * sizeof(ApmDigest), false);
	if (ids == NULL)
		return APM_ERR_MEMORY;
	while (apm_map_next(members, &at, &id, &value))
	{
		if (!((const ApmMemberKey *) value)->ended)
			ids[n++] = *id;
	}
	qsort(ids, n, sizeof(ApmDigest), compare_digests);
	apm_put_u32(out, (uint32_t) n);
	apm_put_raw(out, ids, n * sizeof(ApmDigest));
	apm_core_free(ids);
	return APM_OK;
}
