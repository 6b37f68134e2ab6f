/*
 * study.h
 *	  A study: its name, what stands for it on the chain, and what stands for a patient in it.
 *
 * A patient has another pseudonym in every study, and the same one in all releases of one study, so
 * that releases can be joined with each other and with nothing else.
 */
#ifndef APM_EXPORT_STUDY_H
#define APM_EXPORT_STUDY_H

#include "postgres.h"

#include "core/contract.h"

#define APM_STUDY_NAME_MAX 63
#define APM_STUDY_PATIENT_LEN 16 /* characters */

typedef struct ApmStudy
{
	char name[APM_STUDY_NAME_MAX + 1];
	uint8 id
		[APM_STUDY_LEN]; /* first bytes of SHA-256("apm study" || id of the origin's first key || len,name) */
} ApmStudy;

/* Raises 22023 unless the name is one: a lower case letter, then lower case letters, digits, _ and -. */
extern void apm_study_read(ApmSlice name, const ApmDigest *origin, ApmStudy *out);

/*
 * The patient's pseudonym in the study: 96 bits of HMAC(APM_SECRET_EXPORT, "patient" || study ||
 * len,aPid) in base64url.
 */
extern void apm_study_patient(const ApmStudy *study, ApmSlice apid, char out[APM_STUDY_PATIENT_LEN + 1]);

/* How many releases of it the ledger has.  In a section. */
extern uint32 apm_study_releases(const ApmStudy *study);

#endif /* APM_EXPORT_STUDY_H */
