/*
 * gate.h
 *	  Asking to read a patient's records.
 */
#ifndef APM_GATE_H
#define APM_GATE_H

#include "postgres.h"

#include "anonymize/patient.h"
#include "network/network.h"

/* The code of a purpose on the chain; NULL: 0.  Raises 22023 for one that is not on the list. */
extern uint16 apm_gate_purpose(const char *name);

/*
 * Signs a query of the acting role for a patient and passes it through the gate: when
 * this returns, the query is in the ledger, allowed.  Else it raises.  In no section.
 */
extern void apm_gate_ask(ApmSlice apid, uint16 purpose, ApmGateAnswer *answer);

/* The patient that the gate let through, with the profile that the answer names; in the current memory context. */
extern ApmPatient *apm_gate_patient(ApmSlice apid, const ApmGateAnswer *answer);

/*
 * The record in a signed primary transaction of this patient, with the profile's
 * attributes, in the current memory context; wiped with it if that is one of ours.
 */
extern Jsonb *apm_gate_open(const ApmPatient *patient, const ApmTransaction *tx);

#endif /* APM_GATE_H */
