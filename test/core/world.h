/*
 * world.h
 *	  A contract's state to judge transactions by.
 */
#ifndef APM_TEST_WORLD_H
#define APM_TEST_WORLD_H

#include "sample.h"

#define HEIGHT 9
#define BLOCK_TIME SAMPLE_TIME
#define SECOND UINT64_C(1000000)
#define HOUR (3600 * SECOND)

/* A chain with one origin of its own, a stranger, and a state that a test fills. */
typedef struct World
{
	ApmEcKey *origin;
	ApmEcKey *stranger;
	ApmDigest origin_id;
	ApmDigest stranger_id;
	ApmContractState *state;
	uint64_t height;	/* of the block in making */
	uint64_t time_us;	/* and its time */
	uint32_t position;	/* of the next transaction in it */
	uint32_t statement; /* transactions under one signature */
	ApmUuid tid;		/* of the transaction judged last */
	ApmVoid leaf;		/* what an erasure says of it */
} World;

static inline void
load_origin(World *w, const ApmEcKey *key)
{
	load_member(w->state, APM_MEMBER_ORIGIN, key);
}

static inline void
load_policy(World *w, uint16_t key, uint64_t value)
{
	ApmItem item = {.type = APM_ITEM_POLICY, .key = key, .value = value};

	CHECK_OK(apm_contract_load_item(w->state, &item, 0));
}

/* The purposes and reasons that every genesis block lists. */
static inline void
load_lists(World *w)
{
	for (uint16_t code = 1; apm_genesis_purpose(code) != NULL; code++)
	{
		ApmItem item = {
			.type = APM_ITEM_PURPOSE, .key = code, .name = sample_text(apm_genesis_purpose(code))};

		CHECK_OK(apm_contract_load_item(w->state, &item, 0));
	}
	for (uint16_t code = 1; apm_genesis_reason(code) != NULL; code++)
	{
		ApmItem item = {.type = APM_ITEM_REASON, .key = code, .name = sample_text(apm_genesis_reason(code))};

		CHECK_OK(apm_contract_load_item(w->state, &item, 0));
	}
}

static inline void
world_open(World *w)
{
	ApmDigest chain = sample_digest(0xc0);

	memset(w, 0, sizeof(*w));
	w->height = HEIGHT;
	w->time_us = BLOCK_TIME;
	w->statement = 1;
	w->origin = sample_key();
	w->stranger = sample_key();
	apm_ec_id(w->origin, &w->origin_id);
	apm_ec_id(w->stranger, &w->stranger_id);
	CHECK_OK(apm_contract_new(&chain, &w->state));
	load_origin(w, w->origin);
	load_lists(w);
}

static inline void
world_close(World *w)
{
	apm_contract_free(w->state);
	apm_ec_free(w->origin);
	apm_ec_free(w->stranger);
}

static inline void
next_block(World *w, uint64_t later_us)
{
	w->height++;
	w->time_us += later_us;
	w->position = 0;
}

/* The sample patient, registered by the world's origin with profile digest 0xf1..f1. */
static inline void
load_patient(World *w, bool erased)
{
	ApmPatientState p = {.known = true,
						 .erased = erased,
						 .origin = w->origin_id,
						 .version = 1,
						 .profile = sample_digest(0xf1)};

	CHECK_OK(apm_contract_load_patient(w->state, sample_text(SAMPLE_APID), &p));
}

/* The sample patient, of whom just this is on the chain. */
static inline void
load_erasable(World *w, const ApmErasureFields *f)
{
	ApmVoid leaf;

	load_patient(w, false);
	for (uint32_t i = 0; i < f->count; i++)
	{
		apm_erasure_void(f, i, &leaf);
		CHECK_OK(apm_contract_load_leaf(w->state, f->apid, &leaf));
	}
}

static inline ApmTransaction
of_kind(const World *w, ApmKind kind)
{
	ApmTransaction tx = sample_transaction(kind);

	tx.origin = w->origin_id;
	tx.time_us = w->time_us;
	return tx;
}

static inline ApmTransaction
member(const World *w, ApmMember which, const ApmEcKey *key)
{
	ApmTransaction tx = sample_membership(which, key);

	tx.origin = w->origin_id;
	return tx;
}

/* A contract transaction of these items. */
static inline ApmTransaction
change(const World *w, const ApmItem *items, uint16_t count)
{
	ApmTransaction tx = of_kind(w, APM_KIND_CONTRACT);

	sample_items(items, count, &tx.u.contract);
	return tx;
}

/* The verdict on tx signed by key in a block of that height; applies it when told to and when it is valid. */
static inline uint16_t
judge(World *w, const ApmEcKey *key, const ApmTransaction *tx, uint64_t height, bool apply)
{
	ApmBuf buf = {0};
	ApmOpened opened;
	uint16_t rule;

	sample_sign_among(key, tx, w->statement, &buf);
	CHECK_OK(apm_open_signed(APM_SLICE(buf.data, buf.len), &opened));
	CHECK(opened.wellformed);
	w->tid = opened.tid;
	w->leaf = (ApmVoid){.leaf = opened.leaf, .kind = (uint8_t) tx->kind, .tid = opened.tid};
	memcpy(w->leaf.actor, tx->actor, APM_STAFF_LEN);
	rule = apm_contract_evaluate(w->state, &opened, height, w->time_us);
	if (apply && rule == APM_RULE_NONE)
	{
		CHECK_OK(apm_contract_apply(w->state, &opened, height, w->position++, w->time_us));
		CHECK(apm_contract_evaluate(w->state, &opened, height, w->time_us) == APM_RULE_FRESH);
	}
	apm_buf_reset(&buf);
	return rule;
}

static inline uint16_t
verdict(World *w, const ApmTransaction *tx)
{
	return judge(w, w->origin, tx, w->height, false);
}

/* The verdict, and if it is valid its effects. */
static inline uint16_t
take(World *w, const ApmTransaction *tx)
{
	return judge(w, w->origin, tx, w->height, true);
}

#endif /* APM_TEST_WORLD_H */
