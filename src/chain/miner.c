/*
 * miner.c
 *	  The chain's worker: pool rows become a block.
 *
 * A turn makes at most one block, in steps of which none holds a transaction open while
 * something slow happens:
 *
 *		look		may this node mine, and is there a block to be completed?
 *		judge		take a batch from the pool, give verdicts (committed lazily: a crash
 *					only means that the same rows are judged again)
 *		mine		search the nonce, outside any transaction
 *		publish		signing.c
 *
 * Rows that cannot be opened are put aside by the pool.  An error while a batch is judged
 * may come from a single row, too (storage that is damaged, say); then batches shrink to
 * one row until the one that fails is found and blamed for it.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "apm_errors.h"
#include "chain/make.h"
#include "chain/node.h"
#include "chain/signing.h"
#include "worker/worker.h"

extern void apm_miner_main(Datum main_arg) pg_attribute_noreturn();

/* A block with so many transactions, and less than so many, is neither alone nor one of a backlog. */
#define GATHER_FROM 2
#define GATHER_TO 500
#define GATHER_MS 50

/* How many rows the next batch may have; less after an error. */
static int batch_limit = APM_BATCH_ROWS;

/* The next block is not begun before. */
static TimestampTz gather_until = 0;

/* What a turn looks at before it does anything. */
typedef struct ApmSituation
{
	ApmChainIdentity identity;
	ApmTip tip;
	ApmCandidate candidate;
	bool has_candidate;
} ApmSituation;

static ApmRefusal
read_situation(ApmSituation *s, MemoryContext context)
{
	ApmRefusal why;

	apm_turn_begin("looking at the chain");
	why = apm_node_check(&s->identity);
	if (why == APM_REFUSAL_NONE && !apm_ledger_tip(&s->tip))
		why = APM_REFUSAL_LOADED;
	if (why == APM_REFUSAL_NONE)
		s->has_candidate = apm_candidate_read(s->tip.header.height, &s->candidate, context);
	apm_turn_commit_async();
	return why;
}

/*
 * Brings the ledger to where the sign-state says it is.  *advanced: a block was completed,
 * so what was read before is old.
 */
static ApmRefusal
settle(ApmSituation *s, MemoryContext context, bool *advanced)
{
	ApmRefusal why;

	*advanced = false;
	switch (apm_signing_look(&s->identity.chain, &s->tip, s->has_candidate ? &s->candidate : NULL, &why))
	{
		case APM_SIGNING_REFUSED:
			break;
		case APM_SIGNING_COMPLETE:
			*advanced = apm_signing_complete(&s->identity, &s->tip, &s->candidate, context);
			if (!*advanced)
				why = APM_REFUSAL_ROLLED_BACK;
			break;
		case APM_SIGNING_GO_ON:
			if (s->has_candidate)
			{
				apm_turn_begin("dropping a block that was not signed");
				apm_candidate_drop(s->candidate.header.height);
				apm_turn_commit();
			}
			break;
	}
	return why;
}

/* Takes and judges a batch in a transaction of its own; returns how many pool rows it looked at. */
static int
judge_batch(ApmBatch *batch, const ApmSituation *s)
{
	int looked;

	apm_turn_begin("judging transactions");
	looked = apm_pool_take(batch, batch_limit);
	if (batch->n > 0)
	{
		batch->time_us = apm_block_time(&s->tip.header, batch->opened, batch->n);
		apm_contract_judge(batch, &s->identity.chain);
	}
	apm_turn_commit_async();
	return looked;
}

/* Can this error have come from what a row contains, rather than from the server's condition? */
static bool
may_be_the_row(int code)
{
	switch (ERRCODE_TO_CATEGORY(code))
	{
		case ERRCODE_DATA_EXCEPTION:
		case ERRCODE_INTERNAL_ERROR:
		case ERRCODE_PROGRAM_LIMIT_EXCEEDED:
			return true;
		default:
			return code == ERRCODE_APM_CANNOT_OPEN;
	}
}

/*
 * Inside PG_CATCH: ends the transaction and shows the error, if it may have come from a
 * row; else it goes on its way and ends the worker.
 */
static void
take_error(MemoryContext context)
{
	ErrorData *error;

	MemoryContextSwitchTo(context);
	error = CopyErrorData();
	if (!may_be_the_row(error->sqlerrcode))
		PG_RE_THROW();
	FlushErrorState();
	apm_turn_abort();
	apm_turn_failed(error->sqlerrcode, error->message);
	ereport(LOG, (errmsg("a batch of the pool was not judged"),
				  errdetail("SQLSTATE %s.", unpack_sql_state(error->sqlerrcode))));
	FreeErrorData(error);
}

static void
blame_oldest(bool readable)
{
	apm_turn_begin("putting a transaction aside");
	apm_pool_blame_oldest("an error while it was judged", readable);
	apm_turn_commit();
}

/* Of a batch that failed: the next one has one row, and if that was the one, it is blamed. */
static void
narrow_down(MemoryContext context)
{
	if (batch_limit > 1)
	{
		batch_limit = 1;
		return;
	}
	PG_TRY();
	{
		blame_oldest(true);
	}
	PG_CATCH();
	{
		take_error(context);
		blame_oldest(false);
	}
	PG_END_TRY();
}

/* False if the batch failed; the next turn tries another one. */
static bool
try_batch(ApmBatch *batch, const ApmSituation *s, int *looked)
{
	MemoryContext context = CurrentMemoryContext;
	volatile bool good = true;

	PG_TRY();
	{
		*looked = judge_batch(batch, s);
	}
	PG_CATCH();
	{
		take_error(context);
		good = false;
	}
	PG_END_TRY();
	if (!good)
		narrow_down(context);
	return good;
}

/* Does somebody wait for this block? */
static bool
has_query(const ApmBatch *batch)
{
	for (int i = 0; i < batch->n; i++)
	{
		if (batch->entries[i].kind == APM_KIND_QUERY)
			return true;
	}
	return false;
}

/*
 * The proof of work costs the same for one transaction and for a thousand.  When several came while a small block was
 * made, more are on their way: let them gather, so that mining takes no more than a fourth of the time, and nothing
 * waits longer than GATHER_MS.  A question hurries us.  Sets gather_until.
 */
static void
let_gather(const ApmBatch *batch, TimestampTz began)
{
	TimestampTz took = GetCurrentTimestamp() - began;

	gather_until = 0;
	if (batch->n >= GATHER_FROM && batch->n < GATHER_TO && !has_query(batch))
		gather_until = began + Min(4 * took, (TimestampTz) GATHER_MS * 1000);
}

static void
make_block(const ApmBatch *batch, const ApmSituation *s)
{
	ApmNewBlock block;

	apm_block_fill(&block, &s->identity, &s->tip, batch);
	apm_turn_activity("mining");
	apm_block_mine(&block);
	apm_signing_publish(&block);
}

static int
turn(void)
{
	MemoryContext context = CurrentMemoryContext;
	ApmSituation *s = palloc0(sizeof(ApmSituation));
	ApmBatch batch = {.context = context};
	TimestampTz began = GetCurrentTimestamp();
	ApmRefusal why;
	bool advanced = false;
	int looked = 0;

	if (!apm_turn_once() && !apm_is_hurried() && began < gather_until &&
		gather_until - began <= (TimestampTz) GATHER_MS * 1000)
		return (int) ((gather_until - began) / 1000) + 1;
	why = read_situation(s, context);
	if (why == APM_REFUSAL_NONE)
		why = settle(s, context, &advanced);
	apm_refusal_set(why);
	if (why != APM_REFUSAL_NONE)
		return APM_TURN_IDLE;
	if (advanced)
		return APM_TURN_AGAIN;

	batch.height = s->tip.header.height + 1;
	if (!try_batch(&batch, s, &looked))
		return APM_TURN_AGAIN;
	if (batch.n > 0)
	{
		make_block(&batch, s);
		let_gather(&batch, began);
		batch_limit = Min(2 * batch_limit, APM_BATCH_ROWS);
	}
	return looked > 0 ? APM_TURN_AGAIN : APM_TURN_IDLE;
}

void
apm_miner_main(Datum main_arg)
{
	static const ApmWorkerDesc desc = {
		.kind = APM_WORKER_MINER,
		.turn = turn,
	};

	apm_worker_run(&desc, main_arg);
}
