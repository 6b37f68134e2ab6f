/*
 * bounds.c
 *	  What the fields of a transaction may hold.
 *
 * Asked by who writes a transaction and by who reads one (transaction.c), so that both agree.  What
 * the values mean together with the ledger is the contract's question (rules.c).
 */
#include "bounds.h"

#include <string.h>

#include "field.h"
#include "item.h"
#include "pseudonym.h"

#define ALL_ROLES                                                                                       \
	(APM_ROLE_ADMIN | APM_ROLE_REGISTRAR | APM_ROLE_CLINICIAN | APM_ROLE_SENSOR | APM_ROLE_RESEARCHER | \
	 APM_ROLE_AUDITOR)
#define ALL_PRIMARY_FLAGS (APM_PRIMARY_AMENDS | APM_PRIMARY_FLAGGED | APM_PRIMARY_LATE)

/* A Tid holds the time as 48 bits of milliseconds (RFC 9562). */
#define TIME_MAX_US ((((uint64_t) 1 << 48) - 1) * 1000 + 999)

static bool
all_zero(const uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++)
	{
		if (bytes[i] != 0)
			return false;
	}
	return true;
}

/* Are count ids of len bytes in ascending order, none twice? */
static bool
ascending(const uint8_t *ids, int count, size_t len)
{
	for (int i = 1; i < count; i++)
	{
		if (memcmp(ids + (i - 1) * len, ids + i * len, len) >= 0)
			return false;
	}
	return true;
}

static bool
groups_in_bounds(const ApmGroups *g)
{
	return ascending(g->ids, g->count, APM_STAFF_LEN);
}

static bool
tokens_in_bounds(const ApmTokens *t, int most)
{
	return t->count <= most && ascending(t->bytes, t->count, APM_TOKEN_LEN);
}

/* Both pseudonym modes write graphic ASCII, so nothing else is an aPid. */
static bool
apid_in_bounds(ApmSlice apid)
{
	if (apid.len < 1 || apid.len > APM_APID_MAX)
		return false;
	for (size_t i = 0; i < apid.len; i++)
	{
		if (apid.data[i] < 0x21 || apid.data[i] > 0x7e)
			return false;
	}
	return true;
}

static bool
primary_in_bounds(const ApmPrimaryFields *f)
{
	if (!apid_in_bounds(f->apid) || f->record.len < 1 || f->record.len > APM_PRIMARY_MAX)
		return false;
	if ((f->flags & ~ALL_PRIMARY_FLAGS) != 0 || !tokens_in_bounds(&f->tokens, APM_TOKENS_MAX))
		return false;
	return (f->flags & APM_PRIMARY_AMENDS) != 0 || all_zero(f->amends.bytes, APM_UUID_LEN);
}

static bool
query_in_bounds(const ApmQueryFields *f)
{
	bool search = f->scope == APM_SCOPE_SEARCH;
	bool emergency = f->scope == APM_SCOPE_EMERGENCY;
	bool rests_on_another =
		f->scope == APM_SCOPE_MATCH || f->scope == APM_SCOPE_EXPORT || f->scope == APM_SCOPE_NOTE;

	if (apm_scope_name(f->scope) == NULL)
		return false;
	if (search ? f->apid.len != 0 : !apid_in_bounds(f->apid))
		return false;
	if (!emergency && (f->reason != 0 || !all_zero(f->note.bytes, APM_DIGEST_LEN)))
		return false;
	if (!rests_on_another && !all_zero(f->basis, APM_UUID_LEN))
		return false;
	if ((f->tokens.count > 0) != search || !tokens_in_bounds(&f->tokens, APM_SEARCH_TOKENS_MAX))
		return false;
	return groups_in_bounds(&f->groups);
}

static bool
consent_in_bounds(const ApmConsentFields *f)
{
	bool for_somebody = !all_zero(f->grantee, APM_STAFF_LEN);
	bool rests_on_nothing = all_zero(f->reviewed.bytes, APM_UUID_LEN) && f->finding == 0;

	if (!apid_in_bounds(f->apid) || !groups_in_bounds(&f->groups))
		return false;
	switch (f->action)
	{
		case APM_CONSENT_GRANT:
			return for_somebody && f->until_us <= TIME_MAX_US && rests_on_nothing;
		case APM_CONSENT_REVOKE:
			return f->until_us == 0 && rests_on_nothing;
		case APM_CONSENT_REVIEW:
			return !for_somebody && f->purpose == 0 && f->until_us == 0 &&
				   (f->finding == APM_FINDING_JUSTIFIED || f->finding == APM_FINDING_UNJUSTIFIED);
		default:
			return false;
	}
}

/* Leaves ascend, so a leaf is found by halving, and a patient's leaves have one erasure. */
static bool
erasure_in_bounds(const ApmErasureFields *f)
{
	ApmVoid voided;
	ApmVoid before;

	if (!apid_in_bounds(f->apid) || f->reason == 0 || f->count < 1 || f->count > APM_VOIDS_MAX ||
		f->voids.len != (size_t) f->count * APM_VOID_LEN)
		return false;
	for (uint32_t i = 0; i < f->count; i++)
	{
		apm_erasure_void(f, i, &voided);
		if (voided.kind != APM_KIND_PATIENT && voided.kind != APM_KIND_PRIMARY)
			return false;
		if (i > 0 && memcmp(&before.leaf, &voided.leaf, sizeof(ApmDigest)) >= 0)
			return false;
		before = voided;
	}
	return true;
}

/* The numbers are also those that a database's signed integers hold. */
static bool
export_in_bounds(const ApmExportFields *f)
{
	return f->release >= 1 && f->release <= INT32_MAX && f->rows <= INT64_MAX && f->parameters.len >= 1 &&
		   f->parameters.len <= APM_PARAMETERS_MAX;
}

/* A first key replaces none and has no endorsement. */
static bool
membership_in_bounds(const ApmMembershipFields *f)
{
	if (f->member != APM_MEMBER_NODE && f->member != APM_MEMBER_ORIGIN)
		return false;
	return all_zero(f->replaces.bytes, APM_DIGEST_LEN) == all_zero(f->endorsement.bytes, APM_SIGNATURE_LEN);
}

static bool
contract_in_bounds(const ApmContractFields *f)
{
	ApmReader r;
	ApmItem item;

	if (f->count < 1 || f->count > APM_ITEMS_MAX || f->items.len > APM_ITEMS_BYTES)
		return false;
	apm_reader_init(&r, f->items);
	for (int i = 0; i < f->count; i++)
		apm_item_get(&r, &item);
	return apm_reader_done(&r);
}

bool
apm_transaction_in_bounds(const ApmTransaction *tx)
{
	ApmPublicField fields[APM_FIELDS_MAX];
	int n;

	if (tx->time_us > TIME_MAX_US || (tx->roles & ~ALL_ROLES) != 0)
		return false;
	if (apm_fields_decode(tx->fields, fields, &n) != APM_OK)
		return false;

	switch (tx->kind)
	{
		case APM_KIND_PATIENT:
			return apid_in_bounds(tx->u.patient.apid) && tx->u.patient.version >= 1;
		case APM_KIND_PRIMARY:
			return primary_in_bounds(&tx->u.primary);
		case APM_KIND_QUERY:
			return query_in_bounds(&tx->u.query);
		case APM_KIND_CONSENT:
			return consent_in_bounds(&tx->u.consent);
		case APM_KIND_ERASURE:
			return erasure_in_bounds(&tx->u.erasure);
		case APM_KIND_EXPORT:
			return export_in_bounds(&tx->u.export);
		case APM_KIND_MEMBERSHIP:
			return membership_in_bounds(&tx->u.membership);
		case APM_KIND_CONTRACT:
			return contract_in_bounds(&tx->u.contract);
	}
	return false;
}
