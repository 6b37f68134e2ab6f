/*
 * fuzz_header.c
 *	  Whatever bytes are taken for a block header are exactly those that encode it, and no
 *	  header is a block where no node is listed.
 */
#include <stdlib.h>
#include <string.h>

#include "core/contract.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const ApmItem no_work = {.type = APM_ITEM_POLICY, .key = APM_POLICY_DIFFICULTY};
	static ApmContractState *state = NULL;
	ApmDigest chain = {{0}};
	ApmHeader h;
	uint8_t again[APM_HEADER_LEN];

	if (state == NULL &&
		(apm_contract_new(&chain, &state) != APM_OK || apm_contract_load_item(state, &no_work, 0) != APM_OK))
		abort();
	if (apm_header_decode(APM_SLICE(data, size), &h) != APM_OK)
		return 0;
	apm_header_encode(&h, again);
	if (size != APM_HEADER_LEN || memcmp(again, data, size) != 0)
		abort();
	if (apm_block_check(state, data, NULL, NULL, NULL, NULL, NULL) == APM_BLOCK_OK ||
		apm_block_check(state, data, &h, &h.previous, NULL, &h.contract, NULL) == APM_BLOCK_OK)
		abort();
	return 0;
}
