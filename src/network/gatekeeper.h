/*
 * gatekeeper.h
 *	  Inside the query gate, the network server's side: the letters it has in hand.
 *
 * A letter's way:
 *
 *		taken -> written -> waiting -> prepared -> answered
 *		  |         |          |
 *		  +---------+----------+--> failed
 *
 * gatekeeper.c takes and looks after them, gate_write.c writes their questions down,
 * gate_waiting.c keeps those that wait, gate_answer.c answers.
 */
#ifndef APM_GATEKEEPER_H
#define APM_GATEKEEPER_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "lib/ilist.h"

#include "network/gate_letter.h"
#include "worker/mailbox.h"

struct ApmGateLetter;

/* A question of a letter: what its answer is made from. */
typedef struct ApmAsked
{
	struct ApmGateLetter *letter;
	ApmUuid tid;
	ApmGateList list;
	bool search;
	ApmSlice apid;
	ApmTokens tokens;
	ApmSlice answer; /* empty until it is there */
} ApmAsked;

typedef struct ApmGateLetter
{
	dlist_node node;	  /* among those that wait */
	MemoryContext memory; /* holds this and what hangs on it, but not the request */
	ApmLetter letter;
	ApmGateRequest request; /* until it is written */
	TimestampTz since;
	int n;
	int open;	 /* questions without an answer */
	Size bytes;	 /* of the answers */
	Size coming; /* of those in preparation */
	ApmAsked *asked;
} ApmGateLetter;

/* Opens a letter that was taken; NULL, and the letter failed, if it does not consist of queries. */
extern ApmGateLetter *apm_gate_open_letter(const ApmLetter *letter);

/*
 * Writes the questions of these letters, who asks and their notes.  If it fails together, each letter is
 * tried alone; one that fails is failed and NULL in the array then.
 */
extern void apm_gate_write(ApmGateLetter **letters, int n);

/* Ends a letter's life here; the caller has answered or failed it, or nobody wants it. */
extern void apm_gate_free(ApmGateLetter *letter);

/* Letters that wait.  Adding fails a letter of which a question waits already. */
extern void apm_waiting_add(ApmGateLetter *letter);
extern ApmAsked *apm_waiting_find(const ApmUuid *tid); /* NULL: nobody waits for it */
extern bool apm_waiting_any(void);
/* Removes it, and frees it. */
extern void apm_waiting_remove(ApmGateLetter *letter);
extern void apm_waiting_fail(ApmGateLetter *letter, int sqlstate, const char *message, const char *hint);
extern void apm_waiting_fail_all(int sqlstate, const char *message, const char *hint);
/* The Tids of what is not answered in letters that have waited since before then; palloc'd. */
extern int apm_waiting_tids(TimestampTz before, ApmUuid **out);

#endif /* APM_GATEKEEPER_H */
