/*
 * rules_contract.c
 *	  The rules that the contract's own items make: templates, data rules, site rules; and
 *	  those about changing the items.
 *
 * Templates and data rules come into force while transactions made without them are on
 * their way, so a transaction may also keep to those of a little before it was made.
 */
#include "rules.h"

#include <string.h>

#include "field.h"

#define KIND(k) (1u << (k))

bool
apm_kind_has_fields(ApmKind kind)
{
	return kind == APM_KIND_PRIMARY || kind == APM_KIND_QUERY || kind == APM_KIND_CONSENT;
}

bool
apm_kind_has_rules(ApmKind kind)
{
	return kind == APM_KIND_PATIENT || kind == APM_KIND_EXPORT || apm_kind_has_fields(kind);
}

/* From when on the transaction may have been made under what was in force. */
static uint64_t
grace_begin(const ApmCase *c)
{
	uint64_t grace_us = c->tx->kind == APM_KIND_QUERY ? APM_QUERY_GRACE_US : APM_QUEUED_GRACE_US;

	return c->tx->time_us > grace_us ? c->tx->time_us - grace_us : 0;
}

/* All fields of the template that must be there are, and no others than the template's. */
static bool
fits_template(const ApmPublicField *fields, int nfields, const ApmHeld *template)
{
	ApmFieldSpec specs[APM_FIELDS_MAX];
	int nspecs;
	int at = 0;

	if (apm_specs_decode(template->item.body, specs, &nspecs) != APM_OK)
		return false;
	for (int i = 0; i < nspecs; i++)
	{
		if (at < nfields && apm_slices_equal(fields[at].name, specs[i].name))
		{
			if (!apm_field_fits(&fields[at], &specs[i]))
				return false;
			at++;
		}
		else if (specs[i].required)
			return false;
	}
	return at == nfields;
}

/*
 * Templates of the transaction's kind that were in force at some moment since then: one after the other.  What came
 * and went at one block time was in force at no moment.
 */
static const ApmHeld *
next_template(const ApmCase *c, uint64_t since_us, size_t *at)
{
	const ApmHeldList *now = &c->state->items.now[APM_ITEM_TEMPLATE];
	const ApmHeldList *past = &c->state->items.past[APM_ITEM_TEMPLATE];

	for (; *at < now->n + past->n; (*at)++)
	{
		const ApmHeld *held = *at < now->n ? now->v[*at] : past->v[*at - now->n];

		if (held->item.kind == c->tx->kind && held->from_us < held->until_us && held->until_us > since_us)
		{
			(*at)++;
			return held;
		}
	}
	return NULL;
}

static bool
template_in_force(const ApmCase *c, uint64_t moment_us)
{
	const ApmHeld *held;
	size_t at = 0;

	while ((held = next_template(c, moment_us, &at)) != NULL)
	{
		if (held->from_us <= moment_us)
			return true;
	}
	return false;
}

/* Was there a moment since then without a template?  If so, then or when one ended. */
static bool
had_no_template(const ApmCase *c, uint64_t since_us)
{
	const ApmHeld *held;
	size_t at = 0;

	if (!template_in_force(c, since_us))
		return true;
	while ((held = next_template(c, since_us, &at)) != NULL)
	{
		if (held->until_us != APM_FOREVER && !template_in_force(c, held->until_us))
			return true;
	}
	return false;
}

ApmFinding
apm_judge_fields(const ApmCase *c)
{
	uint64_t since_us = grace_begin(c);
	ApmPublicField fields[APM_FIELDS_MAX];
	const ApmHeld *held;
	size_t at = 0;
	int n;

	if (apm_fields_decode(c->tx->fields, fields, &n) != APM_OK)
		return APM_BROKEN;
	if (!apm_kind_has_fields(c->tx->kind))
		return apm_holds_if(n == 0);
	while ((held = next_template(c, since_us, &at)) != NULL)
	{
		if (fits_template(fields, n, held))
			return APM_HOLDS;
	}
	return apm_holds_if(n == 0 && had_no_template(c, since_us));
}

ApmFinding
apm_judge_ruleset(const ApmCase *c)
{
	if (c->tx->kind != APM_KIND_PRIMARY)
		return APM_HOLDS;
	return apm_holds_if(apm_inforce_had_ruleset(&c->state->items, &c->tx->u.primary.ruleset, grace_begin(c)));
}

static void
first_item(const ApmCase *c, ApmReader *r)
{
	apm_reader_init(r, c->tx->u.contract.items);
}

/* Items can rest on those before them, so all are tried on a copy of what is in force. */
ApmFinding
apm_judge_item(const ApmCase *c)
{
	ApmInForce trial;
	ApmReader r;
	ApmItem item;
	ApmStatus status;

	if (c->tx->kind != APM_KIND_CONTRACT)
		return APM_HOLDS;
	status = apm_inforce_copy(&c->state->items, &trial);
	first_item(c, &r);
	for (int i = 0; i < c->tx->u.contract.count && status == APM_OK; i++)
	{
		apm_item_get(&r, &item);
		status = r.failed ? APM_ERR_FORMAT : apm_inforce_enter(&trial, &item, c->height, c->block_time_us);
	}
	apm_inforce_free(&trial);
	if (status == APM_ERR_MEMORY || status == APM_ERR_CRYPTO)
		return APM_CANNOT_TELL;
	return apm_holds_if(status == APM_OK);
}

static const char *
purpose_name(const void *closure, uint16_t code)
{
	return apm_contract_purpose_name(((const ApmCase *) closure)->state, code);
}

static const char *
reason_name(const void *closure, uint16_t code)
{
	return apm_contract_reason_name(((const ApmCase *) closure)->state, code);
}

static uint64_t
count(const void *closure, ApmCounterTerm term)
{
	const ApmCase *c = closure;
	const ApmDigest *subject = apm_subject_of(&c->subjects, term.counter);

	if (subject == NULL || apm_counter_name(term.counter) == NULL)
		return 0;
	return apm_tally_count(&c->state->tallies[term.counter], subject, term.seconds, c->block_time_us);
}

uint16_t
apm_judge_site_rules(const ApmCase *c)
{
	const ApmPredicateWorld world = {.tx = c->tx,
									 .batch = c->opened->proof.size,
									 .block_time_us = c->block_time_us,
									 .purpose_name = purpose_name,
									 .reason_name = reason_name,
									 .count = count,
									 .closure = c};
	const ApmHeld *rule = NULL;
	uint16_t after = 0;

	while ((rule = apm_inforce_next_rule(&c->state->items, c->tx->kind, c->height, after)) != NULL)
	{
		if (!apm_predicate_holds(rule->item.body, &world))
			return rule->number;
		after = rule->number;
	}
	return APM_RULE_NONE;
}
