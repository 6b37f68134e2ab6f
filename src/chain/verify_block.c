/*
 * verify_block.c
 *	  One block of a verification: its leaves, its bodies, its verdicts.
 *
 * A leaf proves its transaction, and the header's root proves the leaves and, for refused
 * ones, Tid and rule.  So a row that was changed shows either here or where the header
 * does not have the root of what is stored.  The contract then judges every transaction
 * that is kept once more, in order, against the state before the block.  What is asked, and in which
 * order, is in doc/format.md: all verifiers must name the same first fault.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "apm_errors.h"
#include "apm_sql.h"
#include "chain/verify.h"

/* The body of row row of SPI_tuptable, taken apart; false if it is not a signed transaction. */
static bool
read_body(uint64 row, ApmOpened *out)
{
	ApmSlice nonce = apm_row_bytea(row, 6);
	ApmSigned envelope = {.transaction = apm_row_bytea(row, 7), .proof = apm_row_bytea(row, 8)};

	if (nonce.len != APM_NONCE_LEN)
		return false;
	memcpy(envelope.nonce, nonce.data, APM_NONCE_LEN);
	return apm_open_envelope(&envelope, out) == APM_OK;
}

/* Each entry as a row: position, kind, body. */
static bool
read_row(ApmWalk *walk, ApmEntries *e, int i)
{
	int16 kind;

	if (apm_row_int4(i, 1) != i)
		return apm_walk_fault(walk, APM_FAULT_POSITION, walk->at, i);
	kind = apm_row_int2(i, 3);
	if (kind < 0 || kind > UINT8_MAX)
		return apm_walk_fault(walk, APM_FAULT_KIND, walk->at, i);
	apm_row_entry(i, 2, &e->entries[i]);
	e->kept[i] = !apm_row_null(i, 6);
	return !e->kept[i] || read_body(i, &e->opened[i]) || apm_walk_fault(walk, APM_FAULT_BODY, walk->at, i);
}

/* Reads the block's leaf rows and bodies; what is opened points into SPI's rows. */
static bool
read_entries(ApmWalk *walk, ApmEntries *e)
{
	static ApmStatement get = {
		.sql = "SELECT l.position, l.tid, l.kind, l.rule, l.leaf, b.nonce, b.transaction, b.proof"
			   " FROM ONLY apm.leaf AS l LEFT JOIN ONLY apm.body AS b ON b.tid = l.tid"
			   " WHERE l.block = $1 ORDER BY l.position",
		.nargs = 1,
		.types = {BYTEAOID},
	};
	Datum args[] = {apm_digest_datum(e->block.hash)};

	e->n = (int) apm_run(&get, args);
	e->entries = palloc0_array(ApmEntry, e->n);
	e->opened = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(ApmOpened) * Max(e->n, 1));
	e->kept = palloc0_array(bool, e->n);
	for (int i = 0; i < e->n; i++)
	{
		if (!read_row(walk, e, i))
			return false;
	}
	return true;
}

/* Must the ledger keep this entry's transaction? */
static bool
keeps_body(const ApmEntries *e, int i)
{
	return apm_ledger_keeps_body(&e->entries[i]) && e->voids[i].kind == 0;
}

/* Tid and kind of the row are proved by the body, or by what the erasure says; alone they are proved by the header's root. */
static ApmFaultRule
check_row(const ApmEntries *e, int i)
{
	const ApmEntry *entry = &e->entries[i];
	const ApmOpened *opened = &e->opened[i];
	const ApmUuid *tid = &entry->tid;
	uint8 kind = entry->kind;

	if (e->kept[i])
	{
		if (memcmp(&opened->leaf, &entry->leaf, sizeof(ApmDigest)) != 0)
			return APM_FAULT_LEAF;
		tid = &opened->tid;
		kind = opened->wellformed ? (uint8) opened->tx.kind : 0;
	}
	else if (e->voids[i].kind != 0)
	{
		tid = &e->voids[i].tid;
		kind = e->voids[i].kind;
	}
	if (memcmp(tid, &entry->tid, sizeof(ApmUuid)) != 0)
		return APM_FAULT_TID;
	return kind == entry->kind ? APM_FAULT_NONE : APM_FAULT_KIND;
}

/* Each entry against its body: rule, missing, unwanted, leaf, tid, kind. */
static bool
verify_entry(ApmWalk *walk, const ApmEntries *e, int i)
{
	const ApmEntry *entry = &e->entries[i];
	bool keeps = keeps_body(e, i);
	ApmFaultRule rule = APM_FAULT_NONE;

	if (entry->rule != APM_RULE_NONE && apm_contract_rule_name(walk->state, entry->rule) == NULL)
		rule = APM_FAULT_RULE;
	else if (keeps && entry->rule == APM_RULE_NONE && e->voids[i].kind == 0)
		rule = apm_verify_why_not_void(walk, e, i);
	else if (keeps && !e->kept[i])
		rule = APM_FAULT_MISSING;
	else if (!keeps && e->kept[i])
		rule = APM_FAULT_UNWANTED;
	if (rule == APM_FAULT_NONE)
		rule = check_row(e, i);
	if (rule == APM_FAULT_DERIVED)
		return apm_walk_fault_detail(walk, rule, walk->at, i,
									 "apm.ledger_void: it does not say what the erasures say");
	return rule == APM_FAULT_NONE || apm_walk_fault(walk, rule, walk->at, i);
}

bool
apm_verify_read(ApmWalk *walk, const ApmHeader *header, ApmEntries *e)
{
	ApmBlockFault fault;

	if (!read_entries(walk, e))
		return false;
	apm_verify_find_voids(walk, e);
	for (int i = 0; i < e->n; i++)
	{
		if (!verify_entry(walk, e, i))
			return false;
	}
	fault = apm_block_check_entries(header, e->entries, e->n);
	if (fault == APM_BLOCK_UNDECIDED)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("could not verify a block")));
	return fault == APM_BLOCK_OK || apm_walk_fault(walk, apm_fault_of_block(fault), walk->at, -1);
}

/* Into walk->state what the ledger says about the needs of the block's transactions, and no more. */
static void
load_needs(ApmWalk *walk, ApmEntries *e)
{
	ApmNeeds *needs = palloc_array(ApmNeeds, Max(e->n, 1));
	int n = 0;

	apm_contract_forget(walk->state);
	for (int i = 0; i < e->n; i++)
	{
		if (e->kept[i])
			apm_check(apm_contract_needs(walk->state, &e->opened[i], &needs[n++]), "look at a transaction");
	}
	e->records = palloc0_array(ApmRecordRow, Max(2 * n, 1));
	apm_state_load(walk->state, walk->context, needs, n, &e->block, e->records);
}

/* The verdict on one transaction against what the leaf says; a valid one is entered into the state. */
static bool
verify_verdict(ApmWalk *walk, const ApmEntries *e, int i)
{
	uint16 rule = apm_contract_evaluate(walk->state, &e->opened[i], e->block.height, e->block.time_us);

	if (rule == APM_RULE_UNDECIDED)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("could not judge a transaction")));
	if (rule != e->entries[i].rule)
		return apm_walk_fault_detail(
			walk, APM_FAULT_VERDICT, walk->at, i, "%s, which is \"%s\"", apm_fault_text(APM_FAULT_VERDICT),
			rule == APM_RULE_NONE ? "valid" : apm_contract_rule_name(walk->state, rule));
	if (rule != APM_RULE_NONE)
		return true;
	if (e->entries[i].kind == APM_KIND_ERASURE && !apm_verify_voided(walk, e, i))
		return false;
	apm_check(apm_contract_apply(walk->state, &e->opened[i], e->block.height, (uint32) i, e->block.time_us),
			  "enter a transaction into the contract's state");
	return true;
}

/* What an erasure says of the entry is all that is left to go by. */
static void
pass_void(ApmWalk *walk, const ApmEntries *e, int i)
{
	apm_check(apm_contract_apply_void(walk->state, e->erasures[i]->fields.apid, &e->erasures[i]->home,
									  &e->voids[i], e->block.time_us),
			  "enter a voided transaction into the contract's state");
	walk->counts.erased++;
}

bool
apm_verify_judge(ApmWalk *walk, ApmEntries *e)
{
	bool changed = false;
	bool good = true;
	MemoryContext old;

	load_needs(walk, e);
	old = MemoryContextSwitchTo(walk->context);
	for (int i = 0; i < e->n && good; i++)
	{
		if (e->kept[i])
			good = verify_verdict(walk, e, i);
		else if (e->voids[i].kind != 0)
			pass_void(walk, e, i);
		else
			walk->counts.not_rerun++;
		changed =
			changed || e->entries[i].kind == APM_KIND_MEMBERSHIP || e->entries[i].kind == APM_KIND_CONTRACT;
	}
	MemoryContextSwitchTo(old);
	if (good && changed)
		apm_verify_digest_contract(walk);
	return good;
}
