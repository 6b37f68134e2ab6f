/*
 * keymake.h
 *	  Making a key.  Private to the room.
 */
#ifndef APM_KEYMAKE_H
#define APM_KEYMAKE_H

#include "postgres.h"

#include "keys/keykind.h"

/* Makes a generation of a kind (1 of one without generations), durably; false if somebody else was faster. */
extern bool apm_key_make(const ApmKeyKind *kind, uint32 generation);

#endif /* APM_KEYMAKE_H */
