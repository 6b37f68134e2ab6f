/*
 * inforce.c
 *	  The contract's items that are in force, and those that were.
 *
 * There are few of them, so they are kept in short sorted arrays.  An item is held as the
 * bytes that the chain has, which are what digests are over, and is read once.
 */
#include "inforce.h"

#include <string.h>

#include "digest.h"
#include "field.h"
#include "room.h"

/* Numbers of rules fit into a smallint. */
#define RULE_NUMBERS (INT16_MAX - APM_SITE_RULE + 1)
#define PATIENTS_MAX INT32_MAX

/* The code of a purpose or reason is its place in the list, counted from 1. */
static const char *const purposes[] = {"treatment",		  "payment", "operations", "emergency",
									   "patient-request", "audit",	 "research"};
static const char *const reasons[] = {"unconscious",	 "life-threatening", "danger-to-others",  "disaster",
									  "other-emergency", "no-longer-needed", "consent-withdrawn", "objection",
									  "unlawful",		 "legal-obligation"};
#define FIRST_OF_ERASURES 6 /* those before it are for emergencies */

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

const char *
apm_genesis_purpose(uint16_t code)
{
	return code >= 1 && code <= LENGTH(purposes) ? purposes[code - 1] : NULL;
}

const char *
apm_genesis_reason(uint16_t code)
{
	return code >= 1 && code <= LENGTH(reasons) ? reasons[code - 1] : NULL;
}

bool
apm_reason_fits(uint16_t code, bool erasure)
{
	return code > LENGTH(reasons) || (code >= FIRST_OF_ERASURES) == erasure;
}

static void
free_list(ApmHeldList *list)
{
	for (size_t i = 0; i < list->n; i++)
		apm_core_free(list->v[i]);
	apm_core_free(list->v);
	memset(list, 0, sizeof(*list));
}

void
apm_inforce_free(ApmInForce *f)
{
	for (int type = 0; type < APM_HELD_TYPES; type++)
	{
		free_list(&f->now[type]);
		free_list(&f->past[type]);
	}
	apm_core_free(f->rulesets);
	memset(f, 0, sizeof(*f));
}

static bool
keeps_past(uint8_t type)
{
	return type == APM_ITEM_TEMPLATE || type == APM_ITEM_RULE || type == APM_ITEM_DATA_RULE;
}

/* A copy of the item, in memory of its own. */
static ApmStatus
hold(const ApmItem *item, ApmHeld **out)
{
	ApmBuf buf = {0};
	ApmReader r;
	ApmHeld *held = NULL;
	ApmStatus status = apm_item_put(item, &buf);

	if (status == APM_OK)
	{
		held = apm_core_alloc(sizeof(*held) + buf.len, false);
		status = held != NULL ? APM_OK : APM_ERR_MEMORY;
	}
	if (status == APM_OK)
	{
		held->len = buf.len;
		memcpy(held->bytes, buf.data, buf.len);
		apm_reader_init(&r, APM_SLICE(held->bytes, held->len));
		apm_item_get(&r, &held->item);
		if (held->item.name.len > 0)
			memcpy(held->name, held->item.name.data, held->item.name.len);
		held->until_us = APM_FOREVER;
		held->until_height = APM_FOREVER;
		*out = held;
	}
	apm_buf_reset(&buf);
	return status;
}

/* The order within a list: policies, purposes and reasons have keys, the others names. */
static int
compare_items(const ApmItem *a, const ApmItem *b)
{
	if (a->key != b->key)
		return a->key < b->key ? -1 : 1;
	return a->type == APM_ITEM_POLICY ? 0 : apm_slices_compare(a->name, b->name);
}

/* The place of an item that compares equal, or where it belongs; keys aside, that is by name. */
static size_t
place_of(const ApmHeldList *list, const ApmItem *item, bool *found)
{
	size_t at = 0;
	int order = 1;

	while (at < list->n && (order = compare_items(&list->v[at]->item, item)) < 0)
		at++;
	*found = at < list->n && order == 0;
	return at;
}

static bool
room_for_one(ApmHeldList *list)
{
	ApmHeld **v = apm_room(list->v, &list->capacity, list->n + 1, sizeof(*v));

	if (v == NULL)
		return false;
	list->v = v;
	return true;
}

/* Room is made before anything changes, so nothing is half done. */
static ApmStatus
end_item(ApmInForce *f, uint8_t type, size_t at, uint64_t height, uint64_t time_us)
{
	ApmHeldList *now = &f->now[type];
	ApmHeldList *past = &f->past[type];
	ApmHeld *held = now->v[at];

	if (keeps_past(type) && !room_for_one(past))
		return APM_ERR_MEMORY;
	memmove(&now->v[at], &now->v[at + 1], (now->n - at - 1) * sizeof(*now->v));
	now->n--;
	held->until_us = time_us;
	held->until_height = height;
	if (keeps_past(type))
		past->v[past->n++] = held;
	else
		apm_core_free(held);
	return APM_OK;
}

/* Takes held over, also when it fails. */
static ApmStatus
begin_item(ApmInForce *f, ApmHeld *held, uint64_t height, uint64_t time_us)
{
	ApmHeldList *now = &f->now[held->item.type];
	bool found;
	size_t at = place_of(now, &held->item, &found);
	ApmStatus status = room_for_one(now) ? APM_OK : APM_ERR_MEMORY;

	if (status == APM_OK && found)
		status = end_item(f, held->item.type, at, height, time_us);
	if (status != APM_OK)
	{
		apm_core_free(held);
		return status;
	}
	held->from_us = time_us;
	held->from_height = height;
	memmove(&now->v[at + 1], &now->v[at], (now->n - at) * sizeof(*now->v));
	now->v[at] = held;
	now->n++;
	return APM_OK;
}

/* A policy that this version does not know could not be obeyed, so it is refused. */
static bool
policy_in_bounds(const ApmItem *item)
{
	switch (item->key)
	{
		case APM_POLICY_DIFFICULTY:
			return item->value <= APM_MAX_DIFFICULTY;
		case APM_POLICY_ACCESS:
		case APM_POLICY_EXPORT:
			return item->value == 1 || item->value == 2;
		case APM_POLICY_PURPOSE:
			return item->value <= 1;
		case APM_POLICY_EMERGENCY:
			return item->value <= 2;
		case APM_POLICY_FETCH_CAP:
		case APM_POLICY_QUERY_RATE:
			return item->value <= PATIENTS_MAX;
		default:
			return false;
	}
}

/* The code of the next purpose or reason: one more than the last, and never one that the genesis block's list has. */
static uint16_t
next_code(const ApmInForce *f, uint8_t type)
{
	const ApmHeldList *list = &f->now[type];
	uint16_t code = type == APM_ITEM_PURPOSE ? LENGTH(purposes) : LENGTH(reasons);

	if (list->n > 0 && list->v[list->n - 1]->item.key > code)
		code = list->v[list->n - 1]->item.key;
	return (uint16_t) (code + 1);
}

static bool
is_named(const char *name, ApmSlice wanted)
{
	return strlen(name) == wanted.len && memcmp(name, wanted.data, wanted.len) == 0;
}

/*
 * Transactions name purposes and reasons by code, so neither a code nor a name is given
 * twice.  Rules know some purposes by their codes: those of the genesis block have the
 * same in every chain.
 */
static bool
may_list(const ApmInForce *f, const ApmItem *item)
{
	const ApmHeldList *list = &f->now[item->type];
	uint16_t code = 1;

	for (size_t i = 0; i < list->n; i++)
	{
		if (list->v[i]->item.key == item->key || apm_slices_compare(list->v[i]->item.name, item->name) == 0)
			return false;
	}
	if (item->type != APM_ITEM_PURPOSE)
		return true;
	for (; apm_genesis_purpose(code) != NULL; code++)
	{
		if ((item->key == code) != is_named(apm_genesis_purpose(code), item->name))
			return false;
	}
	return true;
}

/* How many are in force when this one is. */
static size_t
count_with(const ApmHeldList *list, const ApmItem *item)
{
	bool found;

	(void) place_of(list, item, &found);
	return found ? list->n : list->n + 1;
}

static bool
may_use_template(const ApmInForce *f, const ApmItem *item)
{
	ApmFieldSpec specs[APM_FIELDS_MAX];
	int n;

	return apm_kind_has_fields((ApmKind) item->kind) && apm_specs_decode(item->body, specs, &n) == APM_OK &&
		   count_with(&f->now[APM_ITEM_TEMPLATE], item) <= APM_TEMPLATES_MAX;
}

/* Adds terms to all, those that are not there yet; false beyond max. */
static bool
join_terms(ApmCounterTerm *all, int *n, int max, const ApmCounterTerm *terms, int nterms)
{
	for (int i = 0; i < nterms; i++)
	{
		int at = 0;

		while (at < *n && (all[at].counter != terms[i].counter || all[at].seconds != terms[i].seconds))
			at++;
		if (at == max)
			return false;
		if (at == *n)
			all[(*n)++] = terms[i];
	}
	return true;
}

/* A verdict's name says which rule it was: a site rule has none of a built-in one. */
static bool
is_built_in(const char *name)
{
	for (uint16_t rule = 1; apm_rule_name(rule) != NULL; rule++)
	{
		if (strcmp(name, apm_rule_name(rule)) == 0)
			return true;
	}
	return false;
}

/* The predicate is checked, and its counters noted, here and nowhere else. */
static bool
may_use_rule(const ApmInForce *f, ApmHeld *held)
{
	const ApmHeldList *rules = &f->now[APM_ITEM_RULE];
	ApmCounterTerm all[APM_COUNTS_MAX - 1];
	int n = 0;

	if (!apm_kind_has_rules((ApmKind) held->item.kind) || is_built_in(held->name) ||
		f->rules_admitted >= RULE_NUMBERS || count_with(rules, &held->item) > APM_SITE_RULES_MAX ||
		apm_predicate_check(held->item.body, (ApmKind) held->item.kind, held->terms, &held->nterms) != APM_OK)
		return false;
	if (!join_terms(all, &n, (int) LENGTH(all), held->terms, held->nterms))
		return false;
	for (size_t i = 0; i < rules->n; i++)
	{
		const ApmHeld *other = rules->v[i];

		if (apm_slices_compare(other->item.name, held->item.name) != 0 &&
			!join_terms(all, &n, (int) LENGTH(all), other->terms, other->nterms))
			return false;
	}
	return true;
}

static bool
may_begin(const ApmInForce *f, ApmHeld *held)
{
	switch (held->item.type)
	{
		case APM_ITEM_POLICY:
			return policy_in_bounds(&held->item);
		case APM_ITEM_PURPOSE:
		case APM_ITEM_REASON:
			return may_list(f, &held->item);
		case APM_ITEM_TEMPLATE:
			return may_use_template(f, &held->item);
		case APM_ITEM_RULE:
			return may_use_rule(f, held);
		case APM_ITEM_DATA_RULE:
			return count_with(&f->now[APM_ITEM_DATA_RULE], &held->item) <= APM_DATA_RULES_MAX;
		default:
			return false;
	}
}

static ApmStatus
digest_data_rules(const ApmInForce *f, ApmDigest *out)
{
	const ApmHeldList *list = &f->now[APM_ITEM_DATA_RULE];
	ApmSlice parts[APM_DATA_RULES_MAX];

	memset(out, 0, sizeof(*out));
	if (list->n == 0)
		return APM_OK;
	for (size_t i = 0; i < list->n; i++)
		parts[i] = APM_SLICE(list->v[i]->bytes, list->v[i]->len);
	return apm_sha256_parts(parts, list->n, out);
}

/* Notes what the data rules are now.  Of one block's changes the last counts. */
static ApmStatus
note_ruleset(ApmInForce *f, uint64_t time_us)
{
	ApmRuleset *v;
	ApmDigest digest;
	ApmStatus status = digest_data_rules(f, &digest);

	if (status != APM_OK)
		return status;
	if (f->nrulesets == 0 || f->rulesets[f->nrulesets - 1].from_us != time_us)
	{
		v = apm_room(f->rulesets, &f->rulesets_capacity, f->nrulesets + 1, sizeof(*v));
		if (v == NULL)
			return APM_ERR_MEMORY;
		f->rulesets = v;
		f->nrulesets++;
	}
	f->rulesets[f->nrulesets - 1] = (ApmRuleset){digest, time_us};
	return APM_OK;
}

static ApmStatus
drop_item(ApmInForce *f, const ApmItem *item, uint64_t height, uint64_t time_us)
{
	uint8_t type = (uint8_t) (item->type - APM_ITEM_DROP_TEMPLATE + APM_ITEM_TEMPLATE);
	bool found;
	size_t at = place_of(&f->now[type], item, &found);
	ApmStatus status = found ? end_item(f, type, at, height, time_us) : APM_ERR_RANGE;

	if (status == APM_OK && type == APM_ITEM_DATA_RULE)
		status = note_ruleset(f, time_us);
	return status;
}

ApmStatus
apm_inforce_enter(ApmInForce *f, const ApmItem *item, uint64_t height, uint64_t time_us)
{
	ApmItem coded = *item;
	ApmHeld *held;
	ApmStatus status;

	if (item->type >= APM_ITEM_DROP_TEMPLATE && item->type <= APM_ITEM_DROP_DATA_RULE)
		return drop_item(f, item, height, time_us);
	if ((item->type == APM_ITEM_PURPOSE || item->type == APM_ITEM_REASON) && item->key == APM_ITEM_NEXT_CODE)
		coded.key = next_code(f, item->type);
	status = hold(&coded, &held);
	if (status != APM_OK)
		return status;
	if (!may_begin(f, held))
	{
		apm_core_free(held);
		return APM_ERR_RANGE;
	}
	if (item->type == APM_ITEM_RULE)
		held->number = (uint16_t) (APM_SITE_RULE + f->rules_admitted);
	status = begin_item(f, held, height, time_us);
	if (status == APM_OK && item->type == APM_ITEM_RULE)
		f->rules_admitted++;
	if (status == APM_OK && item->type == APM_ITEM_DATA_RULE)
		status = note_ruleset(f, time_us);
	return status;
}

ApmStatus
apm_inforce_copy(const ApmInForce *f, ApmInForce *out)
{
	memset(out, 0, sizeof(*out));
	out->rules_admitted = f->rules_admitted;
	for (int type = 0; type < APM_HELD_TYPES; type++)
	{
		for (size_t i = 0; i < f->now[type].n; i++)
		{
			const ApmHeld *from = f->now[type].v[i];
			ApmHeld *held;
			ApmStatus status = hold(&from->item, &held);

			if (status == APM_OK)
			{
				held->number = from->number;
				held->nterms = from->nterms;
				memcpy(held->terms, from->terms, sizeof(held->terms));
				status = begin_item(out, held, from->from_height, from->from_us);
			}
			if (status != APM_OK)
			{
				apm_inforce_free(out);
				return status;
			}
		}
	}
	return APM_OK;
}

const ApmHeld *
apm_inforce_code(const ApmInForce *f, ApmItemType list, uint16_t code)
{
	const ApmHeldList *held = &f->now[list];

	for (size_t i = 0; i < held->n; i++)
	{
		if (held->v[i]->item.key == code)
			return held->v[i];
	}
	return NULL;
}

const ApmHeld *
apm_inforce_policy(const ApmInForce *f, uint16_t key)
{
	return apm_inforce_code(f, APM_ITEM_POLICY, key);
}

/* Does it judge transactions in a block of that height? */
static bool
judges(const ApmHeld *rule, ApmKind kind, uint64_t height)
{
	return rule->from_height < height && height <= rule->until_height &&
		   (kind == 0 || rule->item.kind == kind);
}

const ApmHeld *
apm_inforce_next_rule(const ApmInForce *f, ApmKind kind, uint64_t height, uint16_t after)
{
	const ApmHeldList *now = &f->now[APM_ITEM_RULE];
	const ApmHeldList *past = &f->past[APM_ITEM_RULE];
	const ApmHeld *next = NULL;

	for (size_t i = 0; i < now->n; i++)
	{
		if (judges(now->v[i], kind, height) && now->v[i]->number > after &&
			(next == NULL || now->v[i]->number < next->number))
			next = now->v[i];
	}
	/* of those that ended, only the ones that end with this very block */
	for (size_t i = past->n; i > 0 && past->v[i - 1]->until_height >= height; i--)
	{
		if (judges(past->v[i - 1], kind, height) && past->v[i - 1]->number > after &&
			(next == NULL || past->v[i - 1]->number < next->number))
			next = past->v[i - 1];
	}
	return next;
}

const ApmHeld *
apm_inforce_rule(const ApmInForce *f, uint16_t number)
{
	const ApmHeldList *lists[] = {&f->now[APM_ITEM_RULE], &f->past[APM_ITEM_RULE]};

	for (size_t l = 0; l < LENGTH(lists); l++)
	{
		for (size_t i = 0; i < lists[l]->n; i++)
		{
			if (lists[l]->v[i]->number == number)
				return lists[l]->v[i];
		}
	}
	return NULL;
}

void
apm_inforce_ruleset(const ApmInForce *f, ApmDigest *out)
{
	if (f->nrulesets > 0)
		*out = f->rulesets[f->nrulesets - 1].digest;
	else
		memset(out, 0, sizeof(*out));
}

bool
apm_inforce_had_ruleset(const ApmInForce *f, const ApmDigest *ruleset, uint64_t since_us)
{
	static const ApmDigest none;

	for (size_t i = f->nrulesets; i > 0; i--)
	{
		if (memcmp(&f->rulesets[i - 1].digest, ruleset, sizeof(*ruleset)) == 0)
			return true;
		if (f->rulesets[i - 1].from_us <= since_us)
			return false; /* those before had ended by then */
	}
	return memcmp(ruleset, &none, sizeof(none)) == 0;
}
