/*
 * patient.h
 *	  Patients as the APM knows them: pid, keyed index, key and profile.
 */
#ifndef APM_PATIENT_H
#define APM_PATIENT_H

#include "postgres.h"

#include "anonymize/jsontext.h"
#include "anonymize/outgoing.h"
#include "core/cipher.h"
#include "core/contract.h"
#include "core/pseudonym.h"

#define APM_PID_MAX 1024			  /* bytes of UTF-8 */
#define APM_PROFILE_MAX (1024 * 1024) /* bytes of a profile's text */

/* Bytes of a record's text, with the profile's attributes; nonces, tags, lengths and the proof take room beside it. */
#define APM_RECORD_MAX ((int) APM_PRIMARY_MAX - 64 * 1024)

/* A pid as it is hashed: UTF-8 in NFC. */
typedef struct ApmPid
{
	ApmBuf text;	 /* secret */
	ApmDigest index; /* HMAC under the index key: finds the patient */
} ApmPid;

/* Raises 22023 for an empty pid and 54000 for one of more than APM_PID_MAX bytes. */
extern void apm_pid_read(ApmSlice pid, ApmPid *out);

/* Declared attributes.  In a section. */
typedef struct ApmDeclared
{
	int n;
	ApmSlice *names; /* in the server's encoding */
	bool *identifying;
	bool *searchable;
} ApmDeclared;

typedef enum ApmClass
{
	APM_CLASS_UNDECLARED,
	APM_CLASS_OTHER,
	APM_CLASS_IDENTIFYING
} ApmClass;

extern void apm_declared_load(ApmDeclared *out);
extern ApmClass apm_declared_class(const ApmDeclared *declared, const ApmField *field);
extern bool apm_declared_searchable(const ApmDeclared *declared, const ApmField *field);
/* The fields of one class, or with take = false those of every other; nulls are no identifying attributes. */
extern void apm_declared_pick(const ApmDeclared *declared, const ApmFields *from, ApmClass class, bool take,
							  ApmFields *out);

/* A registered patient with one version of the profile, opened. */
typedef struct ApmPatient
{
	ApmDigest index;
	char apid[APM_APID_MAX + 1];
	uint8 *key; /* 32 secret bytes */
	ApmKeyId key_id;
	uint32 version;
	ApmDigest digest; /* of the sealed profile, as on the chain */
	ApmBuf pid;		  /* secret; NFC */
	ApmFields identifying;
	ApmFields attributes;
} ApmPatient;

static inline ApmSlice
apm_patient_apid(const ApmPatient *patient)
{
	return APM_SLICE(patient->apid, strlen(patient->apid));
}

/*
 * Somebody is forgotten from the moment on when that is asked for (forget.c), and who is in the journal of erasures
 * (keys/journal.h) is, whatever the tables say.  To all that follow here he is not registered, unless they say
 * something else.
 */

/*
 * The patients of n indexes with their newest profiles, as of now, whatever the
 * transaction's snapshot; out[i] is NULL where there is none.  In a section, in whose memory
 * they live.
 */
extern void apm_patients_load(const ApmDigest *indexes, int n, ApmPatient **out);

/* Who is registered with an index. */
typedef enum ApmFound
{
	APM_FOUND_NOBODY,
	APM_FOUND_PATIENT,
	APM_FOUND_FORGOTTEN /* not destroyed yet */
} ApmFound;

/* Sets the aPid unless it is nobody.  In a section. */
extern ApmFound apm_patient_find(const ApmDigest *index, char apid[APM_APID_MAX + 1]);

/* The aPids of n indexes, NUL-terminated and in that memory; those of who is not registered stay as they are.  In a section. */
extern void apm_patients_find(const ApmDigest *indexes, int n, MemoryContext memory, ApmSlice *apids);

/* Which of n aPids are of patients who are forgotten, destroyed or not?  In a section. */
extern void apm_patients_forgotten(const ApmSlice *apids, int n, bool *forgotten);

/*
 * Raises AP009 if he is forgotten, for whoever found that something of a patient is missing or does not open: an
 * erasure can overtake him.  In a section.
 */
extern void apm_patient_refuse_forgotten(ApmSlice apid);

/* A patient's key, 32 secret bytes, in the current memory context; NULL if there is no such patient.  In a section. */
extern uint8 *apm_patient_key(ApmSlice apid, ApmKeyId *id);

/*
 * What stands for the aPid of a patient who is not registered: looks like one, is the same
 * each time and is nobody's, so that the gate answers and not we.
 */
extern void apm_apid_stand_in(const ApmDigest *index, char apid[APM_APID_MAX + 1]);

/*
 * The patient of an aPid with the version of the profile that the ledger names, by its
 * digest; raises AP005 if that is not the one we have, AP009 if he was forgotten meanwhile.  In a section; the
 * patient lives in the current memory context.
 */
extern ApmPatient *apm_patient_at(ApmSlice apid, const ApmPatientState *ledger);

/* Do these identifying attributes differ from the patient's, where they are given? */
extern bool apm_patient_differs(const ApmPatient *patient, const ApmFields *identifying);

/* What apm gives back for a record: the profile's attributes, overlaid by the record's own. */
extern Jsonb *apm_patient_record(const ApmPatient *patient, Jsonb *record);

/* An identifying attribute's value as it is hashed and compared; raises 22023 unless text, number or boolean. */
extern void apm_identifying_value(const ApmField *field, ApmBuf *out);

/*
 * Registers a patient and adds the patient transaction; false if the index is
 * registered already, 55006 if its patient is being forgotten.  Takes the patient's lock.  In a section, in whose
 * memory *made lives.
 */
extern bool apm_patient_register(const ApmPid *pid, const ApmFields *identifying, const ApmFields *attributes,
								 ApmOutgoing *out, ApmPatient **made);

/* What came of holding a record to what the contract asks (datarule.h). */
typedef struct ApmRuling
{
	ApmDigest ruleset; /* zeros: there are no data rules */
	ApmBuf violated;   /* a JSON array of the names of rules that let it pass; empty: none */
	ApmBuf fields;	   /* public fields, encoded; empty: none */
} ApmRuling;

typedef struct ApmRecord
{
	ApmUuid rid;
	bool has_amends;
	ApmUuid amends;
	bool late;	/* observed well before it was submitted */
	bool dated; /* observed_us is no time of this statement, so something newer may have been recorded */
	uint64 observed_us; /* 0: it is late, and how late is not known */
	Jsonb *value;		/* as the client gave it */
	ApmRuling ruling;
} ApmRecord;

/* What the chain is told of it. */
static inline uint8
apm_record_flags(const ApmRecord *record)
{
	return (record->has_amends ? APM_PRIMARY_AMENDS : 0) | (record->late ? APM_PRIMARY_LATE : 0) |
		   (record->ruling.violated.len > 0 ? APM_PRIMARY_FLAGGED : 0);
}

/* The primary transaction of a record: encrypts the text and adds it; answers its place. */
extern int apm_record_add(ApmOutgoing *out, const ApmPatient *patient, const ApmRecord *record,
						  const ApmDeclared *declared, ApmTransaction *tx);

#endif /* APM_PATIENT_H */
