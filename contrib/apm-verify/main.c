/*
 * main.c
 *	  apm-verify: checks what a chain of apm gives out, without the server that made it.
 *
 * Nothing of PostgreSQL is in it: only src/core, which computes what doc/format.md says, libcrypto and libcrypt.
 */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "verify.h"

static const char usage[] =
	"apm-verify checks what an apm ledger gives out, without its server.\n"
	"\n"
	"  apm-verify digest FILE\n"
	"      the digest is what its node signed\n"
	"  apm-verify proof FILE --digest FILE\n"
	"      the transaction stands in the chain of that digest\n"
	"  apm-verify consistency FILE --old FILE --new FILE\n"
	"      the chain of the new digest has grown out of that of the old one\n"
	"  apm-verify ledger FILE [--digest FILE]\n"
	"      every block of an exported ledger follows, every verdict is the contract's,\n"
	"      and the digest's block is in it\n"
	"\n"
	"  FILE is - for standard input; a ledger, which is read twice, must be a file.\n"
	"  --help, --version\n"
	"\n"
	"Prints one line. Exit status: 0 good, 1 a fault was found, 2 nothing can be said.\n";

Verdict
cannot(const char *format, ...)
{
	va_list args;

	fputs("apm-verify: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	return VERDICT_NONE;
}

/* What was given on the command line. */
typedef struct Arguments
{
	const char *command;
	const char *file;
	const char *digest;
	const char *old_head;
	const char *new_head;
} Arguments;

/* The option's place for its value; NULL: no such option. */
static const char **
option(Arguments *args, const char *name)
{
	if (strcmp(name, "--digest") == 0)
		return &args->digest;
	if (strcmp(name, "--old") == 0)
		return &args->old_head;
	if (strcmp(name, "--new") == 0)
		return &args->new_head;
	return NULL;
}

static bool
parse(int argc, char **argv, Arguments *args)
{
	for (int i = 1; i < argc; i++)
	{
		const char **place = NULL;

		if (strncmp(argv[i], "--", 2) == 0)
		{
			place = option(args, argv[i]);
			if (place == NULL || ++i == argc)
				return false;
		}
		else if (args->command == NULL)
			place = &args->command;
		else
			place = &args->file;
		if (*place != NULL)
			return false;
		*place = argv[i];
	}
	return args->command != NULL && args->file != NULL;
}

/* Calls the command if it has the options that it takes, and no others. */
static Verdict
run(const Arguments *args)
{
	bool heads = args->old_head != NULL && args->new_head != NULL;
	bool no_heads = args->old_head == NULL && args->new_head == NULL;

	if (strcmp(args->command, "digest") == 0 && args->digest == NULL && no_heads)
		return verify_head(args->file);
	if (strcmp(args->command, "proof") == 0 && args->digest != NULL && no_heads)
		return verify_proof(args->file, args->digest);
	if (strcmp(args->command, "consistency") == 0 && args->digest == NULL && heads)
		return verify_consistency(args->file, args->old_head, args->new_head);
	if (strcmp(args->command, "ledger") == 0 && no_heads)
		return verify_ledger(args->file, args->digest);
	fputs(usage, stderr);
	return VERDICT_NONE;
}

int
main(int argc, char **argv)
{
	Arguments args = {0};
	Verdict verdict;

	if (argc == 2 && strcmp(argv[1], "--help") == 0)
		fputs(usage, stdout);
	else if (argc == 2 && strcmp(argv[1], "--version") == 0)
		puts("apm-verify " APM_VERSION);
	else
	{
		if (!parse(argc, argv, &args))
		{
			fputs(usage, stderr);
			return VERDICT_NONE;
		}
		verdict = run(&args);
		/* a verdict that nobody got is none */
		if (fflush(stdout) != 0)
			return cannot("cannot write the verdict");
		return verdict;
	}
	return fflush(stdout) == 0 ? VERDICT_GOOD : VERDICT_NONE;
}
