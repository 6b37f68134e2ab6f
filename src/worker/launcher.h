/*
 * launcher.h
 *	  Private to src/worker.
 */
#ifndef APM_WORKER_LAUNCHER_H
#define APM_WORKER_LAUNCHER_H

/* Registers the launcher; at preload. */
extern void apm_launcher_register(void);

#endif /* APM_WORKER_LAUNCHER_H */
