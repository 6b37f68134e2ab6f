/*
 * status.c
 *	  What the workers show of themselves in SQL, in words that hold no value of a row.
 */
#include "postgres.h"

#include "commands/dbcommands.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "worker/state.h"

/* Classes of SQLSTATE, by their first two characters; see PostgreSQL's appendix A. */
static const struct
{
	const char *class;
	const char *text;
} classes[] = {
	{"08", "connection exception"},
	{"0A", "feature not supported"},
	{"21", "cardinality violation"},
	{"22", "data exception"},
	{"23", "integrity constraint violation"},
	{"25", "invalid transaction state"},
	{"28", "invalid authorization"},
	{"40", "transaction rolled back"},
	{"42", "syntax error or access rule violation"},
	{"53", "insufficient resources"},
	{"54", "program limit exceeded"},
	{"55", "object not in the state that is needed"},
	{"57", "operator intervention"},
	{"58", "system error"},
	{"F0", "configuration file error"},
	{"HV", "foreign data wrapper error"},
	{"P0", "error in a procedural language"},
	{"XX", "internal error"},
};

const char *
apm_error_text(int code, const char *message)
{
	const char *state = unpack_sql_state(code);

	if (strncmp(state, "AP", 2) == 0)
		return message;
	for (size_t i = 0; i < lengthof(classes); i++)
	{
		if (strncmp(state, classes[i].class, 2) == 0)
			return classes[i].text;
	}
	return "other error";
}

const char *
apm_refusal_text(ApmRefusal why)
{
	switch (why)
	{
		case APM_REFUSAL_UNKNOWN:
			return apm_shared_available() ? "The chain's worker has not looked at this ledger yet."
										  : "No worker runs, because apm is not in shared_preload_libraries.";
		case APM_REFUSAL_NONE:
			return "The node mines and serves reads.";
		case APM_REFUSAL_NO_CHAIN:
			return "This database takes part in no chain; call apm_setup().";
		case APM_REFUSAL_NO_KEY:
			return "A key of the chain or of this node is missing; see apm_keygen() and apm.key_directory.";
		case APM_REFUSAL_GUARD:
			return "A trigger that guards the ledger is missing or not ENABLE ALWAYS; see apm_accept_rollback().";
		case APM_REFUSAL_LOADED:
			return "A table of the ledger, the pool or the queue was written by something other than apm, as a "
				   "restore does; see apm.load_notice, apm_verify() and apm_accept_rollback().";
		case APM_REFUSAL_ELSEWHERE:
			return "This node last signed in another database, on another server or timeline: this is a copy; see "
				   "apm_accept_rollback().";
		case APM_REFUSAL_ROLLED_BACK:
			return "What this node signed last is not the end of its ledger: the ledger or the sign-state was set "
				   "back; see apm_accept_rollback().";
		case APM_REFUSAL_NO_SIGN_STATE:
			return "The ledger has blocks, and the sign-state in apm.key_directory is missing or not to be read; see "
				   "apm_accept_rollback().";
		case APM_REFUSAL_SIGN_STATE_BUSY:
			return "Another server or database holds the sign-state's lock: it goes on with the same chain.";
		case APM_REFUSAL_STANDBY:
			return "This server is a standby.";
	}
	return "Unknown reason.";
}

#define STATUS_COLUMNS 12

static Datum
time_or_null(TimestampTz time, bool *isnull)
{
	*isnull = time == 0;
	return TimestampTzGetDatum(time);
}

static Datum
text_or_null(const char *text, bool *isnull)
{
	*isnull = text == NULL || text[0] == '\0';
	return *isnull ? (Datum) 0 : CStringGetTextDatum(text);
}

/* One row; the entry is a copy, the lock is not held. */
static void
put_row(ReturnSetInfo *result, const ApmDatabaseEntry *entry, ApmWorkerKind kind)
{
	const ApmWorkerEntry *worker = &entry->workers[kind];
	char *database = get_database_name(entry->database);
	Datum values[STATUS_COLUMNS] = {0};
	bool nulls[STATUS_COLUMNS] = {0};
	const char *state = NULL;

	if (database == NULL)
		return; /* dropped a moment ago */
	if (worker->error_at != 0)
		state = unpack_sql_state(worker->error_code);
	values[0] = DirectFunctionCall1(namein, CStringGetDatum(database));
	values[1] = CStringGetTextDatum(apm_worker_name(kind));
	values[2] = Int32GetDatum(worker->pid);
	nulls[2] = worker->pid == 0;
	values[3] = CStringGetTextDatum(apm_state_name(worker->state));
	values[4] = text_or_null(worker->activity, &nulls[4]);
	values[5] = time_or_null(Max(worker->turn_started, worker->turn_ended), &nulls[5]);
	values[6] = Int64GetDatum(worker->turns);
	values[7] = Int64GetDatum(worker->errors);
	values[8] = text_or_null(state, &nulls[8]);
	values[9] = text_or_null(worker->error, &nulls[9]);
	values[10] = time_or_null(worker->error_at, &nulls[10]);
	nulls[11] = entry->refusal == APM_REFUSAL_NONE;
	if (!nulls[11])
		values[11] = CStringGetTextDatum(apm_refusal_text(entry->refusal));
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/*
 * apm_worker_status(): a row a worker for each database that has or had workers, and for this
 * one in any case.  The last turn is running if the state says "turning".  The refusal is
 * null when the node mines and serves.
 */
PG_FUNCTION_INFO_V1(apm_worker_status);
Datum
apm_worker_status(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	ApmDatabaseEntry *entries = palloc0(sizeof(ApmDatabaseEntry) * (APM_MAX_DATABASES + 1));
	bool here = false;

	InitMaterializedSRF(fcinfo, 0);
	if (apm_shared != NULL)
	{
		LWLockAcquire(apm_shared->lock, LW_SHARED);
		memcpy(entries, apm_shared->databases, sizeof(apm_shared->databases));
		LWLockRelease(apm_shared->lock);
	}
	for (int i = 0; i < APM_MAX_DATABASES; i++)
		here = here || entries[i].database == MyDatabaseId;
	if (!here)
	{
		entries[APM_MAX_DATABASES].database = MyDatabaseId;
		entries[APM_MAX_DATABASES].refusal = apm_refusal_get();
	}
	for (int i = 0; i <= APM_MAX_DATABASES; i++)
	{
		for (int kind = 0; OidIsValid(entries[i].database) && kind < APM_WORKER_KINDS; kind++)
			put_row(result, &entries[i], kind);
	}
	return (Datum) 0;
}
