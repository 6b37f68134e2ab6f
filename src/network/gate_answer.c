/*
 * gate_answer.c
 *	  The query gate's answers: made from what the ledger says as of the block that a question stands in.
 *
 * The answer to a question is prepared in the transaction that handles the final transaction of its
 * block and kept when that is committed, so that the records it lists are in the outbox or
 * further.  The questions of one letter may stand in several blocks; the letter is answered
 * with the last of them.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "apm_errors.h"
#include "apm_sql.h"
#include "network/gatekeeper.h"
#include "network/network_server.h"

/* An answer that is kept when the transaction is committed. */
typedef struct ApmPrepared
{
	ApmUuid tid;
	ApmBuf answer;
} ApmPrepared;

static MemoryContext preparing = NULL; /* holds what follows */
static List *prepared = NIL;		   /* of ApmPrepared */
static ApmContractState *contract = NULL;

void
apm_gate_discard(void)
{
	ListCell *cell;

	foreach(cell, prepared)
	{
		ApmAsked *asked = apm_waiting_find(&((ApmPrepared *) lfirst(cell))->tid);

		if (asked != NULL)
			asked->letter->coming = 0;
	}
	prepared = NIL;
	contract = NULL;
	if (preparing != NULL)
		MemoryContextReset(preparing);
	else
		preparing =
			AllocSetContextCreate(TopMemoryContext, "apm query gate's answers", ALLOCSET_DEFAULT_SIZES);
}

/* The contract as it is now; loaded for those answers that need it. */
static ApmContractState *
contract_now(void)
{
	if (contract == NULL)
		contract = apm_chain_contract(preparing);
	return contract;
}

static const char *
rule_name(uint16 rule)
{
	const char *name = apm_rule_name(rule);

	if (name == NULL)
		name = apm_contract_rule_name(contract_now(), rule);
	return name != NULL ? name : "?";
}

/* What the last statement found has been copied; a block asks for thousands. */
static void
drop_rows(void)
{
	if (SPI_tuptable != NULL)
		SPI_freetuptable(SPI_tuptable);
}

static void
find_matches(const ApmAsked *asked, ApmGateQuestion *answer)
{
	answer->nmatches = apm_ledger_matches(&asked->tokens, answer->height, APM_GATE_MATCHES, &answer->matches);
	drop_rows();
}

/* Everything that the answer to an allowed question says. */
static void
find_answer(const ApmAsked *asked, ApmGateQuestion *answer)
{
	if (asked->search)
	{
		find_matches(asked, answer);
		return;
	}
	if (asked->apid.len == 0)
		return;
	(void) apm_ledger_patient(asked->apid, answer->height, &answer->patient);
	drop_rows();
	if (asked->list == APM_GATE_NOTHING)
		return;
	answer->nrecords =
		apm_ledger_records(asked->apid, answer->height, asked->list == APM_GATE_ALL, &answer->records);
	drop_rows();
}

/* Adds the answer to those in preparation. */
static void
keep(ApmAsked *asked, const ApmGateQuestion *answer)
{
	MemoryContext old = MemoryContextSwitchTo(preparing);
	ApmPrepared *ready = palloc0(sizeof(ApmPrepared));

	ready->tid = asked->tid;
	apm_gate_put_answer(&ready->answer, answer);
	apm_check(apm_buf_status(&ready->answer), "answer a query");
	prepared = lappend(prepared, ready);
	asked->letter->coming += ready->answer.len;
	MemoryContextSwitchTo(old);
}

/* Is there somebody who waits for it, and room for more of his answer? */
static bool
goes_on(ApmAsked *asked)
{
	ApmGateLetter *letter = asked->letter;

	if (!apm_mailbox_wanted(&letter->letter))
	{
		apm_waiting_remove(letter);
		return false;
	}
	if (letter->bytes + letter->coming > APM_GATE_BYTES)
	{
		apm_waiting_fail(letter, ERRCODE_PROGRAM_LIMIT_EXCEEDED, "too many records are asked for at once",
						 "Ask for fewer patients.");
		return false;
	}
	return true;
}

void
apm_gate_prepare(const ApmEntry *entry, uint64 height)
{
	ApmAsked *asked = apm_waiting_find(&entry->tid);
	ApmGateQuestion answer = {.tid = entry->tid, .height = height, .rule = entry->rule};
	MemoryContext one;
	MemoryContext old;

	if (asked == NULL || !goes_on(asked))
		return;
	one = AllocSetContextCreate(CurrentMemoryContext, "apm answer", ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(one);
	if (entry->rule == APM_RULE_NONE)
		find_answer(asked, &answer);
	else
		answer.rule_name = rule_name(entry->rule);
	keep(asked, &answer);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(one);
}

/* The answer of a letter whose questions have all got theirs. */
static void
answer(ApmGateLetter *letter)
{
	ApmBuf whole = {0};

	for (int i = 0; i < letter->n; i++)
		apm_put_raw(&whole, letter->asked[i].answer.data, letter->asked[i].answer.len);
	apm_check(apm_buf_status(&whole), "answer a query");
	apm_mailbox_answer(&letter->letter, APM_ANSWER_OK, whole.data, whole.len);
	apm_buf_reset(&whole);
	apm_waiting_remove(letter);
}

void
apm_gate_send(void)
{
	ListCell *cell;

	foreach(cell, prepared)
	{
		ApmPrepared *ready = lfirst(cell);
		ApmAsked *asked = apm_waiting_find(&ready->tid);
		ApmGateLetter *letter;

		if (asked == NULL || asked->answer.len > 0)
			continue;
		letter = asked->letter;
		asked->answer = apm_slice_copy(letter->memory, APM_SLICE(ready->answer.data, ready->answer.len));
		apm_buf_reset(&ready->answer);
		letter->bytes += asked->answer.len;
		if (--letter->open == 0)
			answer(letter);
	}
	apm_gate_discard();
}
