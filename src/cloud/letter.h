/*
 * letter.h
 *	  Inside the cloud room: letters in the worker's mailbox, and how it goes to the store for them.
 */
#ifndef APM_LETTER_H
#define APM_LETTER_H

#include "postgres.h"

#include "core/bytes.h"
#include "worker/mailbox.h"

/* What a letter asks: its first byte. */
typedef enum ApmLetterKind
{
	APM_ASK_RECORDS = 1, /* read.c */
	APM_ASK_MATCHES = 2, /* match.c */
	APM_ASK_ROWS = 3,	 /* read.c */
	APM_ASK_LIST = 4,	 /* list.c */
	APM_ASK_STRAYS = 5,	 /* list.c */
	APM_ASK_SEALED = 6	 /* sealed.c */
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

/* In a visit, after the store has answered: the worker's own work need not wait for it any longer. */
extern void apm_store_answered(void);

extern void apm_letter_fail(const ApmLetter *letter, const ApmVisitFailure *failure);
extern void apm_letter_refuse(const ApmLetter *letter); /* it is not a request */
/* After a visit: answers with these bytes, and resets them, or says how it failed. */
extern void apm_letter_answer(const ApmLetter *letter, const ApmVisitFailure *failure, ApmBuf *out);

/* Serves letters one by one, each with memory of its own. */
extern void apm_letters_each(const ApmLetter *letters, int n, void (*serve)(const ApmLetter *letter));

/* Serve letters that ask for records or rows, for matches, for a list, for the removal of strays, for who is sealed for a key. */
extern void apm_read_serve(const ApmLetter *letters, int n);
extern void apm_match_serve(const ApmLetter *letters, int n);
extern void apm_list_serve(const ApmLetter *letters, int n);
extern void apm_strays_serve(const ApmLetter *letters, int n);
extern void apm_sealed_serve(const ApmLetter *letters, int n);

#endif /* APM_LETTER_H */
