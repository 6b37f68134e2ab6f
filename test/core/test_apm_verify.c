/*
 * test_apm_verify.c
 *	  apm-verify as a program: one line, and an exit status, for each file that it is given.
 *
 * The files are those of a chain made here.  The program is looked for beside this one, where both are built with
 * sanitizers.
 */
#include <unistd.h>

#include "lines.h"
#include "proofs.h"

static Story story;
static char program[4096];
static char folder[] = "/tmp/apm-verify-test.XXXXXX";
static char said[4096]; /* what the program printed last */

#define GOOD 0
#define FAULT 1
#define NOTHING 2

/* Runs the program in the folder; its exit status. */
static int
run(const char *arguments)
{
	char command[8192];
	size_t len;
	FILE *out;
	int status;

	snprintf(command, sizeof(command), "cd %s && %s 2>&1 %s", folder, program, arguments);
	out = popen(command, "r");
	if (!CHECK(out != NULL))
		return -1;
	len = fread(said, 1, sizeof(said) - 1, out);
	said[len] = '\0';
	status = pclose(out);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* Does it answer with this status, and say this in one line? */
static bool
answers(const char *arguments, int status, const char *text)
{
	int got = run(arguments);
	bool good = got == status && strstr(said, text) != NULL &&
				(status == NOTHING || strchr(said, '\n') == said + strlen(said) - 1);

	if (!good)
		fprintf(stderr, "apm-verify %s: %d, %s", arguments, got, said);
	return good;
}

static FILE *
create(const char *name)
{
	char path[4096];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	file = fopen(path, "wb");
	if (file == NULL)
	{
		perror(path);
		exit(2);
	}
	return file;
}

static void
save(const char *name, const void *data, size_t len)
{
	FILE *file = create(name);

	CHECK(fwrite(data, 1, len, file) == len);
	CHECK(fclose(file) == 0);
}

static void
save_buf(const char *name, ApmBuf *buf)
{
	CHECK_OK(apm_buf_status(buf));
	save(name, buf->data, buf->len);
	apm_buf_reset(buf);
}

static void
save_ledger(const char *name, const Lines *lines)
{
	FILE *file = create(name);

	for (size_t i = 0; i < lines->count; i++)
	{
		ApmBuf line = {0};
		char *text;

		apm_stored_encode(lines->v[i], &line);
		text = malloc(apm_base64_len(line.len) + 1);
		apm_base64_encode(line.data, line.len, text);
		fprintf(file, "%s\n", text);
		free(text);
		apm_buf_reset(&line);
	}
	CHECK(fclose(file) == 0);
}

static void
save_head(const char *name, size_t height)
{
	ApmHead head = story_head(&story, height);
	ApmBuf text = {0};

	apm_head_write(&head, &text);
	save_buf(name, &text);
}

static void
test_usage(void)
{
	CHECK(run("--help") == GOOD && strstr(said, "apm-verify ledger FILE") != NULL);
	CHECK(answers("--version", GOOD, "apm-verify test"));
	CHECK(answers("", NOTHING, "Exit status"));
	CHECK(answers("ledger", NOTHING, "Exit status"));
	CHECK(answers("nonsense tip", NOTHING, "Exit status"));
	CHECK(answers("digest tip --digest tip", NOTHING, "Exit status"));
	CHECK(answers("digest tip tip", NOTHING, "Exit status"));
	CHECK(answers("proof proof", NOTHING, "Exit status"));
	CHECK(answers("proof proof --digest", NOTHING, "Exit status"));
	CHECK(answers("ledger ledger --digest tip --digest tip", NOTHING, "Exit status"));
	CHECK(answers("consistency growth --old old", NOTHING, "Exit status"));
	CHECK(answers("digest tip > /dev/full", NOTHING, "cannot write the verdict"));
}

static void
test_digests(void)
{
	CHECK(answers("digest tip", GOOD, "ok: height 99 of chain c0c0c0"));
	CHECK(answers("digest - < tip", GOOD, "ok: height 99"));
	CHECK(answers("digest tip.wrong", FAULT, "fault: "));
	CHECK(answers("digest nowhere", NOTHING, "cannot open nowhere"));
	CHECK(answers("digest .", NOTHING, "cannot read ."));
	CHECK(answers("digest proof", NOTHING, "proof is not a digest"));
	CHECK(answers("digest empty", NOTHING, "empty is not a digest"));
}

static void
test_proofs(void)
{
	CHECK(answers("proof proof --digest tip", GOOD, "a valid primary of record 00"));
	CHECK(strstr(said, ", stands at height 20, position 2, recorded at ") != NULL);
	CHECK(answers("proof proof.query --digest tip", GOOD, "a query refused by rule"));
	CHECK(answers("proof - --digest tip < proof", GOOD, "ok: transaction"));
	CHECK(answers("proof proof.wrong --digest tip", FAULT, "fault: proof.wrong"));
	CHECK(answers("proof proof --digest tip.wrong", FAULT, "fault: tip.wrong"));
	CHECK(answers("proof proof --digest old", NOTHING, "leads to height 99, the digest is of height 37"));
	CHECK(answers("proof tip --digest tip", NOTHING, "tip is not a proof"));
	CHECK(answers("proof nowhere --digest tip", NOTHING, "cannot open nowhere"));
}

static void
test_consistency(void)
{
	CHECK(answers("consistency growth --old old --new tip", GOOD,
				  "height 99 has grown out of that of height 37"));
	CHECK(answers("consistency growth --new tip --old old", GOOD, "ok: "));
	CHECK(answers("consistency growth.wrong --old old --new tip", FAULT, "fault: growth.wrong"));
	CHECK(answers("consistency growth --old tip --new tip", NOTHING, "is of heights 37 and 99"));
	CHECK(answers("consistency growth --old tip.wrong --new tip", FAULT, "fault: tip.wrong"));
	CHECK(answers("consistency proof --old old --new tip", NOTHING, "not a proof of consistency"));
}

static void
test_ledgers(void)
{
	Lines lines = lines_of(&story);

	CHECK(answers("ledger ledger", GOOD,
				  "100 blocks, 184 transactions; not judged again: 17 refused, 22 erased; without"));
	CHECK(answers("ledger ledger --digest tip", GOOD, "has the digest of height 99"));
	CHECK(answers("ledger ledger --digest old", GOOD, "has the digest of height 37"));
	CHECK(answers("ledger - < ledger", NOTHING, "must be a file"));
	CHECK(answers("ledger nowhere", NOTHING, "cannot read nowhere"));
	CHECK(answers("ledger .", NOTHING, "cannot read ."));
	CHECK(answers("ledger empty", NOTHING, "empty is empty"));
	CHECK(answers("ledger empty --digest tip", NOTHING, "empty is empty"));
	CHECK(answers("ledger tip", NOTHING, "line 1 of tip is no block"));
	CHECK(answers("ledger ledger --digest tip.wrong", FAULT, "fault: tip.wrong"));

	CHECK(answers("ledger ledger --digest other", FAULT, "fault: height 99, digest: "));
	lines.count -= 3;
	save_ledger("cut", &lines);
	CHECK(answers("ledger cut", GOOD, "97 blocks"));
	CHECK(answers("ledger cut --digest tip", FAULT, "fault: height 99, digest: "));
	lines = lines_of(&story);
	lines_remove(&lines, 50);
	save_ledger("removed", &lines);
	CHECK(answers("ledger removed", FAULT, "fault: height 50, height: "));
	lines.count = 40;
	save_ledger("shorter", &lines);
	CHECK(answers("ledger shorter", FAULT, "fault: height 1, position 0, missing: "));
}

/*
 * A line that is none, or is longer than a line can be, is told with its number, and does not hide what is wrong before
 * it.
 */
static void
test_broken_lines(void)
{
	FILE *file = create("script");
	char command[4096];

	fprintf(file, "sed '61s/^..../!!!!/' ledger > broken; head -c -1000 ledger > torn;"
				  " sed '61s/^..../!!!!/' removed > both;"
				  " head -c 65537 /dev/zero | tr '\\0' A > long; tail -c +2 long > longest;"
				  " { head -60 ledger; cat long; echo; tail -n +61 ledger; } > within;"
				  " cat removed long > behind\n");
	CHECK(fclose(file) == 0);
	snprintf(command, sizeof(command), "cd %s && sh script", folder);
	CHECK(system(command) == 0);
	CHECK(answers("ledger broken", NOTHING, "line 61 of broken is no block"));
	CHECK(answers("ledger torn", NOTHING, "line 1"));
	CHECK(answers("ledger both", FAULT, "fault: height 50, height: "));
	CHECK(answers("ledger long", NOTHING, "line 1 of long is longer than any"));
	CHECK(answers("ledger longest", NOTHING, "line 1 of longest is no block"));
	CHECK(answers("ledger within", NOTHING, "line 61 of within is longer than any"));
	CHECK(answers("ledger behind", FAULT, "fault: height 50, height: "));
}

/* What the program says of a ledger is what a replay finds. */
static void
test_faults(void)
{
	Lines lines = lines_of(&story);

	for (size_t height = 2; height < STORY_BLOCKS; height += 7)
	{
		ChainBlock *b = &story.chain.blocks[height];
		uint8_t *at = height % 2 == 0 ? b->signature.bytes : (uint8_t *) &b->stored.hash;
		char text[200];
		ApmFault fault;

		if (b->stored.count > 0)
			at = b->entries[0].leaf.bytes;
		if (b->stored.count > 0 && b->entries[0].kept)
			at = (uint8_t *) b->entries[0].proof.data + 20;
		*at ^= 0x20;
		fault = lines_read(&lines, NULL);
		CHECK(fault.rule != APM_FAULT_NONE);
		save_ledger("wrong", &lines);
		if (fault.position >= 0)
			snprintf(text, sizeof(text), "fault: height %ld, position %ld, %s: %s\n", (long) fault.height,
					 (long) fault.position, apm_fault_name(fault.rule), apm_fault_text(fault.rule));
		else
			snprintf(text, sizeof(text), "fault: height %ld, %s: %s\n", (long) fault.height,
					 apm_fault_name(fault.rule), apm_fault_text(fault.rule));
		CHECK(answers("ledger wrong", FAULT, text));
		*at ^= 0x20;
	}
}

/* The digest of another last block, which its node signed as well. */
static void
save_other(const char *name)
{
	static ChainBlock other;
	ApmHead head;
	ApmBuf text = {0};

	other.header = story.chain.blocks[99].header;
	other.header.time_us++;
	chain_sign(&other, story.nodes[1]);
	memcpy(head.encoded, other.encoded, APM_HEADER_LEN);
	head.signature = other.signature;
	apm_ec_spki(story.nodes[1], head.node);
	CHECK_OK(apm_head_check(&head));
	apm_head_write(&head, &text);
	save_buf(name, &text);
}

/* The text with another digit in its last hash. */
static void
save_wrong(const char *name, ApmBuf *text, const char *member)
{
	char *at;

	apm_put_u8(text, 0);
	at = strstr((char *) text->data, member);
	if (CHECK(at != NULL))
	{
		at = strpbrk(at + strlen(member), "0123456789abcdef");
		*at = *at == '7' ? '8' : '7';
	}
	text->len--;
	save_buf(name, text);
}

/* The proof of the first query that was refused. */
static ApmProof
refused_query(const ChainBlock *blocks)
{
	size_t height = 0;
	size_t i = 0;

	while (blocks[height].stored.count <= i || blocks[height].entries[i].rule == APM_RULE_NONE ||
		   !blocks[height].entries[i].kept)
	{
		if (++i >= blocks[height].stored.count)
		{
			height++;
			i = 0;
		}
	}
	return proof_of(blocks, height, i, 99);
}

static void
save_files(void)
{
	Lines lines = lines_of(&story);
	const ChainBlock *blocks = story.chain.blocks;
	ApmProof proof = proof_of(blocks, 20, 2, 99);
	ApmProof query = refused_query(blocks);
	ApmConsistency growth = consistency_of(blocks, 37, 99);
	ApmHead tip = story_head(&story, 99);
	ApmBuf text = {0};

	save_ledger("ledger", &lines);
	save_head("tip", 99);
	save_head("old", 37);
	save_other("other");
	save("empty", "", 0);
	apm_head_write(&tip, &text);
	save_wrong("tip.wrong", &text, "\"signature\": ");
	apm_proof_write(&proof, &text);
	save_buf("proof", &text);
	apm_proof_write(&proof, &text);
	save_wrong("proof.wrong", &text, "\"history\": ");
	apm_proof_write(&query, &text);
	save_buf("proof.query", &text);
	apm_consistency_write(&growth, &text);
	save_buf("growth", &text);
	apm_consistency_write(&growth, &text);
	save_wrong("growth.wrong", &text, "\"inclusion\": ");
	apm_proof_free(&proof);
	apm_proof_free(&query);
}

int
main(int argc, char **argv)
{
	char command[4096];

	if (argc < 1 || realpath(argv[0], program) == NULL || strrchr(program, '/') == NULL ||
		mkdtemp(folder) == NULL)
	{
		perror(argv[0]);
		return 2;
	}
	snprintf(strrchr(program, '/'), sizeof("/apm-verify"), "/apm-verify");
	story_open(&story);
	save_files();
	test_usage();
	test_digests();
	test_proofs();
	test_consistency();
	test_ledgers();
	test_broken_lines();
	test_faults();
	story_close(&story);
	snprintf(command, sizeof(command), "rm -r %s", folder);
	CHECK(system(command) == 0);
	return check_summary();
}
