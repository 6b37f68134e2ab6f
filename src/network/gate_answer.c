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

/* Entries of a block whose answers are made from common statements. */
#define TOGETHER 64

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

/* A question, and the answer to it in the making. */
typedef struct ApmAnswering
{
	ApmAsked *asked;
	ApmGateQuestion answer;
} ApmAnswering;

static bool
wants_records(const ApmAnswering *one)
{
	return !one->asked->search && one->asked->apid.len > 0 && one->asked->list != APM_GATE_NOTHING;
}

static void
find_matches(ApmAnswering *one)
{
	ApmGateQuestion *answer = &one->answer;

	answer->nmatches =
		apm_ledger_matches(&one->asked->tokens, answer->height, APM_GATE_MATCHES, &answer->matches);
	drop_rows();
}

/* The patients whom allowed questions are about. */
static void
find_patients(ApmAnswering *answering, int n, uint64 height)
{
	ApmSlice apids[TOGETHER];
	ApmPatientState states[TOGETHER];
	int places[TOGETHER];
	int found = 0;

	for (int i = 0; i < n; i++)
	{
		if (answering[i].answer.rule != APM_RULE_NONE || answering[i].asked->search ||
			answering[i].asked->apid.len == 0)
			continue;
		places[found] = i;
		apids[found++] = answering[i].asked->apid;
	}
	if (found == 0)
		return;
	apm_ledger_patients(apids, found, height, states);
	drop_rows();
	for (int i = 0; i < found; i++)
		answering[places[i]].answer.patient = states[i];
}

/* Their records, of those that are asked for them. */
static void
find_records(ApmAnswering *answering, int n, uint64 height)
{
	ApmRecordList lists[TOGETHER];
	int places[TOGETHER];
	int found = 0;

	for (int i = 0; i < n; i++)
	{
		if (answering[i].answer.rule != APM_RULE_NONE || !wants_records(&answering[i]))
			continue;
		places[found] = i;
		lists[found++] = (ApmRecordList){.apid = answering[i].asked->apid,
										 .all = answering[i].asked->list == APM_GATE_ALL};
	}
	if (found == 0)
		return;
	apm_ledger_records(lists, found, height);
	drop_rows();
	for (int i = 0; i < found; i++)
	{
		answering[places[i]].answer.nrecords = lists[i].n;
		answering[places[i]].answer.records = lists[i].places;
	}
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

/* Ends the question's letter if nobody waits for it, or its answer has become too long. */
static void
let_go_on(ApmAsked *asked)
{
	ApmGateLetter *letter = asked->letter;

	if (!apm_mailbox_wanted(&letter->letter))
		apm_waiting_remove(letter);
	else if (letter->bytes + letter->coming > APM_GATE_BYTES)
		apm_waiting_fail(letter, ERRCODE_PROGRAM_LIMIT_EXCEEDED, "too many records are asked for at once",
						 "Ask for fewer patients.");
}

/* The questions among n entries that somebody waits for. */
static int
find_asked(const ApmEntry *entries, size_t n, uint64 height, ApmAnswering *out)
{
	int found = 0;

	/* a letter that does not go on takes its other questions along, so all are looked for again */
	for (size_t i = 0; i < n; i++)
	{
		ApmAsked *asked = apm_waiting_find(&entries[i].tid);

		if (asked != NULL)
			let_go_on(asked);
	}
	for (size_t i = 0; i < n; i++)
	{
		ApmAsked *asked = apm_waiting_find(&entries[i].tid);

		if (asked != NULL)
			out[found++] = (ApmAnswering){
				.asked = asked,
				.answer = {.tid = entries[i].tid, .height = height, .rule = entries[i].rule},
			};
	}
	return found;
}

/* Prepares the answers to up to TOGETHER entries. */
static void
prepare_some(const ApmEntry *entries, size_t n, uint64 height)
{
	ApmAnswering answering[TOGETHER];
	int found = find_asked(entries, n, height, answering);

	find_patients(answering, found, height);
	find_records(answering, found, height);
	for (int i = 0; i < found; i++)
	{
		ApmGateQuestion *answer = &answering[i].answer;

		if (answer->rule != APM_RULE_NONE)
			answer->rule_name = rule_name(answer->rule);
		else if (answering[i].asked->search)
			find_matches(&answering[i]);
		keep(answering[i].asked, answer);
	}
}

void
apm_gate_prepare(const ApmEntry *entries, size_t n, uint64 height)
{
	MemoryContext some;
	MemoryContext old;

	if (!apm_waiting_any())
		return;
	some = AllocSetContextCreate(CurrentMemoryContext, "apm answers", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(some);
	for (size_t at = 0; at < n; at += TOGETHER)
	{
		prepare_some(entries + at, Min(n - at, TOGETHER), height);
		MemoryContextReset(some);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(some);
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
