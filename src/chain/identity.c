/*
 * identity.c
 *	  Which chain this database takes part in, and as whom.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "utils/lsyscache.h"

#include "apm_sql.h"
#include "chain/identity.h"

/*
 * What apm.chain says never changes while the table is the same and the transaction that
 * wrote it stands.  Creating the extension again makes another table; an abort, possibly
 * of the transaction that set the chain up, forgets.
 */
static struct
{
	Oid relation; /* invalid: nothing known */
	ApmChainIdentity identity;
} known;

static void
forget_at_abort(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_ABORT)
		known.relation = InvalidOid;
}

static void
forget_at_subabort(SubXactEvent event, SubTransactionId mySubid, SubTransactionId parentSubid, void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB)
		known.relation = InvalidOid;
}

static void
register_callbacks(void)
{
	static bool registered = false;

	if (registered)
		return;
	RegisterXactCallback(forget_at_abort, NULL);
	RegisterSubXactCallback(forget_at_subabort, NULL);
	registered = true;
}

bool
apm_chain_read(ApmChainIdentity *out)
{
	static ApmStatement get = {.sql = "SELECT c.chain, c.node, c.origin FROM ONLY apm.chain AS c"};
	Oid relation = get_relname_relid("chain", get_namespace_oid("apm", false));

	if (!OidIsValid(known.relation) || known.relation != relation)
	{
		register_callbacks();
		if (apm_run(&get, NULL) == 0)
			return false;
		apm_row_digest(0, 1, &known.identity.chain);
		apm_row_digest(0, 2, &known.identity.node);
		apm_row_digest(0, 3, &known.identity.origin);
		known.relation = relation;
	}
	*out = known.identity;
	return true;
}

bool
apm_chain_identity(ApmDigest *chain, ApmDigest *origin)
{
	ApmChainIdentity identity;

	if (!apm_chain_read(&identity))
		return false;
	*chain = identity.chain;
	*origin = identity.origin;
	return true;
}
