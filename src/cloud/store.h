/*
 * store.h
 *	  Inside the cloud room: the table that is the cloud, and what goes wrong with it.
 */
#ifndef APM_STORE_H
#define APM_STORE_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "core/bytes.h"

/*
 * The attached table, apm.cloud_record if none is.  Until the transaction ends no other can be
 * attached.  Expects SPI and apm_privileged, as all below.
 */
extern Oid apm_store_target(void);

/* Raises AP010 unless that table can be the cloud.  Locks it until the transaction ends. */
extern void apm_store_check(Oid target);

/* A row of the outbox. */
typedef struct ApmStoreRow
{
	int64 id;
	ApmUuid rid;
	ApmUuid tid;
	bool replaces; /* what the store has for its Rid */
	bool has_apr;  /* it brought its aPR along; else that is made from the ledger */
} ApmStoreRow;

/*
 * The aPRs of n records, by their Tids, sealed for PK_APM; data is NULL where an erasure has voided the record.  Raises XX001 where
 * the ledger has no body otherwise.  Expects SPI and apm_privileged.
 */
extern void apm_content_make(const ApmUuid *tids, int n, ApmSlice *aprs);

/*
 * Stores n rows of the outbox there, leaving out those whose Rid the store has already.  With
 * doubt it asks for these first, so that repeating is harmless also in a store without a unique key.
 *
 * A Rid that the store has with other content is left as it is, unless the row says that it replaces it: only the
 * ledger can say which of the two is right, and reading asks it.  Rows of patients who are erased are left out, so
 * that none is stored after they were removed.
 */
extern void apm_store_insert(Oid target, const ApmStoreRow *rows, int n, bool doubt);

/*
 * Asks the store for n Rids.  Returns how many rows came; they are in SPI_tuptable: rid, apr, and of whole rows apid,
 * tokens.  Nothing of them is checked.
 */
extern uint64 apm_store_select(Oid target, const ApmUuid *rids, int n, bool whole);

/*
 * Asks the store which Rids stand beside all of these tokens (a bytea[]); at most limit rows come, in
 * SPI_tuptable: rid.  Nothing of them is checked.
 */
extern uint64 apm_store_match(Oid target, Datum tokens, int64 limit);

/*
 * Asks the store what it has from one Rid to another, both included, in order; at most limit rows come, in
 * SPI_tuptable: rid, apid.  Nothing of them is checked.
 */
extern uint64 apm_store_list(Oid target, const ApmUuid *from, const ApmUuid *upto, int64 limit);

/* How many rows without a Rid has it? */
extern uint64 apm_store_nameless(Oid target);

/* Deletes all rows of n Rids there, or those without one; returns how many. */
extern uint64 apm_store_delete(Oid target, const ApmUuid *rids, int n);
extern uint64 apm_store_delete_nameless(Oid target);

/* Deletes rows of n patients there, about limit at once.  True if these were all. */
extern bool apm_store_forget(Oid target, const ApmSlice *apids, int n, int limit);

/* The Rid at the end of a page of so many rows; false, and the last Rid that there can be, if there are fewer. */
extern bool apm_store_page(Oid target, const ApmUuid *from, int64 rows, ApmUuid *last);

/* How many rows, from one Rid to another, both included, have that key's id where an envelope names its recipients? */
extern int64 apm_store_sealed(Oid target, const ApmUuid *from, const ApmUuid *upto, const ApmKeyId *key);

/* Whose fault an error of the store is. */
typedef enum ApmStoreFault
{
	APM_STORE_AWAY,	 /* it does not answer: what was asked is as good as before */
	APM_STORE_UNFIT, /* table, rights or settings are wrong: somebody must look at it */
	APM_STORE_ROW	 /* it answers and refuses this row */
} ApmStoreFault;

extern ApmStoreFault apm_store_fault(int sqlstate);

/*
 * The store may hang without an error.  Between the two, a statement that takes longer is
 * cancelled with 57014.  apm_deadline_stop() is called on every path, also after an error.
 */
extern void apm_deadline_start(int ms);
extern void apm_deadline_stop(void);

/*
 * Does a step that goes to the store, within a deadline: it begins a turn's transaction and commits it.  Returns 0,
 * or the SQLSTATE that it failed with, which apm.status then shows; nothing of ours is left of it then.
 */
extern int apm_store_step(void (*step)(void *closure), void *closure);

/* When to come again after the store has failed: the longer the more often it has.  Zero-initialized: at once. */
typedef struct ApmBackoff
{
	int ms; /* 0: it has not failed */
	TimestampTz until;
} ApmBackoff;

/* Milliseconds that are still to wait; 0: none. */
extern int apm_backoff_wait(const ApmBackoff *backoff);
/* It has failed.  Returns how long to wait; says what in the log if it is the first time. */
extern int apm_backoff_failed(ApmBackoff *backoff, int sqlstate, const char *what);
/* It has not.  Says what in the log if it had. */
extern void apm_backoff_over(ApmBackoff *backoff, const char *what);

/* Turns of the worker: what each answers is as in ApmWorkerDesc. */
extern int apm_push_turn(void);
extern int apm_removal_turn(void);
extern int apm_letters_turn(void);
extern int apm_publish_turn(void);
/* A read got through: do not wait longer with pushing and removing. */
extern void apm_push_soon(void);
extern void apm_removal_soon(void);

#endif /* APM_STORE_H */
