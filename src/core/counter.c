/*
 * counter.c
 *	  Which named counters a transaction moves.
 *
 * Rules and policies ask how many transactions of a sort there were.  Whoever counts, the
 * contract while it applies a block, a node that keeps totals of its ledger, a verifier,
 * asks here what is counted.
 */
#include "contract.h"

static int
query_counters(const ApmQueryFields *f, uint8_t *counters)
{
	int n = 0;

	/* a dataset is many queries at once, and has a policy of its own */
	if (f->scope != APM_SCOPE_EXPORT)
		counters[n++] = APM_COUNT_ACTOR_QUERIES;
	if (f->scope == APM_SCOPE_EMERGENCY)
		counters[n++] = APM_COUNT_ACTOR_EMERGENCIES;
	if (f->apid.len > 0)
		counters[n++] = APM_COUNT_PATIENT_QUERIES;
	return n;
}

int
apm_contract_counters(const ApmTransaction *tx, uint8_t counters[APM_COUNTERS])
{
	switch (tx->kind)
	{
		case APM_KIND_QUERY:
			return query_counters(&tx->u.query, counters);
		case APM_KIND_PRIMARY:
			counters[0] = APM_COUNT_ACTOR_RECORDS;
			counters[1] = APM_COUNT_PATIENT_RECORDS;
			return 2;
		default:
			return 0;
	}
}
