/*
 * gate.c
 *	  Asking to read: the reader's side of the query gate.
 *
 * Nothing of a patient is decrypted before the question stands in the ledger.  The network
 * server writes it there in a transaction of its own, so that whatever the reader does with
 * his own cannot take it back; all that is done here before is to sign it.
 *
 * A statement that reads many patients asks one question for each, so that each patient's history has
 * it, and signs all of them once: the number of leaves under the signature is what the contract's
 * fetch cap looks at.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "utils/acl.h"

#include "anonymize/contractcache.h"
#include "anonymize/gate.h"
#include "anonymize/groups.h"
#include "apm_errors.h"

/* A list of the chain's, of which a part may be meant. */
typedef struct NameList
{
	const char *what; /* is on it */
	ApmItemType type;
	uint16_t (*find)(const ApmContractState *s, const char *name);
	bool (*fits)(uint16 code); /* NULL: all do */
} NameList;

static bool
is_on(const NameList *list, uint16 code)
{
	return code != 0 && (list->fits == NULL || list->fits(code));
}

/* The names on a list, for people. */
static char *
list_names(const ApmContractState *contract, const NameList *list)
{
	StringInfoData names;
	ApmItem item;
	size_t at = 0;

	initStringInfo(&names);
	while (apm_contract_next_item(contract, &at, &item))
	{
		if (item.type != list->type || !is_on(list, item.key))
			continue;
		if (names.len > 0)
			appendStringInfoString(&names, ", ");
		appendBinaryStringInfo(&names, (const char *) item.name.data, (int) item.name.len);
	}
	return names.data;
}

/* The code of a name on a list. */
static uint16
code_of(const char *name, const NameList *list)
{
	const ApmContractState *contract;
	ApmSection section;
	uint64 serial;
	uint16 code;

	if (name == NULL)
		return 0;
	apm_section_begin(&section);
	contract = apm_contract_now(&serial);
	code = list->find(contract, name);
	if (!is_on(list, code))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("no such %s", list->what),
						errhint("The chain's list has: %s.", list_names(contract, list))));
	apm_section_end(&section);
	return code;
}

uint16
apm_gate_purpose(const char *name)
{
	static const NameList list = {
		.what = "purpose", .type = APM_ITEM_PURPOSE, .find = apm_contract_purpose_code};

	return code_of(name, &list);
}

static bool
fits_erasure(uint16 code)
{
	return apm_reason_fits(code, true);
}

static bool
fits_emergency(uint16 code)
{
	return apm_reason_fits(code, false);
}

uint16
apm_gate_reason(const char *name, bool erasure)
{
	NameList list = {.what = erasure ? "reason for an erasure" : "reason for an emergency",
					 .type = APM_ITEM_REASON,
					 .find = apm_contract_reason_code,
					 .fits = erasure ? fits_erasure : fits_emergency};

	return code_of(name, &list);
}

ApmSlice *
apm_gate_apids(const ApmSlice *pids, int n)
{
	MemoryContext caller = CurrentMemoryContext;
	ApmSlice *apids = palloc0(sizeof(ApmSlice) * Max(n, 1));
	ApmDigest *indexes;
	ApmSection section;

	apm_section_begin(&section);
	indexes = palloc(sizeof(ApmDigest) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		ApmPid pid;

		apm_pid_read(pids[i], &pid);
		indexes[i] = pid.index;
		apm_buf_reset(&pid.text);
	}
	apm_patients_find(indexes, n, caller, apids);
	for (int i = 0; i < n; i++)
	{
		char stand_in[APM_APID_MAX + 1];

		if (apids[i].data != NULL)
			continue;
		apm_apid_stand_in(&indexes[i], stand_in);
		apids[i] = APM_SLICE(MemoryContextStrdup(caller, stand_in), strlen(stand_in));
	}
	apm_section_end(&section);
	return apids;
}

/* The transaction of a question, but for whom it is about. */
static void
fill_query(const ApmAsk *ask, const ApmActing *who, ApmTransaction *tx)
{
	ApmQueryFields *query = &tx->u.query;

	memset(tx, 0, sizeof(*tx));
	tx->kind = APM_KIND_QUERY;
	tx->fields = ask->fields;
	query->scope = (uint8) ask->scope;
	query->purpose = ask->purpose;
	query->reason = ask->reason;
	query->tokens = ask->tokens;
	if (ask->basis != NULL)
		memcpy(query->basis, ask->basis, APM_UUID_LEN);
	if (ask->note.len > 0)
		apm_check(apm_note_digest(ask->note, &query->note), "ask for a patient");
	apm_role_pseudonym(NameStr(who->acting), query->acting);
	apm_groups_of(&who->actor.role, 1, &query->groups);
}

/*
 * Who asks.  A registrar reads nothing, so he does not by acting as another of his roles either.  A login that
 * inherits nothing is shared: it is nobody until it acts as somebody.
 */
static void
ask_as(ApmActing *who)
{
	Oid registrar = get_role_oid(apm_role_name(APM_ROLE_REGISTRAR), true);

	apm_acting(who);
	if (OidIsValid(registrar) && apm_role_inherits(who->actor.login, registrar))
		who->actor.roles |= APM_ROLE_REGISTRAR;
}

/* Signs what is to go out into the queries of as many questions, in that memory. */
static void
sign_questions(ApmOutgoing *out, ApmGateQuestion *questions, MemoryContext memory)
{
	ApmBuf *forms = palloc0(sizeof(ApmBuf) * out->n);
	MemoryContext section = MemoryContextSwitchTo(memory);

	apm_outgoing_signed(out, forms);
	MemoryContextSwitchTo(section);
	for (int i = 0; i < out->n; i++)
		questions[i].query = APM_SLICE(forms[i].data, forms[i].len);
}

/* Passes the signed questions through the gate, and frees what was signed. */
static void
pass(const ApmActing *who, ApmGateQuestion *questions, int n)
{
	apm_gate_query(questions, n, who->staff, NameStr(who->acting), NameStr(who->login));
	for (int i = 0; i < n; i++)
	{
		apm_core_free(unconstify(uint8 *, questions[i].query.data));
		questions[i].query = APM_SLICE(NULL, 0);
	}
}

ApmGateQuestion *
apm_gate_ask(const ApmAsk *ask, const ApmSlice *apids, int n)
{
	MemoryContext caller = CurrentMemoryContext;
	ApmGateQuestion *questions = palloc0(sizeof(ApmGateQuestion) * Max(n, 1));
	ApmSection section;
	ApmOutgoing out;
	ApmTransaction tx;
	ApmActing who;

	if (n > APM_GATE_QUESTIONS)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("more than %d patients are asked for at once", APM_GATE_QUESTIONS),
						errhint("Ask for them in parts.")));
	if (n == 0)
		return questions;
	ask_as(&who);
	apm_section_begin(&section);
	apm_outgoing_start(&out, &who);
	fill_query(ask, &who, &tx);
	for (int i = 0; i < n; i++)
	{
		tx.u.query.apid = apids[i];
		tx.time_us = 0; /* each its own */
		(void) apm_outgoing_add(&out, &tx);
		questions[i].list = ask->list;
		questions[i].note = ask->note;
	}
	sign_questions(&out, questions, caller);
	apm_section_end(&section);

	pass(&who, questions, n);
	return questions;
}

bool
apm_gate_concerns_patient(const ApmGateQuestion *answer)
{
	return answer->rule == APM_RULE_PATIENT || answer->rule == APM_RULE_ERASED ||
		   answer->rule == APM_RULE_HOME || answer->rule == APM_RULE_CONSENT || answer->rule >= APM_SITE_RULE;
}

ApmGateQuestion *
apm_gate_ask_export(const ApmExportFields *dataset)
{
	MemoryContext caller = CurrentMemoryContext;
	ApmGateQuestion *question = palloc0(sizeof(ApmGateQuestion));
	ApmTransaction tx = {.kind = APM_KIND_EXPORT, .u.export = *dataset};
	ApmSection section;
	ApmOutgoing out;
	ApmActing who;

	ask_as(&who);
	apm_section_begin(&section);
	apm_outgoing_start(&out, &who);
	(void) apm_outgoing_add(&out, &tx);
	sign_questions(&out, question, caller);
	apm_section_end(&section);

	pass(&who, question, 1);
	return question;
}
