/*
 * forget.c
 *	  apm_forget(): a patient is to be forgotten.
 *
 * From the caller's commit on nobody knows the patient: he is found by no pid and opened for no reader, and
 * what waits for him is thrown away.  What takes longer, reception does after that (erasure.c): the erasure
 * on the ledger, the journal, and the end of his key.  apm_erasure_state() tells how far it is.
 */
#include "postgres.h"

#include "access/xact.h"
#include "fmgr.h"
#include "utils/builtins.h"

#include "anonymize/gate.h"
#include "anonymize/request.h"
#include "anonymize/tombstone.h"
#include "anonymize/waiting.h"
#include "apm_errors.h"
#include "apm_loghook.h"
#include "apm_prepare.h"
#include "worker/worker.h"

PG_FUNCTION_INFO_V1(apm_forget);

/*
 * The patient who is registered by that pid; raises if there is none, or if he is being forgotten.  Under
 * his lock.
 */
static void
find_patient(const ApmPid *pid, char apid[APM_APID_MAX + 1])
{
	switch (apm_patient_find(&pid->index, apid))
	{
		case APM_FOUND_PATIENT:
			return;
		case APM_FOUND_FORGOTTEN:
			ereport(ERROR, (errcode(ERRCODE_OBJECT_IN_USE), errmsg("the patient is being forgotten"),
							errhint("apm_erasure_state() tells how far that is.")));
		case APM_FOUND_NOBODY:
			break;
	}
	ereport(ERROR, (errcode(ERRCODE_APM_UNKNOWN_PATIENT), errmsg("no such patient is registered"),
					errhint("A patient is forgotten once.")));
}

/* From now on he is as if unknown. */
static void
mark_patient(const ApmPid *pid)
{
	static ApmStatement mark = {
		"UPDATE ONLY apm.patient SET erasing = true WHERE index_key = $1", 1, {BYTEAOID}, NULL};
	Datum args[] = {apm_digest_datum(&pid->index)};

	/* in REPEATABLE READ one who is younger than the snapshot is found and not changed */
	if (apm_run(&mark, args) == 0)
		ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
						errmsg("the patient was registered by another transaction meanwhile"),
						errhint("Repeat the transaction.")));
	apm_tombstone_waiting(&pid->index, 1);
}

/*
 * apm_forget(pid text, reason_code text): the request's id.
 */
Datum
apm_forget(PG_FUNCTION_ARGS)
{
	char apid[APM_APID_MAX + 1];
	ApmSection section;
	ApmActing who;
	uint16 reason;
	ApmPid pid;
	ApmUuid id;

	apm_hide_statement();
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("pid and reason must not be null")));
	apm_acting(&who);
	apm_acting_require(&who, APM_ROLE_REGISTRAR | APM_ROLE_ADMIN, "forget a patient");
	reason = apm_gate_reason(text_to_cstring(PG_GETARG_TEXT_PP(1)), true);

	apm_section_begin(&section);
	apm_pid_read(APM_SLICE_OF(PG_GETARG_TEXT_PP(0)), &pid);
	apm_patient_lock(&pid.index);
	find_patient(&pid, apid);
	mark_patient(&pid);
	id = apm_request_ask(&who, APM_SLICE(apid, strlen(apid)), reason);
	apm_staff_note(&who);
	apm_section_end(&section);

	apm_prepare_forbid();
	/* who was told that he is forgotten must not be back after a crash, whatever the client has set */
	ForceSyncCommit();
	apm_wake_at_commit(APM_WORKER_RECEPTION);
	PG_RETURN_DATUM(apm_uuid_datum(&id));
}
