/*
 * bounds.h
 *	  Private to src/core.
 */
#ifndef APM_CORE_BOUNDS_H
#define APM_CORE_BOUNDS_H

#include "transaction.h"

/* Has every field a value that the encoding can carry in one way only? */
extern bool apm_transaction_in_bounds(const ApmTransaction *tx);

#endif /* APM_CORE_BOUNDS_H */
