/*
 * store.h
 *	  Inside the cloud room: the table that is the cloud, and what goes wrong with it.
 */
#ifndef APM_STORE_H
#define APM_STORE_H

#include "postgres.h"

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
} ApmStoreRow;

/*
 * Stores n rows of the outbox there, leaving out those whose Rid the store has already.  With
 * doubt it asks for these first, so that repeating is harmless also in a store without a unique key.
 *
 * A Rid that the store has with other content is left as it is: only the ledger can say which of the two is
 * right, and reading asks it.
 */
extern void apm_store_insert(Oid target, const ApmStoreRow *rows, int n, bool doubt);

/*
 * Asks the store for n Rids.  Returns how many rows came; they are in SPI_tuptable: rid, apr.
 * Nothing of them is checked.
 */
extern uint64 apm_store_select(Oid target, const ApmUuid *rids, int n);

/*
 * Asks the store which Rids stand beside all of these tokens (a bytea[]); at most limit rows come, in
 * SPI_tuptable: rid.  Nothing of them is checked.
 */
extern uint64 apm_store_match(Oid target, Datum tokens, int64 limit);

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

/* Turns of the worker: what each answers is as in ApmWorkerDesc. */
extern int apm_push_turn(void);
extern int apm_letters_turn(void);
extern int apm_publish_turn(void);
/* A read got through: do not wait longer with pushing. */
extern void apm_push_soon(void);

#endif /* APM_STORE_H */
