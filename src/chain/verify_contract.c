/*
 * verify_contract.c
 *	  The contract along a verification: members, policies, lists, templates and rules as of
 *	  each block.
 *
 * Each header has the digest of the contract after its block.  The walk carries a state in
 * which genesis enters the first members and items, and later blocks their changes: those that
 * are looked into by their transactions, the others by the rows of apm.contract_item and apm.member,
 * which the digests prove.
 *
 * For a block that is looked into the state also takes what its transactions need, and forgets
 * it with the next one.
 */
#include "postgres.h"

#include "catalog/pg_type_d.h"

#include "apm_errors.h"
#include "apm_sql.h"
#include "chain/verify.h"
#include "core/digest.h"

void
apm_verify_digest_contract(ApmWalk *walk)
{
	apm_check(apm_contract_digest(walk->state, &walk->contract), "hash the contract");
}

/* The heights up to the end of the walk at which the contract or its members changed. */
static void
find_changes(ApmWalk *walk)
{
	static ApmStatement get = {
		.sql = "SELECT DISTINCT c.height FROM (SELECT i.height FROM ONLY apm.contract_item AS i"
			   " UNION ALL SELECT m.height FROM ONLY apm.member AS m"
			   " UNION ALL SELECT m.ended_height FROM ONLY apm.member AS m) AS c"
			   " WHERE c.height > 0 AND c.height <= $1 ORDER BY c.height",
		.nargs = 1,
		.types = {INT8OID},
	};
	Datum args[] = {Int64GetDatum(walk->to)};
	uint64 rows = apm_run(&get, args);

	walk->changes = MemoryContextAlloc(walk->context, sizeof(int64) * Max(rows, 1));
	walk->nchanges = (int) rows;
	for (uint64 row = 0; row < rows; row++)
		walk->changes[row] = apm_row_int8(row, 1);
}

void
apm_verify_begin_contract(ApmWalk *walk, const ApmDigest *chain)
{
	walk->state = apm_state_empty(walk->context, chain);
	find_changes(walk);
}

/* Do all rows of a height have the time of its block? */
static bool
have_time(const ApmHeader *header)
{
	static ApmStatement other = {
		.sql = "SELECT FROM ONLY apm.contract_item AS i WHERE i.height = $1 AND i.block_time <> $2"
			   " UNION ALL SELECT FROM ONLY apm.member AS m"
			   " WHERE m.ended_height = $1 AND m.ended_time IS DISTINCT FROM $2 LIMIT 1",
		.nargs = 2,
		.types = {INT8OID, INT8OID},
	};
	Datum args[] = {Int64GetDatum((int64) header->height), Int64GetDatum((int64) header->time_us)};

	return apm_run(&other, args) == 0;
}

bool
apm_verify_pass_contract(ApmWalk *walk, const ApmHeader *header)
{
	while (walk->passed < walk->nchanges && walk->changes[walk->passed] < walk->at)
		walk->passed++;
	if (walk->passed == walk->nchanges || walk->changes[walk->passed] != walk->at)
		return true;
	if (!have_time(header))
		return apm_walk_fault_detail(walk, APM_FAULT_DERIVED, walk->at, -1,
									 "apm.contract_item or apm.member: the time is not that of the block");
	apm_state_load_items(walk->state, walk->context, header->height, header->height + 1);
	apm_state_load_members(walk->state, walk->context, header->height, header->height + 1);
	apm_verify_digest_contract(walk);
	return true;
}

/*
 * The header's contract digest covers keys in force and items; what it does not cover is that
 * each key's id is its own, and who we are.
 */
bool
apm_verify_genesis(ApmWalk *walk, const ApmHeader *header)
{
	static ApmStatement wrong = {
		.sql = "SELECT FROM ONLY apm.member AS m WHERE m.id <> pg_catalog.sha256(m.spki)"
			   " OR m.member NOT IN (1, 2) OR m.height < 0",
	};
	static ApmStatement us = {
		.sql =
			"SELECT FROM ONLY apm.member AS n, ONLY apm.member AS o"
			" WHERE n.id = $1 AND n.member = 1 AND n.height = 0 AND o.id = $2 AND o.member = 2 AND o.height = 0",
		.nargs = 2,
		.types = {BYTEAOID, BYTEAOID},
	};
	ApmChainIdentity *identity = &walk->identity;
	ApmDigest stored;
	Datum args[] = {apm_digest_datum(&identity->node_home), apm_digest_datum(&identity->origin_home)};
	bool good;

	if (memcmp(&identity->chain, &header->chain, sizeof(ApmDigest)) != 0)
		return apm_walk_fault_detail(walk, APM_FAULT_DERIVED, 0, -1,
									 "apm.chain: it names another chain than the blocks");
	SPI_connect();
	apm_check(apm_contract_digest(apm_state_new(CurrentMemoryContext, &identity->chain, 1), &stored),
			  "hash the contract");
	good = memcmp(&stored, &walk->contract, sizeof(stored)) == 0 && apm_run(&wrong, NULL) == 0;
	if (!good)
		(void) apm_walk_fault_detail(walk, APM_FAULT_DERIVED, 0, -1,
									 "apm.member or apm.contract_item: not what genesis made");
	else if (apm_run(&us, args) == 0)
		good = apm_walk_fault_detail(walk, APM_FAULT_DERIVED, 0, -1,
									 "apm.chain: it names a node or an origin that is not a member");
	SPI_finish();
	return good;
}

/* Of a valid membership: the row of the key, and of the one that it replaced. */
static bool
has_member(const ApmWalk *walk, const ApmEntries *e, const ApmMembershipFields *fields)
{
	static ApmStatement admitted = {
		.sql = "SELECT FROM ONLY apm.member AS m WHERE m.id = $1 AND m.member = $2 AND m.spki = $3"
			   " AND m.height = $4 AND m.home = $5",
		.nargs = 5,
		.types = {BYTEAOID, INT2OID, BYTEAOID, INT8OID, BYTEAOID},
	};
	static ApmStatement replaced = {
		.sql = "SELECT FROM ONLY apm.member AS m WHERE m.id = $1 AND m.member = $2 AND m.ended_height = $3"
			   " AND m.ended_time = $4",
		.nargs = 4,
		.types = {BYTEAOID, INT2OID, INT8OID, INT8OID},
	};
	Datum args[5];
	ApmDigest home;
	ApmDigest id;

	apm_check(apm_sha256(fields->spki, APM_SPKI_LEN, &id), "hash the key of a member");
	if (!apm_contract_home(walk->state, (ApmMember) fields->member, &id, &home))
		return false;
	args[0] = apm_digest_datum(&id);
	args[1] = Int16GetDatum(fields->member);
	args[2] = apm_bytea_datum(APM_SLICE(fields->spki, APM_SPKI_LEN));
	args[3] = Int64GetDatum((int64) e->block.height);
	args[4] = apm_digest_datum(&home);
	if (apm_run(&admitted, args) == 0)
		return false;
	args[0] = apm_digest_datum(&fields->replaces);
	args[2] = Int64GetDatum((int64) e->block.height);
	args[3] = Int64GetDatum((int64) e->block.time_us);
	return e->block.height == 0 || apm_run(&replaced, args) > 0;
}

bool
apm_verify_members(ApmWalk *walk, const ApmEntries *e)
{
	for (int i = 0; i < e->n; i++)
	{
		if (!e->kept[i] || e->entries[i].rule != APM_RULE_NONE || e->entries[i].kind != APM_KIND_MEMBERSHIP)
			continue;
		if (!has_member(walk, e, &e->opened[i].tx.u.membership))
			return apm_walk_fault_detail(walk, APM_FAULT_DERIVED, walk->at, i,
										 "apm.member: a row is missing or not what the transaction made");
		walk->counts.members++;
		walk->counts.replaced_members += e->block.height > 0;
	}
	return true;
}
