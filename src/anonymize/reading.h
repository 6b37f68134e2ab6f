/*
 * reading.h
 *	  From the gate's answers to records: read from the cloud, checked, opened.
 *
 * Every function that gives records out goes through here.  None is called in a section.
 */
#ifndef APM_READING_H
#define APM_READING_H

#include "postgres.h"

#include "anonymize/gate.h"

/* A record, opened; lives until the callback returns, wiped then. */
typedef struct ApmReading
{
	int question;			   /* whose: its place among the answers */
	const ApmPatient *patient; /* with the profile that the answer names */
	const ApmPlace *place;
	const ApmTransaction *tx; /* of kind primary */
	Jsonb *own;				  /* what was sealed: the second iPR, without identifying attributes */
	int nflags;
	ApmSlice *flags; /* data rules that it violates, and "late" */
} ApmReading;

typedef void (*ApmReadingCallback)(const ApmReading *reading, void *closure);

/*
 * Hands each record that the answers list (n of them, allowed ones only) to the callback, patient by patient in
 * the order of the answers, each patient's in that of answers[i].records.  Each record matches its leaf, and none
 * is missing, or an error is raised: AP005, AP009 if the patient was forgotten meanwhile, or what apm_cloud_read() raises.  A caller that wants some
 * of a patient's records only puts those into records and nrecords.
 */
extern void apm_reading_run(const ApmGateQuestion *answers, const ApmSlice *apids, int n,
							ApmReadingCallback callback, void *closure);

/* What a reader gets of it: the profile's attributes overlaid by the record's own.  palloc'd; the caller wipes it. */
extern Jsonb *apm_reading_record(const ApmReading *reading);

/* Its flags as text[]. */
extern Datum apm_reading_flags(const ApmReading *reading);

/*
 * Asks for a patient, and opens him with the profile that the answer names, in the current memory context.  Raises AP001
 * when the contract refuses.
 */
extern ApmPatient *apm_reading_ask(const ApmAsk *ask, ApmSlice apid);

/* Opens a primary transaction of this patient, checked by the caller; place and question are his to fill in. */
extern void apm_reading_open(const ApmPatient *patient, const ApmTransaction *tx, ApmReading *out);

#endif /* APM_READING_H */
