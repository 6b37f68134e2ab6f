/*
 * guard.h
 *	  The triggers that keep the ledger: which there must be.  For this room.
 */
#ifndef APM_CHAIN_GUARD_H
#define APM_CHAIN_GUARD_H

#include "postgres.h"

#include "commands/trigger.h"
#include "fmgr.h"

/*
 * Raises unless we were called as a trigger of that table of ours (NULL: of any), for
 * that operation (a TRIGGER_EVENT_*, or -1 for any), before or after, for each row or
 * each statement.
 */
extern TriggerData *apm_guard_called(FunctionCallInfo fcinfo, const char *table, int operation, bool before,
									 bool row);

/* Notes that the table is written past our code, unless it is our code that writes. */
extern void apm_guard_note(Relation relation);

/* Raises AP006 for a row or statement that breaks a rule of the ledger; CONSTRAINT is table_rule. */
extern void apm_guard_refuse(Relation relation, const char *rule, const char *detail) pg_attribute_noreturn();

/* Does every guard stand, ENABLE ALWAYS, as it was created, and none can be passed by?  Expects SPI and apm_privileged. */
extern bool apm_guards_stand(void);

/*
 * Makes every guard ENABLE ALWAYS again, with the rights of the tables' owner; returns
 * how many had another state.  Raises if one is not there at all.  Expects SPI.
 */
extern int apm_guards_restore(void);

#endif /* APM_CHAIN_GUARD_H */
