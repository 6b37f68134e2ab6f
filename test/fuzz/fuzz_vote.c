/*
 * fuzz_vote.c
 *	  Whatever bytes are taken for a vote are exactly those that encode it, and its target is above its source.
 */
#include <stdlib.h>
#include <string.h>

#include "core/vote.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const ApmVoteRecord nothing;
	ApmVote vote;
	uint8_t again[APM_VOTE_LEN];

	if (apm_vote_decode(APM_SLICE(data, size), &vote) != APM_OK)
		return 0;
	apm_vote_encode(&vote, again);
	if (size != APM_VOTE_LEN || memcmp(again, data, size) != 0)
		abort();
	if (!apm_vote_allowed(&nothing, &vote.source, &vote.target))
		abort();
	return 0;
}
