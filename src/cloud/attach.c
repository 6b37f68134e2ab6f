/*
 * attach.c
 *	  apm_cloud_attach(): makes a table the cloud.
 *
 * What the embedded store holds moves to the new one, by way of the outbox, from where it is
 * read until it has arrived.  What another foreign store holds stays there: records stored
 * so far must be in the new one, or reading them will say that they are missing, until apm_rebuild_cloud() puts them there.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_class.h"
#include "fmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "apm_attempt.h"
#include "apm_errors.h"
#include "apm_sql.h"
#include "apm_user.h"
#include "cloud/store.h"
#include "worker/worker.h"

PG_FUNCTION_INFO_V1(apm_cloud_attach);

static bool
worker_may(Oid target)
{
	Oid worker = get_role_oid("apm_worker", false);
	AclMode needed = ACL_SELECT | ACL_INSERT | ACL_DELETE;

	return pg_namespace_aclcheck(get_rel_namespace(target), worker, ACL_USAGE) == ACLCHECK_OK &&
		   pg_class_aclmask(target, worker, needed, ACLMASK_ALL) == needed;
}

/* Gives apm_worker its rights on the table, with the caller's own right to do so. */
static void
grant_to_worker(Oid target)
{
	char *schema = get_namespace_name(get_rel_namespace(target));
	char *name = quote_qualified_identifier(schema, get_rel_name(target));

	if (!worker_may(target))
	{
		SPI_execute(psprintf("GRANT USAGE ON SCHEMA %s TO apm_worker", quote_identifier(schema)), false, 0);
		SPI_execute(psprintf("GRANT SELECT, INSERT, DELETE ON TABLE %s TO apm_worker", name), false, 0);
		CommandCounterIncrement();
	}
	if (!worker_may(target))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("the role apm_worker may not read, fill and clear the cloud store's table"),
				 errhint("Its owner grants SELECT, INSERT and DELETE on it, and USAGE on its schema.")));
}

/* Enters the table, and moves what the embedded store holds. */
static void
enter_target(Oid target)
{
	static ApmStatement lock = {"LOCK TABLE apm.cloud_target IN ACCESS EXCLUSIVE MODE", 0, {0}, NULL};
	static ApmStatement enter = {
		"INSERT INTO apm.cloud_target (relation) VALUES ($1)"
		" ON CONFLICT (one) DO UPDATE SET relation = EXCLUDED.relation",
		1,
		{REGCLASSOID},
		NULL,
	};
	static ApmStatement embedded = {"SELECT 'apm.cloud_record'::pg_catalog.regclass = $1", 1, {OIDOID}, NULL};
	static ApmStatement move = {
		"WITH gone AS (DELETE FROM ONLY apm.cloud_record AS c USING ONLY apm.ledger_record AS r"
		" WHERE r.rid = c.rid RETURNING c.rid, r.tid, c.apid, c.apr, c.tokens)"
		" INSERT INTO apm.outbox (rid, tid, apid, apr, tokens, queued_at)"
		" SELECT rid, tid, apid, apr, tokens, pg_catalog.clock_timestamp() FROM gone"
		" ON CONFLICT (rid) DO NOTHING",
		0,
		{0},
		NULL,
	};
	/* one that was under way has seen to another store */
	static ApmStatement rebuild = {"DELETE FROM ONLY apm.cloud_rebuild", 0, {0}, NULL};
	Datum before[1];
	Datum now[1] = {ObjectIdGetDatum(target)};

	apm_run(&lock, NULL);
	before[0] = ObjectIdGetDatum(apm_store_target());
	apm_run(&enter, now);
	apm_run(&embedded, before);
	if (apm_row_bool(0, 1) && DatumGetObjectId(before[0]) != target)
		apm_run(&move, NULL);
	if (DatumGetObjectId(before[0]) != target)
		apm_run(&rebuild, NULL);
}

static void
delete_nothing(void *target)
{
	(void) apm_store_delete(*(Oid *) target, NULL, 0);
}

/* What an erasure must remove the store must be able to lose. */
static void
require_delete(Oid target)
{
	ErrorData *error = apm_attempt(delete_nothing, &target);

	if (error == NULL)
		return;
	if (apm_store_fault(error->sqlerrcode) == APM_STORE_UNFIT && error->hint == NULL)
		error->hint =
			"Rows of erased patients must be deleted there: the user that apm_worker is mapped to needs "
			"DELETE on the table over there, too, and the wrapper must be able to delete.";
	ReThrowError(error);
}

/*
 * apm_cloud_attach(relation regclass) returns void
 *
 * The caller is superuser or apm_admin, and owns the table unless apm_worker has its rights already.
 * Asks the store once, so that a wrong server, mapping or remote table shows now.
 */
Datum
apm_cloud_attach(PG_FUNCTION_ARGS)
{
	Oid target = PG_GETARG_OID(0);
	ApmPrivileged saved;

	apm_require_admin("attach a cloud store");
	if (IsolationUsesXactSnapshot())
		ereport(ERROR, (errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
						errmsg("a cloud store cannot be attached in this transaction isolation level"),
						errhint("Use READ COMMITTED: what the workers did meanwhile must be seen.")));

	SPI_connect();
	apm_privileged_begin(&saved);
	apm_store_check(target);
	apm_privileged_end(&saved);

	grant_to_worker(target);

	apm_privileged_begin(&saved);
	enter_target(target);
	(void) apm_store_select(target, NULL, 0, true);
	require_delete(target);
	apm_privileged_end(&saved);
	SPI_finish();

	apm_wake_at_commit(APM_WORKER_CLOUD);
	PG_RETURN_VOID();
}
