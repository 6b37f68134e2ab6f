/*
 * rollback.c
 *	  apm_accept_rollback(): the operator's word that this ledger is the one to go on with.
 *
 * After a restore, a clone, a load or a switched-off guard the node refuses to mine and to
 * serve, because it cannot know whether another one goes on with the same chain.  The
 * operator can.  He may have history cut at its end that way, and nothing else: what is
 * accepted must verify whole.  And he has to say so: where the sign-state knows of blocks that are not
 * there, going on means to sign their heights a second time, with other content.
 *
 * Meanwhile the miner stands between two of its turns: within one, ledger and sign-state differ
 * for good reason.
 */
#include "postgres.h"

#include "access/xact.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"

#include "apm_errors.h"
#include "apm_sql.h"
#include "apm_user.h"
#include "chain/guard.h"
#include "chain/signing.h"
#include "chain/verify.h"
#include "keys/signstate.h"
#include "worker/worker.h"

PG_FUNCTION_INFO_V1(apm_accept_rollback);

static void
require_verified(ApmVerification *found)
{
	static const ApmVerifyRequest everything = {.from = 0, .to = -1};

	apm_verify_ledger(&everything, found);
	if (!found->ok)
		ereport(ERROR, (errcode(ERRCODE_APM_TAMPERED), errmsg("the ledger does not verify"),
						errdetail("Height %lld, position %d: %s", (long long) found->height, found->position,
								  found->fault),
						errhint("apm_verify() says the same; restore a ledger that verifies.")));
	apm_verify_remember(found);
}

static uint64
clear_notices(void)
{
	static ApmStatement clear = {.sql = "DELETE FROM ONLY apm.load_notice"};

	return apm_run(&clear, NULL);
}

/* Raises unless no block that was signed is lost by going on from tip, or the operator gives them up. */
static void
require_given_up(const ApmDigest *chain, const ApmTip *tip, bool give_up, StringInfo said)
{
	uint64 height;

	if (!apm_signing_ahead(chain, tip, &height))
		return;
	if (!give_up)
		ereport(ERROR,
				(errcode(ERRCODE_APM_ROLLED_BACK),
				 errmsg("this node has signed blocks that this ledger does not have"),
				 errdetail("The ledger ends with height %llu; the sign-state names height %llu.",
						   (unsigned long long) tip->header.height, (unsigned long long) height),
				 errhint("Bring back the ledger that has them.  If it is lost, "
						 "apm_accept_rollback(give_up => true) goes on without them: other blocks get their "
						 "heights, and whoever kept a digest of them will see it.")));
	appendStringInfo(said, ", gave up what was signed up to height %llu", (unsigned long long) height);
}

/*
 * Makes the sign-state name the tip, unless it fits the ledger already.  True if it was written.
 *
 * A candidate that was signed and can be completed is left to the miner.  One that cannot, because
 * rows of the pool are gone, would keep it from mining for ever: it is given up.
 */
static bool
settle_sign_state(const ApmDigest *chain, bool give_up, StringInfo said)
{
	ApmCandidate candidate;
	ApmSigningStep step;
	ApmRefusal why;
	bool has_candidate;
	ApmTip tip;

	if (!apm_ledger_tip(&tip))
		ereport(ERROR, (errcode(ERRCODE_APM_TAMPERED), errmsg("the ledger has no block")));
	has_candidate = apm_candidate_read(0, &candidate, CurrentMemoryContext);
	step = apm_signing_look(chain, &tip, has_candidate ? &candidate : NULL, &why);
	if (step == APM_SIGNING_GO_ON ||
		(step == APM_SIGNING_COMPLETE && apm_signing_can_complete(chain, &candidate)))
		return false;
	if (!apm_signstate_lock(chain))
		ereport(ERROR,
				(errcode(ERRCODE_APM_ROLLED_BACK), errmsg("another database goes on with this chain"),
				 errhint("Its miner holds the sign-state in apm.key_directory; end it for good first.")));
	require_given_up(chain, &tip, give_up, said);
	if (step == APM_SIGNING_COMPLETE)
		apm_candidate_drop(0);
	apm_signing_record(chain, tip.header.height, &tip.hash);
	return true;
}

/* apm_accept_rollback(give_up boolean) returns text */
Datum
apm_accept_rollback(PG_FUNCTION_ARGS)
{
	ApmChainIdentity identity;
	ApmPrivileged saved;
	ApmVerification found;
	StringInfoData said;
	uint64 notices;
	int guards;

	apm_require_admin("accept a rollback");
	if (IsolationUsesXactSnapshot())
		ereport(ERROR, (errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
						errmsg("a rollback cannot be accepted in this transaction isolation level"),
						errhint("Use READ COMMITTED: what the miner did meanwhile must be seen.")));
	apm_turn_hold(APM_WORKER_MINER);
	initStringInfo(&said);
	apm_privileged_begin(&saved);
	SPI_connect();
	apm_chain_require(&identity);
	guards = apm_guards_restore();
	require_verified(&found);
	notices = clear_notices();
	appendStringInfo(&said, "verified " INT64_FORMAT " blocks with " INT64_FORMAT " transactions",
					 found.blocks, found.transactions);
	if (guards > 0)
		appendStringInfo(&said, ", enabled %d guards", guards);
	if (notices > 0)
		appendStringInfo(&said, ", accepted what was loaded");
	if (settle_sign_state(&identity.chain, PG_GETARG_BOOL(0), &said))
		appendStringInfo(&said, ", wrote a new sign-state");
	else if (guards == 0 && notices == 0)
		appendStringInfo(&said, ", nothing to accept");
	for (int kind = 0; kind < APM_WORKER_KINDS; kind++)
		apm_wake_at_commit((ApmWorkerKind) kind);
	SPI_finish();
	apm_privileged_end(&saved);
	PG_RETURN_TEXT_P(cstring_to_text(said.data));
}
