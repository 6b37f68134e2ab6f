/*
 * dataset.h
 *	  A dataset in memory: lines of JSON, in an order that says nothing.
 */
#ifndef APM_EXPORT_DATASET_H
#define APM_EXPORT_DATASET_H

#include "postgres.h"

#include "anonymize/jsontext.h"
#include "export/study.h"

/* How exact a time is that leaves the house. */
typedef enum ApmTimeStep
{
	APM_STEP_DAY,
	APM_STEP_WEEK,
	APM_STEP_MONTH,
	APM_STEP_QUARTER,
	APM_STEP_YEAR
} ApmTimeStep;

/* Raises 22023 for an unknown name. */
extern ApmTimeStep apm_step_read(const char *name);
extern const char *apm_step_name(ApmTimeStep step);

/* The attributes that go out. */
typedef struct ApmColumnsOut
{
	int n;
	ApmSlice *names; /* in the server's encoding, ascending by bytes */
	bool by_name;	 /* the researcher named them: long texts go out too */
} ApmColumnsOut;

/*
 * With names NULL: all attributes that are declared exportable.  Raises 22023 for a name that is not.
 * In a section; what it points to lives in the current memory context.
 */
extern void apm_columns_read(const ApmSlice *names, int n, ApmColumnsOut *out);

/* Raises 22023 unless all attributes of a selection are declared exportable.  In a section. */
extern void apm_columns_check_selection(Jsonb *selection);

/* Lines, in memory that is wiped with the context that is current at its start. */
typedef struct ApmDataset
{
	MemoryContext context;
	const ApmStudy *study;
	const ApmColumnsOut *columns;
	ApmTimeStep step;
	int64 n;
	int64 capacity;
	ApmSlice *lines; /* UTF-8, without a line feed */
	Size bytes;		 /* of the file */
} ApmDataset;

extern void apm_dataset_start(ApmDataset *set, const ApmStudy *study, const ApmColumnsOut *columns,
							  ApmTimeStep step);

/* Adds what may go out of a record; a record of which nothing may is left out. */
extern void apm_dataset_add(ApmDataset *set, ApmSlice apid, uint64 recorded_us, Jsonb *record);

/* Puts the lines into an order drawn at random. */
extern void apm_dataset_shuffle(ApmDataset *set);

/* SHA-256 of the file: each line and a line feed. */
extern void apm_dataset_digest(const ApmDataset *set, ApmDigest *out);

#endif /* APM_EXPORT_DATASET_H */
