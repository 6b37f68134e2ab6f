/*
 * apm_memory.h
 *	  The core's memory, taken from PostgreSQL's memory contexts.
 *
 * What the core allocates belongs to the memory context that is current at the time,
 * and an error that jumps out of the core's caller frees it with that context.  A
 * secret block is wiped first, whoever frees it.
 *
 * An object of the core that must outlive the transaction (a sealer, an opener, a key)
 * is made while the process context is current:
 *
 *		MemoryContext old = MemoryContextSwitchTo(apm_process_context());
 *
 *		status = apm_sealer_new(...);
 *		MemoryContextSwitchTo(old);
 *
 * Keys, sealers and openers allocate everything that they own when they are made.  Where
 * a later call lets an object grow (apm_contract_load_patient), that call needs the
 * object's context to be current, too.
 */
#ifndef APM_MEMORY_H
#define APM_MEMORY_H

#include "utils/palloc.h"

/* Makes the core allocate from memory contexts. */
extern void apm_memory_init(void);

/* Lives as long as the process; secrets in it are wiped at exit. */
extern MemoryContext apm_process_context(void);

#endif /* APM_MEMORY_H */
