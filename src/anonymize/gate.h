/*
 * gate.h
 *	  Asking to read: the reader's side of the query gate.
 *
 *		ask			what is wanted, the same of every patient of the statement
 *		questions	one signed transaction a patient, all under one signature
 *		answers		the contract's verdict on each, and what may be read
 *
 * None of these functions is called in a section.
 */
#ifndef APM_ANONYMIZE_GATE_H
#define APM_ANONYMIZE_GATE_H

#include "postgres.h"

#include "anonymize/patient.h"
#include "network/network.h"

typedef struct ApmAsk
{
	ApmScope scope;
	ApmGateList list;
	uint16 purpose;		/* 0: none is stated */
	uint16 reason;		/* of an emergency, else 0 */
	const uint8 *basis; /* APM_UUID_LEN bytes; NULL: nothing that it rests on */
	ApmTokens tokens;	/* of a search, else none */
	ApmSlice fields;	/* public fields, encoded (core/field.h); empty: none */
	ApmSlice note;		/* of an emergency: sealed under the patient's key; empty: none */
} ApmAsk;

/*
 * The code of a purpose, or of a reason for an erasure or an emergency, on the chain's list; NULL: 0.  Raises 22023 for
 * a name that is not on it, with those that are as a hint.
 */
extern uint16 apm_gate_purpose(const char *name);
extern uint16 apm_gate_reason(const char *name, bool erasure);

/*
 * The aPids of n pids, palloc'd, NUL-terminated.  For a pid that is not registered a stand-in: looks like one,
 * is the same each time and nobody's, so that the contract answers and not we.  Raises as apm_pid_read() does.
 */
extern ApmSlice *apm_gate_apids(const ApmSlice *pids, int n);

/*
 * As the acting role, asks for n patients; of a search n is 1 and its aPid is empty.  When this returns, every
 * question is in the ledger, allowed or refused: answers[i] has the verdict on apids[i], and nothing is given out
 * of what was refused.  palloc'd.  54000 for more than APM_GATE_QUESTIONS patients: ask in parts.
 */
extern ApmGateQuestion *apm_gate_ask(const ApmAsk *ask, const ApmSlice *apids, int n);

/*
 * Is it the patient whom the rule that refused lets nobody read, and not the statement that it refuses?  A site rule
 * may look at either, and to say that it refused would say that somebody was found.  Whoever leaves patients out without
 * a word leaves out these only, and raises for any other refusal: what is left would look like the whole.
 */
extern bool apm_gate_concerns_patient(const ApmGateQuestion *answer);

/* Asks for the transaction of a dataset, whose patients have been asked for before. */
extern ApmGateQuestion *apm_gate_ask_export(const ApmExportFields *dataset);

#endif /* APM_ANONYMIZE_GATE_H */
