/*
 * lastvalue.h
 *	  The last values of a patient's attributes that data rules compare with.
 */
#ifndef APM_LASTVALUE_H
#define APM_LASTVALUE_H

#include "postgres.h"

#include "anonymize/patient.h"

typedef struct ApmLastValue
{
	ApmSlice attribute; /* UTF-8 */
	uint64 time_us;		/* when it was observed; 0: not known */
	ApmUuid rid;		/* of the record that said it */
	ApmSlice value;		/* in its one form (apm_json_put_scalar) */
} ApmLastValue;

/* Those of one patient. */
typedef struct ApmLastValues
{
	const ApmPatient *patient;
	bool locked; /* ours until the end of the transaction; else there is nothing here */
	int n;
	int capacity;
	ApmLastValue *v;
	bool changed;
} ApmLastValues;

/* Makes the place for a patient's, who is being registered.  In a section. */
extern void apm_last_values_begin(ApmSlice apid);

/*
 * Locks and opens the last values of n patients, who are different ones in the order of their aPids.  Waits
 * for whoever has them, or, unless wait is set, leaves them unlocked.  In REPEATABLE READ raises 40001 if
 * they have changed since the snapshot.  What a record says that the contract has refused is not among them.  They live
 * in the current memory context.  In a section.
 */
extern ApmLastValues *apm_last_values_lock(const ApmPatient *const *patients, int n, bool wait);

/* Writes those that have changed, sealed.  In a section. */
extern void apm_last_values_write(const ApmLastValues *all, int n);

/* NULL if there is none; valid until the next is put or taken away. */
extern const ApmLastValue *apm_last_value_find(const ApmLastValues *values, ApmSlice attribute);

/* Puts a value in place of the attribute's.  Its bytes are copied. */
extern void apm_last_value_put(ApmLastValues *values, const ApmLastValue *value);

extern void apm_last_value_remove(ApmLastValues *values, ApmSlice attribute);

#endif /* APM_LASTVALUE_H */
