/*
 * test_stored.c
 *	  A line of an exported ledger: what is written is read again, whatever it says; nothing else is.
 */
#include "core/stored.h"

#include "lines.h"

static Story story;

static bool
same_entry(const ApmStoredEntry *a, const ApmStoredEntry *b)
{
	return a->position == b->position && memcmp(&a->tid, &b->tid, sizeof(a->tid)) == 0 &&
		   a->kind == b->kind && a->rule == b->rule && memcmp(&a->leaf, &b->leaf, sizeof(a->leaf)) == 0 &&
		   a->kept == b->kept &&
		   (!a->kept ||
			(apm_slices_equal(a->nonce, b->nonce) && apm_slices_equal(a->transaction, b->transaction) &&
			 apm_slices_equal(a->proof, b->proof)));
}

static bool
same_block(const ApmStoredBlock *a, const ApmStoredBlock *b)
{
	bool same = a->height == b->height && memcmp(&a->hash, &b->hash, sizeof(a->hash)) == 0 &&
				apm_slices_equal(a->header, b->header) && apm_slices_equal(a->signature, b->signature) &&
				a->count == b->count;

	for (size_t i = 0; same && i < a->count; i++)
		same = same_entry(&a->entries[i], &b->entries[i]);
	return same;
}

static void
check_line(const ApmStoredBlock *block)
{
	ApmBuf line = {0};
	ApmStoredBlock got;

	apm_stored_encode(block, &line);
	CHECK_OK(apm_buf_status(&line));
	if (CHECK_OK(apm_stored_decode(APM_SLICE(line.data, line.len), &got)))
	{
		CHECK(same_block(block, &got));
		apm_stored_free(&got);
	}
	apm_put_u8(&line, 0);
	CHECK_STATUS(apm_stored_decode(APM_SLICE(line.data, line.len), &got), APM_ERR_FORMAT);
	for (size_t len = 0; len + 1 < line.len; len += len < 400 ? 1 : 97)
		CHECK_STATUS(apm_stored_decode(APM_SLICE(line.data, len), &got), APM_ERR_FORMAT);
	apm_buf_reset(&line);
}

/* Lengths and numbers that no good block has are written and read as they are. */
static void
test_wrong(void)
{
	static const uint8_t bytes[] = {1, 2, 3};
	ApmStoredEntry entries[2] = {{.position = UINT32_MAX,
								  .kind = UINT16_MAX,
								  .rule = 999,
								  .kept = true,
								  .nonce = {bytes, 3},
								  .transaction = {bytes, 0},
								  .proof = {bytes, 1}},
								 {.position = 7}};
	ApmStoredBlock block = {
		.height = UINT64_MAX, .header = {bytes, 3}, .signature = {bytes, 0}, .count = 2, .entries = entries};

	check_line(&block);
	block.count = 0;
	check_line(&block);
}

/* A count that the input has no room for, and one beyond all bounds; kept is 0 or 1. */
static void
test_hostile(void)
{
	ApmStoredBlock block = {.height = 1};
	ApmStoredEntry entry = {.position = 0};
	ApmStoredBlock got;
	ApmBuf line = {0};

	apm_stored_encode(&block, &line);
	memset(line.data + line.len - 4, 0xff, 4);
	CHECK_STATUS(apm_stored_decode(APM_SLICE(line.data, line.len), &got), APM_ERR_FORMAT);
	apm_buf_reset(&line);
	block.count = 1;
	block.entries = &entry;
	apm_stored_encode(&block, &line);
	line.data[line.len - 1] = 2;
	CHECK_STATUS(apm_stored_decode(APM_SLICE(line.data, line.len), &got), APM_ERR_FORMAT);
	apm_buf_reset(&line);
	block.count = APM_STORED_ENTRIES_MAX + 1;
	apm_stored_encode(&block, &line);
	CHECK(apm_buf_status(&line) != APM_OK);
	apm_buf_reset(&line);
}

/* A verifier without memory says so, and finds nothing. */
static ApmStatus
replay_scarcely(void)
{
	ApmReplay *r = NULL;
	ApmFault fault = {.rule = APM_FAULT_NONE};
	ApmStatus status = apm_replay_new(&r);

	for (size_t i = 0; i < 3 && status == APM_OK; i++)
		status = apm_replay_foresee(r, &story.chain.blocks[i].stored);
	if (status == APM_OK)
		status = apm_replay_foresee(r, &story.chain.blocks[STORY_FIRST_ERASURE].stored);
	for (size_t i = 0; i < 1 && status == APM_OK; i++)
		status = apm_replay_block(r, &story.chain.blocks[i].stored, &fault);
	apm_replay_free(r);
	return status == APM_OK && fault.rule != APM_FAULT_NONE ? APM_ERR_VERIFY : status;
}

int
main(void)
{
	story_open(&story);
	for (size_t i = 0; i < STORY_BLOCKS; i++)
		check_line(&story.chain.blocks[i].stored);
	test_wrong();
	test_hostile();
	CHECK_EACH_ALLOCATION(replay_scarcely);
	story_close(&story);
	return check_summary();
}
