/*
 * identity.c
 *	  Which chain this database takes part in, and as whom.
 *
 * Every submission asks, so the answer is kept.  apm.chain never changes while the table is
 * the same and the transaction that wrote it stands; creating the extension again makes another
 * table, and an abort, possibly of the transaction that set the chain up, forgets.  The keys in
 * force do change, with a block that replaces one, and so does the contract.  Whoever appends such a block marks the table as
 * changed in PostgreSQL's relation cache, whose message reaches every process after the commit and
 * costs those who ask nothing.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"

#include "apm_errors.h"
#include "apm_sql.h"
#include "chain/identity.h"

static struct
{
	Oid relation; /* invalid: nothing known */
	ApmChainIdentity identity;
	Oid asked;		/* the relation that was read last */
	uint64 changes; /* how often it has changed since this process reads it */
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

/* An invalid relation stands for all of them. */
static void
forget_changed(Datum arg, Oid relation)
{
	if (OidIsValid(relation) && relation != known.asked)
		return;
	known.relation = InvalidOid;
	known.changes++;
}

static void
register_callbacks(void)
{
	static bool registered = false;

	if (registered)
		return;
	RegisterXactCallback(forget_at_abort, NULL);
	RegisterSubXactCallback(forget_at_subabort, NULL);
	CacheRegisterRelcacheCallback(forget_changed, (Datum) 0);
	registered = true;
}

static Oid
chain_table(void)
{
	return get_relname_relid("chain", get_namespace_oid("apm", false));
}

/* Id of the key in force, at that column of the row; a member without one is known by his first key. */
static bool
read_current(int column, const ApmDigest *home, ApmDigest *out)
{
	*out = *home;
	if (apm_row_null(0, column))
		return false;
	apm_row_digest(0, column, out);
	return true;
}

/*
 * An old snapshot would show a key that has been replaced, and nobody would tell us again; hence what is
 * committed by now, and kept only if it did not change meanwhile.  Nor is it kept while a restore brings table after
 * table and there are no members yet.
 */
bool
apm_chain_read(ApmChainIdentity *out)
{
	static ApmStatement get = {
		.sql =
			"SELECT c.chain, c.node, c.origin, n.id, o.id FROM ONLY apm.chain AS c"
			" LEFT JOIN ONLY apm.member AS n ON n.home = c.node AND n.member = 1 AND n.ended_height IS NULL"
			" LEFT JOIN ONLY apm.member AS o ON o.home = c.origin AND o.member = 2 AND o.ended_height IS NULL",
	};
	Oid relation = chain_table();
	ApmChainIdentity identity;
	uint64 changes;
	bool whole;

	if (OidIsValid(known.relation) && known.relation == relation)
	{
		*out = known.identity;
		return true;
	}
	register_callbacks();
	known.asked = relation;
	changes = known.changes;
	if (apm_run_latest(&get, NULL) == 0)
		return false;
	apm_row_digest(0, 1, &identity.chain);
	apm_row_digest(0, 2, &identity.node_home);
	apm_row_digest(0, 3, &identity.origin_home);
	whole = read_current(4, &identity.node_home, &identity.node);
	whole = read_current(5, &identity.origin_home, &identity.origin) && whole;
	*out = identity;
	if (whole && changes == known.changes)
	{
		known.identity = identity;
		known.relation = relation;
	}
	return true;
}

void
apm_chain_identity_changed(void)
{
	CacheInvalidateRelcacheByRelid(chain_table());
}

uint64
apm_chain_changes(void)
{
	register_callbacks();
	AcceptInvalidationMessages();
	return known.changes;
}

void
apm_chain_require(ApmChainIdentity *out)
{
	if (!apm_chain_read(out))
		ereport(ERROR, (errcode(ERRCODE_APM_NOT_SET_UP), errmsg("this database takes part in no chain"),
						errhint("Call apm_setup().")));
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

bool
apm_chain_home(ApmMember member, ApmDigest *home)
{
	ApmChainIdentity identity;

	if (!apm_chain_read(&identity))
		return false;
	*home = member == APM_MEMBER_NODE ? identity.node_home : identity.origin_home;
	return true;
}

bool
apm_chain_is_ours(ApmMember member, const ApmDigest *id)
{
	static ApmStatement find = {
		.sql = "SELECT FROM ONLY apm.member AS m WHERE m.id = $1 AND m.member = $2 AND m.home = $3",
		.nargs = 3,
		.types = {BYTEAOID, INT2OID, BYTEAOID},
	};
	ApmChainIdentity identity;
	const ApmDigest *current;
	const ApmDigest *home;
	Datum args[3];

	if (!apm_chain_read(&identity))
		return false;
	current = member == APM_MEMBER_NODE ? &identity.node : &identity.origin;
	home = member == APM_MEMBER_NODE ? &identity.node_home : &identity.origin_home;
	if (memcmp(id, current, sizeof(*id)) == 0 || memcmp(id, home, sizeof(*id)) == 0)
		return true;
	args[0] = apm_digest_datum(id);
	args[1] = Int16GetDatum((int16) member);
	args[2] = apm_digest_datum(home);
	return apm_run(&find, args) > 0;
}
