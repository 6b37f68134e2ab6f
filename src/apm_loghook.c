/*
 * apm_loghook.c
 *	  Keeps what patients' statements say out of the server's log and its views.
 *
 * At PostgreSQL's default settings the log holds the statement of every command that
 * fails or is cancelled, a COPY's line in CONTEXT, a JSON document or a unique key in
 * DETAIL, and, after a process was killed, what it was running.  In the databases of
 * apm.databases, and in sessions that have called us elsewhere, all of these are kept out of
 * the log; the client still gets its DETAIL
 * and CONTEXT.  The primary message stays, and so does what the operator asks to have
 * logged by log_statement or log_min_duration_statement.  The failed statement is also taken
 * out of pg_stat_activity, which would show it until the session's next one.
 *
 * The postmaster does not know in which database a process died, so its lines lose
 * their detail wherever that was.
 */
#include "postgres.h"

/* Port's header wants Kerberos' own; what we read from a Port does not depend on it. */
#undef ENABLE_GSS

#include "access/xact.h"
#include "libpq/libpq-be.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "utils/builtins.h"
#include "utils/varlena.h"

#include "apm_guc.h"
#include "apm_loghook.h"
#include "worker/worker.h"

#define HIDDEN_STATEMENT "(a statement of apm)"

static emit_log_hook_type previous_hook = NULL;
static bool called_us = false; /* this session has called us, whatever its database */

static bool
name_is_listed(const char *database)
{
	List *names;
	ListCell *cell;

	/* if it is no list, better hide too much */
	if (!SplitIdentifierString(pstrdup(apm_databases), ',', &names))
		return true;
	foreach(cell, names)
	{
		if (strcmp(lfirst(cell), database) == 0)
			return true;
	}
	return false;
}

/* Does this process work with us, or in a database that the setting names? */
static bool
is_ours(void)
{
	if (called_us)
		return true;
	if (apm_databases == NULL || apm_databases[0] == '\0')
		return false;
	if (MyProcPort != NULL)
		return MyProcPort->database_name != NULL && name_is_listed(MyProcPort->database_name);
	return OidIsValid(MyDatabaseId) && apm_database_listed(MyDatabaseId);
}

/* The postmaster says how a process ended, and with what it was busy. */
static bool
is_obituary(const ErrorData *error)
{
	return !IsUnderPostmaster && error->message_id != NULL &&
		   strncmp(error->message_id, "%s (PID %d) ", 12) == 0;
}

/* Log only: detail_log goes before detail there, and context is left out. */
static void
hide(ErrorData *error)
{
	error->hide_stmt = true;
	error->hide_ctx = true;
	if (error->detail != NULL || error->detail_log != NULL)
		error->detail_log = pstrdup("Hidden by apm."); /* whoever reports the error frees it */
}

/* The same without memory, which is what the error is about; the client loses it, too. */
static void
hide_without_memory(ErrorData *error)
{
	error->hide_stmt = true;
	error->hide_ctx = true;
	error->detail_log = NULL;
	error->detail = NULL;
	error->internalquery = NULL;
}

/* The statement that has failed stays in pg_stat_activity until the session's next one. */
static void
hide_activity(const ErrorData *error)
{
	if (MyProcPort != NULL && error->elevel >= ERROR)
		pgstat_report_activity(STATE_RUNNING, HIDDEN_STATEMENT);
}

/* An internal query has no switch for the log alone, so it moves to the context. */
static void
hide_internal_query(ErrorData *error)
{
	if (error->internalquery == NULL)
		return;
	error->context = psprintf("%s%squery: %s", error->context != NULL ? error->context : "",
							  error->context != NULL ? "\n" : "", error->internalquery);
	error->internalquery = NULL;
	error->internalpos = 0;
}

static void
on_log(ErrorData *error)
{
	static bool busy = false;

	if (busy)
		hide_without_memory(error); /* the last call was ended by this error */
	else
	{
		busy = true;
		if (is_obituary(error) || is_ours())
		{
			hide(error);
			hide_activity(error);
			hide_internal_query(error);
		}
	}
	busy = false;
	if (previous_hook)
		previous_hook(error);
}

void
apm_loghook_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		return;
	previous_hook = emit_log_hook;
	emit_log_hook = on_log;
}

void
apm_hide_statement(void)
{
	static TimestampTz hidden = 0;
	TimestampTz statement = GetCurrentStatementStartTimestamp();

	called_us = true;
	if (hidden == statement)
		return;
	hidden = statement;
	pgstat_report_activity(STATE_RUNNING, HIDDEN_STATEMENT);
}
