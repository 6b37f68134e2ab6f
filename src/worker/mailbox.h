/*
 * mailbox.h
 *	  Requests from a backend to a worker and the answers, through shared memory.
 *
 * A reader's trace must not be undone by the reader's ROLLBACK, so another process has to write
 * it.  Each backend has one slot; states: free, requested, taken, answered; a generation number a
 * request.  Short requests and answers lie in the slot, long ones in a dynamic shared memory
 * segment of their own, which goes back to the system when it has been read.
 *
 * A caller that leaves (error, cancel, exit) withdraws its request if it is not taken yet, and
 * its answer goes nowhere if it is; a worker that exits fails what it had taken.  The caller
 * waits on its latch with interrupts served, and gives up with an error when no worker of that
 * kind is alive.  Neither deadlock detection nor lock_timeout sees this wait: a worker must not need a
 * lock that a caller may hold.
 */
#ifndef APM_MAILBOX_H
#define APM_MAILBOX_H

#include "worker/worker.h"

typedef enum ApmAnswer
{
	APM_ANSWER_OK = 0, /* data is the answer */
	APM_ANSWER_FAILED  /* data is an ApmFailure */
} ApmAnswer;

/* Why a worker could not answer; carries no value of any row. */
typedef struct ApmFailure
{
	int sqlstate;
	char message[160]; /* lower case, no full stop */
	char hint[240];	   /* empty: none */
} ApmFailure;

/*
 * Caller's side: sends request to this database's worker of that kind and waits.  The answer is
 * palloc'd in the current memory context (huge if need be).  A failure is raised with its
 * SQLSTATE, message and hint.  55000 if apm is not preloaded; 25006 on a standby; 57P03 if the
 * worker is not running, after a short wait if it is on its way.
 */
extern void apm_mailbox_call(ApmWorkerKind kind, const void *request, Size request_len, void **answer,
							 Size *answer_len);

/* Worker's side. */
typedef struct ApmLetter
{
	int slot;
	uint32 generation;
	void *request; /* palloc'd in CurrentMemoryContext at taking */
	Size request_len;
} ApmLetter;

/*
 * Takes up to max waiting requests for (MyDatabaseId, kind); returns how many.  None in a
 * one-shot worker, which may be gone before it could answer.
 */
extern int apm_mailbox_take(ApmWorkerKind kind, ApmLetter *letters, int max);
/*
 * Answers and wakes the caller; does nothing if the caller has gone.  An answer for which there
 * is no memory becomes a failure.
 */
extern void apm_mailbox_answer(const ApmLetter *letter, ApmAnswer kind, const void *data, Size len);
/* hint may be NULL */
extern void apm_mailbox_fail(const ApmLetter *letter, int sqlstate, const char *message, const char *hint);
/* Is somebody still waiting for this letter? */
extern bool apm_mailbox_wanted(const ApmLetter *letter);

#endif /* APM_MAILBOX_H */
