/*
 * letter.h
 *	  Inside the cloud room: letters in the worker's mailbox, and how it goes to the store for them.
 */
#ifndef APM_LETTER_H
#define APM_LETTER_H

#include "postgres.h"

#include "worker/mailbox.h"

/* What a letter asks: its first byte. */
typedef enum ApmLetterKind
{
	APM_ASK_RECORDS = 1, /* read.c */
	APM_ASK_MATCHES = 2	 /* match.c */
} ApmLetterKind;

/* How a visit to the store failed, as a caller may hear it; message NULL: it did not. */
typedef struct ApmVisitFailure
{
	int sqlstate;
	const char *message;
	const char *hint;
	bool away;	   /* the store does not answer: asking for less would not help */
	bool tampered; /* it answers what cannot be: nothing that it said counts */
} ApmVisitFailure;

/*
 * Runs a visit within the deadline for reading.  It holds a turn's transaction of its own and may raise;
 * what it has allocated in the current memory context outlives the error.
 */
extern void apm_store_visit(void (*visit)(void *closure), void *closure, ApmVisitFailure *failure);

/*
 * In a visit, before the store is asked: raises if it took long not to answer a moment ago, so
 * that who asks next hears of it at once.
 */
extern void apm_store_knock(void);

extern void apm_letter_fail(const ApmLetter *letter, const ApmVisitFailure *failure);
extern void apm_letter_refuse(const ApmLetter *letter); /* it is not a request */

/* Serve letters that ask for records, for matches. */
extern void apm_read_serve(const ApmLetter *letters, int n);
extern void apm_match_serve(const ApmLetter *letters, int n);

#endif /* APM_LETTER_H */
