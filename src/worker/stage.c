/*
 * stage.c
 *	  What the stages of several workers have in common: keys that may be missing, rows
 *	  that may fail.
 */
#include "postgres.h"

#include "utils/guc.h"
#include "utils/timestamp.h"

#include "apm_errors.h"
#include "keys/keyring.h"
#include "worker/worker.h"

void
apm_worker_by_index(void)
{
	SetConfigOption("enable_seqscan", "off", PGC_USERSET, PGC_S_SESSION);
	SetConfigOption("enable_bitmapscan", "off", PGC_USERSET, PGC_S_SESSION);
	SetConfigOption("enable_sort", "off", PGC_USERSET, PGC_S_SESSION);
}

bool
apm_stage_has_keys(ApmStageKeys *stage)
{
	TimestampTz now = GetCurrentTimestamp();
	bool have = stage->here();

	if (!have && TimestampDifferenceExceeds(stage->looked_at, now, APM_KEYS_POLL_MS))
	{
		stage->looked_at = now;
		apm_key_forget();
		have = stage->here();
	}
	if (!have && !stage->told)
	{
		ereport(LOG,
				(errcode(ERRCODE_APM_KEY_MISSING), errmsg("%s", stage->missing), errhint("%s", stage->hint)));
		apm_turn_failed(ERRCODE_APM_KEY_MISSING, stage->missing);
	}
	stage->told = !have;
	return have;
}

bool
apm_blames_row(int sqlstate)
{
	switch (ERRCODE_TO_CATEGORY(sqlstate))
	{
		case ERRCODE_DATA_EXCEPTION:
		case ERRCODE_INTEGRITY_CONSTRAINT_VIOLATION:
		case ERRCODE_PROGRAM_LIMIT_EXCEEDED:
		case ERRCODE_INTERNAL_ERROR: /* and damaged pages */
			return true;
		default:
			return false;
	}
}

int
apm_turn_blame(MemoryContext turn, bool (*blames)(int sqlstate))
{
	int sqlstate;

	MemoryContextSwitchTo(turn);
	sqlstate = geterrcode();
	if (!blames(sqlstate))
		PG_RE_THROW();
	FlushErrorState();
	apm_turn_abort();
	return sqlstate;
}
