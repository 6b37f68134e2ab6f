/*
 * datarule.c
 *	  What the contract asks of a record before it is sealed: data rules, and public fields of its template.
 *
 * The chain cannot look into a record, so the APM judges it and answers for that with its signature: a
 * primary transaction names the rule set that its record was held to, and whether it violates a rule that
 * lets it pass.  Which rule that was is sealed with the record, for it says something of the patient.
 *
 * A refusal tells whoever submits something of the patient: that the earlier value is another.  It is for
 * those who may read him; to others such a violation is a flag.
 *
 * What is judged is what the record itself says.  Where no record has said a value yet, the profile's stands
 * for the earlier one.  JSON's null says nothing.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "anonymize/contractcache.h"
#include "anonymize/datacheck.h"
#include "anonymize/datarule.h"
#include "anonymize/lastvalue.h"
#include "anonymize/publicfield.h"
#include "anonymize/unicode.h"
#include "apm_errors.h"
#include "apm_memory.h"

typedef struct Rule
{
	ApmSlice name;
	ApmSlice attribute; /* UTF-8 */
	ApmSlice field;		/* the same in the server's encoding; empty if that cannot express it */
	bool refuses;
	bool first_of_attribute; /* with history */
	ApmDataCheck check;
} Rule;

/* Taken from the contract, and kept as long as that is the one in force. */
typedef struct Rules
{
	uint64 serial;
	ApmDigest ruleset;
	bool history; /* has any rule history? */
	int n;
	Rule *v;
} Rules;

/* A record with what it says, while it is judged. */
typedef struct Judged
{
	const ApmPatient *patient;
	ApmRecord *record;
	bool *busy;
	ApmFields own;		 /* without identifying attributes */
	ApmLastValues *last; /* NULL: no rule with history judges it */
} Judged;

/* The attribute's name as records have it; one that the server's encoding cannot express is in no record. */
static ApmSlice
field_name(ApmSlice utf8)
{
	ApmBuf name = {0};
	MemoryContext caller = CurrentMemoryContext;

	PG_TRY();
	{
		apm_server_text_put(&name, utf8, "an attribute's name");
	}
	PG_CATCH();
	{
		if (geterrcode() != ERRCODE_UNTRANSLATABLE_CHARACTER)
			PG_RE_THROW();
		MemoryContextSwitchTo(caller);
		FlushErrorState();
		name = (ApmBuf){0};
	}
	PG_END_TRY();
	return APM_SLICE(name.data, name.len);
}

static void
add_rule(Rules *rules, const ApmItem *item)
{
	Rule *rule = &rules->v[rules->n++];

	rule->name = apm_slice_copy(CurrentMemoryContext, item->name);
	rule->attribute = apm_slice_copy(CurrentMemoryContext, item->attribute);
	rule->field = field_name(rule->attribute);
	rule->refuses = item->violation == APM_VIOLATION_REFUSE;
	apm_datacheck_read(item->body, &rule->check);
	rule->first_of_attribute = apm_datacheck_has_history(&rule->check);
	rules->history = rules->history || rule->first_of_attribute;
	for (int i = 0; i < rules->n - 1 && rule->first_of_attribute; i++)
	{
		const Rule *before = &rules->v[i];

		if (before->first_of_attribute && apm_slices_equal(before->attribute, rule->attribute))
			rule->first_of_attribute = false;
	}
}

/* The rules in force, by name, in the current memory context. */
static Rules *
read_rules(const ApmContractState *contract, uint64 serial)
{
	Rules *rules = palloc0(sizeof(Rules));
	size_t at = 0;
	ApmItem item;

	rules->serial = serial;
	rules->v = palloc0(sizeof(Rule) * APM_DATA_RULES_MAX);
	apm_check(apm_contract_ruleset(contract, &rules->ruleset), "read data rules");
	while (apm_contract_next_item(contract, &at, &item))
	{
		if (item.type == APM_ITEM_DATA_RULE && rules->n < APM_DATA_RULES_MAX)
			add_rule(rules, &item);
	}
	return rules;
}

static const Rules *
rules_of(const ApmContractState *contract, uint64 serial)
{
	static MemoryContext kept = NULL;
	static Rules *rules = NULL;
	MemoryContext context;
	MemoryContext caller;
	Rules *new;

	if (kept != NULL && rules->serial == serial)
		return rules;
	context = AllocSetContextCreate(CurrentMemoryContext, "apm data rules", ALLOCSET_SMALL_SIZES);
	caller = MemoryContextSwitchTo(context);
	new = read_rules(contract, serial);
	MemoryContextSwitchTo(caller);
	if (kept != NULL)
		MemoryContextDelete(kept);
	MemoryContextSetParent(context, apm_process_context());
	kept = context;
	rules = new;
	return rules;
}

/* The attribute of a rule in a record or a profile; NULL where that says nothing of it. */
static const ApmField *
find_field(const ApmFields *fields, const Rule *rule)
{
	const ApmField *field = rule->field.len > 0 ? apm_fields_find(fields, rule->field) : NULL;

	return field != NULL && field->value.type != jbvNull ? field : NULL;
}

/* Replaces what is in out by the value's one form, or by nothing if it has none. */
static void
read_value(const ApmField *field, ApmBuf *out)
{
	out->len = 0;
	(void) apm_json_put_scalar(out, &field->value, "an attribute of the record");
	apm_check(apm_buf_status(out), "judge a record");
}

/* What the value of the rule's attribute is compared with; false: nothing.  profile is room for a value. */
static bool
earlier_value(const Rule *rule, const Judged *judged, ApmBuf *profile, ApmEarlierValue *out)
{
	const ApmLastValue *last;
	const ApmField *field;

	memset(out, 0, sizeof(*out));
	if (judged->last == NULL || judged->record->has_amends || judged->record->late)
		return false;
	last = apm_last_value_find(judged->last, rule->attribute);
	if (last != NULL)
	{
		uint64 now = judged->record->observed_us;

		out->value = last->value;
		out->timed = last->time_us > 0;
		out->elapsed_us = now > last->time_us ? (int64) (now - last->time_us) : 0;
		return true;
	}
	field = find_field(&judged->patient->attributes, rule);
	if (field == NULL)
		return false;
	read_value(field, profile);
	out->value = APM_SLICE(profile->data, profile->len);
	return profile->len > 0;
}

static bool
passes(const Rule *rule, const Judged *judged)
{
	const ApmField *field = find_field(&judged->own, rule);
	ApmBuf value = {.secret = true};
	ApmBuf profile = {.secret = true};
	ApmEarlierValue earlier;
	bool has_earlier;
	bool result;

	if (field == NULL)
		return true;
	read_value(field, &value);
	has_earlier = earlier_value(rule, judged, &profile, &earlier);
	result =
		apm_datacheck_passes(&rule->check, APM_SLICE(value.data, value.len), has_earlier ? &earlier : NULL);
	apm_buf_reset(&value);
	apm_buf_reset(&profile);
	return result;
}

/* Appends a name to a JSON array that is being written. */
static void
put_name(ApmBuf *names, ApmSlice name)
{
	apm_put_u8(names, names->len == 0 ? '[' : ',');
	apm_json_put_string(names, name);
}

/* May a record that violates the rule be refused, so that whoever submits it learns that it does? */
static bool
refuses(const Rule *rule, const ApmRecord *record, ApmTold told)
{
	ApmTold needed = apm_datacheck_has_history(&rule->check) ? APM_TOLD_ALL : APM_TOLD_RECORD;

	return rule->refuses && !record->late && told >= needed;
}

static void
judge(const Rules *rules, Judged *judged, ApmTold told)
{
	ApmRuling *ruling = &judged->record->ruling;

	for (int i = 0; i < rules->n; i++)
	{
		const Rule *rule = &rules->v[i];

		if (passes(rule, judged))
			continue;
		if (refuses(rule, judged->record, told))
			ereport(ERROR, (errcode(ERRCODE_APM_DATA_RULE),
							errmsg("the record violates data rule \"%.*s\"", (int) rule->name.len,
								   (const char *) rule->name.data),
							errhint("Correct the record. An administrator finds the rule in apm.contract.")));
		put_name(&ruling->violated, rule->name);
	}
	if (ruling->violated.len > 0)
		apm_put_u8(&ruling->violated, ']');
	apm_check(apm_buf_status(&ruling->violated), "judge a record");
}

/* Has the patient a value of the record's attributes that was observed after it? */
static bool
came_after(const Rules *rules, const Judged *judged)
{
	for (int i = 0; i < rules->n && judged->last != NULL; i++)
	{
		const Rule *rule = &rules->v[i];
		const ApmLastValue *last;

		if (!rule->first_of_attribute || find_field(&judged->own, rule) == NULL)
			continue;
		last = apm_last_value_find(judged->last, rule->attribute);
		if (last != NULL && last->time_us > judged->record->observed_us)
			return true;
	}
	return false;
}

/* Does the record's word on an attribute count from now on?  last is the one that counts now, or NULL. */
static bool
takes_over(const ApmRecord *record, const ApmLastValue *last)
{
	if (record->has_amends)
		return last != NULL && memcmp(&last->rid, &record->amends, sizeof(ApmUuid)) == 0;
	return !record->late || last == NULL || last->time_us < record->observed_us;
}

/* What the record says of one attribute becomes the patient's last value, if it is to. */
static void
remember(const Rule *rule, Judged *judged)
{
	const ApmRecord *record = judged->record;
	const ApmField *field = find_field(&judged->own, rule);
	const ApmLastValue *last = apm_last_value_find(judged->last, rule->attribute);
	ApmBuf value = {.secret = true};
	uint64 time_us = record->observed_us;

	if (!takes_over(record, last))
		return;
	if (last != NULL && (record->has_amends || last->time_us > time_us))
		time_us = last->time_us;
	if (field != NULL)
		read_value(field, &value);
	if (value.len > 0)
	{
		ApmLastValue new = {.attribute = rule->attribute,
							.time_us = time_us,
							.rid = record->rid,
							.value = APM_SLICE(value.data, value.len)};

		apm_last_value_put(judged->last, &new);
	}
	else if (record->has_amends)
		apm_last_value_remove(judged->last, rule->attribute);
	apm_buf_reset(&value);
}

/* Takes away what no rule in force asks for. */
static void
forget_others(const Rules *rules, ApmLastValues *last)
{
	for (int i = last->n - 1; i >= 0; i--)
	{
		bool asked = false;

		for (int r = 0; r < rules->n && !asked; r++)
			asked = rules->v[r].first_of_attribute &&
					apm_slices_equal(rules->v[r].attribute, last->v[i].attribute);
		if (!asked)
			apm_last_value_remove(last, last->v[i].attribute);
	}
}

/* Does a rule with history have anything to do with the record?  An amendment may take a value back. */
static bool
needs_history(const Rules *rules, const Judged *judged)
{
	if (!rules->history || judged->own.v == NULL)
		return false;
	for (int i = 0; i < rules->n; i++)
	{
		if (rules->v[i].first_of_attribute &&
			(judged->record->has_amends || find_field(&judged->own, &rules->v[i]) != NULL))
			return true;
	}
	return false;
}

static int
compare_patients(const void *a, const void *b)
{
	return strcmp((*(const ApmPatient *const *) a)->apid, (*(const ApmPatient *const *) b)->apid);
}

/* Locks the last values of the patients whose records need them; returns how many patients those are. */
static int
lock_last(const Rules *rules, Judged *v, int n, bool wait, ApmLastValues **out)
{
	const ApmPatient **patients = palloc(sizeof(ApmPatient *) * n);
	int count = 0;
	int distinct = 0;

	for (int i = 0; i < n; i++)
	{
		if (needs_history(rules, &v[i]))
			patients[count++] = v[i].patient;
	}
	qsort(patients, count, sizeof(ApmPatient *), compare_patients);
	for (int i = 0; i < count; i++)
	{
		if (distinct == 0 || compare_patients(&patients[distinct - 1], &patients[i]) != 0)
			patients[distinct++] = patients[i];
	}
	if (distinct == 0)
		return 0;

	*out = apm_last_values_lock(patients, distinct, wait);
	for (int i = 0; i < n; i++)
	{
		const ApmPatient **found =
			bsearch(&v[i].patient, patients, distinct, sizeof(ApmPatient *), compare_patients);

		if (found == NULL)
			continue;
		v[i].last = &(*out)[found - patients];
		*v[i].busy = !v[i].last->locked;
	}
	pfree(patients);
	return distinct;
}

static void
judge_all(const Rules *rules, Judged *v, int n, ApmTold told)
{
	ApmLastValues *last = NULL;
	int nlast = lock_last(rules, v, n, told != APM_TOLD_NOTHING, &last);

	for (int i = 0; i < n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (*v[i].busy)
			continue;
		if (v[i].record->dated && came_after(rules, &v[i]))
			v[i].record->late = true;
		judge(rules, &v[i], told);
		for (int r = 0; r < rules->n && v[i].last != NULL; r++)
		{
			if (rules->v[r].first_of_attribute)
				remember(&rules->v[r], &v[i]);
		}
	}
	for (int i = 0; i < nlast; i++)
		forget_others(rules, &last[i]);
	apm_last_values_write(last, nlast);
}

/* What the record says by itself; nothing if it is no object. */
static void
own_fields(const ApmRecord *record, const ApmDeclared *declared, ApmFields *out)
{
	ApmFields given;

	memset(out, 0, sizeof(*out));
	if (apm_fields_of(record->value, &given))
		apm_declared_pick(declared, &given, APM_CLASS_IDENTIFYING, false, out);
}

void
apm_records_require_fields(const ApmRecord *const *records, int n, const ApmDeclared *declared)
{
	uint64 serial;
	const ApmContractState *contract = apm_contract_now(&serial);

	if (!apm_public_fields_asked(contract))
		return;
	for (int i = 0; i < n; i++)
	{
		ApmBuf fields = {0};
		ApmFields own;

		own_fields(records[i], declared, &own);
		apm_public_fields_pick(&own, contract, true, &fields);
		apm_buf_reset(&fields);
	}
}

void
apm_records_hold(ApmProspect *prospects, int n, const ApmDeclared *declared, ApmTold told)
{
	uint64 serial;
	const ApmContractState *contract = apm_contract_now(&serial);
	const Rules *rules = rules_of(contract, serial);
	Judged *v = palloc0(sizeof(Judged) * Max(n, 1));

	for (int i = 0; i < n; i++)
	{
		ApmRuling *ruling = &prospects[i].record->ruling;

		v[i].patient = prospects[i].patient;
		v[i].record = prospects[i].record;
		v[i].busy = &prospects[i].busy;
		prospects[i].busy = false;
		own_fields(v[i].record, declared, &v[i].own);
		memset(ruling, 0, sizeof(*ruling));
		ruling->ruleset = rules->ruleset;
		apm_public_fields_pick(&v[i].own, contract, told != APM_TOLD_NOTHING, &ruling->fields);
	}
	if (rules->n > 0)
		judge_all(rules, v, n, told);
}
