/*
 * apm_guc.c
 *	  The settings, in one table in alphabetical order.
 *
 * Nobody but a superuser can change any of them: each bends either who may read or how
 * well somebody is hidden.  What all nodes of a chain must agree on is not here; that
 * is policy on the chain.
 */
#include "postgres.h"

#include <limits.h>

#include "utils/guc.h"

#include "apm_compat.h"
#include "apm_guc.h"
#include "core/pseudonym.h"

bool apm_allow_paper_profile = false;
char *apm_databases = NULL;
char *apm_digest_command = NULL;
char *apm_digest_directory = NULL;
int apm_digest_interval = 0;
char *apm_key_directory = NULL;
int apm_max_outbox = 1000000;
int apm_max_queue = 1000000;
int apm_pseudonym_mode = APM_PSEUDONYM_HASH;
int apm_salting_rounds = 12;
char *apm_secret_command = NULL;

static const struct config_enum_entry pseudonym_modes[] = {
	{"hash", APM_PSEUDONYM_HASH, false},
	{"random", APM_PSEUDONYM_RANDOM, false},
	{NULL, 0, false},
};

/* The type of a setting is told by which variable it has. */
typedef struct ApmSetting
{
	const char *name;
	const char *summary;
	const char *detail;
	GucContext context;
	int flags;
	bool *flag;
	int *number;
	int min;
	int max;
	int *choice;
	const struct config_enum_entry *choices;
	char **text;
} ApmSetting;

static const ApmSetting settings[] = {
	{
		.name = "apm.allow_paper_profile",
		.summary = "Allows the methods of the paper as published, for study and comparison.",
		.detail = "They are weak: whoever holds a list of names can undo them.",
		.context = PGC_SUSET,
		.flag = &apm_allow_paper_profile,
	},
	{
		.name = "apm.databases",
		.summary = "Databases in which the background workers run, separated by commas.",
		.context = PGC_SIGHUP,
		.flags = GUC_LIST_INPUT,
		.text = &apm_databases,
	},
	{
		.name = "apm.digest_command",
		.summary = "Shell command that is given a digest of the ledger on its standard input.",
		.detail = "%h in it stands for the height of the digest's block.",
		.context = PGC_SUSET,
		.flags = GUC_SUPERUSER_ONLY,
		.text = &apm_digest_command,
	},
	{
		.name = "apm.digest_directory",
		.summary = "Directory in which digests of the ledger are put.",
		.detail = "An absolute path; each digest is a file of its own.",
		.context = PGC_SUSET,
		.flags = GUC_SUPERUSER_ONLY,
		.text = &apm_digest_directory,
	},
	{
		.name = "apm.digest_interval",
		.summary = "Blocks after which a digest of the ledger is given out again; 0 is never.",
		.context = PGC_SUSET,
		.number = &apm_digest_interval,
		.min = 0,
		.max = INT_MAX,
	},
	{
		.name = "apm.key_directory",
		.summary = "Directory of this server's keys and sign-state.",
		.detail = "An absolute path outside the data directory, which only the server's owner can write.",
		.context = PGC_SIGHUP,
		.flags = GUC_SUPERUSER_ONLY,
		.text = &apm_key_directory,
	},
	{
		.name = "apm.max_outbox",
		.summary = "Records that may wait for the cloud before new ones are refused.",
		.context = PGC_SUSET,
		.number = &apm_max_outbox,
		.min = 1,
		.max = INT_MAX,
	},
	{
		.name = "apm.max_queue",
		.summary =
			"Records that may wait for the network server, or for reception, before new ones are refused.",
		.context = PGC_SUSET,
		.number = &apm_max_queue,
		.min = 1,
		.max = INT_MAX,
	},
	{
		.name = "apm.pseudonym",
		.summary = "How a new patient's pseudonym is made: a keyed hash of the identity, or a random code.",
		.context = PGC_SUSET,
		.choice = &apm_pseudonym_mode,
		.choices = pseudonym_modes,
	},
	{
		.name = "apm.salting_rounds",
		.summary = "Cost of a hashed pseudonym: bcrypt runs two to this power rounds.",
		.context = PGC_SUSET,
		.number = &apm_salting_rounds,
		.min = APM_SALTING_ROUNDS_MIN,
		.max = APM_SALTING_ROUNDS_MAX,
	},
	{
		.name = "apm.secret_command",
		.summary = "Shell command that prints a key, in place of the files of apm.key_directory.",
		.detail = "%k in it stands for the name of the key's file.",
		.context = PGC_SIGHUP,
		.flags = GUC_SUPERUSER_ONLY,
		.text = &apm_secret_command,
	},
};

/* The values that the variables hold now are the defaults. */
static void
define(const ApmSetting *s)
{
	if (s->flag != NULL)
		DefineCustomBoolVariable(s->name, s->summary, s->detail, s->flag, *s->flag, s->context, s->flags,
								 NULL, NULL, NULL);
	else if (s->number != NULL)
		DefineCustomIntVariable(s->name, s->summary, s->detail, s->number, *s->number, s->min, s->max,
								s->context, s->flags, NULL, NULL, NULL);
	else if (s->choice != NULL)
		DefineCustomEnumVariable(s->name, s->summary, s->detail, s->choice, *s->choice, s->choices,
								 s->context, s->flags, NULL, NULL, NULL);
	else
		DefineCustomStringVariable(s->name, s->summary, s->detail, s->text, "", s->context, s->flags, NULL,
								   NULL, NULL);
}

void
apm_guc_init(void)
{
	for (size_t i = 0; i < lengthof(settings); i++)
		define(&settings[i]);
	MarkGUCPrefixReserved("apm");
}
