/*
 * test_tampered.c
 *	  A stored chain whose pieces were exchanged, removed or doubled: every two blocks, every two parts of blocks, every
 *	  two entries of a block, every two entries of two blocks, and every block.
 *
 * What is found before any verdict leaves the replay as it was, so all of it is tried on one replay, as of before
 * the block in which it must show.  Where an erasure is touched the first pass sees another chain: that is read
 * from its beginning.
 */
#include "lines.h"

#include "core/replay_state.h"

static Story story;
static ApmReplay *replay; /* as of before the block in hand */
static size_t height;	  /* of the block in hand */

static const ApmStoredBlock *
stored(size_t at)
{
	return &story.chain.blocks[at].stored;
}

static ApmFault
ask(const ApmStoredBlock *line)
{
	ApmFault fault;

	CHECK_OK(apm_replay_block(replay, line, &fault));
	return fault;
}

/* Another block's line here; the same as if it were of this height; and its entries under this header. */
static void
swap_blocks(size_t other)
{
	ApmStoredBlock line = *stored(other);
	ApmFault found;

	CHECK(is_fault(ask(&line), APM_FAULT_HEIGHT, height, -1));
	line.height = height;
	found = ask(&line);
	/* who may sign a genesis block, and which height it has, is asked after its verdicts */
	if (height == 0)
		CHECK(found.rule == APM_FAULT_RULE || found.rule == APM_FAULT_VERDICT ||
			  found.rule == APM_FAULT_HEIGHT);
	else
		CHECK(is_fault(found, APM_FAULT_HEIGHT, height, -1));
}

static void
swap_parts(size_t other)
{
	ApmStoredBlock line = *stored(height);

	line.hash = stored(other)->hash;
	CHECK(is_fault(ask(&line), APM_FAULT_HASH, height, -1));
	line = *stored(height);
	line.header = stored(other)->header;
	CHECK(is_fault(ask(&line), APM_FAULT_HASH, height, -1));
	line = *stored(height);
	line.signature = stored(other)->signature;
	CHECK(is_fault(ask(&line), APM_FAULT_SIGNATURE, height, -1));
}

static bool
is_erasure(const ApmStoredEntry *e)
{
	return e->kind == APM_KIND_ERASURE && e->rule == APM_RULE_NONE;
}

static bool
is_void(const ApmStoredEntry *e)
{
	return e->rule == APM_RULE_NONE && !e->kept;
}

/* A rule that the contract does not have yet. */
static bool
is_no_rule(const ApmStoredEntry *e)
{
	return e->rule != APM_RULE_NONE &&
		   (height > 0 ? apm_contract_rule_name(replay->state, e->rule) : apm_rule_name(e->rule)) == NULL;
}

/* The block in hand with other entries. */
static ApmFault
ask_entries(const ApmStoredEntry *entries, size_t count)
{
	ApmStoredBlock line = *stored(height);

	line.entries = (ApmStoredEntry *) entries;
	line.count = count;
	return ask(&line);
}

/* All of another block's entries under this header. */
static void
swap_contents(size_t other)
{
	const ApmStoredBlock *from = stored(other);
	ApmFault found;

	if (from->count == 0 && stored(height)->count == 0)
		return;
	found = ask_entries(from->entries, from->count);
	for (size_t i = 0; i < from->count; i++)
	{
		if (is_no_rule(&from->entries[i]))
		{
			CHECK(is_fault(found, APM_FAULT_RULE, height, (int64_t) i));
			return;
		}
	}
	CHECK(
		is_fault(found, from->count != stored(height)->count ? APM_FAULT_COUNT : APM_FAULT_ROOT, height, -1));
}

static void
exchange(void *a, void *b, size_t size)
{
	uint8_t kept[sizeof(ApmStoredEntry)];

	memcpy(kept, a, size);
	memcpy(a, b, size);
	memcpy(b, kept, size);
}

/* Is there an erasure among so many entries?  What it voids does not stand behind it. */
static bool
has_erasure(size_t count)
{
	for (size_t i = 0; i < count; i++)
	{
		if (is_erasure(&stored(height)->entries[i]))
			return true;
	}
	return false;
}

/* Whole rows: with their positions, and but for them. */
static void
swap_rows(size_t i, size_t j)
{
	ApmStoredEntry rows[CHAIN_ENTRIES];
	size_t n = stored(height)->count;

	memcpy(rows, stored(height)->entries, n * sizeof(rows[0]));
	exchange(&rows[i], &rows[j], sizeof(rows[0]));
	CHECK(is_fault(ask_entries(rows, n), APM_FAULT_POSITION, height, (int64_t) i));
	rows[i].position = (uint32_t) i;
	rows[j].position = (uint32_t) j;
	if (is_void(&rows[j]) && has_erasure(j + 1))
		CHECK(is_fault(ask_entries(rows, n), APM_FAULT_MISSING, height, (int64_t) j));
	else
		CHECK(is_fault(ask_entries(rows, n), APM_FAULT_ROOT, height, -1));
}

static bool
has_proof(const ApmStoredEntry *e)
{
	return e->kept || is_void(e);
}

static void
swap_tids(size_t i, size_t j)
{
	ApmStoredEntry rows[CHAIN_ENTRIES];
	size_t n = stored(height)->count;
	ApmFault found;

	memcpy(rows, stored(height)->entries, n * sizeof(rows[0]));
	exchange(&rows[i].tid, &rows[j].tid, sizeof(ApmUuid));
	found = ask_entries(rows, n);
	if (has_proof(&rows[i]) || has_proof(&rows[j]))
		CHECK(is_fault(found, APM_FAULT_TID, height, (int64_t) (has_proof(&rows[i]) ? i : j)));
	else
		CHECK(is_fault(found, APM_FAULT_ROOT, height, -1));
}

/* What is found of a row that has another's leaf. */
static ApmFaultRule
leaf_fault(const ApmStoredEntry *row, const ApmStoredEntry *other)
{
	if (row->kept)
		return is_void(other) && row->rule == APM_RULE_NONE ? APM_FAULT_UNWANTED : APM_FAULT_LEAF;
	if (!is_void(row))
		return APM_FAULT_NONE;
	return is_void(other) ? APM_FAULT_TID : APM_FAULT_MISSING;
}

static void
swap_leaves(size_t i, size_t j)
{
	ApmStoredEntry rows[CHAIN_ENTRIES];
	size_t n = stored(height)->count;
	ApmFaultRule first;
	ApmFaultRule last;
	ApmFault found;

	memcpy(rows, stored(height)->entries, n * sizeof(rows[0]));
	first = leaf_fault(&rows[i], &rows[j]);
	last = leaf_fault(&rows[j], &rows[i]);
	exchange(&rows[i].leaf, &rows[j].leaf, sizeof(ApmDigest));
	found = ask_entries(rows, n);
	if (first != APM_FAULT_NONE)
		CHECK(is_fault(found, first, height, (int64_t) i));
	else if (last != APM_FAULT_NONE)
		CHECK(is_fault(found, last, height, (int64_t) j));
	else
		CHECK(is_fault(found, APM_FAULT_ROOT, height, -1));
}

/* What is found of a row that has another's body, or none. */
static ApmFaultRule
body_fault(const ApmStoredEntry *row, const ApmStoredEntry *other)
{
	if (row->kept)
		return other->kept ? APM_FAULT_LEAF : APM_FAULT_MISSING;
	return other->kept ? APM_FAULT_UNWANTED : APM_FAULT_NONE;
}

static void
swap_bodies(size_t i, size_t j)
{
	ApmStoredEntry rows[CHAIN_ENTRIES];
	size_t n = stored(height)->count;
	ApmFaultRule rule;

	memcpy(rows, stored(height)->entries, n * sizeof(rows[0]));
	rule = body_fault(&rows[i], &rows[j]);
	if (rule == APM_FAULT_NONE)
		return; /* neither has one */
	exchange(&rows[i].kept, &rows[j].kept, sizeof(bool));
	exchange(&rows[i].nonce, &rows[j].nonce, sizeof(ApmSlice));
	exchange(&rows[i].transaction, &rows[j].transaction, sizeof(ApmSlice));
	exchange(&rows[i].proof, &rows[j].proof, sizeof(ApmSlice));
	CHECK(is_fault(ask_entries(rows, n), rule, height, (int64_t) i));
}

static void
swap_entries(void)
{
	const ApmStoredEntry *rows = stored(height)->entries;

	for (size_t i = 0; i < stored(height)->count; i++)
	{
		for (size_t j = i + 1; j < stored(height)->count; j++)
		{
			swap_rows(i, j);
			swap_tids(i, j);
			if (is_erasure(&rows[i]) || is_erasure(&rows[j]))
				continue;
			swap_leaves(i, j);
			swap_bodies(i, j);
		}
	}
}

/* An entry of a later block in the place of each of this one's. */
static void
swap_across(size_t other)
{
	ApmStoredEntry rows[CHAIN_ENTRIES];
	size_t n = stored(height)->count;

	for (size_t i = 0; i < n; i++)
	{
		for (size_t j = 0; j < stored(other)->count; j++)
		{
			const ApmStoredEntry *from = &stored(other)->entries[j];

			memcpy(rows, stored(height)->entries, n * sizeof(rows[0]));
			rows[i] = *from;
			rows[i].position = (uint32_t) i;
			if (is_no_rule(from))
				CHECK(is_fault(ask_entries(rows, n), APM_FAULT_RULE, height, (int64_t) i));
			else
				CHECK(is_fault(ask_entries(rows, n), APM_FAULT_ROOT, height, -1));
		}
	}
}

/* A row too few, a row too many, none; the bodies of what was refused or erased put back. */
static void
change_rows(void)
{
	ApmStoredEntry rows[CHAIN_ENTRIES + 1];
	size_t n = stored(height)->count;

	memcpy(rows, stored(height)->entries, n * sizeof(rows[0]));
	if (n > 0)
	{
		CHECK(is_fault(ask_entries(rows, n - 1), APM_FAULT_COUNT, height, -1) || is_erasure(&rows[n - 1]));
		rows[n] = rows[n - 1];
		CHECK(is_fault(ask_entries(rows, n + 1), APM_FAULT_POSITION, height, (int64_t) n));
		rows[n].position = (uint32_t) n;
		CHECK(is_fault(ask_entries(rows, n + 1), is_void(&rows[n]) ? APM_FAULT_MISSING : APM_FAULT_COUNT,
					   height, is_void(&rows[n]) ? (int64_t) n : -1));
	}
	for (size_t i = 0; i < n; i++)
	{
		if (rows[i].kept)
			continue;
		rows[i].kept = true;
		CHECK(is_fault(ask_entries(rows, n), APM_FAULT_UNWANTED, height, (int64_t) i));
		rows[i].kept = false;
	}
}

/* A byte too few, and as many as none, of header and signature. */
static void
cut_parts(void)
{
	ApmStoredBlock line = *stored(height);

	line.header.len--;
	CHECK(is_fault(ask(&line), APM_FAULT_FORMAT, height, -1));
	line = *stored(height);
	line.signature.len--;
	CHECK(is_fault(ask(&line), APM_FAULT_FORMAT, height, -1));
	line.signature.len = 0;
	CHECK(is_fault(ask(&line), APM_FAULT_FORMAT, height, -1));
}

/* What its lack shows in: the block after it; where an erasure is gone, its first void; behind the last one, nothing. */
static void
test_removed(size_t at)
{
	Lines lines = lines_of(&story);
	size_t position;

	lines_remove(&lines, at);
	if (at == STORY_FIRST_ERASURE || at == STORY_SECOND_ERASURE)
	{
		for (position = 0; !chain_is_void(&story.chain.blocks[1], position,
										  story_patient(at == STORY_FIRST_ERASURE ? 0 : 4));)
			position++;
		CHECK(is_fault(lines_read(&lines, NULL), APM_FAULT_MISSING, 1, (int64_t) position));
	}
	else if (at % 10 == 0)
		CHECK(is_fault(lines_read(&lines, NULL), APM_FAULT_HEIGHT, at, -1));
	if (at + 1 < STORY_BLOCKS)
		CHECK(is_fault(ask(stored(at + 1)), APM_FAULT_HEIGHT, at, -1));
}

int
main(void)
{
	Lines lines;

	story_open(&story);
	lines = lines_of(&story);
	CHECK(lines_read(&lines, NULL).rule == APM_FAULT_NONE);
	CHECK_OK(apm_replay_new(&replay));
	for (size_t i = 0; i < STORY_BLOCKS; i++)
		CHECK_OK(apm_replay_foresee(replay, stored(i)));
	for (height = 0; height < STORY_BLOCKS; height++)
	{
		for (size_t other = height + 1; other < STORY_BLOCKS; other++)
		{
			swap_blocks(other);
			swap_parts(other);
			swap_contents(other);
			swap_across(other);
		}
		swap_entries();
		change_rows();
		cut_parts();
		test_removed(height);
		CHECK(ask(stored(height)).rule == APM_FAULT_NONE);
		/* doubled */
		CHECK(is_fault(ask(stored(height)), APM_FAULT_HEIGHT, height, -1));
	}
	apm_replay_free(replay);
	story_close(&story);
	return check_summary();
}
