/*
 * study.c
 *	  A study: its name, what stands for it on the chain, and what stands for a patient in it.
 *
 * The study's id can be computed by whoever knows origin and name, so that an auditor finds a
 * study's releases.  The patients' pseudonyms are keyed: without the key nobody can tell which
 * pseudonyms of two studies are one patient, nor try out aPids.
 */
#include "postgres.h"

#include "anonymize/acting.h"
#include "apm_errors.h"
#include "core/digest.h"
#include "export/study.h"
#include "keys/keyring.h"

void
apm_study_read(ApmSlice name, const ApmDigest *origin, ApmStudy *out)
{
	static const char label[] = "apm study";
	ApmBuf in = {0};
	ApmDigest digest;

	if (!apm_item_name_ok(name))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("this is no name of a study"),
				 errhint("A name has 1 to %d lower case letters, digits, \"_\" and \"-\", a letter first. "
						 "It stands on the chain in clear.",
						 APM_STUDY_NAME_MAX)));
	memcpy(out->name, name.data, name.len);
	out->name[name.len] = '\0';

	apm_put_raw(&in, label, strlen(label));
	apm_put_raw(&in, origin->bytes, APM_DIGEST_LEN);
	apm_put_bytes(&in, name.data, name.len);
	apm_check(apm_buf_status(&in), "name the study");
	apm_check(apm_sha256(in.data, in.len, &digest), "name the study");
	memcpy(out->id, digest.bytes, APM_STUDY_LEN);
	apm_buf_reset(&in);
}

void
apm_study_patient(const ApmStudy *study, ApmSlice apid, char out[APM_STUDY_PATIENT_LEN + 1])
{
	static const char label[] = "patient";
	ApmBuf in = {0};
	ApmSlice part;
	ApmDigest mac;
	size_t len;

	apm_put_raw(&in, label, strlen(label));
	apm_put_raw(&in, study->id, APM_STUDY_LEN);
	apm_put_bytes(&in, apid.data, apid.len);
	apm_check(apm_buf_status(&in), "name a patient in a study");
	part = APM_SLICE(in.data, in.len);
	apm_check(apm_hmac_sha256(apm_key_secret(APM_SECRET_EXPORT), APM_SECRET_LEN, &part, 1, &mac),
			  "name a patient in a study");
	apm_base64url_encode(mac.bytes, APM_STUDY_PATIENT_LEN / 4 * 3, out, &len);
	apm_buf_reset(&in);
}

uint32
apm_study_releases(const ApmStudy *study)
{
	static ApmStatement get = {
		"SELECT coalesce(pg_catalog.max(e.release), 0) FROM ONLY apm.ledger_export AS e WHERE e.study = $1",
		1,
		{BYTEAOID},
		NULL,
	};
	Datum args[] = {apm_bytea_datum(APM_SLICE(study->id, APM_STUDY_LEN))};

	apm_run_latest(&get, args);
	return (uint32) apm_row_int4(0, 1);
}
