/*
 * signing.c
 *	  From a mined block to a signed one, such that no crash makes two.
 *
 * A signature cannot be taken back, but a database can: by a crash, a restore, a clone.
 * A node that signs on after one of these can come to sign two blocks of one height.  So
 * it keeps, outside the database, what it signed last, and goes in this order:
 *
 *		1. commit the candidate block, unsigned;
 *		2. write the sign-state that names it, durably;
 *		3. sign, append, and delete the candidate, in one transaction.
 *
 * After a crash the sign-state names either the tip (before 2: the candidate was never
 * signed and is dropped) or the candidate (after 2: exactly that block is completed, from
 * the pool rows that it was made of).  If it names anything else, this is not the ledger
 * that was signed, and the node neither mines nor serves until an operator says so
 * (apm_accept_rollback).
 *
 * The lock on the sign-state is only taken by the node that it names, so that a clone that
 * looks at it does not keep the original from its work.
 */
#include "postgres.h"

#include "catalog/pg_type_d.h"
#include "utils/memutils.h"

#include "apm_attempt.h"
#include "apm_errors.h"
#include "apm_sql.h"
#include "chain/final.h"
#include "chain/make.h"
#include "chain/signing.h"
#include "keys/keyring.h"
#include "keys/signstate.h"

static bool
same(const ApmDigest *a, const ApmDigest *b)
{
	return memcmp(a, b, sizeof(ApmDigest)) == 0;
}

/* By height, because all candidates that there were stand in the way of who looks at them all, while a snapshot is held. */
bool
apm_candidate_read(uint64 height, ApmCandidate *out, MemoryContext context)
{
	static ApmStatement get = {
		.sql = "SELECT c.hash, c.header, c.entries FROM ONLY apm.candidate AS c WHERE c.height >= $1",
		.nargs = 1,
		.types = {INT8OID},
	};
	Datum args[] = {Int64GetDatum((int64) height)};
	MemoryContext old;
	ApmSlice header;
	size_t n;

	if (apm_run(&get, args) == 0)
		return false;
	apm_row_digest(0, 1, &out->hash);
	header = apm_row_bytea(0, 2);
	apm_check(apm_header_decode(header, &out->header), "read the candidate block");
	memcpy(out->encoded, header.data, APM_HEADER_LEN);
	old = MemoryContextSwitchTo(context);
	apm_check(apm_entries_decode(apm_row_bytea(0, 3), &out->entries, &n), "read the candidate block");
	MemoryContextSwitchTo(old);
	out->n = (int) n;
	return true;
}

void
apm_candidate_drop(uint64 height)
{
	static ApmStatement drop = {
		.sql = "DELETE FROM ONLY apm.candidate AS c WHERE c.height >= $1",
		.nargs = 1,
		.types = {INT8OID},
	};
	Datum args[] = {Int64GetDatum((int64) height)};

	apm_run(&drop, args);
}

/*
 * A sign-state that is there but not to be trusted counts as none.  The operator finds
 * the reason in the log.
 */
static bool
read_state(const ApmDigest *chain, ApmSignState *out)
{
	MemoryContext context = CurrentMemoryContext;
	volatile bool found = false;

	PG_TRY();
	{
		found = apm_signstate_read(chain, out);
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		ereport(LOG,
				(errcode(error->sqlerrcode), errmsg("could not read the sign-state: %s", error->message)));
		FreeErrorData(error);
	}
	PG_END_TRY();
	return found;
}

/* Was it written by this database of this server? */
static bool
is_here(const ApmSignState *state)
{
	ApmSignState here;

	apm_signstate_here(&here);
	return state->system_id == here.system_id && state->timeline == here.timeline &&
		   state->database == here.database;
}

ApmSigningStep
apm_signing_look(const ApmDigest *chain, const ApmTip *tip, const ApmCandidate *candidate, ApmRefusal *why)
{
	ApmSigningStep step;
	ApmSignState state;

	if (!read_state(chain, &state))
	{
		*why = APM_REFUSAL_NO_SIGN_STATE;
		return APM_SIGNING_REFUSED;
	}
	if (!is_here(&state))
	{
		*why = APM_REFUSAL_ELSEWHERE;
		return APM_SIGNING_REFUSED;
	}
	if (state.height == tip->header.height && same(&state.hash, &tip->hash))
		step = APM_SIGNING_GO_ON;
	else if (candidate != NULL && state.height == candidate->header.height &&
			 same(&state.hash, &candidate->hash) && same(&candidate->header.previous, &tip->hash))
		step = APM_SIGNING_COMPLETE;
	else
	{
		*why = APM_REFUSAL_ROLLED_BACK;
		return APM_SIGNING_REFUSED;
	}
	if (!apm_signstate_lock(chain))
	{
		*why = APM_REFUSAL_SIGN_STATE_BUSY;
		return APM_SIGNING_REFUSED;
	}
	*why = APM_REFUSAL_NONE;
	return step;
}

bool
apm_signing_ahead(const ApmDigest *chain, const ApmTip *tip, uint64 *height)
{
	ApmSignState state;

	if (!read_state(chain, &state) || state.height < tip->header.height ||
		(state.height == tip->header.height && same(&state.hash, &tip->hash)))
		return false;
	*height = state.height;
	return true;
}

void
apm_signing_record(const ApmDigest *chain, uint64 height, const ApmDigest *hash)
{
	ApmSignState state;

	apm_signstate_here(&state);
	state.chain = *chain;
	state.height = height;
	state.hash = *hash;
	/* alone on the chain, each block is a vote for itself from the one before */
	state.vote_source = height > 0 ? height - 1 : 0;
	state.vote_target = height;
	apm_signstate_write(&state);
}

static void
put_candidate(const ApmNewBlock *block)
{
	static ApmStatement put = {
		.sql = "INSERT INTO apm.candidate (height, hash, header, entries, made_at)"
			   " VALUES ($1, $2, $3, $4, pg_catalog.clock_timestamp())",
		.nargs = 4,
		.types = {INT8OID, BYTEAOID, BYTEAOID, BYTEAOID},
	};
	ApmBuf entries = {0};
	Datum args[4];

	apm_entries_encode(block->entries, block->n, &entries);
	apm_check(apm_buf_status(&entries), "encode the candidate block");
	args[0] = Int64GetDatum((int64) block->header.height);
	args[1] = apm_digest_datum(&block->hash);
	args[2] = apm_bytea_datum(APM_SLICE(block->encoded, APM_HEADER_LEN));
	args[3] = apm_bytea_datum(APM_SLICE(entries.data, entries.len));
	apm_run_whole(&put, args, 1);
}

/*
 * Mining may have taken long.  The lock has kept others from the sign-state, unless somebody has
 * removed its file, or put another directory in this one's place; so look once more.
 */
static void
require_unchanged(const ApmHeader *header)
{
	ApmSignState state;

	if (!read_state(&header->chain, &state) || !is_here(&state) || state.height + 1 != header->height ||
		!same(&state.hash, &header->previous))
		ereport(ERROR, (errcode(ERRCODE_APM_ROLLED_BACK),
						errmsg("the sign-state is another one than when this block was begun"),
						errhint("It is not signed.  apm.status says what is wrong, if it still is.")));
}

/* Step 3, in the caller's transaction. */
static void
sign_and_append(ApmNewBlock *block)
{
	apm_check(apm_block_sign(apm_key_signer_of(APM_SIGN_NODE, &block->header.node), &block->hash,
							 &block->signature),
			  "sign a block");
	apm_ledger_append(block);
	apm_final_put(block);
	apm_pool_remove(block->entries, block->n);
	apm_candidate_drop(block->header.height);
}

void
apm_signing_publish(ApmNewBlock *block)
{
	apm_turn_begin("proposing a block");
	put_candidate(block);
	apm_turn_commit();

	require_unchanged(&block->header);
	apm_signing_record(&block->header.chain, block->header.height, &block->hash);

	apm_turn_begin("appending a block");
	sign_and_append(block);
	apm_turn_commit();
}

static bool
same_entries(const ApmEntry *a, const ApmEntry *b, int n)
{
	for (int i = 0; i < n; i++)
	{
		if (memcmp(&a[i].tid, &b[i].tid, sizeof(ApmUuid)) != 0 || a[i].kind != b[i].kind ||
			a[i].rule != b[i].rule || !same(&a[i].leaf, &b[i].leaf))
			return false;
	}
	return true;
}

/*
 * Takes the candidate's pool rows into the batch and judges them again.  False if they do not give
 * the same block any more.
 */
static bool
take_candidate(ApmBatch *batch, const ApmDigest *chain, const ApmCandidate *candidate)
{
	if (!apm_pool_take_again(batch, candidate->entries, candidate->n))
		return false;
	apm_contract_judge_again(batch, chain);
	return same_entries(batch->entries, candidate->entries, candidate->n) &&
		   apm_block_check_entries(&candidate->header, batch->entries, batch->n) == APM_BLOCK_OK;
}

bool
apm_signing_complete(const ApmChainIdentity *identity, const ApmTip *tip, const ApmCandidate *candidate,
					 MemoryContext context)
{
	ApmBatch batch = {
		.context = context,
		.height = candidate->header.height,
		.time_us = candidate->header.time_us,
	};
	ApmNewBlock block = {
		.header = candidate->header,
		.hash = candidate->hash,
		.earlier = tip->frontier,
		.n = candidate->n,
		.entries = candidate->entries,
	};
	bool good;

	memcpy(block.encoded, candidate->encoded, APM_HEADER_LEN);
	/* whoever wrote the sign-state may have died before the disk had it */
	apm_signing_record(&identity->chain, candidate->header.height, &candidate->hash);
	apm_turn_begin("completing a block");
	good = take_candidate(&batch, &identity->chain, candidate);
	if (good)
	{
		block.opened = batch.opened;
		block.received = batch.received;
		sign_and_append(&block);
	}
	apm_turn_commit();
	return good;
}

/* Whether the pool's rows still give a candidate. */
typedef struct Question
{
	ApmBatch batch;
	const ApmDigest *chain;
	const ApmCandidate *candidate;
	bool good;
} Question;

static void
ask(void *arg)
{
	Question *question = arg;

	MemoryContextSwitchTo(question->batch.context);
	question->good = take_candidate(&question->batch, question->chain, question->candidate);
}

/* An error is an answer, too: a row that cannot be read will not be readable in a turn either. */
bool
apm_signing_can_complete(const ApmDigest *chain, const ApmCandidate *candidate)
{
	Question question = {
		.batch =
			{
				.context = CurrentMemoryContext,
				.height = candidate->header.height,
				.time_us = candidate->header.time_us,
			},
		.chain = chain,
		.candidate = candidate,
	};
	ErrorData *error = apm_attempt(ask, &question);

	if (error != NULL && ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_OPERATOR_INTERVENTION)
		ReThrowError(error);
	return error == NULL && question.good;
}
