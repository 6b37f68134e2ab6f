/*
 * contractcache.c
 *	  The contract in force, kept between statements.
 *
 * Every submission must know the contract's data rules and templates, and to know them is to apply all
 * contract transactions in order.  The ledger only grows, so the place of its last item tells whether that
 * has changed: one probe of an index.  Another chain, after the extension was dropped and created again, has
 * another id.  A block that changes the contract tells all processes, so that it is not even probed unless something was told; only a
 * restore does not tell, and for its sake what was found is good for a second.
 */
#include "postgres.h"

#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "anonymize/contractcache.h"
#include "apm_errors.h"
#include "apm_memory.h"
#include "apm_sql.h"
#include "chain/chain.h"

/* What tells one contract from another. */
typedef struct Version
{
	ApmDigest chain;
	int64 height;
	int32 position;
	int32 ordinal;
} Version;

static struct
{
	MemoryContext context; /* NULL: nothing is kept */
	ApmContractState *state;
	Version version;
	uint64 serial;
	TimestampTz looked_at; /* when it was found to be that, and what had been told by then */
	uint64 changes;
} kept;

#define LOOK_AGAIN_MS 1000

static void
read_version(Version *out)
{
	static ApmStatement last = {
		"SELECT height, position, ordinal FROM ONLY apm.contract_item"
		" ORDER BY height DESC, position DESC, ordinal DESC LIMIT 1",
		0,
		{0},
		NULL,
	};
	ApmDigest origin;

	memset(out, 0, sizeof(*out));
	if (!apm_chain_identity(&out->chain, &origin))
		ereport(ERROR, (errcode(ERRCODE_APM_NOT_SET_UP), errmsg("apm is not set up in this database"),
						errhint("A superuser calls apm_setup() once.")));
	if (apm_run(&last, NULL) == 0)
		return;
	out->height = apm_row_int8(0, 1);
	out->position = apm_row_int4(0, 2);
	out->ordinal = apm_row_int4(0, 3);
}

static void
read_contract(const Version *version)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "apm contract", ALLOCSET_DEFAULT_SIZES);
	ApmContractState *state = apm_chain_contract(context);

	if (kept.context != NULL)
		MemoryContextDelete(kept.context);
	MemoryContextSetParent(context, apm_process_context());
	kept.context = context;
	kept.state = state;
	kept.version = *version;
	kept.serial++;
}

/* Reads the contract unless what is kept is that. */
static void
refresh(void *arg)
{
	Version version;

	read_version(&version);
	if (kept.context == NULL || memcmp(&version, &kept.version, sizeof(version)) != 0)
		read_contract(&version);
}

/* Has nothing been told since what is kept was found to be the contract, a moment ago?  Of the same chain, too. */
static bool
is_fresh(void)
{
	TimestampTz now = GetCurrentTimestamp();
	ApmDigest chain;
	ApmDigest origin;

	return kept.context != NULL && kept.changes == apm_chain_changes() && now >= kept.looked_at &&
		   !TimestampDifferenceExceeds(kept.looked_at, now, LOOK_AGAIN_MS) &&
		   apm_chain_identity(&chain, &origin) && memcmp(&chain, &kept.version.chain, sizeof(chain)) == 0;
}

const ApmContractState *
apm_contract_now(uint64 *serial)
{
	uint64 changes;

	*serial = kept.serial;
	if (is_fresh())
		return kept.state;
	changes = apm_chain_changes();
	/* one snapshot, so that the place is that of the contract that is read */
	PushActiveSnapshot(GetLatestSnapshot());
	apm_sql_frozen(refresh, NULL);
	PopActiveSnapshot();
	kept.looked_at = GetCurrentTimestamp();
	kept.changes = changes;
	*serial = kept.serial;
	return kept.state;
}
