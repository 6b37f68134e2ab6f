/*
 * gate.c
 *	  The query gate, the reader's side: nobody reads without a trace.
 *
 * What a backend writes goes with its transaction; so a reader does not write the trace
 * of his reading.  He hands his questions to the network server and waits.  That writes them
 * in a transaction of its own and answers when the chain has judged all and their blocks are
 * final: gatekeeper.c.
 */
#include "postgres.h"

#include "access/xlog.h"

#include "apm_errors.h"
#include "network/gate_letter.h"
#include "worker/mailbox.h"

void
apm_gate_query(ApmGateQuestion *questions, int n, const uint8 staff[APM_STAFF_LEN], const char *acting,
			   const char *login)
{
	ApmGateRequest head = {
		.acting = APM_SLICE(acting, strlen(acting)),
		.login = APM_SLICE(login, strlen(login)),
		.n = (uint32) n,
	};
	ApmBuf out = {0};
	void *in;
	Size len;

	if (RecoveryInProgress())
		ereport(ERROR, (errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION), errmsg("a standby serves no reads"),
						errhint("Every read leaves a trace, which only the primary server can write.")));
	Assert(n <= APM_GATE_QUESTIONS);
	if (n == 0)
		return;

	memcpy(head.staff, staff, APM_STAFF_LEN);
	apm_gate_put_request(&out, &head, questions);
	apm_check(apm_buf_status(&out), "ask the network server");
	apm_mailbox_call(APM_WORKER_NETWORK, out.data, out.len, &in, &len);
	apm_buf_reset(&out);
	if (!apm_gate_get_answers(APM_SLICE(in, len), questions, n))
		apm_raise(APM_ERR_FORMAT, "read the network server's answer");
	pfree(in);
}

/* element 0: the only one */
static void
refuse(const ApmGateQuestion *question, int element)
{
	const char *text = apm_rule_text(question->rule);

	ereport(ERROR,
			(errcode(ERRCODE_APM_REFUSED_BY_CONTRACT),
			 errmsg("query refused by the contract: rule \"%s\"", question->rule_name),
			 element > 0 ? errdetail("It was refused for element %d.", element) : 0,
			 text != NULL ? errhint("%s", text)
						  : errhint("The rule is one that the contract was given; see apm.contract.")));
}

void
apm_gate_require(const ApmGateQuestion *question)
{
	if (question->rule != APM_RULE_NONE)
		refuse(question, 0);
}

void
apm_gate_require_element(const ApmGateQuestion *question, int element)
{
	if (question->rule != APM_RULE_NONE)
		refuse(question, element);
}
