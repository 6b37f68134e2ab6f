/*
 * ledger.c
 *	  A whole exported ledger: a line of text a block.
 *
 * It is read twice: erasures, which stand behind what they void, are looked for first.  A line that is no
 * block's is left to the second reading, which names what is wrong before it.  Nor is one that no server writes as
 * long; it is passed over without being kept.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/replay.h"

#include "verify.h"

/* Bytes of a line: PostgreSQL has no value that is longer. */
#ifndef LINE_MAX_LEN
#define LINE_MAX_LEN (1024u * 1024 * 1024)
#endif

typedef struct Ledger
{
	const char *name;
	FILE *file;
	uint64_t size;
	uint64_t line; /* number of the one in hand */
	ApmBuf text;   /* of that line */
	ApmBuf bytes;
	ApmStoredBlock block; /* points into bytes */
	ApmReplay *replay;
	const ApmHead *head; /* NULL: none was given */
	bool met;			 /* the head's block was there */
} Ledger;

static bool
open_ledger(Ledger *l)
{
	off_t size;

	if (strcmp(l->name, "-") == 0)
	{
		(void) cannot("a ledger is read twice and must be a file");
		return false;
	}
	l->file = fopen(l->name, "rb");
	if (l->file == NULL || fseeko(l->file, 0, SEEK_END) != 0 || (size = ftello(l->file)) < 0)
	{
		(void) cannot("cannot read %s: %s", l->name, strerror(errno));
		return false;
	}
	l->size = (uint64_t) size;
	return true;
}

static void
close_ledger(Ledger *l)
{
	if (l->file != NULL)
		fclose(l->file);
	apm_buf_reset(&l->text);
	apm_stored_free(&l->block);
	apm_buf_reset(&l->bytes);
	apm_replay_free(l->replay);
}

/* The next line, without its end: APM_ERR_MORE behind the last one, APM_ERR_RANGE if it is too long to be kept. */
static ApmStatus
next_line(Ledger *l)
{
	size_t len = 0;
	int c = getc_unlocked(l->file);

	if (c == EOF)
		return ferror(l->file) ? APM_ERR_MEMORY : APM_ERR_MORE;
	l->line++;
	l->text.len = 0;
	for (; c != '\n' && c != EOF; c = getc_unlocked(l->file), len++)
	{
		if (len < LINE_MAX_LEN && (l->text.len < l->text.capacity || apm_buf_reserve(&l->text, 1)))
			l->text.data[l->text.len++] = (uint8_t) c;
	}
	if (ferror(l->file) || l->text.failed)
		return APM_ERR_MEMORY;
	return len <= LINE_MAX_LEN ? APM_OK : APM_ERR_RANGE;
}

/* The next line as a block: APM_ERR_FORMAT if it is none, else as next_line(). */
static ApmStatus
next_block(Ledger *l)
{
	ApmStatus status = next_line(l);

	apm_stored_free(&l->block);
	/* what one line needs, the next will need as well */
	l->bytes.len = 0;
	if (status == APM_OK)
		status = apm_base64_decode((const char *) l->text.data, l->text.len, &l->bytes);
	return status == APM_OK ? apm_stored_decode(APM_SLICE(l->bytes.data, l->bytes.len), &l->block) : status;
}

static void
rewind_ledger(Ledger *l)
{
	l->line = 0;
	rewind(l->file);
}

static ApmStatus
look_for_erasures(Ledger *l)
{
	ApmStatus status = APM_OK;
	Progress progress;

	rewind_ledger(l);
	progress_begin(&progress, "looking for erasures", l->size);
	while (status == APM_OK)
	{
		status = next_block(l);
		if (status == APM_OK)
			status = apm_replay_foresee(l->replay, &l->block);
		if (status == APM_ERR_FORMAT || status == APM_ERR_RANGE)
			status = APM_OK;
		progress_at(&progress, (uint64_t) ftello(l->file));
	}
	progress_end(&progress);
	return status == APM_ERR_MORE ? APM_OK : status;
}

/* One line of the second reading. */
static ApmStatus
take_block(Ledger *l, ApmFault *fault)
{
	ApmStatus status = apm_replay_block(l->replay, &l->block, fault);

	if (status != APM_OK || fault->rule != APM_FAULT_NONE || l->head == NULL ||
		l->block.height != l->head->header.height)
		return status;
	l->met = apm_replay_is_head(l->replay, l->head);
	if (!l->met)
		*fault = (ApmFault){APM_FAULT_DIGEST, (int64_t) l->block.height, -1};
	return APM_OK;
}

/* APM_ERR_MORE when there is no further block. */
static ApmStatus
replay_blocks(Ledger *l, ApmFault *fault)
{
	ApmStatus status = APM_OK;
	Progress progress;

	rewind_ledger(l);
	progress_begin(&progress, "verifying", l->size);
	while (status == APM_OK && fault->rule == APM_FAULT_NONE)
	{
		status = next_block(l);
		if (status == APM_OK)
			status = take_block(l, fault);
		progress_at(&progress, (uint64_t) ftello(l->file));
	}
	progress_end(&progress);
	return status;
}

static Verdict
print_fault(const ApmFault *fault)
{
	printf("fault: height %" PRId64, fault->height);
	if (fault->position >= 0)
		printf(", position %" PRId64, fault->position);
	printf(", %s: %s\n", apm_fault_name(fault->rule), apm_fault_text(fault->rule));
	return VERDICT_FAULT;
}

/* Never more than was checked: what has no transaction any more, and what no digest vouches for. */
static Verdict
print_good(const Ledger *l)
{
	ApmReplayCounts counts;
	ApmDigest chain;

	if (!apm_replay_chain(l->replay, &chain))
		return cannot("%s is empty", l->name);
	apm_replay_counts(l->replay, &counts);
	printf("ok: chain %s, %" PRIu64 " blocks, %" PRIu64 " transactions; not judged again: %" PRIu64
		   " refused, %" PRIu64 " erased; ",
		   hex_of(&chain, APM_DIGEST_LEN), counts.blocks, counts.transactions, counts.refused, counts.erased);
	if (l->head != NULL)
		printf("has the digest of height %" PRIu64 "\n", l->head->header.height);
	else
		puts("without a digest, a tail that was cut off or made anew by its node is not found");
	return VERDICT_GOOD;
}

static Verdict
verify_opened(Ledger *l)
{
	ApmFault fault = {.rule = APM_FAULT_NONE};
	ApmStatus status = apm_replay_new(&l->replay);

	if (status == APM_OK)
		status = look_for_erasures(l);
	if (status == APM_OK)
		status = replay_blocks(l, &fault);
	if (status == APM_ERR_FORMAT)
		return cannot("line %" PRIu64 " of %s is no block of an exported ledger", l->line, l->name);
	if (status == APM_ERR_RANGE)
		return cannot("line %" PRIu64 " of %s is longer than any of an exported ledger", l->line, l->name);
	if (ferror(l->file))
		return cannot("cannot read %s: %s", l->name, strerror(errno));
	if (status != APM_OK && status != APM_ERR_MORE)
		return cannot("cannot verify line %" PRIu64 " of %s: out of memory, or libcrypto failed", l->line,
					  l->name);
	if (fault.rule == APM_FAULT_NONE && l->head != NULL && !l->met && l->line > 0)
		fault = (ApmFault){APM_FAULT_DIGEST, (int64_t) l->head->header.height, -1};
	return fault.rule != APM_FAULT_NONE ? print_fault(&fault) : print_good(l);
}

Verdict
verify_ledger(const char *name, const char *head_name)
{
	Ledger ledger = {.name = name};
	ApmHead head;
	Verdict verdict = VERDICT_GOOD;

	if (head_name != NULL)
	{
		verdict = read_head(head_name, &head);
		ledger.head = &head;
	}
	if (verdict == VERDICT_GOOD)
		verdict = open_ledger(&ledger) ? verify_opened(&ledger) : VERDICT_NONE;
	close_ledger(&ledger);
	return verdict;
}
