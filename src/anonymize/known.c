/*
 * known.c
 *	  The patients that the rows of a batch name, each loaded once.
 */
#include "postgres.h"

#include "nodes/pg_list.h"
#include "utils/hsearch.h"

#include "anonymize/known.h"

struct ApmKnownSet
{
	HTAB *table; /* of ApmKnown by index */
	List *new;
};

ApmKnownSet *
apm_known_new(void)
{
	HASHCTL control = {
		.keysize = sizeof(ApmDigest), .entrysize = sizeof(ApmKnown), .hcxt = CurrentMemoryContext};
	ApmKnownSet *set = palloc(sizeof(ApmKnownSet));

	set->table = hash_create("apm patients", 256, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	set->new = NIL;
	return set;
}

ApmKnown *
apm_known_enter(ApmKnownSet *set, const ApmDigest *index)
{
	bool found;
	ApmKnown *known = hash_search(set->table, index, HASH_ENTER, &found);

	if (found)
		return known;
	known->patient = NULL;
	known->locked = false;
	known->busy = false;
	set->new = lappend(set->new, known);
	return known;
}

void
apm_known_load(ApmKnown **known, int n)
{
	ApmDigest *indexes;
	ApmPatient **patients;

	if (n == 0)
		return;
	indexes = palloc(sizeof(ApmDigest) * n);
	patients = palloc(sizeof(ApmPatient *) * n);
	for (int i = 0; i < n; i++)
		indexes[i] = known[i]->index;
	apm_patients_load(indexes, n, patients);
	for (int i = 0; i < n; i++)
		known[i]->patient = patients[i];
	pfree(indexes);
	pfree(patients);
}

void
apm_known_load_new(ApmKnownSet *set)
{
	ApmKnown **known = palloc(sizeof(ApmKnown *) * (list_length(set->new) + 1));
	int n = 0;
	ListCell *cell;

	foreach(cell, set->new)
		known[n++] = lfirst(cell);
	apm_known_load(known, n);
	pfree(known);
	list_free(set->new);
	set->new = NIL;
}
