/*
 * survey.h
 *	  Inside the network room: the ledger's records and the cloud's rows, held against each other in the order of
 *	  their Rids.
 */
#ifndef APM_SURVEY_H
#define APM_SURVEY_H

#include "postgres.h"

#include "core/bytes.h"

typedef enum ApmSurveyFinding
{
	APM_RECORD_GOOD,	/* of a record: the cloud has it */
	APM_RECORD_OLD_KEY, /* the cloud has it, sealed for a key that is not the newest */
	APM_RECORD_PENDING, /* it is on its way there */
	APM_RECORD_MISSING,
	APM_RECORD_ALTERED,
	APM_ROW_LEAVING, /* of a row of the cloud: it is on its way out of there */
	APM_ROW_ERASED,	 /* its patient is erased, and nobody is about to remove it */
	APM_ROW_UNKNOWN	 /* no record accounts for it */
} ApmSurveyFinding;

/* Of a row rid is NULL if it has none; the Tid is that of a record. */
typedef void (*ApmSurveyCallback)(ApmSurveyFinding finding, const ApmUuid *rid, const ApmUuid *tid,
								  void *closure);

typedef struct ApmSurvey
{
	ApmUuid from;  /* where the next portion begins */
	ApmUuid last;  /* where the last one ended */
	bool finished; /* there is none */
	int64 height;  /* records of later blocks are none of the survey's, and their rows neither */
	ApmSurveyCallback callback;
	void *closure;
} ApmSurvey;

/*
 * Surveys the next records of our origin, at most limit, and whatever else the cloud has among them; returns how many records
 * there were.  What comes or goes meanwhile is not found to be at fault.  Expects SPI and apm_privileged, and PrK_APM;
 * raises as apm_cloud_read() does.
 */
extern int apm_survey_portion(ApmSurvey *survey, int limit);

#endif /* APM_SURVEY_H */
