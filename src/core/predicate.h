/*
 * predicate.h
 *	  The declarative predicates of site rules: a condition over a transaction's public
 *	  fields and named counters of the ledger's state.
 *
 * A predicate is carried whole in the transaction that adds its rule, and evaluated here,
 * so that every node and a verifier without PostgreSQL give the same verdict.  It is a tree
 * in prefix order, u8 operator and then its operands; it has no loop, no variable and no
 * arithmetic, so its cost is its size:
 *
 *		and, or		u8 count (1 to 16), that many conditions
 *		not			a condition
 *		eq .. ge	two operands of one type; order is defined for integers only
 *		in			an operand, u8 count (1 to 32), that many constants of its type
 *		role		u16, a mask of APM_ROLE_*: has the actor one of them?
 *		integer		u64, two's complement
 *		text		u32 length and 0 to 64 bytes of graphic ASCII or space
 *		field		u8, an ApmTermField
 *		public		u32 length and the name of a public field (field.h)
 *		count		u8 counter (ApmCounter), u32 seconds of block time, 0 for ever
 *
 * The predicate says what must hold: a transaction of which it does not is refused.  A public field that
 * the transaction does not carry, or carries with another type, makes the comparison that asks for it
 * false; a boolean one counts as 0 or 1.  What does not have the types that it must have is no predicate.
 */
#ifndef APM_CORE_PREDICATE_H
#define APM_CORE_PREDICATE_H

#include "transaction.h"

#define APM_PREDICATE_MAX 1024 /* bytes */
#define APM_PREDICATE_NODES 64 /* operators, operands and constants */
#define APM_PREDICATE_DEPTH 8
#define APM_PREDICATE_COUNTERS 4 /* different (counter, seconds) of one predicate */

typedef enum ApmOperator
{
	APM_OP_AND = 1,
	APM_OP_OR = 2,
	APM_OP_NOT = 3,
	APM_OP_EQ = 4,
	APM_OP_NE = 5,
	APM_OP_LT = 6,
	APM_OP_LE = 7,
	APM_OP_GT = 8,
	APM_OP_GE = 9,
	APM_OP_IN = 10,
	APM_OP_ROLE = 11,
	APM_OP_INTEGER = 12,
	APM_OP_TEXT = 13,
	APM_OP_FIELD = 14,
	APM_OP_PUBLIC = 15,
	APM_OP_COUNT = 16
} ApmOperator;

/* "and", "eq", ...; 0 or NULL if unknown */
extern uint8_t apm_operator_code(const char *name);
extern const char *apm_operator_name(uint8_t code);

/* What a predicate can ask of every transaction, and of some kinds. */
typedef enum ApmTermField
{
	APM_TERM_HOUR = 1,	   /* integer: of the block's time, UTC, 0 to 23 */
	APM_TERM_WEEKDAY = 2,  /* integer: of the block's time, UTC, 0 is Sunday */
	APM_TERM_AGE = 3,	   /* integer: seconds from the transaction's time to its block's */
	APM_TERM_BATCH = 4,	   /* integer: transactions under the statement's signature */
	APM_TERM_PURPOSE = 5,  /* text, query and consent: name of the purpose, '' for none */
	APM_TERM_SCOPE = 6,	   /* text, query: apm_scope_name() */
	APM_TERM_REASON = 7,   /* text, query: name of the reason, '' for none */
	APM_TERM_SIZE = 8,	   /* integer, primary: bytes of the encrypted record */
	APM_TERM_AMENDS = 9,   /* integer, primary: 1 if it amends a record, else 0 */
	APM_TERM_FLAGGED = 10, /* integer, primary: 1 if it violates a data rule, else 0 */
	APM_TERM_LATE = 11,	   /* integer, primary: 1 if it was recorded late, else 0 */
	APM_TERM_ACTION = 12   /* text, consent: apm_consent_name() */
} ApmTermField;

extern uint8_t apm_term_code(const char *name); /* "hour", "weekday", ... */
extern const char *apm_term_name(uint8_t code);

/* Named counters of the ledger's state: valid transactions before this one. */
typedef enum ApmCounter
{
	APM_COUNT_ACTOR_QUERIES = 1,	 /* queries of this actor, of all scopes but export */
	APM_COUNT_ACTOR_RECORDS = 2,	 /* records submitted by this actor */
	APM_COUNT_ACTOR_EMERGENCIES = 3, /* queries of this actor of scope emergency */
	APM_COUNT_PATIENT_QUERIES = 4,	 /* queries for this patient, of all scopes */
	APM_COUNT_PATIENT_RECORDS = 5	 /* this patient's records, amended ones included */
} ApmCounter;

#define APM_COUNTERS 5

extern uint8_t apm_counter_code(const char *name); /* "actor.queries", "patient.records", ... */
extern const char *apm_counter_name(uint8_t code);
extern bool apm_counter_of_patient(uint8_t counter);

typedef struct ApmCounterTerm
{
	uint8_t counter;
	uint32_t seconds; /* 0: ever */
} ApmCounterTerm;

/*
 * Is this a predicate for transactions of that kind, within all bounds and well typed?  If so the
 * counters that it asks for are in *terms (room for APM_PREDICATE_COUNTERS), *nterms of them; both may be
 * NULL.  APM_ERR_FORMAT, or APM_ERR_RANGE beyond a bound.
 */
extern ApmStatus apm_predicate_check(ApmSlice predicate, ApmKind kind, ApmCounterTerm *terms, int *nterms);

/* What a predicate is evaluated over. */
typedef struct ApmPredicateWorld
{
	const ApmTransaction *tx;
	uint32_t batch; /* leaves under the origin's signature */
	uint64_t block_time_us;
	const char *(*purpose_name)(const void *closure, uint16_t code); /* NULL: not on the list */
	const char *(*reason_name)(const void *closure, uint16_t code);
	uint64_t (*count)(const void *closure, ApmCounterTerm term);
	const void *closure;
} ApmPredicateWorld;

/* Does it hold?  The predicate was checked for tx's kind. */
extern bool apm_predicate_holds(ApmSlice predicate, const ApmPredicateWorld *world);

#endif /* APM_CORE_PREDICATE_H */
