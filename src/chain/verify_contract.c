/*
 * verify_contract.c
 *	  The contract along a verification: members, policies, lists, templates and rules as of
 *	  each block.
 *
 * Each header has the digest of the contract after its block.  The walk carries a state in
 * which genesis enters the first members and items, and later blocks their changes: those that
 * are looked into by their transactions, those before them by the rows of apm.contract_item, which
 * the digests prove.
 *
 * For a block that is looked into the state also takes what its transactions need, and forgets
 * it with the next one.
 */
#include "postgres.h"

#include "catalog/pg_type_d.h"

#include "apm_errors.h"
#include "apm_sql.h"
#include "chain/verify.h"

void
apm_verify_digest_contract(ApmWalk *walk)
{
	apm_check(apm_contract_digest(walk->state, &walk->contract), "hash the contract");
}

/* The heights before walk->from at which the contract changed. */
static void
find_changes(ApmWalk *walk)
{
	static ApmStatement get = {
		.sql = "SELECT DISTINCT i.height FROM ONLY apm.contract_item AS i"
			   " WHERE i.height > 0 AND i.height < $1 ORDER BY i.height",
		.nargs = 1,
		.types = {INT8OID},
	};
	Datum args[] = {Int64GetDatum(walk->from)};
	uint64 rows;

	SPI_connect();
	rows = apm_run(&get, args);
	walk->changes = MemoryContextAlloc(walk->context, sizeof(int64) * rows);
	walk->nchanges = (int) rows;
	for (uint64 row = 0; row < rows; row++)
		walk->changes[row] = apm_row_int8(row, 1);
	SPI_finish();
}

void
apm_verify_begin_contract(ApmWalk *walk)
{
	walk->state = apm_state_empty(walk->context, &walk->identity.chain);
	find_changes(walk);
}

/* Do all rows of a height have the time of its block? */
static bool
have_time(const ApmHeader *header)
{
	static ApmStatement other = {
		.sql = "SELECT FROM ONLY apm.contract_item AS i WHERE i.height = $1 AND i.block_time <> $2 LIMIT 1",
		.nargs = 2,
		.types = {INT8OID, INT8OID},
	};
	Datum args[] = {Int64GetDatum((int64) header->height), Int64GetDatum((int64) header->time_us)};

	return apm_run(&other, args) == 0;
}

bool
apm_verify_pass_contract(ApmWalk *walk, const ApmHeader *header)
{
	bool good;

	if (walk->passed == walk->nchanges || walk->changes[walk->passed] != (int64) header->height)
		return true;
	walk->passed++;
	SPI_connect();
	good = have_time(header);
	if (good)
	{
		apm_state_load_items(walk->state, walk->context, header->height, header->height + 1);
		apm_verify_digest_contract(walk);
	}
	SPI_finish();
	return good ||
		   apm_walk_fault(walk, header->height, -1, "apm.contract_item: the time is not that of the block");
}

/*
 * The header's contract digest covers members and items; what it does not cover is that
 * each member's id is that of its key, and heights.
 */
bool
apm_verify_members(ApmWalk *walk)
{
	static ApmStatement wrong = {
		.sql = "SELECT FROM ONLY apm.member AS m WHERE m.id <> pg_catalog.sha256(m.spki) OR m.height <> 0"
			   " OR m.member NOT IN (1, 2)",
	};
	static ApmStatement us = {
		.sql = "SELECT FROM ONLY apm.member AS n, ONLY apm.member AS o"
			   " WHERE n.id = $1 AND n.member = 1 AND o.id = $2 AND o.member = 2",
		.nargs = 2,
		.types = {BYTEAOID, BYTEAOID},
	};
	ApmDigest stored;
	Datum args[2];
	bool good;

	SPI_connect();
	args[0] = apm_digest_datum(&walk->identity.node);
	args[1] = apm_digest_datum(&walk->identity.origin);
	apm_check(apm_contract_digest(apm_state_new(CurrentMemoryContext, &walk->identity.chain, 1), &stored),
			  "hash the contract");
	good = memcmp(&stored, &walk->contract, sizeof(stored)) == 0 && apm_run(&wrong, NULL) == 0;
	if (!good)
		(void) apm_walk_fault(walk, 0, -1, "apm.member or apm.contract_item: not what genesis made");
	else if (apm_run(&us, args) == 0)
		good = apm_walk_fault(walk, 0, -1, "apm.chain: it names a node or an origin that is not a member");
	SPI_finish();
	return good;
}
