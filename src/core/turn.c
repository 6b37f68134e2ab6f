/*
 * turn.c
 *	  The line of nodes, and the distance between two blocks of one.
 *
 * With n nodes and a distance of d each block is by none of the last d signers, so n - d may mine it.  With
 * floor((n - 1) / 2) down the others are floor(n / 2) + 1, and they go on forever in a circle just if that is at
 * least d + 1.  Hence d = floor(n / 2).
 */
#include "turn.h"

uint32_t
apm_diversity(uint32_t nodes)
{
	return nodes / 2;
}

bool
apm_diverse(uint32_t nodes, uint64_t last_signed, uint64_t height)
{
	return last_signed == APM_NEVER || (height > last_signed && height - last_signed > apm_diversity(nodes));
}

ApmStatus
apm_line_init(ApmLine *line, uint32_t nodes)
{
	line->nodes = nodes;
	line->order = NULL;
	line->last_signed = NULL;
	if (nodes == 0 || nodes > APM_NODES_MAX)
		return APM_ERR_RANGE;
	line->order = apm_core_alloc(nodes * sizeof(uint16_t), false);
	line->last_signed = apm_core_alloc(nodes * sizeof(uint64_t), false);
	if (line->order == NULL || line->last_signed == NULL)
	{
		apm_line_free(line);
		return APM_ERR_MEMORY;
	}
	for (uint32_t i = 0; i < nodes; i++)
	{
		line->order[i] = (uint16_t) i;
		line->last_signed[i] = APM_NEVER;
	}
	return APM_OK;
}

void
apm_line_free(ApmLine *line)
{
	apm_core_free(line->order);
	apm_core_free(line->last_signed);
	line->order = NULL;
	line->last_signed = NULL;
}

void
apm_line_copy(ApmLine *to, const ApmLine *from)
{
	memcpy(to->order, from->order, from->nodes * sizeof(uint16_t));
	memcpy(to->last_signed, from->last_signed, from->nodes * sizeof(uint64_t));
}

void
apm_line_step(ApmLine *line, uint32_t node, uint64_t height)
{
	uint16_t passed[APM_NODES_MAX];
	uint32_t npassed = 0;
	uint32_t kept = 0;
	bool ahead = true;

	for (uint32_t i = 0; i < line->nodes; i++)
	{
		uint16_t other = line->order[i];

		if (other == node)
			ahead = false;
		else if (ahead && apm_diverse(line->nodes, line->last_signed[other], height))
			passed[npassed++] = other; /* could have mined, and did not */
		else
			line->order[kept++] = other;
	}
	for (uint32_t i = 0; i < npassed; i++)
		line->order[kept++] = passed[i];
	line->order[kept] = (uint16_t) node;
	line->last_signed[node] = height;
}

uint32_t
apm_line_rank(const ApmLine *line, uint32_t node, uint64_t height)
{
	uint32_t rank = 0;

	if (!apm_diverse(line->nodes, line->last_signed[node], height))
		return APM_NODES_MAX;
	for (uint32_t i = 0; i < line->nodes && line->order[i] != node; i++)
	{
		if (apm_diverse(line->nodes, line->last_signed[line->order[i]], height))
			rank++;
	}
	return rank;
}

uint64_t
apm_turn_wait(uint32_t rank, uint64_t unsettled, uint64_t step_us)
{
	if (unsettled == 0)
		return rank * step_us;
	return (rank + UINT64_C(1)) * step_us * (unsettled < APM_PATIENCE ? unsettled + 1 : APM_PATIENCE);
}
