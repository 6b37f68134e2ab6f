/*
 * program.h
 *	  Inside the cloud room: a shell command that runs beside the worker.
 */
#ifndef APM_PROGRAM_H
#define APM_PROGRAM_H

#include "postgres.h"

#include "core/bytes.h"

/* Bytes that its standard input may have: what fits into a pipe that nobody reads yet. */
#define APM_PROGRAM_INPUT_MAX 4096

/*
 * Starts the command with this on its standard input; one at a time.  Returns 0, or the errno of what failed.  It ends
 * with the worker, unless that is killed.
 */
extern int apm_program_start(const char *line, ApmSlice input);
/* Has it ended?  Then *status is as of waitpid(). */
extern bool apm_program_ended(int *status);
/* Kills it with all that it has started.  Nothing happens when none runs. */
extern void apm_program_kill(void);

#endif /* APM_PROGRAM_H */
