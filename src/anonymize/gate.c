/*
 * gate.c
 *	  Asking to read a patient's records.
 *
 * Nothing of a patient is decrypted before the query stands in the ledger.  The network
 * server writes it there in a transaction of its own, so that whatever the reader does with
 * his own cannot take it back; all that is done here before is to sign it.
 */
#include "postgres.h"

#include "anonymize/gate.h"
#include "apm_errors.h"

uint16
apm_gate_purpose(const char *name)
{
	uint16 code;

	if (name == NULL)
		return 0;
	code = apm_purpose_code(name);
	if (code == 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("no such purpose"),
						errhint("Purposes are treatment, payment, operations, emergency, patient-request, "
								"audit and research.")));
	return code;
}

void
apm_gate_ask(ApmSlice apid, uint16 purpose, ApmGateAnswer *answer)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext section_memory;
	ApmTransaction tx = {.kind = APM_KIND_QUERY};
	ApmBuf query = {0};
	ApmSection section;
	ApmOutgoing out;
	ApmActing who;

	apm_acting(&who);
	apm_section_begin(&section);
	apm_outgoing_start(&out, &who);
	tx.u.query.apid = apid;
	tx.u.query.purpose = purpose;
	(void) apm_outgoing_add(&out, &tx);
	section_memory = MemoryContextSwitchTo(caller);
	apm_outgoing_signed(&out, &query);
	MemoryContextSwitchTo(section_memory);
	apm_section_end(&section);

	apm_gate_query(APM_SLICE(query.data, query.len), who.staff, NameStr(who.acting), NameStr(who.login),
				   answer);
	apm_buf_reset(&query);
}

ApmPatient *
apm_gate_patient(ApmSlice apid, const ApmGateAnswer *answer)
{
	MemoryContext caller = CurrentMemoryContext;
	ApmPatient *patient;
	ApmSection section;

	apm_section_begin(&section);
	MemoryContextSwitchTo(caller);
	patient = apm_patient_at(apid, &answer->patient);
	apm_section_end(&section);
	return patient;
}

Jsonb *
apm_gate_open(const ApmPatient *patient, const ApmTransaction *tx)
{
	const ApmPrimaryFields *fields = &tx->u.primary;
	ApmBuf text = {.secret = true};
	Jsonb *own;

	apm_check(apm_record_open(patient->key, &patient->key_id, &fields->rid, apm_patient_apid(patient),
							  fields->record, &text),
			  "open a record");
	own = apm_json_parse(APM_SLICE(text.data, text.len));
	apm_buf_reset(&text);
	return apm_patient_record(patient, own);
}
