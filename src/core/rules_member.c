/*
 * rules_member.c
 *	  The rules about whose transaction it is, and about who takes part in the chain.
 *
 * Who takes part, and how hard a block is to make, is decided once, in the genesis block.  What may change
 * later is a member's key.  A transaction waits between signing and its block, so an
 * origin's old key is good for a while after the new one came; for whose patient it is both are the same.
 */
#include "rules.h"

#include <string.h>

#include "digest.h"

static bool
same(const ApmDigest *a, const ApmDigest *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

/*
 * The genesis block has no origins before it: there a transaction that registers an
 * origin is signed by that same origin.
 */
static bool
registers_itself(const ApmCase *c)
{
	return c->height == 0 && c->tx->kind == APM_KIND_MEMBERSHIP &&
		   c->tx->u.membership.member == APM_MEMBER_ORIGIN;
}

/* Has the time since it was replaced been too long? */
static bool
is_over(const ApmMemberKey *key, uint64_t time_us)
{
	return key->ended && time_us > key->ended_us && time_us - key->ended_us > APM_QUEUED_GRACE_US;
}

ApmFinding
apm_judge_origin(const ApmCase *c)
{
	ApmDigest id;

	if (c->origin != NULL)
		return apm_holds_if(!is_over(c->origin, c->block_time_us));
	if (!registers_itself(c))
		return APM_BROKEN;
	if (apm_sha256(c->tx->u.membership.spki, APM_SPKI_LEN, &id) != APM_OK)
		return APM_CANNOT_TELL;
	return apm_holds_if(same(&c->tx->origin, &id));
}

ApmFinding
apm_judge_signature(const ApmCase *c)
{
	ApmEcKey *own = NULL;
	ApmStatus status = APM_OK;

	if (c->origin == NULL)
		status = apm_ec_from_spki(APM_SLICE(c->tx->u.membership.spki, APM_SPKI_LEN), &own);
	if (status == APM_OK)
		status =
			apm_origin_verify(c->origin != NULL ? c->origin->key : own, &c->opened->leaf, &c->opened->proof);
	apm_ec_free(own);
	return apm_finding_of(status);
}

ApmFinding
apm_judge_home(const ApmCase *c)
{
	if (!c->patient.known)
		return APM_HOLDS;
	return apm_holds_if(c->origin != NULL && same(&c->patient.origin, &c->origin->home));
}

/* An origin brings its keys itself: the first one, and each that replaces another. */
static bool
sent_by_its_origin(const ApmCase *c, const ApmDigest *home)
{
	const ApmDigest *sender = c->origin != NULL ? &c->origin->home : &c->tx->origin;

	return c->tx->u.membership.member != APM_MEMBER_ORIGIN || same(sender, home);
}

static ApmFinding
judge_key(const ApmCase *c)
{
	const ApmMembershipFields *f = &c->tx->u.membership;
	const ApmMemberKey *replaced;
	static const ApmDigest none;
	ApmDigest id;

	if (apm_sha256(f->spki, APM_SPKI_LEN, &id) != APM_OK)
		return APM_CANNOT_TELL;
	if (apm_contract_key(c->state, (ApmMember) f->member, &id) != NULL)
		return APM_BROKEN;
	if (c->height == 0)
		return apm_holds_if(same(&f->replaces, &none) && sent_by_its_origin(c, &id));
	replaced = apm_contract_key(c->state, (ApmMember) f->member, &f->replaces);
	if (replaced == NULL || replaced->ended || !sent_by_its_origin(c, &replaced->home))
		return APM_BROKEN;
	return apm_finding_of(apm_member_verify(replaced->key, &c->tx->chain, f));
}

static bool
sets_difficulty(const ApmContractFields *f)
{
	ApmReader r;
	ApmItem item;

	apm_reader_init(&r, f->items);
	for (int i = 0; i < f->count; i++)
	{
		apm_item_get(&r, &item);
		if (item.type == APM_ITEM_POLICY && item.key == APM_POLICY_DIFFICULTY)
			return true;
	}
	return false;
}

ApmFinding
apm_judge_membership(const ApmCase *c)
{
	if (c->tx->kind == APM_KIND_MEMBERSHIP)
		return judge_key(c);
	return apm_holds_if(c->tx->kind != APM_KIND_CONTRACT || c->height == 0 ||
						!sets_difficulty(&c->tx->u.contract));
}
