/*
 * dataset.c
 *	  A dataset in memory: lines of JSON, in an order that says nothing.
 *
 * The lines are kept together until the last is there, because only then can they be shuffled
 * and hashed, and nothing is given out before the digest is on the chain.  They lie in secret
 * memory and never in a temporary file.
 */
#include "postgres.h"

#include "apm_errors.h"
#include "core/digest.h"
#include "export/dataset.h"
#include "export/row.h"

void
apm_dataset_start(ApmDataset *set, const ApmStudy *study, const ApmColumnsOut *columns, ApmTimeStep step)
{
	memset(set, 0, sizeof(*set));
	set->context = CurrentMemoryContext;
	set->study = study;
	set->columns = columns;
	set->step = step;
	set->capacity = 1024;
	set->lines = palloc_array(ApmSlice, set->capacity);
}

void
apm_dataset_add(ApmDataset *set, ApmSlice apid, uint64 recorded_us, Jsonb *record)
{
	MemoryContext caller = MemoryContextSwitchTo(set->context);
	ApmBuf line = {.secret = true};

	if (apm_row_put(set, apid, recorded_us, record, &line))
	{
		if (set->n == set->capacity)
		{
			set->capacity *= 2;
			set->lines = repalloc_huge(set->lines, sizeof(ApmSlice) * set->capacity);
		}
		set->lines[set->n++] = APM_SLICE(line.data, line.len);
		set->bytes += line.len + 1;
	}
	else
		apm_buf_reset(&line);
	MemoryContextSwitchTo(caller);
}

/* A number from 0 to below, each with the same chance. */
static uint64
draw_below(uint64 below)
{
	uint64 usable = UINT64_MAX - UINT64_MAX % below;
	uint64 drawn;

	do
		apm_check(apm_random(&drawn, sizeof(drawn)), "shuffle the dataset");
	while (drawn >= usable);
	return drawn % below;
}

/* Fisher and Yates' shuffle. */
void
apm_dataset_shuffle(ApmDataset *set)
{
	for (int64 i = set->n - 1; i > 0; i--)
	{
		int64 other = (int64) draw_below((uint64) i + 1);
		ApmSlice line = set->lines[i];

		set->lines[i] = set->lines[other];
		set->lines[other] = line;
	}
}

void
apm_dataset_digest(const ApmDataset *set, ApmDigest *out)
{
	ApmSlice *parts = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(ApmSlice) * 2 * (set->n + 1));

	for (int64 i = 0; i < set->n; i++)
	{
		parts[2 * i] = set->lines[i];
		parts[2 * i + 1] = APM_SLICE("\n", 1);
	}
	apm_check(apm_sha256_parts(parts, (size_t) (2 * set->n), out), "hash the dataset");
	pfree(parts);
}
