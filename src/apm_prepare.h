/*
 * apm_prepare.h
 *	  What must not be prepared.
 */
#ifndef APM_PREPARE_H
#define APM_PREPARE_H

/*
 * The current transaction has submitted something and can no longer be prepared, unless the
 * subtransaction that did so is rolled back: PREPARE TRANSACTION then fails with 0A000.
 */
extern void apm_prepare_forbid(void);

#endif /* APM_PREPARE_H */
