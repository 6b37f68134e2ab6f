/*
 * node.c
 *	  May this database's node mine and serve reads?
 *
 * Asked at the start of every turn, so it costs a few index look-ups and no more, and an
 * operator's remedy takes effect with the next turn.
 */
#include "postgres.h"

#include "access/xlog.h"

#include "apm_errors.h"
#include "apm_sql.h"
#include "chain/guard.h"
#include "chain/node.h"
#include "keys/keyring.h"

/*
 * The chain's key to open, the network server's to answer it, and the node's to sign:
 * the very one that the chain has in force for this node.
 */
static bool
find_keys(const ApmChainIdentity *identity)
{
	return apm_key_have_private(APM_PAIR_PB) && apm_key_have_public(APM_PAIR_NS) &&
		   apm_key_have_signer_of(APM_SIGN_NODE, &identity->node);
}

/* A key that is here and not accepted is an error that ends the worker; readers must learn why all the same. */
static bool
has_keys(const ApmChainIdentity *identity)
{
	volatile bool found = false;

	PG_TRY();
	{
		found = find_keys(identity);
	}
	PG_CATCH();
	{
		apm_refusal_set(APM_REFUSAL_NO_KEY);
		PG_RE_THROW();
	}
	PG_END_TRY();
	return found;
}

static bool
has_load_notice(void)
{
	static ApmStatement get = {.sql = "SELECT FROM ONLY apm.load_notice AS n LIMIT 1"};

	return apm_run(&get, NULL) > 0;
}

bool
apm_chain_loaded(void)
{
	return has_load_notice() || !apm_guards_stand();
}

/* A chain without a tip is a restore that has not come to its end. */
static bool
has_tip(void)
{
	static ApmStatement get = {.sql = "SELECT FROM ONLY apm.tip AS t"};

	return apm_run(&get, NULL) > 0;
}

ApmRefusal
apm_node_check(ApmChainIdentity *identity)
{
	if (RecoveryInProgress())
		return APM_REFUSAL_STANDBY;
	if (!apm_chain_read(identity))
		return APM_REFUSAL_NO_CHAIN;
	if (!apm_guards_stand())
		return APM_REFUSAL_GUARD;
	if (has_load_notice() || !has_tip())
		return APM_REFUSAL_LOADED;
	return has_keys(identity) ? APM_REFUSAL_NONE : APM_REFUSAL_NO_KEY;
}
