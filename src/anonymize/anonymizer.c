/*
 * anonymizer.c
 *	  What the calls of apm_anonymize() in one statement share.
 *
 * Asking the tables for a patient, for what is declared and for the chain costs several times as much as encrypting and
 * signing a record.  So the calls of one statement ask once, as all records of an INSERT do, and what they share ends with
 * the statement, keys wiped.
 *
 * A statement can last, though, and what it holds must not become old: a patient may be forgotten, a
 * profile changed.  After a moment everything is asked for again; and at once where our own transaction did anything since, or
 * took it back, and where somebody else acts.
 */
#include "postgres.h"

#include "access/xact.h"
#include "storage/proc.h"
#include "utils/memutils.h"

#include "anonymize/anonymizer.h"
#include "anonymize/known.h"

#define MOMENT_US 1000000
#define HELD_PATIENTS 1000

/* By what it is known whether all of it still holds. */
typedef struct ApmHeld
{
	LocalTransactionId transaction;
	SubTransactionId subtransaction;
	CommandId command;
	uint64 since_us;
	ApmKnownSet *patients;
	int loaded;
	MemoryContext memory;
} ApmHeld;

static bool
same_actor(const ApmActor *a, const ApmActor *b)
{
	return a->role == b->role && a->login == b->login && a->roles == b->roles;
}

static bool
still_holds(const ApmAnonymizer *anonymizer, const ApmActor *actor)
{
	const ApmHeld *held = anonymizer->held;
	uint64 now = apm_now_us();

	return held->transaction == MyProc->lxid && held->subtransaction == GetCurrentSubTransactionId() &&
		   held->command == GetCurrentCommandId(false) && now >= held->since_us &&
		   now - held->since_us < MOMENT_US && held->loaded < HELD_PATIENTS &&
		   same_actor(&anonymizer->who.actor, actor);
}

/* Asks for everything but patients.  A section ends in the memory context in which it began. */
static void
fill(ApmAnonymizer *anonymizer)
{
	ApmHeld *held = anonymizer->held;
	ApmSection section;

	held->transaction = MyProc->lxid;
	held->subtransaction = GetCurrentSubTransactionId();
	held->command = GetCurrentCommandId(false);
	held->since_us = apm_now_us();

	apm_section_begin(&section);
	MemoryContextSwitchTo(held->memory);
	apm_outgoing_start(&anonymizer->out, &anonymizer->who);
	apm_declared_load(&anonymizer->declared);
	held->patients = apm_known_new();
	apm_section_end(&section);
}

static ApmAnonymizer *
make(MemoryContext parent)
{
	MemoryContext memory = AllocSetContextCreate(parent, "apm anonymizer", ALLOCSET_DEFAULT_SIZES);
	ApmAnonymizer *made = MemoryContextAllocZero(memory, sizeof(ApmAnonymizer));

	made->call = AllocSetContextCreate(memory, "apm anonymizer call", ALLOCSET_DEFAULT_SIZES);
	made->held = MemoryContextAllocZero(memory, sizeof(ApmHeld));
	made->held->memory = memory;
	return made;
}

ApmAnonymizer *
apm_anonymizer(FmgrInfo *place, uint16 roles)
{
	ApmAnonymizer *anonymizer = place->fn_extra;
	ApmActor actor;

	apm_actor(&actor);
	if (anonymizer != NULL && still_holds(anonymizer, &actor))
	{
		MemoryContextReset(anonymizer->call);
		return anonymizer;
	}
	place->fn_extra = NULL;
	if (anonymizer != NULL)
		MemoryContextDelete(anonymizer->held->memory);
	anonymizer = make(place->fn_mcxt);
	apm_acting(&anonymizer->who);
	apm_acting_require(&anonymizer->who, roles, "anonymize records");
	fill(anonymizer);
	place->fn_extra = anonymizer;
	return anonymizer;
}

ApmPatient *
apm_anonymizer_patient(ApmAnonymizer *anonymizer, const ApmDigest *index)
{
	MemoryContext caller = MemoryContextSwitchTo(anonymizer->held->memory);
	ApmKnown *known = apm_known_enter(anonymizer->held->patients, index);
	ApmSection section;

	if (known->patient == NULL)
	{
		apm_section_begin(&section);
		MemoryContextSwitchTo(anonymizer->held->memory);
		apm_known_load(&known, 1);
		apm_section_end(&section);
		anonymizer->held->loaded++;
	}
	MemoryContextSwitchTo(caller);
	return known->patient;
}
