/*
 * apm_guc.h
 *	  The settings.  What each means stands in the table in apm_guc.c.
 */
#ifndef APM_GUC_H
#define APM_GUC_H

typedef enum ApmPseudonymMode
{
	APM_PSEUDONYM_HASH,
	APM_PSEUDONYM_RANDOM
} ApmPseudonymMode;

extern bool apm_allow_paper_profile;
extern char *apm_databases;
extern char *apm_digest_command;
extern char *apm_digest_directory;
extern int apm_digest_interval;
extern char *apm_key_directory;
extern int apm_max_outbox;
extern int apm_max_queue;
extern int apm_pseudonym_mode;
extern int apm_salting_rounds;
extern char *apm_secret_command;

/* Defines the settings and makes the prefix "apm" ours. */
extern void apm_guc_init(void);

#endif /* APM_GUC_H */
