/*
 * contract.c
 *	  The state that the contract's rules look at, and how a valid transaction changes it.
 *
 * A state holds only what was loaded into it and what apm_contract_apply() entered: a
 * node loads what a batch of transactions needs, a verifier starts with an empty one and
 * applies the chain from its genesis.  Both get the same answers, because what is not in
 * the state is, for the rules, not on the ledger.
 */
#include "contract_state.h"

#include <stdlib.h>
#include <string.h>

#include "digest.h"

/* Raised whenever a built-in rule changes its verdict on anything: it is part of the contract digest. */
#define RULE_SET_VERSION 1

#define DIGEST_TAG 'C'
#define ENCODING_VERSION 1

ApmStatus
apm_contract_new(const ApmDigest *chain, ApmContractState **out)
{
	ApmContractState *s = apm_core_alloc(sizeof(*s), false);
	ApmStatus status;

	if (s == NULL)
		return APM_ERR_MEMORY;
	s->chain = *chain;
	status = apm_map_init(&s->origins, sizeof(ApmEcKey *));
	if (status == APM_OK)
		status = apm_map_init(&s->nodes, sizeof(ApmEcKey *));
	if (status == APM_OK)
		status = apm_map_init(&s->patients, sizeof(ApmPatientState));
	if (status == APM_OK)
		status = apm_map_init(&s->records, sizeof(ApmRecordState));
	if (status == APM_OK)
		status = apm_map_init(&s->tids, 0);
	if (status != APM_OK)
	{
		apm_contract_free(s);
		return status;
	}
	*out = s;
	return APM_OK;
}

static void
free_members(ApmMap *map)
{
	size_t at = 0;
	const ApmDigest *id;
	void *value;

	while (apm_map_next(map, &at, &id, &value))
		apm_ec_free(*(ApmEcKey **) value);
	apm_map_free(map);
}

void
apm_contract_free(ApmContractState *s)
{
	if (s == NULL)
		return;
	free_members(&s->origins);
	free_members(&s->nodes);
	apm_map_free(&s->patients);
	apm_map_free(&s->records);
	apm_map_free(&s->tids);
	apm_core_free(s);
}

static void
uuid_key(const ApmUuid *uuid, ApmDigest *key)
{
	memset(key, 0, sizeof(*key));
	memcpy(key->bytes, uuid->bytes, APM_UUID_LEN);
}

static ApmStatus
load_member(ApmMap *members, const uint8_t spki[APM_SPKI_LEN])
{
	ApmEcKey *key;
	ApmDigest id;
	void *value;
	ApmStatus status;

	status = apm_ec_from_spki(APM_SLICE(spki, APM_SPKI_LEN), &key);
	if (status != APM_OK)
		return status;
	apm_ec_id(key, &id);
	status = apm_map_put(members, &id, &value);
	if (status != APM_OK)
	{
		apm_ec_free(key);
		return status;
	}
	/* one id, one key: an earlier one is the same */
	apm_ec_free(*(ApmEcKey **) value);
	*(ApmEcKey **) value = key;
	return APM_OK;
}

ApmStatus
apm_contract_load_origin(ApmContractState *s, const uint8_t spki[APM_SPKI_LEN])
{
	return load_member(&s->origins, spki);
}

ApmStatus
apm_contract_load_node(ApmContractState *s, const uint8_t spki[APM_SPKI_LEN])
{
	return load_member(&s->nodes, spki);
}

/* APM_ERR_RANGE when there are APM_POLICY_MAX others already. */
ApmStatus
apm_contract_load_policy(ApmContractState *s, uint16_t key, uint64_t value)
{
	int at = 0;

	while (at < s->policy_count && s->policies[at].key < key)
		at++;
	if (at == s->policy_count || s->policies[at].key != key)
	{
		if (s->policy_count == APM_POLICY_MAX)
			return APM_ERR_RANGE;
		memmove(&s->policies[at + 1], &s->policies[at], (s->policy_count - at) * sizeof(ApmPolicy));
		s->policy_count++;
	}
	s->policies[at].key = key;
	s->policies[at].value = value;
	return APM_OK;
}

ApmStatus
apm_contract_load_patient(ApmContractState *s, ApmSlice apid, const ApmPatientState *p)
{
	ApmDigest key;
	void *value;
	ApmStatus status = apm_sha256(apid.data, apid.len, &key);

	if (status == APM_OK)
		status = apm_map_put(&s->patients, &key, &value);
	if (status == APM_OK)
		*(ApmPatientState *) value = *p;
	return status;
}

ApmStatus
apm_contract_load_record(ApmContractState *s, const ApmUuid *rid, const ApmRecordState *r)
{
	ApmDigest key;
	void *value;
	ApmStatus status;

	uuid_key(rid, &key);
	status = apm_map_put(&s->records, &key, &value);
	if (status == APM_OK)
		*(ApmRecordState *) value = *r;
	return status;
}

ApmStatus
apm_contract_load_tid(ApmContractState *s, const ApmUuid *tid)
{
	ApmDigest key;
	void *value;

	uuid_key(tid, &key);
	return apm_map_put(&s->tids, &key, &value);
}

uint64_t
apm_contract_policy(const ApmContractState *s, uint16_t key, uint64_t otherwise)
{
	for (int i = 0; i < s->policy_count; i++)
	{
		if (s->policies[i].key == key)
			return s->policies[i].value;
	}
	return otherwise;
}

static const ApmEcKey *
find_member(const ApmMap *members, const ApmDigest *id)
{
	ApmEcKey **value = apm_map_find(members, id);

	return value != NULL ? *value : NULL;
}

const ApmEcKey *
apm_contract_node(const ApmContractState *s, const ApmDigest *id)
{
	return find_member(&s->nodes, id);
}

const ApmEcKey *
apm_contract_origin(const ApmContractState *s, const ApmDigest *id)
{
	return find_member(&s->origins, id);
}

bool
apm_contract_tid_seen(const ApmContractState *s, const ApmUuid *tid)
{
	ApmDigest key;

	uuid_key(tid, &key);
	return apm_map_find(&s->tids, &key) != NULL;
}

void
apm_contract_record(const ApmContractState *s, const ApmUuid *rid, ApmRecordState *out)
{
	ApmDigest key;
	const ApmRecordState *found;

	uuid_key(rid, &key);
	found = apm_map_find(&s->records, &key);
	memset(out, 0, sizeof(*out));
	if (found != NULL)
		*out = *found;
}

ApmStatus
apm_contract_patient(const ApmContractState *s, ApmSlice apid, ApmPatientState *out)
{
	ApmDigest key;
	const ApmPatientState *found;
	ApmStatus status = apm_sha256(apid.data, apid.len, &key);

	if (status != APM_OK)
		return status;
	found = apm_map_find(&s->patients, &key);
	memset(out, 0, sizeof(*out));
	if (found != NULL)
		*out = *found;
	return APM_OK;
}

static int
compare_digests(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(ApmDigest));
}

/* u32 count and the members' ids, ascending. */
static ApmStatus
put_members(const ApmMap *members, ApmBuf *out)
{
	ApmDigest *ids;
	size_t at = 0;
	size_t n = 0;
	const ApmDigest *id;
	void *value;

	apm_put_u32(out, (uint32_t) members->count);
	if (members->count == 0)
		return APM_OK;
	ids = apm_core_alloc(members->count * sizeof(ApmDigest), false);
	if (ids == NULL)
		return APM_ERR_MEMORY;
	while (apm_map_next(members, &at, &id, &value))
		ids[n++] = *id;
	qsort(ids, n, sizeof(ApmDigest), compare_digests);
	apm_put_raw(out, ids, n * sizeof(ApmDigest));
	apm_core_free(ids);
	return APM_OK;
}

/*
 * SHA-256 over u8 'C', u8 version, u32 rule set version, u16 count of policies and each
 * u16 key and u64 value, nodes, origins.
 */
ApmStatus
apm_contract_digest(const ApmContractState *s, ApmDigest *out)
{
	ApmBuf buf = {0};
	ApmStatus status;

	apm_put_u8(&buf, DIGEST_TAG);
	apm_put_u8(&buf, ENCODING_VERSION);
	apm_put_u32(&buf, RULE_SET_VERSION);
	apm_put_u16(&buf, s->policy_count);
	for (int i = 0; i < s->policy_count; i++)
	{
		apm_put_u16(&buf, s->policies[i].key);
		apm_put_u64(&buf, s->policies[i].value);
	}
	status = put_members(&s->nodes, &buf);
	if (status == APM_OK)
		status = put_members(&s->origins, &buf);
	if (status == APM_OK)
		status = apm_buf_status(&buf);
	if (status == APM_OK)
		status = apm_sha256(buf.data, buf.len, out);
	apm_buf_reset(&buf);
	return status;
}

/* Into *out what the input says; the leaf stands whether or not the inner parts can be read. */
ApmStatus
apm_open_signed(ApmSlice in, ApmOpened *out)
{
	ApmStatus status;

	memset(out, 0, sizeof(*out));
	status = apm_signed_decode(in, &out->envelope);
	if (status == APM_OK)
		status = apm_transaction_leaf(out->envelope.nonce, out->envelope.transaction, &out->leaf);
	if (status != APM_OK)
		return status;

	/* what cannot be read has no time: its Tid is that of time 0 */
	out->wellformed = apm_transaction_decode(out->envelope.transaction, &out->tx) == APM_OK;
	apm_transaction_tid(out->tx.time_us, &out->leaf, &out->tid);
	if (apm_origin_proof_decode(out->envelope.proof, &out->proof) != APM_OK)
		out->wellformed = false;
	return APM_OK;
}

void
apm_contract_needs(const ApmOpened *t, ApmNeeds *out)
{
	memset(out, 0, sizeof(*out));
	out->tid = t->tid;
	if (!t->wellformed)
		return;
	out->apid = apm_transaction_apid(&t->tx);
	if (t->tx.kind == APM_KIND_PRIMARY)
	{
		out->has_rid = true;
		out->rid = t->tx.u.primary.rid;
		out->has_amends = (t->tx.u.primary.flags & APM_PRIMARY_AMENDS) != 0;
		out->amends = t->tx.u.primary.amends;
	}
}

static ApmStatus
apply_patient(ApmContractState *s, const ApmTransaction *tx)
{
	ApmPatientState p = {.known = true,
						 .origin = tx->origin,
						 .version = tx->u.patient.version,
						 .profile = tx->u.patient.profile};

	return apm_contract_load_patient(s, tx->u.patient.apid, &p);
}

static ApmStatus
apply_primary(ApmContractState *s, const ApmTransaction *tx)
{
	const ApmPrimaryFields *f = &tx->u.primary;
	ApmRecordState r = {.known = true};
	ApmStatus status;

	status = apm_sha256(f->apid.data, f->apid.len, &r.patient);
	if (status == APM_OK)
		status = apm_contract_load_record(s, &f->rid, &r);
	if (status == APM_OK && (f->flags & APM_PRIMARY_AMENDS) != 0)
	{
		r.superseded = true; /* of the same patient, says the rule that let it through */
		status = apm_contract_load_record(s, &f->amends, &r);
	}
	return status;
}

static ApmStatus
apply_contract(ApmContractState *s, const ApmContractFields *f)
{
	ApmStatus status = APM_OK;

	for (int i = 0; i < f->count && status == APM_OK; i++)
		status = apm_contract_load_policy(s, f->policies[i].key, f->policies[i].value);
	return status;
}

/*
 * Only what apm_contract_evaluate() found valid against this state.  After a failure the
 * effects may be half entered: free the state.
 */
ApmStatus
apm_contract_apply(ApmContractState *s, const ApmOpened *t)
{
	ApmStatus status;

	if (!t->wellformed)
		return APM_ERR_FORMAT;
	status = apm_contract_load_tid(s, &t->tid);
	if (status != APM_OK)
		return status;

	switch (t->tx.kind)
	{
		case APM_KIND_PATIENT:
			return apply_patient(s, &t->tx);
		case APM_KIND_PRIMARY:
			return apply_primary(s, &t->tx);
		case APM_KIND_MEMBERSHIP:
			if (t->tx.u.membership.member == APM_MEMBER_NODE)
				return apm_contract_load_node(s, t->tx.u.membership.spki);
			return apm_contract_load_origin(s, t->tx.u.membership.spki);
		case APM_KIND_CONTRACT:
			return apply_contract(s, &t->tx.u.contract);
		default:
			return APM_OK; /* the others leave no state but their Tid */
	}
}
