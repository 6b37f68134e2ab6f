/*
 * wake.h
 *	  Private to src/worker.
 */
#ifndef APM_WORKER_WAKE_H
#define APM_WORKER_WAKE_H

/* Installs the hook that notices databases and extensions; at preload. */
extern void apm_wake_init(void);

#endif /* APM_WORKER_WAKE_H */
