/*
 * fuzz_predicate.c
 *	  What the check takes for a predicate of some kind is evaluated to its end, the same each
 *	  time, and asks for no counter that the check did not name.
 *
 * The first byte says which kind, and is followed by the predicate.
 */
#include <stdlib.h>
#include <string.h>

#include "core/predicate.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct Asked
{
	ApmCounterTerm terms[APM_PREDICATE_COUNTERS];
	int nterms;
} Asked;

static const char *
name_of_code(const void *closure, uint16_t code)
{
	(void) closure;
	return code == 1 ? "treatment" : NULL;
}

static uint64_t
count(const void *closure, ApmCounterTerm term)
{
	const Asked *asked = closure;

	for (int i = 0; i < asked->nterms; i++)
	{
		if (asked->terms[i].counter == term.counter && asked->terms[i].seconds == term.seconds)
			return term.seconds;
	}
	abort();
}

/* A transaction of that kind with a public field of each type. */
static ApmTransaction
sample(ApmKind kind)
{
	static const uint8_t fields[] = {3, 0, 0, 0, 1, 'a', 1, 0, 0, 0, 0, 0, 0,	0, 9, 0, 0, 0, 1,	'b', 2,
									 0, 0, 0, 0, 0, 0,	 0, 1, 0, 0, 0, 1, 'c', 3, 0, 0, 0, 3, 'i', 'c', 'u'};
	ApmTransaction tx;

	memset(&tx, 0, sizeof(tx));
	tx.kind = kind;
	tx.time_us = UINT64_C(1700000000000000);
	tx.roles = APM_ROLE_CLINICIAN;
	tx.fields = APM_SLICE(fields, sizeof(fields));
	if (kind == APM_KIND_QUERY)
	{
		tx.u.query.scope = APM_SCOPE_RECORDS;
		tx.u.query.purpose = 1;
	}
	else if (kind == APM_KIND_CONSENT)
		tx.u.consent.action = APM_CONSENT_GRANT;
	return tx;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	ApmKind kind = size > 0 ? (ApmKind) data[0] : (ApmKind) 0;
	ApmSlice predicate = APM_SLICE(data + 1, size > 0 ? size - 1 : 0);
	ApmTransaction tx = sample(kind);
	Asked asked;
	ApmPredicateWorld world = {.tx = &tx,
							   .batch = 1,
							   .block_time_us = UINT64_C(1700000001000000),
							   .purpose_name = name_of_code,
							   .reason_name = name_of_code,
							   .count = count,
							   .closure = &asked};

	if (size == 0 || apm_predicate_check(predicate, kind, asked.terms, &asked.nterms) != APM_OK)
		return 0;
	if (predicate.len > APM_PREDICATE_MAX || asked.nterms < 0 || asked.nterms > APM_PREDICATE_COUNTERS)
		abort();
	if (apm_predicate_holds(predicate, &world) != apm_predicate_holds(predicate, &world))
		abort();
	/* one byte less or more is none */
	if (apm_predicate_check(APM_SLICE(predicate.data, predicate.len - 1), kind, NULL, NULL) == APM_OK)
		abort();
	return 0;
}
