/*
 * fuzz_signed.c
 *	  Whatever bytes are taken for a signed transaction are exactly those that encode it,
 *	  inside and out, none that was not signed is valid, and what a contract transaction says can be
 *	  applied or not, item by item, and digested after it.
 */
#include <stdlib.h>
#include <string.h>

#include "core/contract.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Encodes again every part that could be read. */
static void
encode_again(const ApmOpened *opened, const uint8_t *data, size_t size)
{
	ApmBuf tx = {0};
	ApmBuf proof = {0};
	ApmBuf whole = {0};
	ApmSigned s = opened->envelope;

	if (opened->wellformed)
	{
		if (apm_transaction_encode(&opened->tx, &tx) != APM_OK)
			abort();
		apm_origin_proof_encode(&opened->proof, &proof);
		s.transaction = APM_SLICE(tx.data, tx.len);
		s.proof = APM_SLICE(proof.data, proof.len);
	}
	apm_signed_encode(&s, &whole);
	if (apm_buf_status(&proof) != APM_OK || apm_buf_status(&whole) != APM_OK || whole.len != size ||
		memcmp(whole.data, data, size) != 0)
		abort();
	apm_buf_reset(&tx);
	apm_buf_reset(&proof);
	apm_buf_reset(&whole);
}

/* Enters the items that can be, each of which tried first answers the same. */
static void
enter_items(const ApmDigest *chain, const ApmContractFields *f)
{
	ApmContractState *state;
	ApmDigest digest;
	ApmReader r;
	ApmItem item;

	if (apm_contract_new(chain, &state) != APM_OK)
		abort();
	apm_reader_init(&r, f->items);
	for (int i = 0; i < f->count; i++)
	{
		ApmStatus tried;

		apm_item_get(&r, &item);
		tried = apm_contract_try_item(state, &item);
		if ((tried != APM_OK && tried != APM_ERR_RANGE) || apm_contract_load_item(state, &item, 1) != tried)
			abort();
	}
	if (apm_contract_ruleset(state, &digest) != APM_OK || apm_contract_digest(state, &digest) != APM_OK)
		abort();
	apm_contract_free(state);
}

/* Each void is found at its place, and leaves a patient who has it to be voided. */
static void
enter_voids(const ApmDigest *chain, const ApmErasureFields *f)
{
	ApmContractState *state;
	ApmPatientState patient;
	uint32_t versions = 0;
	uint32_t at;
	ApmVoid voided;

	if (apm_contract_new(chain, &state) != APM_OK)
		abort();
	for (uint32_t i = 0; i < f->count; i++)
	{
		apm_erasure_void(f, i, &voided);
		versions += voided.kind == APM_KIND_PATIENT;
		if (!apm_erasure_find(f, &voided.leaf, &at) || at != i ||
			apm_contract_apply_void(state, f->apid, chain, &voided, i) != APM_OK)
			abort();
	}
	if (apm_contract_patient(state, f->apid, &patient) != APM_OK || !patient.known || patient.erased ||
		patient.version != versions)
		abort();
	apm_contract_free(state);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static ApmContractState *state = NULL;
	ApmDigest chain;
	ApmOpened opened;
	ApmNeeds needs;
	uint16_t rule;

	memset(&chain, 0xc0, sizeof(chain)); /* the chain of the corpus */
	if (state == NULL && apm_contract_new(&chain, &state) != APM_OK)
		abort();
	if (apm_open_signed(APM_SLICE(data, size), &opened) != APM_OK)
		return 0;
	encode_again(&opened, data, size);
	if (apm_contract_needs(state, &opened, &needs) != APM_OK || needs.ncounts > APM_COUNTS_MAX)
		abort();
	if (opened.wellformed && opened.tx.kind == APM_KIND_CONTRACT)
		enter_items(&chain, &opened.tx.u.contract);
	if (opened.wellformed && opened.tx.kind == APM_KIND_ERASURE)
		enter_voids(&chain, &opened.tx.u.erasure);

	/* no origin is registered, and a fuzzer signs nothing */
	rule = apm_contract_evaluate(state, &opened, 0, UINT64_MAX);
	if (rule == APM_RULE_NONE || rule > APM_RULE_SIGNATURE)
		abort();
	if (!opened.wellformed && rule != APM_RULE_TEMPLATE)
		abort();
	return 0;
}
