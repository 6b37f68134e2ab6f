/*
 * gate.h
 *	  Inside the network room: what goes through the query gate's letter box.
 */
#ifndef APM_GATE_H
#define APM_GATE_H

#include "network/network.h"

/* A reader's request.  Slices are borrowed. */
typedef struct ApmGateRequest
{
	uint8 staff[APM_STAFF_LEN];
	ApmSlice acting; /* names of roles, without NUL */
	ApmSlice login;
	ApmSlice query; /* a signed transaction */
} ApmGateRequest;

extern void apm_gate_encode_request(const ApmGateRequest *request, ApmBuf *out);
extern bool apm_gate_decode_request(ApmSlice in, ApmGateRequest *out);
extern void apm_gate_encode_answer(const ApmGateAnswer *answer, ApmBuf *out);
extern bool apm_gate_decode_answer(ApmSlice in, ApmGateAnswer *out);

#endif /* APM_GATE_H */
