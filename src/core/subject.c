/*
 * subject.c
 *	  Whom a transaction is about: its actor, and its patient by the SHA-256 of his aPid.
 *
 * The state knows patients by that digest alone, and several steps ask for it: what judging needs, the verdict,
 * the effects.  A hospital's records are of the same patients again and again.  So the last aPids are
 * remembered with their digests, each in the one place that its last characters choose; what is
 * pushed out is only hashed again.
 */
#include "contract_state.h"

#include <string.h>

#include "digest.h"
#include "pseudonym.h"

#define REMEMBERED 4096 /* a power of two */

typedef struct Remembered
{
	size_t len; /* 0: free */
	uint8_t apid[APM_APID_MAX];
	ApmDigest digest;
} Remembered;

static Remembered remembered[REMEMBERED];

/* aPids are random, or numbers that are counted up: both differ at their ends. */
static Remembered *
place_of(ApmSlice apid)
{
	uint32_t hash = 0;

	for (size_t i = apid.len > 8 ? apid.len - 8 : 0; i < apid.len; i++)
		hash = hash * 31 + apid.data[i];
	return &remembered[(hash ^ hash >> 16) & (REMEMBERED - 1)];
}

ApmStatus
apm_patient_digest(ApmSlice apid, ApmDigest *out)
{
	Remembered *place = place_of(apid);
	ApmStatus status;

	if (place->len == apid.len && memcmp(place->apid, apid.data, apid.len) == 0 && apid.len > 0)
	{
		*out = place->digest;
		return APM_OK;
	}
	status = apm_sha256(apid.data, apid.len, out);
	if (status == APM_OK && apid.len <= APM_APID_MAX)
	{
		place->len = apid.len;
		memcpy(place->apid, apid.data, apid.len);
		place->digest = *out;
	}
	return status;
}

ApmStatus
apm_transaction_subjects(const ApmTransaction *tx, ApmSubjects *out)
{
	ApmSlice apid = apm_transaction_apid(tx);

	memset(out, 0, sizeof(*out));
	memcpy(out->actor.bytes, tx->actor, APM_STAFF_LEN);
	out->has_patient = apid.len > 0;
	return out->has_patient ? apm_patient_digest(apid, &out->patient) : APM_OK;
}

const ApmDigest *
apm_subject_of(const ApmSubjects *subjects, uint8_t counter)
{
	if (!apm_counter_of_patient(counter))
		return &subjects->actor;
	return subjects->has_patient ? &subjects->patient : NULL;
}
