/*
 * contract.c
 *	  The state that the contract's rules look at.
 *
 * A state holds only what was loaded into it and what apm_contract_apply() entered: a
 * node loads what a batch of transactions needs, a verifier starts with an empty one and
 * applies the chain from its genesis.  Both get the same answers, because what is not in
 * the state is, for the rules, not on the ledger.
 */
#include "contract_state.h"

#include <string.h>

#include "digest.h"
#include "policy.h"
#include "room.h"

/* Raised whenever a built-in rule changes its verdict on anything: it is part of the contract digest. */
#define RULE_SET_VERSION 1

#define DIGEST_TAG 'C'
#define ENCODING_VERSION 1

/* An item that is loaded stands in an earlier block; which, nobody asks any more. */
#define EARLIER_HEIGHT 0

#define FETCH_CAP_DEFAULT 1000

/* What the ledger says about single patients, records, queries, actors. */
static ApmStatus
init_subjects(ApmContractState *s)
{
	const struct
	{
		ApmMap *map;
		size_t value_size;
	} maps[] = {
		{&s->patients, sizeof(ApmPatientState)},
		{&s->records, sizeof(ApmRecordState)},
		{&s->tids, 0},
		{&s->leaves, sizeof(ApmLeaves)},
		{&s->words, sizeof(ApmWords)},
		{&s->queries, sizeof(ApmQueryState)},
		{&s->studies, sizeof(uint32_t)},
	};
	ApmStatus status = APM_OK;

	for (size_t i = 0; i < sizeof(maps) / sizeof(maps[0]) && status == APM_OK; i++)
		status = apm_map_init(maps[i].map, maps[i].value_size);
	for (int counter = 1; counter <= APM_COUNTERS && status == APM_OK; counter++)
		status = apm_tally_init(&s->tallies[counter]);
	return status;
}

ApmStatus
apm_contract_new(const ApmDigest *chain, ApmContractState **out)
{
	ApmContractState *s = apm_core_alloc(sizeof(*s), false);
	ApmStatus status;

	if (s == NULL)
		return APM_ERR_MEMORY;
	s->chain = *chain;
	status = apm_members_init(s);
	if (status == APM_OK)
		status = init_subjects(s);
	if (status != APM_OK)
	{
		apm_contract_free(s);
		return status;
	}
	*out = s;
	return APM_OK;
}

/* What values of the maps point to. */
static void
free_lists(ApmContractState *s)
{
	const ApmDigest *patient;
	size_t at = 0;
	void *value;

	while (s->words.count > 0 && apm_map_next(&s->words, &at, &patient, &value))
		apm_core_free(((ApmWords *) value)->v);
	at = 0;
	while (s->leaves.count > 0 && apm_map_next(&s->leaves, &at, &patient, &value))
		apm_core_free(((ApmLeaves *) value)->v);
}

static void
free_subjects(ApmContractState *s)
{
	free_lists(s);
	apm_map_free(&s->leaves);
	apm_map_free(&s->words);
	apm_map_free(&s->patients);
	apm_map_free(&s->records);
	apm_map_free(&s->tids);
	apm_map_free(&s->queries);
	apm_map_free(&s->studies);
	for (int counter = 1; counter <= APM_COUNTERS; counter++)
		apm_tally_free(&s->tallies[counter]);
}

void
apm_contract_free(ApmContractState *s)
{
	if (s == NULL)
		return;
	apm_members_free(s);
	free_subjects(s);
	apm_inforce_free(&s->items);
	apm_core_free(s);
}

void
apm_contract_forget(ApmContractState *s)
{
	free_lists(s);
	apm_map_clear(&s->leaves);
	apm_map_clear(&s->words);
	if (s->patients.count > APM_PATIENTS_KEPT)
		apm_map_clear(&s->patients);
	apm_map_clear(&s->records);
	apm_map_clear(&s->tids);
	apm_map_clear(&s->queries);
	apm_map_clear(&s->studies);
	for (int counter = 1; counter <= APM_COUNTERS; counter++)
		apm_tally_clear(&s->tallies[counter]);
}

void
apm_contract_forget_patients(ApmContractState *s)
{
	apm_map_clear(&s->patients);
}

/* The key of a map for a name of 16 bytes: a UUID, a study. */
static void
short_key(const uint8_t bytes[16], ApmDigest *key)
{
	memset(key, 0, sizeof(*key));
	memcpy(key->bytes, bytes, 16);
}

/* Enters a value of that size under a key, in place of what was there. */
static ApmStatus
put(ApmMap *map, const ApmDigest *key, const void *from, size_t size)
{
	void *value;
	ApmStatus status = apm_map_put(map, key, &value);

	if (status == APM_OK)
		memcpy(value, from, size);
	return status;
}

static ApmStatus
put_short(ApmMap *map, const uint8_t name[16], const void *from, size_t size)
{
	ApmDigest key;

	short_key(name, &key);
	return put(map, &key, from, size);
}

/* Takes the value of that size out; zeros if there is none. */
static void
get(const ApmMap *map, const ApmDigest *key, void *out, size_t size)
{
	const void *found = apm_map_find(map, key);

	if (found != NULL)
		memcpy(out, found, size);
	else
		memset(out, 0, size);
}

static void
get_short(const ApmMap *map, const uint8_t name[16], void *out, size_t size)
{
	ApmDigest key;

	short_key(name, &key);
	get(map, &key, out, size);
}

ApmStatus
apm_contract_load_item(ApmContractState *s, const ApmItem *item, uint64_t time_us)
{
	return apm_inforce_enter(&s->items, item, EARLIER_HEIGHT, time_us);
}

ApmStatus
apm_contract_load_patient(ApmContractState *s, ApmSlice apid, const ApmPatientState *p)
{
	ApmDigest key;
	ApmStatus status = apm_patient_digest(apid, &key);

	return status == APM_OK ? put(&s->patients, &key, p, sizeof(*p)) : status;
}

ApmStatus
apm_contract_load_record(ApmContractState *s, const ApmUuid *rid, const ApmRecordState *r)
{
	return put_short(&s->records, rid->bytes, r, sizeof(*r));
}

ApmStatus
apm_contract_load_tid(ApmContractState *s, const ApmUuid *tid)
{
	ApmDigest key;
	void *value;

	short_key(tid->bytes, &key);
	return apm_map_put(&s->tids, &key, &value);
}

ApmStatus
apm_contract_enter_leaf(ApmContractState *s, const ApmDigest *patient, const ApmVoid *leaf)
{
	ApmLeaves *leaves;
	ApmVoid *v;
	void *value;
	ApmStatus status = apm_map_put(&s->leaves, patient, &value);

	if (status != APM_OK)
		return status;
	leaves = value;
	v = apm_room(leaves->v, &leaves->capacity, leaves->n + 1, sizeof(*v));
	if (v == NULL)
		return APM_ERR_MEMORY;
	leaves->v = v;
	v[leaves->n++] = *leaf;
	return APM_OK;
}

ApmStatus
apm_contract_load_leaf(ApmContractState *s, ApmSlice apid, const ApmVoid *leaf)
{
	ApmDigest patient;
	ApmStatus status = apm_patient_digest(apid, &patient);

	return status == APM_OK ? apm_contract_enter_leaf(s, &patient, leaf) : status;
}

void
apm_contract_drop_leaves(ApmContractState *s, const ApmDigest *patient)
{
	ApmLeaves *leaves = apm_map_find(&s->leaves, patient);

	if (leaves == NULL)
		return;
	apm_core_free(leaves->v);
	memset(leaves, 0, sizeof(*leaves));
}

/* The entry of this grantee and purpose, made if need be; NULL without memory. */
static ApmWord *
find_word(ApmWords *words, const uint8_t grantee[APM_STAFF_LEN], uint16_t purpose)
{
	ApmWord *v;

	for (size_t i = 0; i < words->n; i++)
	{
		if (words->v[i].purpose == purpose && memcmp(words->v[i].grantee, grantee, APM_STAFF_LEN) == 0)
			return &words->v[i];
	}
	v = apm_room(words->v, &words->capacity, words->n + 1, sizeof(*v));
	if (v == NULL)
		return NULL;
	words->v = v;
	memcpy(v[words->n].grantee, grantee, APM_STAFF_LEN);
	v[words->n].purpose = purpose;
	return &v[words->n++];
}

ApmStatus
apm_contract_load_consent(ApmContractState *s, ApmSlice apid, const uint8_t grantee[APM_STAFF_LEN],
						  uint16_t purpose, const ApmConsentState *c)
{
	ApmDigest key;
	ApmWord *word;
	void *value;
	ApmStatus status = apm_patient_digest(apid, &key);

	if (status == APM_OK)
		status = apm_map_put(&s->words, &key, &value);
	if (status != APM_OK)
		return status;
	word = find_word(value, grantee, purpose);
	if (word == NULL)
		return APM_ERR_MEMORY;
	if (c->granted && (!word->granted || word->grant.order <= c->order))
	{
		word->granted = true;
		word->grant = *c;
	}
	else if (!c->granted && (!word->revoked || word->revocation <= c->order))
	{
		word->revoked = true;
		word->revocation = c->order;
	}
	return APM_OK;
}

ApmStatus
apm_contract_load_query(ApmContractState *s, const ApmUuid *tid, const ApmQueryState *q)
{
	return put_short(&s->queries, tid->bytes, q, sizeof(*q));
}

ApmStatus
apm_contract_load_study(ApmContractState *s, const uint8_t study[APM_STUDY_LEN], uint32_t releases)
{
	return put_short(&s->studies, study, &releases, sizeof(releases));
}

ApmStatus
apm_contract_load_count(ApmContractState *s, uint8_t counter, const ApmDigest *subject, uint64_t time_us,
						uint64_t total)
{
	if (apm_counter_name(counter) == NULL)
		return APM_ERR_RANGE;
	return apm_tally_point(&s->tallies[counter], subject, time_us, total);
}

ApmStatus
apm_contract_try_item(const ApmContractState *s, const ApmItem *item)
{
	ApmInForce trial;
	ApmStatus status = apm_inforce_copy(&s->items, &trial);

	if (status == APM_OK)
		status = apm_inforce_enter(&trial, item, EARLIER_HEIGHT, 0);
	apm_inforce_free(&trial);
	return status;
}

uint64_t
apm_contract_policy(const ApmContractState *s, uint16_t key)
{
	const ApmHeld *held = apm_inforce_policy(&s->items, key);

	if (held != NULL)
		return held->item.value;
	switch (key)
	{
		case APM_POLICY_DIFFICULTY:
			return UINT64_MAX;
		case APM_POLICY_ACCESS:
			return APM_ACCESS_CLINICIAN;
		case APM_POLICY_EMERGENCY:
			return APM_EMERGENCY_UNLESS_WITHDRAWN;
		case APM_POLICY_EXPORT:
			return apm_contract_policy(s, APM_POLICY_ACCESS);
		case APM_POLICY_FETCH_CAP:
			return FETCH_CAP_DEFAULT;
		default:
			return 0;
	}
}

static uint16_t
code_in_list(const ApmContractState *s, ApmItemType type, const char *name)
{
	const ApmHeldList *list = &s->items.now[type];

	for (size_t i = 0; name != NULL && i < list->n; i++)
	{
		if (strcmp(list->v[i]->name, name) == 0)
			return list->v[i]->item.key;
	}
	return 0;
}

static const char *
name_in_list(const ApmContractState *s, ApmItemType type, uint16_t code)
{
	const ApmHeld *held = apm_inforce_code(&s->items, type, code);

	return held != NULL ? held->name : NULL;
}

uint16_t
apm_contract_purpose_code(const ApmContractState *s, const char *name)
{
	return code_in_list(s, APM_ITEM_PURPOSE, name);
}

const char *
apm_contract_purpose_name(const ApmContractState *s, uint16_t code)
{
	return name_in_list(s, APM_ITEM_PURPOSE, code);
}

uint16_t
apm_contract_reason_code(const ApmContractState *s, const char *name)
{
	return code_in_list(s, APM_ITEM_REASON, name);
}

const char *
apm_contract_reason_name(const ApmContractState *s, uint16_t code)
{
	return name_in_list(s, APM_ITEM_REASON, code);
}

const char *
apm_contract_rule_name(const ApmContractState *s, uint16_t rule)
{
	const ApmHeld *held;

	if (rule < APM_SITE_RULE)
		return apm_rule_name(rule);
	held = apm_inforce_rule(&s->items, rule);
	return held != NULL ? held->name : NULL;
}

ApmStatus
apm_contract_ruleset(const ApmContractState *s, ApmDigest *out)
{
	apm_inforce_ruleset(&s->items, out);
	return APM_OK;
}

bool
apm_contract_next_item(const ApmContractState *s, size_t *at, ApmItem *out)
{
	size_t skip = *at;

	for (int type = 0; type < APM_HELD_TYPES; type++)
	{
		const ApmHeldList *list = &s->items.now[type];

		if (skip < list->n)
		{
			*out = list->v[skip]->item;
			(*at)++;
			return true;
		}
		skip -= list->n;
	}
	return false;
}

bool
apm_contract_tid_seen(const ApmContractState *s, const ApmUuid *tid)
{
	ApmDigest key;

	short_key(tid->bytes, &key);
	return apm_map_find(&s->tids, &key) != NULL;
}

void
apm_contract_record(const ApmContractState *s, const ApmUuid *rid, ApmRecordState *out)
{
	get_short(&s->records, rid->bytes, out, sizeof(*out));
}

void
apm_contract_query(const ApmContractState *s, const ApmUuid *tid, ApmQueryState *out)
{
	get_short(&s->queries, tid->bytes, out, sizeof(*out));
}

const ApmLeaves *
apm_contract_leaves(const ApmContractState *s, const ApmDigest *patient)
{
	return apm_map_find(&s->leaves, patient);
}

const ApmWords *
apm_contract_words(const ApmContractState *s, const ApmDigest *patient)
{
	return apm_map_find(&s->words, patient);
}

uint32_t
apm_contract_releases(const ApmContractState *s, const uint8_t study[APM_STUDY_LEN])
{
	uint32_t releases;

	get_short(&s->studies, study, &releases, sizeof(releases));
	return releases;
}

void
apm_contract_patient_of(const ApmContractState *s, const ApmDigest *patient, ApmPatientState *out)
{
	get(&s->patients, patient, out, sizeof(*out));
}

ApmStatus
apm_contract_patient(const ApmContractState *s, ApmSlice apid, ApmPatientState *out)
{
	ApmDigest key;
	ApmStatus status = apm_patient_digest(apid, &key);

	if (status == APM_OK)
		apm_contract_patient_of(s, &key, out);
	return status;
}

/*
 * SHA-256 over u8 'C', u8 version, u32 rule set version, u32 count of items in force and the items,
 * nodes' keys in force, origins' keys in force.
 */
ApmStatus
apm_contract_digest(const ApmContractState *s, ApmDigest *out)
{
	ApmBuf buf = {0};
	ApmStatus status;
	size_t items = 0;

	for (int type = 0; type < APM_HELD_TYPES; type++)
		items += s->items.now[type].n;
	apm_put_u8(&buf, DIGEST_TAG);
	apm_put_u8(&buf, ENCODING_VERSION);
	apm_put_u32(&buf, RULE_SET_VERSION);
	apm_put_u32(&buf, (uint32_t) items);
	for (int type = 0; type < APM_HELD_TYPES; type++)
	{
		const ApmHeldList *list = &s->items.now[type];

		for (size_t i = 0; i < list->n; i++)
			apm_put_raw(&buf, list->v[i]->bytes, list->v[i]->len);
	}
	status = apm_members_put(s, APM_MEMBER_NODE, &buf);
	if (status == APM_OK)
		status = apm_members_put(s, APM_MEMBER_ORIGIN, &buf);
	if (status == APM_OK)
		status = apm_buf_status(&buf);
	if (status == APM_OK)
		status = apm_sha256(buf.data, buf.len, out);
	apm_buf_reset(&buf);
	return status;
}
