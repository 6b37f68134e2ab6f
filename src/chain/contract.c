/*
 * contract.c
 *	  The smart contract on the pool: a trigger that turns a sealed transaction into its
 *	  validation result.
 *
 * The miner inserts its batch of pool rows into apm.verdict, and the trigger judges them
 * one after the other: each sees the effects of the valid ones before it, as it will in
 * the block.  Judging needs state from the ledger.  Asking for it row by row would cost a
 * few statements a transaction, so the miner opens and loads the whole batch first and
 * leaves it where the trigger of the same process finds it; there the trigger knows a row
 * by its seq.  Whoever inserts otherwise gets the same verdict for a single row, with the
 * state loaded on demand, as if it were alone in the next block.
 *
 * The rules themselves are in src/core and see nothing but transaction and state.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type_d.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "apm_errors.h"
#include "apm_sql.h"
#include "apm_user.h"
#include "chain/batch.h"
#include "chain/guard.h"
#include "chain/identity.h"
#include "chain/make.h"
#include "keys/keyring.h"

PG_FUNCTION_INFO_V1(apm_contract_trigger);

/* Columns of apm.verdict */
#define VERDICT_SEQ 1
#define VERDICT_PT 2
#define VERDICT_TID 3
#define VERDICT_KIND 4
#define VERDICT_LEAF 5
#define VERDICT_RULE 6
#define VERDICT_JUDGED_AT 7

/* The batch that this process is inserting into apm.verdict right now, or NULL. */
static ApmBatch *session = NULL;

/* A place in the chain that is not filled yet. */
typedef struct Place
{
	uint64 height;
	uint32 position;
	uint64 time_us;
} Place;

/* The verdict on one transaction; a valid one's effects are entered into the state. */
static void
judge(ApmContractState *state, MemoryContext context, const ApmOpened *opened, const Place *place,
	  ApmEntry *out)
{
	MemoryContext old = MemoryContextSwitchTo(context);
	uint16 rule = apm_contract_evaluate(state, opened, place->height, place->time_us);

	if (rule == APM_RULE_UNDECIDED)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("could not judge a transaction"),
						errhint("Memory or the cryptographic library failed; the transaction waits.")));
	if (rule == APM_RULE_NONE)
		apm_check(apm_contract_apply(state, opened, place->height, place->position, place->time_us),
				  "enter a transaction into the contract's state");
	MemoryContextSwitchTo(old);

	out->tid = opened->tid;
	out->kind = opened->wellformed ? (uint8) opened->tx.kind : 0;
	out->rule = rule;
	out->leaf = opened->leaf;
}

static void
judge_in_batch(const ApmBatch *batch, int position, ApmEntry *out)
{
	Place place = {.height = batch->height, .position = (uint32) position, .time_us = batch->time_us};

	judge(batch->state, batch->context, &batch->opened[position], &place, out);
}

static int
compare_seqs(const void *a, const void *b)
{
	int64 left = *(const int64 *) a;
	int64 right = *(const int64 *) b;

	return (left > right) - (left < right);
}

static void
judge_in_session(int64 seq, ApmEntry *out)
{
	const int64 *found = bsearch(&seq, session->seqs, session->n, sizeof(int64), compare_seqs);

	if (found == NULL)
		elog(ERROR, "a pool row that was not opened came to the contract");
	judge_in_batch(session, (int) (found - session->seqs), out);
}

/* Judges one sealed transaction as the only one of the next block. */
static void
judge_alone(ApmSlice pt, ApmEntry *out)
{
	ApmPrivileged saved;
	ApmChainIdentity identity;
	ApmContractState *state;
	ApmBuf plain = {.secret = true};
	ApmOpened opened;
	ApmNeeds needs;
	ApmJudged block;
	Place place;
	ApmTip tip;

	apm_privileged_begin(&saved);
	SPI_connect();
	if (!apm_chain_read(&identity) || !apm_ledger_tip(&tip))
		ereport(ERROR, (errcode(ERRCODE_APM_NOT_SET_UP), errmsg("this database takes part in no chain"),
						errhint("Call apm_setup().")));
	apm_check(apm_key_open(APM_PAIR_PB, pt, &plain), "open a transaction");
	apm_check(apm_open_signed(APM_SLICE(plain.data, plain.len), &opened), "read a transaction");
	place = (Place){.height = tip.header.height + 1, .time_us = apm_block_time(&tip.header, &opened, 1)};
	state = apm_state_new(CurrentMemoryContext, &identity.chain, place.height);
	apm_check(apm_contract_needs(state, &opened, &needs), "look at a transaction");
	block = (ApmJudged){.height = place.height, .time_us = place.time_us};
	apm_state_load(state, CurrentMemoryContext, &needs, 1, &block, NULL);
	judge(state, CurrentMemoryContext, &opened, &place, out);
	SPI_finish();
	apm_privileged_end(&saved);
}

static HeapTuple
with_verdict(HeapTuple row, TupleDesc desc, const ApmEntry *entry)
{
	int columns[] = {VERDICT_PT, VERDICT_TID, VERDICT_KIND, VERDICT_LEAF, VERDICT_RULE, VERDICT_JUDGED_AT};
	bool nulls[] = {true, false, false, false, false, false};
	Datum values[] = {
		(Datum) 0,
		apm_uuid_datum(&entry->tid),
		Int16GetDatum(entry->kind),
		apm_digest_datum(&entry->leaf),
		Int16GetDatum((int16) entry->rule),
		TimestampTzGetDatum(GetCurrentTimestamp()),
	};

	return heap_modify_tuple_by_cols(row, desc, lengthof(columns), columns, values, nulls);
}

/* BEFORE INSERT FOR EACH ROW on apm.verdict. */
Datum
apm_contract_trigger(PG_FUNCTION_ARGS)
{
	TriggerData *data = apm_guard_called(fcinfo, "verdict", TRIGGER_EVENT_INSERT, true, true);
	TupleDesc desc = RelationGetDescr(data->tg_relation);
	ApmEntry entry;
	bool isnull;
	Datum seq = heap_getattr(data->tg_trigtuple, VERDICT_SEQ, desc, &isnull);

	if (isnull)
		ereport(ERROR,
				(errcode(ERRCODE_NOT_NULL_VIOLATION), errmsg("a pool row needs its seq to be judged")));
	if (session != NULL)
		judge_in_session(DatumGetInt64(seq), &entry);
	else
	{
		Datum pt = heap_getattr(data->tg_trigtuple, VERDICT_PT, desc, &isnull);
		struct varlena *sealed;

		if (isnull)
			ereport(ERROR, (errcode(ERRCODE_NOT_NULL_VIOLATION), errmsg("there is no transaction to judge")));
		sealed = PG_DETOAST_DATUM_PACKED(pt);
		judge_alone(APM_SLICE_OF(sealed), &entry);
	}
	return PointerGetDatum(with_verdict(data->tg_trigtuple, desc, &entry));
}

/* The contract's state with all that the batch needs, as of before its block. */
static void
load_state(ApmBatch *batch, const ApmDigest *chain)
{
	ApmNeeds *needs = palloc_array(ApmNeeds, Max(batch->n, 1));
	ApmJudged block = {.height = batch->height, .time_us = batch->time_us};

	batch->state = apm_state_new(batch->context, chain, batch->height);
	for (int i = 0; i < batch->n; i++)
		apm_check(apm_contract_needs(batch->state, &batch->opened[i], &needs[i]), "look at a transaction");
	apm_state_load(batch->state, batch->context, needs, batch->n, &block, NULL);
}

static void
read_entry(uint64 row, ApmEntry *out)
{
	apm_row_uuid(row, 2, &out->tid);
	out->kind = (uint8) apm_row_int2(row, 3);
	apm_row_digest(row, 4, &out->leaf);
	out->rule = (uint16) apm_row_int2(row, 5);
}

void
apm_contract_judge(ApmBatch *batch, const ApmDigest *chain)
{
	/* what anybody has left there before, and then these: a walk through the whole table would meet all that there were */
	static ApmStatement clear = {
		.sql = "DELETE FROM ONLY apm.verdict WHERE seq = ANY ($1)",
		.nargs = 1,
		.types = {INT8ARRAYOID},
	};
	static ApmStatement put = {
		/* the batch has what is sealed in pt opened already */
		.sql = "INSERT INTO apm.verdict (seq)"
			   " SELECT p.seq FROM ONLY apm.pool AS p WHERE p.seq = ANY ($1) ORDER BY p.seq"
			   " RETURNING seq, tid, kind, leaf, rule",
		.nargs = 1,
		.types = {INT8ARRAYOID},
	};
	Datum args[] = {apm_int8_array(batch->seqs, batch->n)};
	volatile uint64 rows = 0;

	apm_run(&clear, args);
	load_state(batch, chain);
	session = batch;
	PG_TRY();
	{
		rows = apm_run(&put, args);
	}
	PG_FINALLY();
	{
		session = NULL;
	}
	PG_END_TRY();
	if (rows != (uint64) batch->n)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE), errmsg("the pool changed under the contract")));
	for (uint64 row = 0; row < rows; row++)
		read_entry(row, &batch->entries[row]);
	apm_run(&clear, args);
}

void
apm_contract_judge_again(ApmBatch *batch, const ApmDigest *chain)
{
	load_state(batch, chain);
	for (int i = 0; i < batch->n; i++)
		judge_in_batch(batch, i, &batch->entries[i]);
}
