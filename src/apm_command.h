/*
 * apm_command.h
 *	  Shell commands of settings.
 */
#ifndef APM_COMMAND_H
#define APM_COMMAND_H

#include "postgres.h"

/* The command with %letter as the value and %% as a percent sign, palloc'd. */
extern char *apm_command_line(const char *command, char letter, const char *value);

#endif /* APM_COMMAND_H */
