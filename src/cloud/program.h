/*
 * program.h
 *	  Inside the cloud room: a shell command, or a function, that runs beside the worker.
 */
#ifndef APM_PROGRAM_H
#define APM_PROGRAM_H

#include "postgres.h"

#include "core/bytes.h"

/* Bytes that its standard input may have: what fits into a pipe that nobody reads yet. */
#define APM_PROGRAM_INPUT_MAX 4096

/*
 * Starts the command with this on its standard input; one at a time.  Returns 0, or the errno of what failed: EBUSY when
 * the last one was killed and is not gone yet.  It ends with the worker, unless that is killed.
 */
extern int apm_program_start(const char *line, ApmSlice input);
/*
 * The same of a function, called in a process of its own whose exit status is what it returns.  That process has the
 * worker's memory as it is now, and nothing else: no shared memory, no open file, no signal.  So it makes system calls
 * only, and nothing of PostgreSQL's.
 */
extern int apm_program_call(int (*function)(const char *argument), const char *argument);
/* Has it ended?  Then *status is as of waitpid(). */
extern bool apm_program_ended(int *status);
/* Kills it with all that it has started, and does not wait for what the kernel does not let go.  Nothing happens when none runs. */
extern void apm_program_kill(void);

#endif /* APM_PROGRAM_H */
