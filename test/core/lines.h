/*
 * lines.h
 *	  An exported ledger in memory, and what a verifier finds of it.
 */
#ifndef APM_TEST_LINES_H
#define APM_TEST_LINES_H

#include "core/replay.h"
#include "story.h"

typedef struct Lines
{
	size_t count;
	const ApmStoredBlock *v[STORY_BLOCKS + 1];
} Lines;

static inline Lines
lines_of(const Story *s)
{
	Lines lines = {.count = STORY_BLOCKS};

	for (size_t i = 0; i < STORY_BLOCKS; i++)
		lines.v[i] = &s->chain.blocks[i].stored;
	return lines;
}

static inline void
lines_remove(Lines *lines, size_t at)
{
	memmove(&lines->v[at], &lines->v[at + 1], (lines->count - at - 1) * sizeof(lines->v[0]));
	lines->count--;
}

/* What is found of it, and, if nothing is, of the chain that a digest was taken of. */
static inline ApmFault
lines_read(const Lines *lines, const ApmHead *digest)
{
	ApmReplay *r;
	ApmFault fault = {.rule = APM_FAULT_NONE};
	bool met = digest == NULL;

	CHECK_OK(apm_replay_new(&r));
	for (size_t i = 0; i < lines->count; i++)
		CHECK_OK(apm_replay_foresee(r, lines->v[i]));
	for (size_t i = 0; i < lines->count && fault.rule == APM_FAULT_NONE; i++)
	{
		CHECK_OK(apm_replay_block(r, lines->v[i], &fault));
		met = met || apm_replay_is_head(r, digest);
	}
	if (fault.rule == APM_FAULT_NONE && !met)
		fault = (ApmFault){APM_FAULT_DIGEST, (int64_t) digest->header.height, -1};
	apm_replay_free(r);
	return fault;
}

static inline bool
is_fault(ApmFault found, ApmFaultRule rule, size_t height, int64_t position)
{
	bool good = found.rule == rule && found.height == (int64_t) height && found.position == position;

	if (!good)
		fprintf(stderr, "found %s at %ld, %ld and not %s at %zu, %ld\n", apm_fault_name(found.rule),
				(long) found.height, (long) found.position, apm_fault_name(rule), height, (long) position);
	return good;
}

#endif /* APM_TEST_LINES_H */
