/*
 * erasure.h
 *	  What becomes of a request to forget a patient.
 */
#ifndef APM_ERASURE_H
#define APM_ERASURE_H

#include "postgres.h"

/*
 * One step for requests, erased patients or the journal, in transactions of its own; answers as a worker's
 * turn does.  Part of reception's turn.
 */
extern int apm_erasure_turn(void);

#endif /* APM_ERASURE_H */
