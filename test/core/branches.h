/*
 * branches.h
 *	  Blocks that branch, and votes for them: headers with nothing in them but what a fork choice looks at.
 */
#ifndef APM_TEST_BRANCHES_H
#define APM_TEST_BRANCHES_H

#include "core/forks.h"
#include "sample.h"

#define BRANCHES_NOW SAMPLE_TIME
#define BRANCHES_NODES 200

typedef struct Branch
{
	ApmHeader header;
	ApmCheckpoint at;
} Branch;

/* Id of a node; they ascend. */
static inline const ApmDigest *
branches_node(uint32_t node)
{
	static ApmDigest ids[BRANCHES_NODES];

	if (ids[1].bytes[31] == 0)
	{
		for (uint32_t i = 0; i < BRANCHES_NODES; i++)
			ids[i].bytes[31] = (uint8_t) i;
	}
	return &ids[node];
}

static inline Branch
branches_hashed(ApmHeader header)
{
	Branch block = {.header = header, .at.height = header.height};
	uint8_t bytes[APM_HEADER_LEN];

	apm_header_encode(&header, bytes);
	CHECK_OK(apm_header_hash(bytes, &block.at.hash));
	return block;
}

static inline Branch
branches_genesis(void)
{
	return branches_hashed((ApmHeader){.chain = sample_digest(0xc0), .time_us = BRANCHES_NOW - 1000000});
}

/* Of the same node and parent, one for each number of bits; what its hash is worth is not asked. */
static inline Branch
branches_child(const Branch *parent, uint32_t node, uint32_t bits)
{
	return branches_hashed((ApmHeader){.chain = parent->header.chain,
									   .height = parent->header.height + 1,
									   .previous = parent->at.hash,
									   .time_us = parent->header.time_us,
									   .bits = bits,
									   .node = *branches_node(node)});
}

static inline ApmVote
branches_vote(uint32_t node, const Branch *source, const Branch *target)
{
	return (ApmVote){.chain = sample_digest(0xc0),
					 .node = *branches_node(node),
					 .source = source->at,
					 .target = target->at};
}

static inline ApmForksSetup
branches_setup(uint32_t nodes, uint32_t quorum, uint32_t capacity)
{
	Branch genesis = branches_genesis();

	return (ApmForksSetup){.chain = genesis.header.chain,
						   .nodes = branches_node(0),
						   .count = nodes,
						   .quorum = quorum,
						   .capacity = capacity,
						   .root = genesis.at,
						   .root_us = genesis.header.time_us};
}

#endif /* APM_TEST_BRANCHES_H */
