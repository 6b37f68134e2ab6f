/*
 * apm_command.c
 *	  Shell commands of settings.
 */
#include "postgres.h"

#include "lib/stringinfo.h"

#include "apm_command.h"

char *
apm_command_line(const char *command, char letter, const char *value)
{
	StringInfoData line;

	initStringInfo(&line);
	for (const char *p = command; *p != '\0'; p++)
	{
		if (p[0] == '%' && p[1] == letter)
		{
			appendStringInfoString(&line, value);
			p++;
		}
		else if (p[0] == '%' && p[1] == '%')
		{
			appendStringInfoChar(&line, '%');
			p++;
		}
		else
			appendStringInfoChar(&line, *p);
	}
	return line.data;
}
