/*
 * policy.h
 *	  Values of the contract's policies, and the words for them.
 *
 * Some policies are numbers, the others a choice of a few; people read and write
 * those as words.
 */
#ifndef APM_CORE_POLICY_H
#define APM_CORE_POLICY_H

#include "transaction.h"

#define APM_ACCESS_CLINICIAN 1
#define APM_ACCESS_CONSENT 2

#define APM_PURPOSE_OPTIONAL 0
#define APM_PURPOSE_REQUIRED 1

#define APM_EMERGENCY_NONE 0
#define APM_EMERGENCY_UNLESS_WITHDRAWN 1
#define APM_EMERGENCY_ALWAYS 2

#define APM_EXPORT_UNLESS_WITHDRAWN 1
#define APM_EXPORT_GRANTED 2

/* The word for a policy's value; NULL if it is a number, or none that the policy can have. */
extern const char *apm_policy_word(uint16_t key, uint64_t value);
/* The value that a text stands for: a word, or decimal digits where the policy is a number.  False if none. */
extern bool apm_policy_value(uint16_t key, const char *text, uint64_t *value);

#endif /* APM_CORE_POLICY_H */
