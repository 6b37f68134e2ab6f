/*
 * anonymize.h
 *	  The APM: patient profiles, Method 1 and Method 2, submitting and fetching records.
 *
 * Users call this room through SQL; the rooms of the house do not.
 */
#ifndef APM_ANONYMIZE_H
#define APM_ANONYMIZE_H

/* Once, when the library is loaded. */
extern void apm_anonymize_init(void);

#endif /* APM_ANONYMIZE_H */
