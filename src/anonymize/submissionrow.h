/*
 * submissionrow.h
 *	  A submission from within, for the files that flush it.
 */
#ifndef APM_SUBMISSIONROW_H
#define APM_SUBMISSIONROW_H

#include "postgres.h"

#include "anonymize/known.h"
#include "anonymize/submission.h"
#include "anonymize/waiting.h"

/* What becomes of a record. */
typedef enum ApmFate
{
	APM_FATE_OPEN,	 /* not known yet */
	APM_FATE_REPEAT, /* was submitted before: nothing to do */
	APM_FATE_AGAIN,	 /* its Rid was: needs another */
	APM_FATE_SEND,
	APM_FATE_WAIT /* for reception */
} ApmFate;

typedef struct ApmSubmittedRow
{
	ApmSource source;
	ApmRecord record;
	bool drawn; /* the Rid is ours, so nobody can have used it before */
	ApmPid pid;
	uint64 time_us;
	ApmDigest fingerprint;
	ApmFate fate;
	ApmFields identifying; /* during a flush */
	ApmKnown *known;	   /* during a flush */
	ApmWaiting waiting;	   /* of APM_FATE_WAIT */
	int place;			   /* in the outgoing transactions; -1: in none */
} ApmSubmittedRow;

struct ApmSubmission
{
	MemoryContext context; /* of the rows' contents */
	ApmActing who;
	Size bytes;
	int n;
	int capacity;
	ApmSubmittedRow *rows;
};

/* A flush in progress; in its section's memory. */
typedef struct ApmFlush
{
	ApmSubmission *all;
	ApmDeclared declared;
	ApmOutgoing out;
	ApmSubmittedRow **by_rid; /* all rows in order of Rid, then of arrival */
} ApmFlush;

/* A Rid that nobody can have used. */
extern void apm_rid_draw(ApmSubmittedRow *row);

/* Marks the rows whose Rids were submitted before, or raises AP012; draws others for those that need one. */
extern void apm_rids_find(ApmFlush *flush);

/* Raises 22023 for an open row that amends what was never submitted. */
extern void apm_rids_check_amends(const ApmSubmission *all);

/*
 * Takes the Rids.  Where another session was faster, its record is the one that counts, and
 * ours is withdrawn if it is the same.
 */
extern void apm_rids_take(ApmFlush *flush);

#endif /* APM_SUBMISSIONROW_H */
