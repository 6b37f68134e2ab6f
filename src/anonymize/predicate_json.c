/*
 * predicate_json.c
 *	  Predicates of site rules, from the JSON that an administrator writes.
 *
 * A condition's encoding stands for itself, whatever it is part of, so the core's check is
 * asked of each as soon as it is written, the innermost first: it alone says what is well typed, and where it
 * says no is where the fault is.  What it cannot say is found here, names above all.
 */
#include "postgres.h"

#include "anonymize/jsonplace.h"
#include "anonymize/predicate_json.h"
#include "apm_errors.h"
#include "apm_user.h"
#include "core/predicate.h"

/* What a condition is written in. */
typedef struct Walk
{
	ApmJsonPlace place;
	ApmKind kind; /* of the transactions that it is about */
	int depth;
	ApmBuf *out;
} Walk;

static const char condition_hint[] =
	"A condition is an object with one member: \"and\", \"or\", \"not\", \"eq\", \"ne\", \"lt\", \"le\", "
	"\"gt\", \"ge\", \"in\" or \"role\".";
static const char operand_hint[] =
	"An operand is an integer, a boolean, a text, {\"field\": name}, {\"public\": name}, or "
	"{\"count\": name, \"within\": seconds}.";

/* The names that a function gives for 1, 2, ..., for a hint. */
static char *
list_names(const char *what, const char *(*name_of)(uint8_t code))
{
	StringInfoData list;

	initStringInfo(&list);
	appendStringInfo(&list, "%s:", what);
	for (uint8 code = 1; name_of(code) != NULL; code++)
		appendStringInfo(&list, "%s %s", code > 1 ? "," : "", name_of(code));
	appendStringInfoChar(&list, '.');
	return list.data;
}

static const ApmField *
find_member(const ApmFields *members, const char *name)
{
	return apm_fields_find(members, APM_SLICE(name, strlen(name)));
}

static void
read_count(Walk *walk, const ApmFields *members)
{
	const ApmField *within = find_member(members, "within");
	const ApmField *counter = find_member(members, "count");
	char *name = apm_json_text(&counter->value);
	int64 seconds = 0;

	if (members->n != (within != NULL ? 2 : 1))
		apm_json_place_fault(&walk->place, "A count has no other member than \"count\" and \"within\".",
							 operand_hint);
	if (apm_counter_code(name) == 0)
		apm_json_place_fault(&walk->place, "There is no such counter.",
							 list_names("Counters are", apm_counter_name));
	if (within != NULL &&
		(!apm_json_integer(&within->value, &seconds) || seconds < 1 || seconds > PG_UINT32_MAX))
		apm_json_place_fault(&walk->place, "\"within\" is not a number of seconds.",
							 "Without it, everything that ever was counts.");
	apm_put_u8(walk->out, APM_OP_COUNT);
	apm_put_u8(walk->out, apm_counter_code(name));
	apm_put_u32(walk->out, (uint32) seconds);
}

static void
read_field(Walk *walk, const JsonbValue *value)
{
	uint8 code = apm_term_code(apm_json_text(value));

	if (code == 0)
		apm_json_place_fault(&walk->place, "There is no such field.",
							 list_names("Fields are", apm_term_name));
	apm_put_u8(walk->out, APM_OP_FIELD);
	apm_put_u8(walk->out, code);
}

static void
read_public(Walk *walk, const JsonbValue *value)
{
	if (value->type != jbvString)
		apm_json_place_fault(&walk->place, "The name of a public field is a text.", NULL);
	apm_put_u8(walk->out, APM_OP_PUBLIC);
	apm_put_bytes(walk->out, value->val.string.val, value->val.string.len);
}

/* {"field": ...}, {"public": ...}, {"count": ...} */
static void
read_term(Walk *walk, const JsonbValue *value)
{
	ApmFields members = {0};
	bool object = apm_json_object(value, &members);
	const ApmField *count = find_member(&members, "count");
	const ApmField *field = find_member(&members, "field");
	const ApmField *member = count != NULL ? count : field != NULL ? field : find_member(&members, "public");
	int step;

	if (!object || member == NULL)
		apm_json_place_fault(&walk->place, "This is no operand.", operand_hint);
	step = apm_json_place_member(&walk->place, apm_field_name(member));
	if (member == count)
		read_count(walk, &members);
	else if (members.n != 1)
		apm_json_place_fault(&walk->place, "The operand has another member beside this one.", operand_hint);
	else if (member == field)
		read_field(walk, &member->value);
	else
		read_public(walk, &member->value);
	apm_json_place_leave(&walk->place, step);
}

static void
put_integer(Walk *walk, int64 number)
{
	apm_put_u8(walk->out, APM_OP_INTEGER);
	apm_put_u64(walk->out, (uint64) number);
}

static void
read_operand(Walk *walk, const JsonbValue *value)
{
	int64 number;

	switch (value->type)
	{
		case jbvNumeric:
			if (!apm_json_integer(value, &number))
				apm_json_place_fault(&walk->place, "The number has a fraction, or is too large.",
									 operand_hint);
			put_integer(walk, number);
			break;
		case jbvBool:
			put_integer(walk, value->val.boolean ? 1 : 0);
			break;
		case jbvString:
			apm_put_u8(walk->out, APM_OP_TEXT);
			apm_put_bytes(walk->out, value->val.string.val, value->val.string.len);
			break;
		default:
			read_term(walk, value);
			break;
	}
}

static void
read_operand_at(Walk *walk, const JsonbValue *elements, int index)
{
	int step = apm_json_place_element(&walk->place, index);

	read_operand(walk, &elements[index]);
	apm_json_place_leave(&walk->place, step);
}

/* [operand, operand] */
static void
read_comparison(Walk *walk, const JsonbValue *value)
{
	JsonbValue *elements;
	int n;

	if (!apm_json_array(value, &elements, &n) || n != 2)
		apm_json_place_fault(&walk->place, "A comparison has an array of two operands.", operand_hint);
	read_operand_at(walk, elements, 0);
	read_operand_at(walk, elements, 1);
}

/* [operand, [constant, ...]] */
static void
read_in(Walk *walk, const JsonbValue *value)
{
	JsonbValue *elements;
	JsonbValue *constants;
	int nconstants;
	int step;
	int n;

	if (!apm_json_array(value, &elements, &n) || n != 2 ||
		!apm_json_array(&elements[1], &constants, &nconstants))
		apm_json_place_fault(&walk->place, "\"in\" has an array of an operand and an array of constants.",
							 NULL);
	read_operand_at(walk, elements, 0);
	step = apm_json_place_element(&walk->place, 1);
	if (nconstants < 1 || nconstants > PG_UINT8_MAX)
		apm_json_place_fault(&walk->place, "There is no constant, or there are too many.", NULL);
	apm_put_u8(walk->out, (uint8) nconstants);
	for (int i = 0; i < nconstants; i++)
		read_operand_at(walk, constants, i);
	apm_json_place_leave(&walk->place, step);
}

/* The bit of a role, by its name with or without "apm_". */
static uint16
read_role(Walk *walk, const JsonbValue *value)
{
	char *name = apm_json_text(value);
	uint16 bit = 0;

	if (name != NULL)
		bit = apm_role_bit(strncmp(name, "apm_", 4) == 0 ? name : psprintf("apm_%s", name));
	if (bit == 0)
		apm_json_place_fault(
			&walk->place, "There is no such role.",
			"Roles are apm_admin, apm_registrar, apm_clinician, apm_sensor, apm_researcher and "
			"apm_auditor.");
	return bit;
}

/* A role, or an array of such. */
static void
read_roles(Walk *walk, const JsonbValue *value)
{
	uint16 mask = 0;
	JsonbValue *elements;
	int n;

	if (!apm_json_array(value, &elements, &n))
		mask = read_role(walk, value);
	else
	{
		for (int i = 0; i < n; i++)
		{
			int step = apm_json_place_element(&walk->place, i);

			mask |= read_role(walk, &elements[i]);
			apm_json_place_leave(&walk->place, step);
		}
	}
	apm_put_u16(walk->out, mask);
}

static void read_condition(Walk *walk, const JsonbValue *value);

/* An array of conditions. */
static void
read_group(Walk *walk, const JsonbValue *value)
{
	JsonbValue *elements;
	int n;

	if (!apm_json_array(value, &elements, &n) || n < 1 || n > PG_UINT8_MAX)
		apm_json_place_fault(&walk->place, "Here an array of conditions is wanted.", condition_hint);
	apm_put_u8(walk->out, (uint8) n);
	for (int i = 0; i < n; i++)
	{
		int step = apm_json_place_element(&walk->place, i);

		read_condition(walk, &elements[i]);
		apm_json_place_leave(&walk->place, step);
	}
}

/* What follows an operator. */
static void
read_operands(Walk *walk, uint8 op, const JsonbValue *value)
{
	switch (op)
	{
		case APM_OP_AND:
		case APM_OP_OR:
			read_group(walk, value);
			break;
		case APM_OP_NOT:
			read_condition(walk, value);
			break;
		case APM_OP_IN:
			read_in(walk, value);
			break;
		case APM_OP_ROLE:
			read_roles(walk, value);
			break;
		default:
			read_comparison(walk, value);
			break;
	}
}

/* Is what was written since start a condition that the contract will take? */
static void
check_condition(Walk *walk, size_t start)
{
	apm_check(apm_buf_status(walk->out), "write a predicate");
	switch (apm_predicate_check(APM_SLICE(walk->out->data + start, walk->out->len - start), walk->kind, NULL,
								NULL))
	{
		case APM_OK:
			return;
		case APM_ERR_RANGE:
			apm_json_place_fault(
				&walk->place, "The condition is larger than a predicate can be.",
				psprintf("A predicate has at most %d bytes, %d nodes, %d levels and %d different "
						 "counters; an array 16 conditions or 32 constants; a text 64 bytes.",
						 APM_PREDICATE_MAX, APM_PREDICATE_NODES, APM_PREDICATE_DEPTH,
						 APM_PREDICATE_COUNTERS));
			break;
		default:
			apm_json_place_fault(
				&walk->place,
				"The operands are not of one type that can be compared like this, or transactions "
				"of this kind do not have them.",
				"Texts are printable ASCII and have no order; public fields have names in lower "
				"case letters, digits and _.");
	}
}

static void
read_condition(Walk *walk, const JsonbValue *value)
{
	size_t start = walk->out->len;
	ApmFields members;
	uint8 op;
	int step;

	if (++walk->depth > APM_PREDICATE_DEPTH)
		apm_json_place_fault(&walk->place, "Conditions are nested too deeply.",
							 psprintf("There can be %d levels.", APM_PREDICATE_DEPTH));
	if (!apm_json_object(value, &members) || members.n != 1)
		apm_json_place_fault(&walk->place, "This is no condition.", condition_hint);
	op = apm_operator_code(apm_json_text(&members.v[0].name));
	if (op == 0 || op > APM_OP_ROLE)
		apm_json_place_fault(&walk->place, "There is no such operator.", condition_hint);
	step = apm_json_place_member(&walk->place, apm_field_name(&members.v[0]));
	apm_put_u8(walk->out, op);
	read_operands(walk, op, &members.v[0].value);
	check_condition(walk, start);
	apm_json_place_leave(&walk->place, step);
	walk->depth--;
}

void
apm_predicate_read(Jsonb *json, ApmKind kind, ApmBuf *out)
{
	Walk walk = {.kind = kind, .out = out};
	JsonbValue root = {.type = jbvBinary};

	root.val.binary.data = &json->root;
	root.val.binary.len = VARSIZE(json) - VARHDRSZ;
	apm_json_place_start(&walk.place, "predicate");
	read_condition(&walk, &root);
}
