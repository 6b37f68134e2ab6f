/*
 * world.h
 *	  A contract's state to judge transactions by.
 */
#ifndef APM_TEST_WORLD_H
#define APM_TEST_WORLD_H

#include "sample.h"

#define HEIGHT 9
#define BLOCK_TIME SAMPLE_TIME

/* A chain with one origin of its own, a stranger, and a state that a test fills. */
typedef struct World
{
	ApmEcKey *origin;
	ApmEcKey *stranger;
	ApmDigest origin_id;
	ApmDigest stranger_id;
	ApmContractState *state;
} World;

static inline void
load_origin(World *w, const ApmEcKey *key)
{
	uint8_t spki[APM_SPKI_LEN];

	apm_ec_spki(key, spki);
	CHECK_OK(apm_contract_load_origin(w->state, spki));
}

static inline void
world_open(World *w)
{
	ApmDigest chain = sample_digest(0xc0);

	w->origin = sample_key();
	w->stranger = sample_key();
	apm_ec_id(w->origin, &w->origin_id);
	apm_ec_id(w->stranger, &w->stranger_id);
	CHECK_OK(apm_contract_new(&chain, &w->state));
	load_origin(w, w->origin);
}

static inline void
world_close(World *w)
{
	apm_contract_free(w->state);
	apm_ec_free(w->origin);
	apm_ec_free(w->stranger);
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

static inline ApmTransaction
of_kind(const World *w, ApmKind kind)
{
	ApmTransaction tx = sample_transaction(kind);

	tx.origin = w->origin_id;
	return tx;
}

static inline ApmTransaction
member(const World *w, ApmMember which, const ApmEcKey *key)
{
	ApmTransaction tx = sample_membership(which, key);

	tx.origin = w->origin_id;
	return tx;
}

/* The verdict on tx signed by key; applies it when told to and when it is valid. */
static inline uint16_t
judge(World *w, const ApmEcKey *key, const ApmTransaction *tx, uint64_t height, bool apply)
{
	ApmBuf buf = {0};
	ApmOpened opened;
	uint16_t rule;

	sample_sign(key, tx, &buf);
	CHECK_OK(apm_open_signed(APM_SLICE(buf.data, buf.len), &opened));
	CHECK(opened.wellformed);
	rule = apm_contract_evaluate(w->state, &opened, height, BLOCK_TIME);
	if (apply && rule == APM_RULE_NONE)
	{
		CHECK_OK(apm_contract_apply(w->state, &opened, height, 0, BLOCK_TIME));
		CHECK(apm_contract_evaluate(w->state, &opened, height, BLOCK_TIME) == APM_RULE_FRESH);
	}
	apm_buf_reset(&buf);
	return rule;
}

static inline uint16_t
verdict(World *w, const ApmTransaction *tx)
{
	return judge(w, w->origin, tx, HEIGHT, false);
}

#endif /* APM_TEST_WORLD_H */
