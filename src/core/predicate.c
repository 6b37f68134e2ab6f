/*
 * predicate.c
 *	  Predicates of site rules: checked once, when their rule is admitted, and evaluated on
 *	  every transaction of its kind.
 *
 * Both walk the bytes as they are: a predicate is short, and a tree in memory would be one
 * thing more to get wrong.  The check bounds length, nodes and depth, so evaluation can
 * recurse and can look at every node, whether or not the verdict hangs on it any more; its cost is the
 * predicate's size.
 *
 * A type is a set of what a value may turn out to be.  Constants and built-in fields have one
 * element; a public field has two, since which type it has is the template's to say, and a
 * template may change after the rule was admitted.  Two operands fit when their sets meet.
 */
#include "predicate.h"

#include <string.h>

#include "contract.h"
#include "field.h"

#define GROUP_MAX 16 /* conditions of an and, an or */
#define LIST_MAX 32	 /* constants of an in */
#define TEXT_MAX 64	 /* bytes of a constant */

#define ROLES_KNOWN (2 * APM_ROLE_AUDITOR - 1)

#define TYPE_INTEGER 0x01
#define TYPE_TEXT 0x02
#define TYPE_EITHER (TYPE_INTEGER | TYPE_TEXT)

#define US_PER_SECOND UINT64_C(1000000)

#define KIND(k) (1u << (k))
#define EVERY_KIND UINT32_MAX

static const char *const operator_names[] = {
	[APM_OP_AND] = "and",	  [APM_OP_OR] = "or",		[APM_OP_NOT] = "not",
	[APM_OP_EQ] = "eq",		  [APM_OP_NE] = "ne",		[APM_OP_LT] = "lt",
	[APM_OP_LE] = "le",		  [APM_OP_GT] = "gt",		[APM_OP_GE] = "ge",
	[APM_OP_IN] = "in",		  [APM_OP_ROLE] = "role",	[APM_OP_INTEGER] = "integer",
	[APM_OP_TEXT] = "text",	  [APM_OP_FIELD] = "field", [APM_OP_PUBLIC] = "public",
	[APM_OP_COUNT] = "count",
};

typedef struct Term
{
	const char *name;
	uint8_t type;
	uint32_t kinds; /* of transactions that have it */
} Term;

static const Term terms_known[] = {
	[APM_TERM_HOUR] = {"hour", TYPE_INTEGER, EVERY_KIND},
	[APM_TERM_WEEKDAY] = {"weekday", TYPE_INTEGER, EVERY_KIND},
	[APM_TERM_AGE] = {"age", TYPE_INTEGER, EVERY_KIND},
	[APM_TERM_BATCH] = {"batch", TYPE_INTEGER, EVERY_KIND},
	[APM_TERM_PURPOSE] = {"purpose", TYPE_TEXT, KIND(APM_KIND_QUERY) | KIND(APM_KIND_CONSENT)},
	[APM_TERM_SCOPE] = {"scope", TYPE_TEXT, KIND(APM_KIND_QUERY)},
	[APM_TERM_REASON] = {"reason", TYPE_TEXT, KIND(APM_KIND_QUERY)},
	[APM_TERM_SIZE] = {"size", TYPE_INTEGER, KIND(APM_KIND_PRIMARY)},
	[APM_TERM_AMENDS] = {"amends", TYPE_INTEGER, KIND(APM_KIND_PRIMARY)},
	[APM_TERM_FLAGGED] = {"flagged", TYPE_INTEGER, KIND(APM_KIND_PRIMARY)},
	[APM_TERM_LATE] = {"late", TYPE_INTEGER, KIND(APM_KIND_PRIMARY)},
	[APM_TERM_ACTION] = {"action", TYPE_TEXT, KIND(APM_KIND_CONSENT)},
};

static const char *const counter_names[] = {
	[APM_COUNT_ACTOR_QUERIES] = "actor.queries",		 [APM_COUNT_ACTOR_RECORDS] = "actor.records",
	[APM_COUNT_ACTOR_EMERGENCIES] = "actor.emergencies", [APM_COUNT_PATIENT_QUERIES] = "patient.queries",
	[APM_COUNT_PATIENT_RECORDS] = "patient.records",
};

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

/* The place of a name in a list that begins with a gap; 0 if it is not there. */
static uint8_t
code_of(const char *name, const char *const *names, size_t n)
{
	for (size_t i = 1; name != NULL && i < n; i++)
	{
		if (strcmp(name, names[i]) == 0)
			return (uint8_t) i;
	}
	return 0;
}

uint8_t
apm_operator_code(const char *name)
{
	return code_of(name, operator_names, LENGTH(operator_names));
}

const char *
apm_operator_name(uint8_t code)
{
	return code < LENGTH(operator_names) ? operator_names[code] : NULL;
}

uint8_t
apm_counter_code(const char *name)
{
	return code_of(name, counter_names, LENGTH(counter_names));
}

const char *
apm_counter_name(uint8_t code)
{
	return code < LENGTH(counter_names) ? counter_names[code] : NULL;
}

bool
apm_counter_of_patient(uint8_t counter)
{
	return counter == APM_COUNT_PATIENT_QUERIES || counter == APM_COUNT_PATIENT_RECORDS;
}

uint8_t
apm_term_code(const char *name)
{
	for (size_t i = 1; name != NULL && i < LENGTH(terms_known); i++)
	{
		if (strcmp(name, terms_known[i].name) == 0)
			return (uint8_t) i;
	}
	return 0;
}

const char *
apm_term_name(uint8_t code)
{
	return code < LENGTH(terms_known) ? terms_known[code].name : NULL;
}

static bool
is_comparison(uint8_t op)
{
	return op >= APM_OP_EQ && op <= APM_OP_GE;
}

static bool
is_constant(uint8_t op)
{
	return op == APM_OP_INTEGER || op == APM_OP_TEXT;
}

typedef struct Check
{
	ApmReader reader;
	ApmKind kind;
	int nodes;
	bool beyond; /* a bound, not the form, is what it fails */
	int nterms;
	ApmCounterTerm terms[APM_PREDICATE_COUNTERS];
} Check;

static void
fail(Check *c)
{
	c->reader.failed = true;
}

static void
fail_bound(Check *c)
{
	c->beyond = true;
	fail(c);
}

/* The operator of the next node; 0 when there is none any more. */
static uint8_t
next_node(Check *c)
{
	uint8_t op = apm_get_u8(&c->reader);

	if (!c->reader.failed && ++c->nodes > APM_PREDICATE_NODES)
		fail_bound(c);
	return c->reader.failed ? 0 : op;
}

static bool
has_patient(ApmKind kind)
{
	return (KIND(kind) & (KIND(APM_KIND_PATIENT) | KIND(APM_KIND_PRIMARY) | KIND(APM_KIND_QUERY) |
						  KIND(APM_KIND_CONSENT))) != 0;
}

static void
check_count(Check *c)
{
	ApmCounterTerm term;

	term.counter = apm_get_u8(&c->reader);
	term.seconds = apm_get_u32(&c->reader);
	if (c->reader.failed)
		return;
	if (apm_counter_name(term.counter) == NULL ||
		(apm_counter_of_patient(term.counter) && !has_patient(c->kind)))
	{
		fail(c);
		return;
	}
	for (int i = 0; i < c->nterms; i++)
	{
		if (c->terms[i].counter == term.counter && c->terms[i].seconds == term.seconds)
			return;
	}
	if (c->nterms == APM_PREDICATE_COUNTERS)
		fail_bound(c);
	else
		c->terms[c->nterms++] = term;
}

static uint8_t
check_field(Check *c)
{
	uint8_t code = apm_get_u8(&c->reader);

	if (apm_term_name(code) != NULL && (terms_known[code].kinds & KIND(c->kind)) != 0)
		return terms_known[code].type;
	fail(c);
	return 0;
}

static void
check_text(Check *c)
{
	ApmSlice text = apm_get_bytes(&c->reader, APM_PREDICATE_MAX);

	if (text.len > TEXT_MAX)
		fail_bound(c);
	for (size_t i = 0; i < text.len; i++)
	{
		if (text.data[i] < 0x20 || text.data[i] > 0x7e)
			fail(c);
	}
}

/* Checks an operand; its type, 0 when it is none. */
static uint8_t
check_operand(Check *c, uint8_t op)
{
	switch (op)
	{
		case APM_OP_INTEGER:
			(void) apm_get_u64(&c->reader);
			return TYPE_INTEGER;
		case APM_OP_TEXT:
			check_text(c);
			return TYPE_TEXT;
		case APM_OP_FIELD:
			return check_field(c);
		case APM_OP_PUBLIC:
			if (!apm_field_name_ok(apm_get_bytes(&c->reader, APM_FIELD_NAME_MAX)) ||
				!apm_kind_has_fields(c->kind))
				fail(c);
			return TYPE_EITHER;
		case APM_OP_COUNT:
			check_count(c);
			return TYPE_INTEGER;
		default:
			fail(c);
			return 0;
	}
}

static void
check_comparison(Check *c, uint8_t op)
{
	uint8_t type = check_operand(c, next_node(c));

	type &= check_operand(c, next_node(c));
	if (op != APM_OP_EQ && op != APM_OP_NE)
		type &= TYPE_INTEGER;
	if (type == 0)
		fail(c);
}

static void
check_list(Check *c)
{
	uint8_t type = check_operand(c, next_node(c));
	uint8_t count = apm_get_u8(&c->reader);

	if (count > LIST_MAX)
		fail_bound(c);
	for (int i = 0; i < count && !c->reader.failed; i++)
	{
		uint8_t op = next_node(c);

		if (!is_constant(op))
			fail(c);
		type &= check_operand(c, op);
	}
	if (count == 0 || type == 0)
		fail(c);
}

static void
check_role(Check *c)
{
	uint16_t mask = apm_get_u16(&c->reader);

	if (mask == 0 || (mask & ~ROLES_KNOWN) != 0)
		fail(c);
}

static void
check_condition(Check *c, int depth)
{
	uint8_t op = next_node(c);
	uint8_t count = 1;

	if (c->reader.failed)
		return;
	if (depth > APM_PREDICATE_DEPTH)
	{
		fail_bound(c);
		return;
	}
	if (is_comparison(op))
		check_comparison(c, op);
	else if (op == APM_OP_IN)
		check_list(c);
	else if (op == APM_OP_ROLE)
		check_role(c);
	else if (op == APM_OP_AND || op == APM_OP_OR || op == APM_OP_NOT)
	{
		if (op != APM_OP_NOT)
			count = apm_get_u8(&c->reader);
		if (count == 0)
			fail(c);
		else if (count > GROUP_MAX)
			fail_bound(c);
		for (int i = 0; i < count && !c->reader.failed; i++)
			check_condition(c, depth + 1);
	}
	else
		fail(c);
}

ApmStatus
apm_predicate_check(ApmSlice predicate, ApmKind kind, ApmCounterTerm *terms, int *nterms)
{
	Check c = {.kind = kind};

	if (apm_kind_name(kind) == NULL)
		return APM_ERR_FORMAT;
	if (predicate.len > APM_PREDICATE_MAX)
		return APM_ERR_RANGE;
	apm_reader_init(&c.reader, predicate);
	check_condition(&c, 1);
	if (!apm_reader_done(&c.reader))
		return c.beyond ? APM_ERR_RANGE : APM_ERR_FORMAT;
	if (terms != NULL)
		memcpy(terms, c.terms, sizeof(c.terms));
	if (nterms != NULL)
		*nterms = c.nterms;
	return APM_OK;
}

typedef struct Value
{
	uint8_t type; /* TYPE_*; 0: the transaction does not have it */
	int64_t number;
	ApmSlice text;
} Value;

static Value
number(uint64_t n)
{
	return (Value){.type = TYPE_INTEGER, .number = n > INT64_MAX ? INT64_MAX : (int64_t) n};
}

/* NULL is no name: the empty text. */
static Value
name(const char *text)
{
	if (text == NULL)
		text = "";
	return (Value){.type = TYPE_TEXT, .text = APM_SLICE(text, strlen(text))};
}

static uint16_t
purpose_of(const ApmTransaction *tx)
{
	return tx->kind == APM_KIND_QUERY ? tx->u.query.purpose : tx->u.consent.purpose;
}

static Value
primary_flag(const ApmTransaction *tx, uint8_t flag)
{
	return number((tx->u.primary.flags & flag) != 0);
}

/* 1970-01-01 was a Thursday. */
static uint64_t
weekday(uint64_t time_us)
{
	return (time_us / US_PER_SECOND / 86400 + 4) % 7;
}

static Value
built_in_field(const ApmPredicateWorld *w, uint8_t code)
{
	const ApmTransaction *tx = w->tx;

	switch (code)
	{
		case APM_TERM_HOUR:
			return number(w->block_time_us / US_PER_SECOND / 3600 % 24);
		case APM_TERM_WEEKDAY:
			return number(weekday(w->block_time_us));
		case APM_TERM_AGE:
			return number(w->block_time_us < tx->time_us ? 0
														 : (w->block_time_us - tx->time_us) / US_PER_SECOND);
		case APM_TERM_BATCH:
			return number(w->batch);
		case APM_TERM_PURPOSE:
			return name(w->purpose_name(w->closure, purpose_of(tx)));
		case APM_TERM_SCOPE:
			return name(apm_scope_name(tx->u.query.scope));
		case APM_TERM_REASON:
			return name(w->reason_name(w->closure, tx->u.query.reason));
		case APM_TERM_SIZE:
			return number(tx->u.primary.record.len);
		case APM_TERM_AMENDS:
			return primary_flag(tx, APM_PRIMARY_AMENDS);
		case APM_TERM_FLAGGED:
			return primary_flag(tx, APM_PRIMARY_FLAGGED);
		case APM_TERM_LATE:
			return primary_flag(tx, APM_PRIMARY_LATE);
		case APM_TERM_ACTION:
			return name(apm_consent_name(tx->u.consent.action));
		default:
			return (Value){0};
	}
}

static Value
public_field(const ApmPredicateWorld *w, ApmSlice wanted)
{
	ApmPublicField fields[APM_FIELDS_MAX];
	int n;

	if (apm_fields_decode(w->tx->fields, fields, &n) != APM_OK)
		return (Value){0};
	for (int i = 0; i < n; i++)
	{
		if (!apm_slices_equal(fields[i].name, wanted))
			continue;
		if (fields[i].type == APM_FIELD_CODE)
			return (Value){.type = TYPE_TEXT, .text = fields[i].code};
		return (Value){.type = TYPE_INTEGER, .number = fields[i].number};
	}
	return (Value){0};
}

static Value
read_operand(ApmReader *r, const ApmPredicateWorld *w)
{
	ApmCounterTerm term;

	switch (apm_get_u8(r))
	{
		case APM_OP_INTEGER:
			return (Value){.type = TYPE_INTEGER, .number = (int64_t) apm_get_u64(r)};
		case APM_OP_TEXT:
			return (Value){.type = TYPE_TEXT, .text = apm_get_bytes(r, TEXT_MAX)};
		case APM_OP_FIELD:
			return built_in_field(w, apm_get_u8(r));
		case APM_OP_PUBLIC:
			return public_field(w, apm_get_bytes(r, APM_FIELD_NAME_MAX));
		case APM_OP_COUNT:
			term.counter = apm_get_u8(r);
			term.seconds = apm_get_u32(r);
			return number(w->count(w->closure, term));
		default:
			r->failed = true;
			return (Value){0};
	}
}

static bool
compare_numbers(uint8_t op, int64_t a, int64_t b)
{
	switch (op)
	{
		case APM_OP_EQ:
			return a == b;
		case APM_OP_NE:
			return a != b;
		case APM_OP_LT:
			return a < b;
		case APM_OP_LE:
			return a <= b;
		case APM_OP_GT:
			return a > b;
		default:
			return a >= b;
	}
}

static bool
compare(uint8_t op, const Value *a, const Value *b)
{
	if (a->type != b->type || a->type == 0)
		return false;
	if (a->type == TYPE_INTEGER)
		return compare_numbers(op, a->number, b->number);
	if (op == APM_OP_EQ || op == APM_OP_NE)
		return apm_slices_equal(a->text, b->text) == (op == APM_OP_EQ);
	return false;
}

static bool
holds_comparison(ApmReader *r, const ApmPredicateWorld *w, uint8_t op)
{
	Value left = read_operand(r, w);
	Value right = read_operand(r, w);

	return compare(op, &left, &right);
}

static bool
holds_list(ApmReader *r, const ApmPredicateWorld *w)
{
	Value value = read_operand(r, w);
	uint8_t count = apm_get_u8(r);
	bool found = false;

	for (int i = 0; i < count && !r->failed; i++)
	{
		Value constant = read_operand(r, w);

		if (compare(APM_OP_EQ, &value, &constant))
			found = true;
	}
	return found;
}

/* Reads the condition to its end, whatever it finds on the way. */
static bool
holds(ApmReader *r, const ApmPredicateWorld *w)
{
	uint8_t op = apm_get_u8(r);
	uint8_t count;
	int found = 0;

	if (is_comparison(op))
		return holds_comparison(r, w, op);
	switch (op)
	{
		case APM_OP_IN:
			return holds_list(r, w);
		case APM_OP_ROLE:
			return (w->tx->roles & apm_get_u16(r)) != 0;
		case APM_OP_NOT:
			return !holds(r, w);
		case APM_OP_AND:
		case APM_OP_OR:
			count = apm_get_u8(r);
			for (int i = 0; i < count && !r->failed; i++)
				found += holds(r, w);
			return op == APM_OP_AND ? found == count : found > 0;
		default:
			r->failed = true;
			return false;
	}
}

bool
apm_predicate_holds(ApmSlice predicate, const ApmPredicateWorld *world)
{
	ApmReader r;
	bool result;

	apm_reader_init(&r, predicate);
	result = holds(&r, world);
	return result && apm_reader_done(&r);
}
