/*
 * turn.h
 *	  What the scaffold asks of the turn's transactions.  Private to src/worker.
 */
#ifndef APM_WORKER_TURN_H
#define APM_WORKER_TURN_H

/* Makes the memory context that turns work in. */
extern void apm_turn_init(bool once);

/* Empties that context and makes it current. */
extern void apm_turn_reset(void);

#endif /* APM_WORKER_TURN_H */
