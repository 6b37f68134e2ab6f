/*
 * gate_letter.h
 *	  Inside the network room: what goes through the query gate's letter box.
 *
 * A request:  16-byte staff pseudonym, names of the acting role and of the login, u32 count, and for
 * each question u8 list, query, note.  An answer has what the question struct has from
 * "out" on, of each question in the order of the request.  Variable fields have a u32 length.
 */
#ifndef APM_GATE_LETTER_H
#define APM_GATE_LETTER_H

#include "network/network.h"

/* A reader's request.  Slices are borrowed. */
typedef struct ApmGateRequest
{
	uint8 staff[APM_STAFF_LEN];
	ApmSlice acting; /* names of roles, without NUL */
	ApmSlice login;
	uint32 n;
	ApmReader questions; /* stands before the first one */
} ApmGateRequest;

extern void apm_gate_put_request(ApmBuf *out, const ApmGateRequest *head, const ApmGateQuestion *questions);

/* Takes the head; then each question in turn, its query and note borrowed.  False if it is not one. */
extern bool apm_gate_get_request(ApmSlice in, ApmGateRequest *out);
extern bool apm_gate_get_question(ApmGateRequest *request, ApmGateQuestion *out);

/* The answer to one question; a letter's answer is those to all, one after the other. */
extern void apm_gate_put_answer(ApmBuf *out, const ApmGateQuestion *question);
/* Fills in the answers of n questions, palloc'd.  False if it is not the answer to so many. */
extern bool apm_gate_get_answers(ApmSlice in, ApmGateQuestion *questions, int n);

#endif /* APM_GATE_LETTER_H */
