/*
 * generation.c
 *	  Generations of a key: the next one made, an old one removed.
 *
 * What the database says and what lies in the key directory cannot change in one step.  So the directory goes first
 * when a key is made (a generation that nobody uses yet does no harm, and is found there by whoever tries
 * again) and last when one is removed (all that needed it is gone by then).  Both steps are durable before they
 * answer.
 *
 * Where keys come from a command, whoever keeps them makes and destroys them.  What is asked for here has then
 * been done already, or is refused with the name of what is to be done.
 */
#include "postgres.h"

#include "apm_errors.h"
#include "keys/keycommand.h"
#include "keys/keyfile.h"
#include "keys/keykind.h"
#include "keys/keymake.h"

/* The newest of a kind that has generations; false if there is none.  *n is how many there are. */
static bool
find_newest(const ApmKeyKind *kind, ApmKeyInfo *out, int *n)
{
	ApmKeyInfo *keys;
	int all = apm_key_list(&keys);
	bool found = false;

	*n = 0;
	for (int i = 0; i < all; i++)
	{
		if (strcmp(keys[i].kind, kind->name) != 0)
			continue;
		*n += 1;
		*out = keys[i];
		found = true;
	}
	return found;
}

uint32
apm_key_newest(const char *kind)
{
	ApmKeyInfo newest;
	int n;

	return find_newest(apm_key_kind_rotated(kind), &newest, &n) ? newest.generation : 0;
}

uint32
apm_key_make_next(const char *kind)
{
	const ApmKeyKind *wanted = apm_key_kind_rotated(kind);
	ApmKeyInfo newest;
	int n;

	apm_key_forget();
	if (!find_newest(wanted, &newest, &n) || !newest.has_private)
		ereport(ERROR, (errcode(ERRCODE_APM_KEY_MISSING),
						errmsg("this server lacks the private key \"%s\"", wanted->name),
						errhint("A key is followed by another where its private half is.")));
	if (apm_keycommand_is_set())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("keys come from apm.secret_command, which has no newer key \"%s\"", wanted->name),
				 errhint("Make it where keys are kept, so that the command prints it when %%k is \"%s\".",
						 apm_key_file_name(wanted, newest.generation + 1))));
	if (n >= APM_GENERATIONS_MAX)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("there are %d generations of the key \"%s\" already", n, wanted->name),
						errhint("Retire old ones with apm_retire_key().")));
	/* where somebody else is faster, his is the next one */
	(void) apm_key_make(wanted, newest.generation + 1);
	apm_key_forget();
	return newest.generation + 1;
}

/* Does the command say that it is gone?  Raises if not. */
static void
require_retired(const ApmKeyKind *kind, uint32 generation)
{
	ApmBuf bytes = {.secret = true};
	ApmCommandAnswer answer;
	int exit_code;

	answer = apm_keycommand_read(apm_key_file_name(kind, generation), APM_KEY_FILE_MAX, &bytes, &exit_code);
	apm_buf_reset(&bytes);
	if (answer != APM_COMMAND_RETIRED)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("keys come from apm.secret_command, which still has generation %u of \"%s\"",
						generation, kind->name),
				 errdetail("Nothing in this database needs it any more."),
				 errhint("Destroy it where keys are kept, so that the command prints \"retired\" when %%k is "
						 "\"%s\".",
						 apm_key_file_name(kind, generation))));
}

void
apm_key_remove(const char *kind, uint32 generation)
{
	const ApmKeyKind *wanted = apm_key_kind_rotated(kind);

	if (apm_keycommand_is_set())
		require_retired(wanted, generation);
	else
		apm_keyfile_remove(apm_key_file_name(wanted, generation));
	apm_key_forget();
}
