/*
 * test_predicate.c
 *	  What is a predicate and what is none, and what each operator and operand says.
 */
#include "core/predicate.h"

#include "core/field.h"
#include "predicates.h"
#include "sample.h"

static ApmStatus
check(const ApmBuf *p, ApmKind kind)
{
	return apm_predicate_check(p_slice(p), kind, NULL, NULL);
}

/* The next test's empty predicate. */
static ApmBuf *
fresh(ApmBuf *p)
{
	apm_buf_reset(p);
	return p;
}

static void
test_names(void)
{
	for (uint8_t op = APM_OP_AND; op <= APM_OP_COUNT; op++)
		CHECK(apm_operator_code(apm_operator_name(op)) == op);
	CHECK(apm_operator_name(0) == NULL && apm_operator_name(APM_OP_COUNT + 1) == NULL);
	CHECK(apm_operator_code("xor") == 0 && apm_operator_code(NULL) == 0);
	for (uint8_t term = APM_TERM_HOUR; term <= APM_TERM_ACTION; term++)
		CHECK(apm_term_code(apm_term_name(term)) == term);
	CHECK(apm_term_name(0) == NULL && apm_term_name(APM_TERM_ACTION + 1) == NULL);
	CHECK(apm_term_code("") == 0 && apm_term_code(NULL) == 0);
	for (uint8_t counter = 1; counter <= APM_COUNTERS; counter++)
	{
		CHECK(apm_counter_code(apm_counter_name(counter)) == counter);
		CHECK(apm_counter_of_patient(counter) == (strncmp(apm_counter_name(counter), "patient.", 8) == 0));
	}
	CHECK(apm_counter_name(0) == NULL && apm_counter_name(APM_COUNTERS + 1) == NULL);
	CHECK(apm_counter_code("queries") == 0 && apm_counter_code(NULL) == 0);
}

/* Bytes that are no predicate: cut short, longer, no condition, unknown. */
static void
test_form(void)
{
	ApmBuf p = {0};

	CHECK_STATUS(check(&p, APM_KIND_QUERY), APM_ERR_FORMAT);
	p_limit(&p, APM_COUNT_ACTOR_QUERIES, 60, 5);
	CHECK_OK(check(&p, APM_KIND_QUERY));
	for (size_t len = 0; len < p.len; len++)
		CHECK_STATUS(apm_predicate_check(APM_SLICE(p.data, len), APM_KIND_QUERY, NULL, NULL), APM_ERR_FORMAT);
	apm_put_u8(&p, 0);
	CHECK_STATUS(check(&p, APM_KIND_QUERY), APM_ERR_FORMAT);

	p_integer(fresh(&p), 1); /* a value is no condition */
	CHECK_STATUS(check(&p, APM_KIND_QUERY), APM_ERR_FORMAT);
	apm_put_u8(fresh(&p), APM_OP_COUNT + 1);
	CHECK_STATUS(check(&p, APM_KIND_QUERY), APM_ERR_FORMAT);
	p_op(fresh(&p), APM_OP_EQ); /* a condition is no value */
	p_role(&p, APM_ROLE_CLINICIAN);
	p_integer(&p, 1);
	CHECK_STATUS(check(&p, APM_KIND_QUERY), APM_ERR_FORMAT);
	p_role(fresh(&p), APM_ROLE_CLINICIAN);
	CHECK_OK(check(&p, APM_KIND_QUERY));
	CHECK_STATUS(check(&p, (ApmKind) 0), APM_ERR_FORMAT);
	CHECK_STATUS(check(&p, (ApmKind) 9), APM_ERR_FORMAT);
	p_role(fresh(&p), 0);
	CHECK_STATUS(check(&p, APM_KIND_QUERY), APM_ERR_FORMAT);
	p_role(fresh(&p), 2 * APM_ROLE_AUDITOR);
	CHECK_STATUS(check(&p, APM_KIND_QUERY), APM_ERR_FORMAT);
	p_group(fresh(&p), APM_OP_AND, 0);
	CHECK_STATUS(check(&p, APM_KIND_QUERY), APM_ERR_FORMAT);
	apm_buf_reset(&p);
}

static void
compare_operands(ApmBuf *p, ApmOperator op, void (*left)(ApmBuf *p), void (*right)(ApmBuf *p))
{
	p_op(fresh(p), op);
	left(p);
	right(p);
}

static void
an_integer(ApmBuf *p)
{
	p_integer(p, 3);
}

static void
a_text(ApmBuf *p)
{
	p_text(p, "icu");
}

static void
a_public(ApmBuf *p)
{
	p_public(p, "ward");
}

static void
a_size(ApmBuf *p)
{
	p_field(p, APM_TERM_SIZE);
}

static void
test_types(void)
{
	ApmBuf p = {0};

	compare_operands(&p, APM_OP_EQ, an_integer, an_integer);
	CHECK_OK(check(&p, APM_KIND_PRIMARY));
	compare_operands(&p, APM_OP_EQ, an_integer, a_text);
	CHECK_STATUS(check(&p, APM_KIND_PRIMARY), APM_ERR_FORMAT);
	compare_operands(&p, APM_OP_NE, a_size, a_text);
	CHECK_STATUS(check(&p, APM_KIND_PRIMARY), APM_ERR_FORMAT);
	compare_operands(&p, APM_OP_EQ, a_text, a_text);
	CHECK_OK(check(&p, APM_KIND_PRIMARY));
	for (ApmOperator op = APM_OP_LT; op <= APM_OP_GE; op++)
	{
		compare_operands(&p, op, a_text, a_text); /* texts have no order */
		CHECK_STATUS(check(&p, APM_KIND_PRIMARY), APM_ERR_FORMAT);
		compare_operands(&p, op, a_public, a_text);
		CHECK_STATUS(check(&p, APM_KIND_PRIMARY), APM_ERR_FORMAT);
		compare_operands(&p, op, a_size, a_public);
		CHECK_OK(check(&p, APM_KIND_PRIMARY));
	}
	compare_operands(&p, APM_OP_EQ, a_public, a_public);
	CHECK_OK(check(&p, APM_KIND_PRIMARY));
	compare_operands(&p, APM_OP_EQ, a_public, a_text);
	CHECK_STATUS(check(&p, APM_KIND_PATIENT), APM_ERR_FORMAT); /* has no public fields */

	p_op(fresh(&p), APM_OP_IN);
	a_public(&p);
	apm_put_u8(&p, 2);
	a_text(&p);
	a_text(&p);
	CHECK_OK(check(&p, APM_KIND_CONSENT));
	an_integer(&p);
	p.data[1 + 1 + 4 + 4] = 3; /* the third is of another type */
	CHECK_STATUS(check(&p, APM_KIND_CONSENT), APM_ERR_FORMAT);
	p_op(fresh(&p), APM_OP_IN);
	a_size(&p);
	apm_put_u8(&p, 1);
	a_size(&p); /* no constant */
	CHECK_STATUS(check(&p, APM_KIND_PRIMARY), APM_ERR_FORMAT);
	p_op(fresh(&p), APM_OP_IN);
	a_size(&p);
	apm_put_u8(&p, 0);
	CHECK_STATUS(check(&p, APM_KIND_PRIMARY), APM_ERR_FORMAT);
	apm_buf_reset(&p);
}

/* Each built-in field with each kind, against the list of who has it. */
static void
test_fields_of_kinds(void)
{
	static const struct
	{
		ApmTermField field;
		bool text;
		ApmKind kinds[2];
	} some[] = {
		{APM_TERM_PURPOSE, true, {APM_KIND_QUERY, APM_KIND_CONSENT}},
		{APM_TERM_SCOPE, true, {APM_KIND_QUERY, APM_KIND_QUERY}},
		{APM_TERM_REASON, true, {APM_KIND_QUERY, APM_KIND_QUERY}},
		{APM_TERM_SIZE, false, {APM_KIND_PRIMARY, APM_KIND_PRIMARY}},
		{APM_TERM_AMENDS, false, {APM_KIND_PRIMARY, APM_KIND_PRIMARY}},
		{APM_TERM_FLAGGED, false, {APM_KIND_PRIMARY, APM_KIND_PRIMARY}},
		{APM_TERM_LATE, false, {APM_KIND_PRIMARY, APM_KIND_PRIMARY}},
		{APM_TERM_ACTION, true, {APM_KIND_CONSENT, APM_KIND_CONSENT}},
	};
	ApmBuf p = {0};

	for (int kind = APM_KIND_PATIENT; kind <= APM_KIND_CONTRACT; kind++)
	{
		for (int field = APM_TERM_HOUR; field <= APM_TERM_BATCH; field++)
		{
			p_op(fresh(&p), APM_OP_EQ);
			p_field(&p, (ApmTermField) field);
			p_integer(&p, 0);
			CHECK_OK(check(&p, (ApmKind) kind));
		}
		for (size_t i = 0; i < sizeof(some) / sizeof(some[0]); i++)
		{
			bool has = some[i].kinds[0] == (ApmKind) kind || some[i].kinds[1] == (ApmKind) kind;

			p_op(fresh(&p), APM_OP_EQ);
			p_field(&p, some[i].field);
			if (some[i].text)
				p_text(&p, "");
			else
				p_integer(&p, 0);
			CHECK_STATUS(check(&p, (ApmKind) kind), has ? APM_OK : APM_ERR_FORMAT);
		}
		p_limit(fresh(&p), APM_COUNT_PATIENT_RECORDS, 0, 5);
		CHECK_STATUS(check(&p, (ApmKind) kind), kind <= APM_KIND_CONSENT ? APM_OK : APM_ERR_FORMAT);
		p_limit(fresh(&p), APM_COUNT_ACTOR_RECORDS, 0, 5);
		CHECK_OK(check(&p, (ApmKind) kind));
	}
	p_limit(fresh(&p), (ApmCounter) 6, 0, 5);
	CHECK_STATUS(check(&p, APM_KIND_QUERY), APM_ERR_FORMAT);
	apm_buf_reset(&p);
}

static void
nest(ApmBuf *p, int depth)
{
	fresh(p);
	for (int i = 1; i < depth; i++)
		p_op(p, APM_OP_NOT);
	p_role(p, APM_ROLE_ADMIN);
}

static void
test_bounds(void)
{
	char long_text[66];
	ApmBuf p = {0};

	nest(&p, APM_PREDICATE_DEPTH);
	CHECK_OK(check(&p, APM_KIND_QUERY));
	nest(&p, APM_PREDICATE_DEPTH + 1);
	CHECK_STATUS(check(&p, APM_KIND_QUERY), APM_ERR_RANGE);
	for (uint8_t n = 16; n <= 17; n++)
	{
		p_group(fresh(&p), APM_OP_OR, n);
		for (int i = 0; i < n; i++)
			p_role(&p, APM_ROLE_ADMIN);
		CHECK_STATUS(check(&p, APM_KIND_QUERY), n == 16 ? APM_OK : APM_ERR_RANGE);
	}
	for (uint8_t n = 32; n <= 33; n++)
	{
		p_op(fresh(&p), APM_OP_IN);
		p_integer(&p, 1);
		apm_put_u8(&p, n);
		for (int i = 0; i < n; i++)
			p_integer(&p, i);
		CHECK_STATUS(check(&p, APM_KIND_QUERY), n == 32 ? APM_OK : APM_ERR_RANGE);
	}
	/* 63 nodes and 66 */
	for (int n = 15; n <= 16; n++)
	{
		p_group(fresh(&p), APM_OP_AND, (uint8_t) n);
		for (int i = 0; i < n; i++)
		{
			p_op(&p, APM_OP_NOT);
			p_limit(&p, APM_COUNT_ACTOR_QUERIES, 1, i);
		}
		CHECK_STATUS(check(&p, APM_KIND_QUERY), n == 15 ? APM_OK : APM_ERR_RANGE);
	}
	memset(long_text, 'x', sizeof(long_text));
	for (size_t n = 64; n <= 65; n++)
	{
		long_text[n] = '\0';
		p_op(fresh(&p), APM_OP_EQ);
		p_field(&p, APM_TERM_PURPOSE);
		p_text(&p, long_text);
		CHECK_STATUS(check(&p, APM_KIND_QUERY), n == 64 ? APM_OK : APM_ERR_RANGE);
		long_text[n] = 'x';
	}
	p_op(fresh(&p), APM_OP_EQ);
	p_field(&p, APM_TERM_PURPOSE);
	p_text(&p, "tab\there");
	CHECK_STATUS(check(&p, APM_KIND_QUERY), APM_ERR_FORMAT);
	fresh(&p);
	while (p.len <= APM_PREDICATE_MAX)
		apm_put_u8(&p, APM_OP_NOT);
	CHECK_STATUS(check(&p, APM_KIND_QUERY), APM_ERR_RANGE);
	apm_buf_reset(&p);
}

/* Different counters and windows are named once each, and are not more than four. */
static void
test_counters(void)
{
	ApmCounterTerm terms[APM_PREDICATE_COUNTERS];
	ApmBuf p = {0};
	int n;

	p_group(&p, APM_OP_AND, 3);
	p_limit(&p, APM_COUNT_ACTOR_QUERIES, 60, 1);
	p_limit(&p, APM_COUNT_ACTOR_QUERIES, 3600, 1);
	p_limit(&p, APM_COUNT_ACTOR_QUERIES, 60, 2);
	CHECK_OK(apm_predicate_check(p_slice(&p), APM_KIND_QUERY, terms, &n));
	CHECK(n == 2 && terms[0].seconds == 60 && terms[1].seconds == 3600);
	for (uint8_t count = 4; count <= 5; count++)
	{
		p_group(fresh(&p), APM_OP_AND, count);
		for (uint32_t i = 0; i < count; i++)
			p_limit(&p, APM_COUNT_PATIENT_QUERIES, i, 1);
		CHECK_STATUS(check(&p, APM_KIND_QUERY), count == 4 ? APM_OK : APM_ERR_RANGE);
	}
	apm_buf_reset(&p);
}

static const char *
purpose_name(const void *closure, uint16_t code)
{
	(void) closure;
	return code == 1 ? "treatment" : NULL;
}

static const char *
reason_name(const void *closure, uint16_t code)
{
	(void) closure;
	return code == 2 ? "flood" : NULL;
}

static uint64_t
count(const void *closure, ApmCounterTerm term)
{
	return *(const uint64_t *) closure + term.counter * 100 + term.seconds;
}

/* A world around tx: 2023-11-14 22:13:20 UTC, a Tuesday; 42 seconds after the transaction; 7 under the signature. */
static ApmPredicateWorld
around(const ApmTransaction *tx, const uint64_t *base)
{
	return (ApmPredicateWorld){.tx = tx,
							   .batch = 7,
							   .block_time_us = UINT64_C(1700000000) * 1000000,
							   .purpose_name = purpose_name,
							   .reason_name = reason_name,
							   .count = count,
							   .closure = base};
}

static bool
holds(const ApmBuf *p, const ApmTransaction *tx)
{
	uint64_t base = 1000;
	ApmPredicateWorld world = around(tx, &base);

	CHECK_OK(check(p, tx->kind));
	return apm_predicate_holds(p_slice(p), &world);
}

/* Does the built-in field of tx have this value, and no other? */
static bool
is_number(const ApmTransaction *tx, ApmTermField field, int64_t value)
{
	ApmBuf p = {0};
	bool result;

	p_op(&p, APM_OP_EQ);
	p_field(&p, field);
	p_integer(&p, value);
	result = holds(&p, tx);
	p_op(fresh(&p), APM_OP_NE);
	p_field(&p, field);
	p_integer(&p, value);
	result = result && !holds(&p, tx);
	apm_buf_reset(&p);
	return result;
}

static bool
is_text(const ApmTransaction *tx, ApmTermField field, const char *value)
{
	ApmBuf p = {0};
	bool result;

	p_op(&p, APM_OP_EQ);
	p_text(&p, value);
	p_field(&p, field);
	result = holds(&p, tx);
	p_op(fresh(&p), APM_OP_NE);
	p_text(&p, value);
	p_field(&p, field);
	result = result && !holds(&p, tx);
	apm_buf_reset(&p);
	return result;
}

static void
test_built_in_fields(void)
{
	ApmTransaction tx = sample_transaction(APM_KIND_QUERY);

	tx.time_us = (UINT64_C(1700000000) - 42) * 1000000 - 1;
	CHECK(is_number(&tx, APM_TERM_HOUR, 22));
	CHECK(is_number(&tx, APM_TERM_WEEKDAY, 2));
	CHECK(is_number(&tx, APM_TERM_AGE, 42));
	CHECK(is_number(&tx, APM_TERM_BATCH, 7));
	CHECK(is_text(&tx, APM_TERM_PURPOSE, "treatment"));
	tx.u.query.purpose = 0;
	CHECK(is_text(&tx, APM_TERM_PURPOSE, ""));
	CHECK(is_text(&tx, APM_TERM_SCOPE, "records"));
	CHECK(is_text(&tx, APM_TERM_REASON, ""));
	tx.u.query.scope = APM_SCOPE_EMERGENCY;
	tx.u.query.reason = 2;
	CHECK(is_text(&tx, APM_TERM_SCOPE, "emergency"));
	CHECK(is_text(&tx, APM_TERM_REASON, "flood"));
	tx.time_us = UINT64_C(1700000001) * 1000000;
	CHECK(is_number(&tx, APM_TERM_AGE, 0));

	tx = sample_transaction(APM_KIND_PRIMARY);
	CHECK(is_number(&tx, APM_TERM_SIZE, 30));
	CHECK(is_number(&tx, APM_TERM_AMENDS, 0) && is_number(&tx, APM_TERM_FLAGGED, 0) &&
		  is_number(&tx, APM_TERM_LATE, 0));
	tx.u.primary.flags = APM_PRIMARY_AMENDS | APM_PRIMARY_LATE;
	CHECK(is_number(&tx, APM_TERM_AMENDS, 1) && is_number(&tx, APM_TERM_FLAGGED, 0) &&
		  is_number(&tx, APM_TERM_LATE, 1));
	tx.u.primary.flags = APM_PRIMARY_FLAGGED;
	CHECK(is_number(&tx, APM_TERM_FLAGGED, 1));

	tx = sample_transaction(APM_KIND_CONSENT);
	CHECK(is_text(&tx, APM_TERM_ACTION, "grant"));
	CHECK(is_text(&tx, APM_TERM_PURPOSE, ""));
	tx.u.consent.purpose = 1;
	CHECK(is_text(&tx, APM_TERM_PURPOSE, "treatment"));
}

/* Is the comparison of the public field with this operand true? */
static bool
public_is(const ApmTransaction *tx, ApmOperator op, const char *name, const char *text, int64_t number)
{
	ApmBuf p = {0};
	bool result;

	p_op(&p, op);
	p_public(&p, name);
	if (text != NULL)
		p_text(&p, text);
	else
		p_integer(&p, number);
	result = holds(&p, tx);
	apm_buf_reset(&p);
	return result;
}

/* What is not there, or of another type, makes every comparison false. */
static void
test_public_fields(void)
{
	ApmPublicField fields[] = {
		{.name = sample_text("beds"), .type = APM_FIELD_INTEGER, .number = -3},
		{.name = sample_text("urgent"), .type = APM_FIELD_BOOLEAN, .number = 1},
		{.name = sample_text("ward"), .type = APM_FIELD_CODE, .code = sample_text("icu")},
	};
	ApmTransaction tx = sample_transaction(APM_KIND_QUERY);
	ApmBuf encoded = {0};
	ApmBuf p = {0};

	CHECK(!public_is(&tx, APM_OP_EQ, "ward", "icu", 0) && !public_is(&tx, APM_OP_NE, "ward", "icu", 0));
	CHECK_OK(apm_fields_encode(fields, 3, &encoded));
	tx.fields = APM_SLICE(encoded.data, encoded.len);
	CHECK(public_is(&tx, APM_OP_EQ, "ward", "icu", 0) && !public_is(&tx, APM_OP_NE, "ward", "icu", 0));
	CHECK(!public_is(&tx, APM_OP_EQ, "ward", "ic", 0) && public_is(&tx, APM_OP_NE, "ward", "er", 0));
	CHECK(!public_is(&tx, APM_OP_EQ, "war", "icu", 0) && !public_is(&tx, APM_OP_NE, "war", "icu", 0));
	CHECK(public_is(&tx, APM_OP_LT, "beds", NULL, -2) && !public_is(&tx, APM_OP_LT, "beds", NULL, -3));
	CHECK(public_is(&tx, APM_OP_EQ, "urgent", NULL, 1) && public_is(&tx, APM_OP_NE, "urgent", NULL, 0));
	CHECK(!public_is(&tx, APM_OP_EQ, "ward", NULL, 0) && !public_is(&tx, APM_OP_NE, "ward", NULL, 0));
	CHECK(!public_is(&tx, APM_OP_NE, "beds", "icu", 0) && !public_is(&tx, APM_OP_GE, "ward", NULL, 0));
	p_op(&p, APM_OP_LE);
	p_public(&p, "ward");
	p_public(&p, "ward");
	CHECK(!holds(&p, &tx)); /* both are texts, and have no order */
	p.data[0] = APM_OP_EQ;
	CHECK(holds(&p, &tx));
	apm_buf_reset(&p);
	apm_buf_reset(&encoded);
}

static void
test_comparisons(void)
{
	static const struct
	{
		ApmOperator op;
		bool less, equal, greater;
	} table[] = {{APM_OP_EQ, false, true, false}, {APM_OP_NE, true, false, true},
				 {APM_OP_LT, true, false, false}, {APM_OP_LE, true, true, false},
				 {APM_OP_GT, false, false, true}, {APM_OP_GE, false, true, true}};
	static const int64_t small[] = {INT64_MIN, -2, 0, INT64_MAX - 1};
	ApmTransaction tx = sample_transaction(APM_KIND_QUERY);
	ApmBuf p = {0};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
	{
		for (size_t j = 0; j < 4; j++)
		{
			for (int order = -1; order <= 1; order++)
			{
				p_op(fresh(&p), table[i].op);
				p_integer(&p, order > 0 ? small[j] + 1 : small[j]);
				p_integer(&p, order < 0 ? small[j] + 1 : small[j]);
				CHECK(holds(&p, &tx) == (order < 0	 ? table[i].less
										 : order > 0 ? table[i].greater
													 : table[i].equal));
			}
		}
	}
	apm_buf_reset(&p);
}

static void
put_truth(ApmBuf *p, bool truth)
{
	p_role(p, truth ? APM_ROLE_CLINICIAN : APM_ROLE_SENSOR);
}

/* and, or, not, in, role, count: with what follows them read to its end whatever they found. */
static void
test_conditions(void)
{
	ApmTransaction tx = sample_transaction(APM_KIND_QUERY);
	ApmBuf p = {0};

	for (int bits = 0; bits < 8; bits++)
	{
		for (int op = APM_OP_AND; op <= APM_OP_OR; op++)
		{
			p_group(fresh(&p), APM_OP_AND, 2);
			p_group(&p, (ApmOperator) op, 3);
			for (int i = 0; i < 3; i++)
				put_truth(&p, (bits & 1 << i) != 0);
			p_op(&p, APM_OP_NOT);
			put_truth(&p, false);
			CHECK(holds(&p, &tx) == (op == APM_OP_AND ? bits == 7 : bits != 0));
		}
	}
	p_role(fresh(&p), APM_ROLE_SENSOR | APM_ROLE_CLINICIAN);
	CHECK(holds(&p, &tx));
	for (int wanted = 0; wanted < 4; wanted++)
	{
		p_group(fresh(&p), APM_OP_AND, 2);
		p_op(&p, APM_OP_IN);
		p_integer(&p, wanted);
		apm_put_u8(&p, 2);
		p_integer(&p, 1);
		p_integer(&p, 2);
		put_truth(&p, true);
		CHECK(holds(&p, &tx) == (wanted == 1 || wanted == 2));
	}
	p_limit(fresh(&p), APM_COUNT_ACTOR_EMERGENCIES, 60, 1361); /* what count() above says: 1360 */
	CHECK(holds(&p, &tx));
	p_limit(fresh(&p), APM_COUNT_ACTOR_EMERGENCIES, 60, 1360);
	CHECK(!holds(&p, &tx));
	apm_buf_reset(&p);
}

int
main(void)
{
	test_names();
	test_form();
	test_types();
	test_fields_of_kinds();
	test_bounds();
	test_counters();
	test_built_in_fields();
	test_public_fields();
	test_comparisons();
	test_conditions();
	return check_summary();
}
