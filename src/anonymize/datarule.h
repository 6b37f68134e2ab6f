/*
 * datarule.h
 *	  What the contract asks of a record before it is sealed: data rules, and public fields of its template.
 *
 * A data rule says of one attribute what its value must be, by itself or after the patient's earlier
 * records (datacheck.h).  It is part of the contract; the APM holds each record to it, and signs which rules
 * those were.
 */
#ifndef APM_DATARULE_H
#define APM_DATARULE_H

#include "postgres.h"

#include "anonymize/patient.h"

/* A record of a patient that is about to be sealed. */
typedef struct ApmProspect
{
	const ApmPatient *patient;
	ApmRecord *record; /* its ruling is filled in */
	bool busy;		   /* out: it is not, for somebody else is about to change the patient's last values */
} ApmProspect;

/* What whoever submits is told of a record that is not as it must be.  What he is not told is a flag. */
typedef enum ApmTold
{
	APM_TOLD_NOTHING, /* a sensor: he is not even there any more */
	APM_TOLD_RECORD,  /* what can be said without the patient's earlier values: he may not read those */
	APM_TOLD_ALL
} ApmTold;

/*
 * Holds n records to what the contract asks, in their order, several of one patient to one another
 * too.  Values of theirs become the patients' last values, which are locked until the end of the
 * transaction, so two sessions that submit for one patient do it one after the other; in REPEATABLE READ
 * 40001 may be raised.  Only patients of records that rules with history judge are locked.
 *
 * Raises, as far as that is told, AP016 for a record that violates a rule whose violation refuses, and 22023
 * for one that lacks a public field which a template requires.  Who is told nothing waits for nobody.
 *
 * A dated record is late also if it was observed before the value that it would be compared with.  Late
 * records and amendments are not compared with earlier values, and no violation refuses a late one.  What a
 * late one says becomes the last value only where there is none that is newer; what an amendment says only
 * where the record that it amends said the last value.
 *
 * In a section, in whose memory rulings live.
 */
extern void apm_records_hold(ApmProspect *prospects, int n, const ApmDeclared *declared, ApmTold told);

/*
 * What the contract asks of n records, as far as it can be told without their patients: raises 22023 for one
 * that lacks a public field which a template requires.  In a section.
 */
extern void apm_records_require_fields(const ApmRecord *const *records, int n, const ApmDeclared *declared);

#endif /* APM_DATARULE_H */
