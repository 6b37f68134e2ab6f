/*
 * keycommand.c
 *	  Keys from apm.secret_command.
 *
 * A key management service or a hardware module is reached by whatever program its
 * maker ships, as PostgreSQL reaches one for the passphrase of its TLS key.  The
 * command is asked for one key at a time by the name that its file would have, and
 * prints it.  There is no listing: generations are asked for from 1 upwards
 * until there is none, so a generation that was destroyed is answered with the
 * word "retired".
 */
#include "postgres.h"

#include <sys/wait.h>

#include "storage/fd.h"

#include "apm_command.h"
#include "apm_errors.h"
#include "apm_guc.h"
#include "keys/keycommand.h"

bool
apm_keycommand_is_set(void)
{
	return apm_secret_command != NULL && apm_secret_command[0] != '\0';
}

/* Reads a stream to its end; false if there are more than max bytes. */
static bool
read_stream(FILE *stream, size_t max, ApmBuf *out)
{
	size_t start = out->len;
	size_t got;

	/* no buffer of stdio's, which nobody would wipe */
	setvbuf(stream, NULL, _IONBF, 0);
	if (!apm_buf_reserve(out, max + 1))
		apm_raise(APM_ERR_MEMORY, "read a key");
	while (out->len - start <= max &&
		   (got = fread(out->data + out->len, 1, start + max + 1 - out->len, stream)) > 0)
		out->len += got;
	if (ferror(stream))
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not read from apm.secret_command: %m")));
	return out->len - start <= max;
}

static bool
says(const ApmBuf *out, size_t start, const char *word)
{
	size_t len = out->len - start;

	while (len > 0 && isspace(out->data[start + len - 1]))
		len--;
	return len == strlen(word) && memcmp(out->data + start, word, len) == 0;
}

ApmCommandAnswer
apm_keycommand_read(const char *name, size_t max, ApmBuf *out, int *exit_code)
{
	size_t start = out->len;
	FILE *stream;
	bool complete;
	int status;

	fflush(NULL);
	stream = OpenPipeStream(apm_command_line(apm_secret_command, 'k', name), PG_BINARY_R);
	if (stream == NULL)
		ereport(ERROR, (errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
						errmsg("could not run apm.secret_command for key \"%s\": %m", name)));
	complete = read_stream(stream, max, out);
	status = ClosePipeStream(stream);
	if (!complete)
		ereport(ERROR, (errcode(ERRCODE_APM_KEY_REFUSED),
						errmsg("apm.secret_command printed too much for key \"%s\"", name)));
	if (status == -1 || !WIFEXITED(status))
		ereport(ERROR, (errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
						errmsg("apm.secret_command was ended from outside while it was asked for key \"%s\"",
							   name)));

	*exit_code = WEXITSTATUS(status);
	if (*exit_code != 0 || says(out, start, ""))
		return APM_COMMAND_NONE;
	return says(out, start, "retired") ? APM_COMMAND_RETIRED : APM_COMMAND_KEY;
}
