/*
 * oracle.c
 *	  What must hold in a simulated chain, looked at from outside: with all blocks at hand, and with code that shares nothing
 *	  with what the nodes decide by.
 */
#include "sim.h"

#include <stdarg.h>
#include <string.h>

/* The first one is kept; the run ends. */
void
violation(World *w, const char *format, ...)
{
	int at;
	va_list args;

	if (w->violation[0] != '\0')
		return;
	at = snprintf(w->violation, sizeof(w->violation), "at %.3f s: ", (double) w->now / SECOND);
	va_start(args, format);
	vsnprintf(w->violation + at, sizeof(w->violation) - (size_t) at, format, args);
	va_end(args);
}

/* A node says that a block is final. */
void
oracle_final(World *w, const Node *node, uint32_t block)
{
	uint32_t height = (uint32_t) w->blocks[block].header.height;

	if (node->malice != 0)
		return;
	if (w->final_at[height] == NOTHING)
	{
		w->final_at[height] = block;
		w->top = height > w->top ? height : w->top;
		for (uint32_t i = 0; i < w->blocks[block].ntxs; i++)
		{
			Tx *tx = &w->txs[w->blocks[block].txs[i]];

			if (tx->block != NOTHING)
				violation(w, "a transaction is final twice");
			tx->block = block;
		}
	}
	else if (w->final_at[height] != block)
		violation(w, "two final blocks at height %u, the second at node %u", height, node->number);
}

/* No honest node is in the evidence of another; two blocks of one height on two branches it may have mined. */
static void
check_evidence(World *w, const Node *node)
{
	static const char *const kinds[] = {[APM_EVIDENCE_TWINS] = "two blocks on one parent",
										[APM_EVIDENCE_DOUBLE] = "two votes for one height",
										[APM_EVIDENCE_SURROUND] = "a vote around another"};
	const ApmEvidence *evidence;
	size_t n = apm_forks_evidence(node->forks, &evidence);

	for (size_t i = 0; i < n; i++)
	{
		if (evidence[i].kind != APM_EVIDENCE_HEIGHT && w->nodes[evidence[i].node.bytes[31]].malice == 0)
			violation(w, "honest node %u gave %s", evidence[i].node.bytes[31], kinds[evidence[i].kind]);
	}
}

/* A node has chosen a branch: that with most work through what it takes for justified, of all that it knows. */
void
oracle_head(World *w, const Node *node)
{
	uint32_t best = node->justified;

	if (node->malice != 0)
		return;
	for (uint32_t i = 0; i < node->nopen; i++)
	{
		uint32_t b = node->open[i];

		if (world_grew(w, b, node->justified) && apm_forks_has(node->forks, &w->blocks[b].hash) &&
			(w->blocks[b].work > w->blocks[best].work ||
			 (w->blocks[b].work == w->blocks[best].work &&
			  memcmp(&w->blocks[b].hash, &w->blocks[best].hash, sizeof(ApmDigest)) < 0)))
			best = b;
	}
	if (best != node->head)
		violation(w, "node %u does not follow the branch with most work", node->number);
	if (!world_grew(w, node->head, node->chain[node->final]))
		violation(w, "node %u has left what is final", node->number);
	if (apm_forks_size(node->forks) > APM_FORKS_CAPACITY)
		violation(w, "node %u holds more blocks than it may", node->number);
	check_evidence(w, node);
}

static bool
honest(const World *w, const Tx *tx)
{
	return w->nodes[tx->node].malice == 0;
}

/* Is everything that was submitted at an honest node final at all of them? */
bool
oracle_settled(const World *w)
{
	for (uint32_t i = 0; i < w->scenario.nodes; i++)
	{
		const Node *node = &w->nodes[i];

		if (node->malice != 0)
			continue;
		if (!node->up)
			return false;
		for (uint32_t tx = 0; tx < w->ntxs; tx++)
		{
			if (honest(w, &w->txs[tx]) && (node->txs[tx] & TX_STATE) != TX_FINAL)
				return false;
		}
	}
	return true;
}

/* Counts on each honest node's chain itself how often each transaction is there. */
static void
count_all(World *w, const Node *node)
{
	uint8_t *seen = calloc(MAX_TXS, 1);

	for (uint32_t height = 1; seen != NULL && height <= node->final; height++)
	{
		const Block *block = &w->blocks[node->chain[height]];

		if (block->parent != node->chain[height - 1] || node->chain[height] != w->final_at[height])
			violation(w, "node %u has another chain", node->number);
		for (uint32_t i = 0; i < block->ntxs; i++)
			seen[block->txs[i]]++;
	}
	for (uint32_t tx = 0; seen != NULL && tx < w->ntxs; tx++)
	{
		if (seen[tx] > 1)
			violation(w, "node %u has a transaction %u times", node->number, seen[tx]);
		if (seen[tx] == 0 && honest(w, &w->txs[tx]))
			violation(w, "a transaction is lost: node %u does not have it", node->number);
	}
	free(seen);
}

/* The run is over: in time, or because it ran out of it. */
void
oracle_end(World *w)
{
	uint32_t lost = 0;

	for (uint32_t tx = 0; tx < w->ntxs; tx++)
		lost += honest(w, &w->txs[tx]) && w->txs[tx].block == NOTHING;
	if (lost > 0)
		violation(w, "%u of %u transactions are lost, or still not final", lost, w->ntxs);
	for (uint32_t i = 0; i < w->scenario.nodes; i++)
	{
		if (w->nodes[i].malice == 0 && w->violation[0] == '\0')
			count_all(w, &w->nodes[i]);
	}
}

static int
compare(const void *a, const void *b)
{
	double left = *(const double *) a;
	double right = *(const double *) b;

	return (left > right) - (left < right);
}

void
oracle_figures(const World *w, Figures *out)
{
	double *waits = calloc(MAX_TXS, sizeof(double));

	*out = (Figures){.seconds = (double) w->now / SECOND, .final_blocks = w->top, .messages = w->messages};
	memcpy(out->violation, w->violation, sizeof(out->violation));
	for (uint32_t b = 1; b < w->nblocks; b++)
	{
		uint32_t height = (uint32_t) w->blocks[b].header.height;

		out->stale_blocks += height <= w->top && w->final_at[height] != b;
	}
	for (uint32_t tx = 0; waits != NULL && tx < w->ntxs; tx++)
	{
		if (w->txs[tx].final != 0)
			waits[out->txs++] = (double) (w->txs[tx].final - w->txs[tx].submitted) / SECOND;
	}
	if (out->txs > 0)
	{
		qsort(waits, out->txs, sizeof(double), compare);
		out->finality_s = waits[out->txs / 2];
	}
	free(waits);
}
