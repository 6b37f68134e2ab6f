/*
 * apm_loghook.h
 *	  Keeps what patients' statements say out of the server's log and its views.
 */
#ifndef APM_LOGHOOK_H
#define APM_LOGHOOK_H

/* Installs the log hook, if the library is being preloaded. */
extern void apm_loghook_init(void);

/*
 * From now on pg_stat_activity, and the postmaster's line about a killed process, show
 * a constant in place of the running statement.  Called by every entry point whose arguments may
 * name a patient; cheap when called again in the same statement.
 */
extern void apm_hide_statement(void);

#endif /* APM_LOGHOOK_H */
