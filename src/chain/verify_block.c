/*
 * verify_block.c
 *	  One block of a verification: its leaves, its bodies, its verdicts.
 *
 * A leaf proves its transaction, and the header's root proves the leaves and, for refused
 * ones, Tid and rule.  So a row that was changed shows either here or where the header
 * does not have the root of what is stored.  The contract then judges every transaction
 * that is kept once more, in order, against the state before the block.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "apm_errors.h"
#include "apm_sql.h"
#include "chain/verify.h"

/* Reads the block's leaf rows and bodies into the current memory context. */
static bool
read_entries(ApmWalk *walk, const ApmHeader *header, const ApmDigest *hash, ApmEntries *e)
{
	static ApmStatement get = {
		.sql = "SELECT l.position, l.tid, l.kind, l.rule, l.leaf, b.nonce, b.transaction, b.proof"
			   " FROM ONLY apm.leaf AS l LEFT JOIN ONLY apm.body AS b ON b.tid = l.tid"
			   " WHERE l.block = $1 ORDER BY l.position",
		.nargs = 1,
		.types = {BYTEAOID},
	};
	Datum args[] = {apm_digest_datum(hash)};
	uint64 rows = apm_run(&get, args);

	e->height = header->height;
	e->time_us = header->time_us;
	e->n = (int) rows;
	if (rows != header->count || rows > APM_BLOCK_MAX_LEAVES)
		return apm_walk_fault(walk, e->height, -1, "leaf: the block has another number of them");
	e->entries = palloc0_array(ApmEntry, rows);
	e->opened = palloc0_array(ApmOpened, rows);
	e->kept = palloc0_array(bool, rows);
	for (uint64 row = 0; row < rows; row++)
	{
		ApmEntry *entry = &e->entries[row];
		ApmSigned envelope;
		ApmBuf encoded = {0};
		ApmSlice nonce;

		if (apm_row_int4(row, 1) != (int32) row)
			return apm_walk_fault(walk, e->height, (int32) row, "leaf: there is none of this position");
		apm_row_uuid(row, 2, &entry->tid);
		entry->kind = (uint8) apm_row_int2(row, 3);
		if (entry->kind != apm_row_int2(row, 3))
			return apm_walk_fault(walk, e->height, (int32) row, "leaf: there is no such kind");
		entry->rule = (uint16) apm_row_int2(row, 4);
		apm_row_digest(row, 5, &entry->leaf);
		if (apm_row_null(row, 6))
			continue;
		nonce = apm_row_bytea(row, 6);
		if (nonce.len != APM_NONCE_LEN)
			return apm_walk_fault(walk, e->height, (int32) row, "body: the nonce has the wrong length");
		memcpy(envelope.nonce, nonce.data, APM_NONCE_LEN);
		envelope.transaction = apm_row_bytea(row, 7);
		envelope.proof = apm_row_bytea(row, 8);
		apm_signed_encode(&envelope, &encoded);
		apm_check(apm_buf_status(&encoded), "read a transaction of the ledger");
		if (apm_open_signed(APM_SLICE(encoded.data, encoded.len), &e->opened[row]) != APM_OK)
			return apm_walk_fault(walk, e->height, (int32) row, "body: it is not a signed transaction");
		e->kept[row] = true;
	}
	return true;
}

/* What a leaf row says against its body, or alone where none is kept. */
static bool
verify_leaf(ApmWalk *walk, const ApmEntries *e, int i)
{
	const ApmEntry *entry = &e->entries[i];
	const ApmOpened *opened = &e->opened[i];

	if (entry->rule != APM_RULE_NONE && apm_contract_rule_name(walk->state, entry->rule) == NULL)
		return apm_walk_fault(walk, e->height, i, "leaf: there is no such rule");
	if (!e->kept[i])
	{
		if (apm_ledger_keeps_body(entry))
			return apm_walk_fault(walk, e->height, i, "body: it is missing");
		walk->result->not_rerun++;
		return true;
	}
	if (memcmp(&opened->leaf, &entry->leaf, sizeof(ApmDigest)) != 0)
		return apm_walk_fault(walk, e->height, i, "body: it is not the transaction of its leaf");
	if (memcmp(&opened->tid, &entry->tid, sizeof(ApmUuid)) != 0)
		return apm_walk_fault(walk, e->height, i, "leaf: the transaction id is not that of the transaction");
	if (entry->kind != (opened->wellformed ? (uint8) opened->tx.kind : 0))
		return apm_walk_fault(walk, e->height, i, "leaf: the kind is not that of the transaction");
	if (!apm_ledger_keeps_body(entry))
		return apm_walk_fault(walk, e->height, i, "body: it belongs to a refused transaction");
	return true;
}

/* Into walk->state what the ledger says about the needs of the block's transactions, and no more. */
static void
load_needs(ApmWalk *walk, const ApmEntries *e)
{
	ApmNeeds *needs = palloc_array(ApmNeeds, e->n);
	MemoryContext old = MemoryContextSwitchTo(walk->context);
	int n = 0;

	apm_check(apm_contract_forget(walk->state), "forget an earlier block");
	MemoryContextSwitchTo(old);
	for (int i = 0; i < e->n; i++)
	{
		if (e->kept[i])
			apm_check(apm_contract_needs(walk->state, &e->opened[i], &needs[n++]), "look at a transaction");
	}
	apm_state_load(walk->state, walk->context, needs, n, e->height, e->time_us);
	apm_verify_load_profiles(walk, e);
}

/* The verdict on one transaction against what the leaf says; a valid one is entered into the state. */
static bool
verify_verdict(ApmWalk *walk, const ApmEntries *e, int i)
{
	uint16 rule = apm_contract_evaluate(walk->state, &e->opened[i], e->height, e->time_us);

	if (rule == APM_RULE_UNDECIDED)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("could not judge a transaction")));
	if (rule != e->entries[i].rule)
		return apm_walk_fault(walk, e->height, i, "leaf: the verdict is not the contract's, which is \"%s\"",
							  rule == APM_RULE_NONE ? "valid" : apm_contract_rule_name(walk->state, rule));
	if (rule == APM_RULE_NONE)
		apm_check(apm_contract_apply(walk->state, &e->opened[i], e->height, (uint32) i, e->time_us),
				  "enter a transaction into the contract's state");
	return true;
}

static bool
verify_verdicts(ApmWalk *walk, const ApmEntries *e)
{
	bool changed = false;
	bool good = true;
	MemoryContext old;

	if (e->height > 0)
		load_needs(walk, e);
	old = MemoryContextSwitchTo(walk->context);
	for (int i = 0; i < e->n && good; i++)
	{
		if (!e->kept[i])
			continue;
		good = verify_verdict(walk, e, i);
		changed =
			changed || e->entries[i].kind == APM_KIND_MEMBERSHIP || e->entries[i].kind == APM_KIND_CONTRACT;
	}
	MemoryContextSwitchTo(old);
	if (good && changed)
		apm_verify_digest_contract(walk);
	return good;
}

static void
count_entries(ApmWalk *walk, const ApmEntries *e)
{
	walk->leaves += e->n;
	for (int i = 0; i < e->n; i++)
	{
		const ApmTransaction *tx = &e->opened[i].tx;

		if (e->kept[i])
			walk->bodies++;
		if (e->entries[i].rule != APM_RULE_NONE)
			continue;
		if (tx->kind == APM_KIND_PATIENT)
		{
			walk->profile_versions++;
			walk->registrations += tx->u.patient.version == 1;
		}
		if (tx->kind == APM_KIND_PRIMARY)
		{
			walk->records++;
			walk->amendments += (tx->u.primary.flags & APM_PRIMARY_AMENDS) != 0;
		}
	}
}

static bool
verify_read_entries(ApmWalk *walk, const ApmHeader *header, const ApmDigest *hash)
{
	ApmEntries e = {0};
	ApmBlockFault fault;

	if (!read_entries(walk, header, hash, &e))
		return false;
	for (int i = 0; i < e.n; i++)
	{
		if (!verify_leaf(walk, &e, i))
			return false;
	}
	fault = apm_block_check_entries(header, e.entries, e.n);
	if (fault == APM_BLOCK_UNDECIDED)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("could not verify a block")));
	if (fault != APM_BLOCK_OK)
		return apm_walk_fault(walk, e.height, -1, "block: rule \"%s\" is broken",
							  apm_block_fault_name(fault));
	if (!verify_verdicts(walk, &e) || !apm_verify_derived(walk, &e))
		return false;
	count_entries(walk, &e);
	return true;
}

/* SPI's own memory holds the block, and goes when it is done. */
bool
apm_verify_entries(ApmWalk *walk, const ApmHeader *header, const ApmDigest *hash)
{
	bool good;

	SPI_connect();
	good = verify_read_entries(walk, header, hash);
	SPI_finish();
	return good;
}
