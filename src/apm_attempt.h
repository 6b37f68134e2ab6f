/*
 * apm_attempt.h
 *	  Doing something whose error is an answer.
 */
#ifndef APM_ATTEMPT_H
#define APM_ATTEMPT_H

/*
 * Calls step(arg) in a subtransaction.  NULL if it ends well.  If it raises, nothing of it is left, and the answer
 * is its error, in the memory context that was current: the caller gives every error that is none of his answers to
 * ReThrowError().  step begins in the subtransaction's own memory, which is gone when that fails, and else when the
 * transaction ends; what is to live otherwise it allocates in a context of its caller's.
 */
extern ErrorData *apm_attempt(void (*step)(void *arg), void *arg);

#endif /* APM_ATTEMPT_H */
