/*
 * keycommand.h
 *	  Keys from apm.secret_command.  Private to the room.
 */
#ifndef APM_KEYCOMMAND_H
#define APM_KEYCOMMAND_H

#include "postgres.h"

#include "core/bytes.h"

/* Is a command set, so that no key is read from a file? */
extern bool apm_keycommand_is_set(void);

typedef enum ApmCommandAnswer
{
	APM_COMMAND_KEY,	/* the bytes are in out */
	APM_COMMAND_NONE,	/* it printed nothing, or ended with an exit code other than 0 */
	APM_COMMAND_RETIRED /* it printed "retired": the generation is gone for good, later ones may be there */
} ApmCommandAnswer;

/*
 * Runs the command with %k replaced by name and appends what it prints to out (make it
 * secret), at most max bytes.  *exit_code is the command's.  Raises AP003 when it
 * prints more, 38000 when it cannot be run or is killed.
 */
extern ApmCommandAnswer apm_keycommand_read(const char *name, size_t max, ApmBuf *out, int *exit_code);

#endif /* APM_KEYCOMMAND_H */
