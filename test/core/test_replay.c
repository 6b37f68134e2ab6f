/*
 * test_replay.c
 *	  A node, which loads for each block what its transactions need, and a verifier, which
 *	  applies the chain from its genesis, give the same verdicts and the same contract.
 *
 * Chains are made by chance out of everything that leaves a trace for others: registrations,
 * records and amendments, words of patients, searches, emergencies, reviews and notes, releases, policies,
 * templates, data rules and site rules with counters.  The node's ledger is the list of what was valid;
 * of counters it gives the two points that the contract's header promises to be enough.
 */
#include "core/contract.h"

#include "core/digest.h"
#include "core/field.h"
#include "predicates.h"
#include "world.h"

#define CHAINS 12
#define BLOCKS 40
#define BATCH 12
#define PATIENTS 4
#define ROLES 4
#define LEDGER_MAX (BLOCKS * BATCH + 4)

typedef struct Entry
{
	ApmBuf bytes; /* signed form, which opened points into */
	ApmOpened opened;
	uint64_t height;
	uint32_t position;
	uint64_t time_us;
} Entry;

static Entry ledger[LEDGER_MAX];
static size_t ledger_count;
static ApmEcKey *origin;
static ApmDigest origin_id;
static uint32_t verdicts[APM_SITE_RULE + 1]; /* how often each came; site rules together */

static int
pick(int n)
{
	return (int) (random() % n);
}

static ApmSlice
patient(int n)
{
	static const char *const apids[PATIENTS] = {"r.one", "r.two", "r.three", "r.four"};

	return sample_text(apids[n]);
}

/* Roles as their staff pseudonyms, ascending; somebody belongs to one. */
static const uint8_t *
role(int n)
{
	static uint8_t ids[ROLES][APM_STAFF_LEN];

	for (int i = 0; i < ROLES; i++)
		memset(ids[i], i + 1, APM_STAFF_LEN);
	return ids[n];
}

static ApmTransaction
start(ApmKind kind, uint16_t roles, uint64_t time_us)
{
	ApmTransaction tx = sample_transaction(kind);

	tx.origin = origin_id;
	tx.roles = roles;
	tx.time_us = time_us - (uint64_t) pick(3) * 700 * SECOND;
	memset(tx.actor, pick(2) + 1, APM_STAFF_LEN);
	return tx;
}

/* A Tid of the ledger that may be what is looked for. */
static ApmUuid
some_tid(uint8_t scope)
{
	for (int tries = 0; tries < 30 && ledger_count > 0; tries++)
	{
		const Entry *e = &ledger[pick((int) ledger_count)];

		if (e->opened.tx.kind == APM_KIND_QUERY && e->opened.tx.u.query.scope == scope)
			return e->opened.tid;
	}
	return sample_uuid(7);
}

static ApmTransaction
some_query(uint64_t time_us)
{
	static const ApmScope scopes[] = {APM_SCOPE_RECORDS,   APM_SCOPE_RECORDS, APM_SCOPE_HISTORY,
									  APM_SCOPE_SEARCH,	   APM_SCOPE_MATCH,	  APM_SCOPE_EXPORT,
									  APM_SCOPE_EMERGENCY, APM_SCOPE_NOTE};
	static const uint16_t roles[] = {APM_ROLE_CLINICIAN, APM_ROLE_AUDITOR | APM_ROLE_CLINICIAN,
									 APM_ROLE_RESEARCHER, 0};
	static const uint8_t ward[] = {1, 0, 0, 0, 4, 'w', 'a', 'r', 'd', APM_FIELD_BOOLEAN,
								   0, 0, 0, 0, 0, 0,   0,	1};
	ApmTransaction tx = start(APM_KIND_QUERY, roles[pick(4)], time_us);
	ApmQueryFields *q = &tx.u.query;
	ApmUuid basis;

	if (pick(4) == 0)
		tx.fields = APM_SLICE(ward, sizeof(ward));

	q->scope = (uint8_t) scopes[pick(8)];
	q->apid = patient(pick(PATIENTS));
	q->purpose = (uint16_t) pick(3);
	q->groups = (ApmGroups){1, role(pick(ROLES))};
	memcpy(q->acting, q->groups.ids, APM_STAFF_LEN);
	if (q->scope == APM_SCOPE_SEARCH)
	{
		q->apid = APM_SLICE(NULL, 0);
		q->tokens = (ApmTokens){1, role(0)};
	}
	else if (q->scope == APM_SCOPE_EMERGENCY)
	{
		q->purpose = APM_PURPOSE_EMERGENCY;
		q->reason = 1;
	}
	else if (q->scope == APM_SCOPE_EXPORT)
		q->purpose = APM_PURPOSE_RESEARCH;
	if (q->scope == APM_SCOPE_MATCH || q->scope == APM_SCOPE_NOTE || q->scope == APM_SCOPE_EXPORT)
	{
		basis = some_tid(q->scope == APM_SCOPE_MATCH ? APM_SCOPE_SEARCH : APM_SCOPE_EMERGENCY);
		memcpy(q->basis, basis.bytes, APM_UUID_LEN);
	}
	return tx;
}

static ApmTransaction
some_consent(uint64_t time_us)
{
	ApmTransaction tx = start(APM_KIND_CONSENT, APM_ROLE_REGISTRAR | APM_ROLE_AUDITOR, time_us);
	ApmConsentFields *c = &tx.u.consent;

	c->action = (uint8_t) (pick(3) + 1);
	c->apid = patient(pick(PATIENTS));
	c->groups = (ApmGroups){1, role(pick(ROLES))};
	memcpy(c->grantee, role(pick(ROLES)), APM_STAFF_LEN);
	c->purpose = (uint16_t) pick(3);
	if (c->action == APM_CONSENT_GRANT && pick(2) == 0)
		c->until_us = time_us + (uint64_t) pick(5) * 1000 * SECOND;
	if (c->action == APM_CONSENT_REVOKE && pick(3) == 0)
		memset(c->grantee, 0, APM_STAFF_LEN);
	if (c->action == APM_CONSENT_REVIEW)
	{
		memset(c->grantee, 0, APM_STAFF_LEN);
		c->purpose = 0;
		c->reviewed = some_tid(APM_SCOPE_EMERGENCY);
		c->finding = APM_FINDING_JUSTIFIED;
	}
	return tx;
}

static ApmTransaction
some_record(const ApmContractState *state, uint64_t time_us)
{
	ApmTransaction tx = start(APM_KIND_PRIMARY, APM_ROLE_CLINICIAN, time_us);

	tx.u.primary.apid = patient(pick(PATIENTS));
	tx.u.primary.rid = sample_uuid((uint8_t) pick(200));
	if (pick(4) == 0)
	{
		tx.u.primary.flags = APM_PRIMARY_AMENDS;
		tx.u.primary.amends = sample_uuid((uint8_t) pick(200));
	}
	if (pick(4) != 0)
		CHECK_OK(apm_contract_ruleset(state, &tx.u.primary.ruleset));
	return tx;
}

static ApmTransaction
some_registration(uint64_t time_us)
{
	ApmTransaction tx = start(APM_KIND_PATIENT, APM_ROLE_REGISTRAR, time_us);

	tx.u.patient.apid = patient(pick(PATIENTS));
	return tx;
}

static ApmTransaction
some_release(uint64_t time_us)
{
	ApmTransaction tx = start(APM_KIND_EXPORT, APM_ROLE_RESEARCHER, time_us);

	memset(tx.u.export.study, pick(2) + 1, APM_STUDY_LEN);
	tx.u.export.release = (uint32_t) pick(3) + 1;
	return tx;
}

/* A change of the contract, of one item. */
static ApmTransaction
some_change(uint64_t time_us)
{
	static const char *const names[] = {"a", "b"};
	static const ApmPolicy policies[] = {{APM_POLICY_ACCESS, 1},	 {APM_POLICY_ACCESS, 2},
										 {APM_POLICY_EMERGENCY, 2},	 {APM_POLICY_EMERGENCY, 1},
										 {APM_POLICY_QUERY_RATE, 3}, {APM_POLICY_QUERY_RATE, 0}};
	ApmTransaction tx = start(APM_KIND_CONTRACT, APM_ROLE_ADMIN, time_us);
	ApmItem item = {.type = (uint8_t) (pick(9) + 1), .name = sample_text(names[pick(2)])};
	ApmFieldSpec spec = {.name = sample_text("ward"), .type = APM_FIELD_BOOLEAN};
	const ApmPolicy *policy = &policies[pick(6)];
	ApmBuf body = {0};

	switch (item.type)
	{
		case APM_ITEM_POLICY:
			item.key = policy->key;
			item.value = policy->value;
			break;
		case APM_ITEM_PURPOSE:
		case APM_ITEM_REASON:
			item.key = pick(2) == 0 ? APM_ITEM_NEXT_CODE : (uint16_t) (pick(5) + 8);
			break;
		case APM_ITEM_TEMPLATE:
			item.kind = APM_KIND_QUERY;
			spec.required = pick(4) == 0;
			CHECK_OK(apm_specs_encode(&spec, 1, &body));
			break;
		case APM_ITEM_RULE:
			item.kind = pick(2) == 0 ? APM_KIND_QUERY : APM_KIND_PRIMARY;
			p_limit(&body, (ApmCounter) (pick(APM_COUNTERS) + 1), (uint32_t) pick(4) * 500, pick(4) + 2);
			break;
		case APM_ITEM_DATA_RULE:
			item.attribute = sample_text("pulse");
			apm_put_raw(&body, pick(2) == 0 ? "1" : "2", 1);
			item.violation = APM_VIOLATION_FLAG;
			break;
		default:
			break;
	}
	item.body = p_slice(&body);
	sample_items(&item, 1, &tx.u.contract);
	apm_buf_reset(&body);
	return tx;
}

static ApmTransaction
some_transaction(const ApmContractState *state, uint64_t time_us)
{
	int n = pick(20);

	if (n < 8)
		return some_query(time_us);
	if (n < 12)
		return some_record(state, time_us);
	if (n < 15)
		return some_consent(time_us);
	if (n < 17)
		return some_registration(time_us);
	return n < 18 ? some_release(time_us) : some_change(time_us);
}

static void
load_items(ApmContractState *s)
{
	for (size_t i = 0; i < ledger_count; i++)
	{
		const ApmTransaction *tx = &ledger[i].opened.tx;
		ApmReader r;
		ApmItem item;

		if (tx->kind != APM_KIND_CONTRACT)
			continue;
		apm_reader_init(&r, tx->u.contract.items);
		for (int n = 0; n < tx->u.contract.count; n++)
		{
			apm_item_get(&r, &item);
			CHECK_OK(apm_contract_load_item(s, &item, ledger[i].time_us));
		}
	}
}

static void
load_of_patient(ApmContractState *s, const ApmNeeds *needs)
{
	for (size_t i = 0; i < ledger_count; i++)
	{
		const ApmTransaction *tx = &ledger[i].opened.tx;

		if (!apm_slices_equal(apm_transaction_apid(tx), needs->apid))
			continue;
		if (tx->kind == APM_KIND_PATIENT)
		{
			ApmPatientState p = {
				.known = true, .origin = tx->origin, .version = 1, .profile = tx->u.patient.profile};

			CHECK_OK(apm_contract_load_patient(s, needs->apid, &p));
		}
		if (tx->kind == APM_KIND_CONSENT && tx->u.consent.action != APM_CONSENT_REVIEW && needs->consents)
		{
			ApmConsentState c = {.granted = tx->u.consent.action == APM_CONSENT_GRANT,
								 .until_us = tx->u.consent.until_us,
								 .order = apm_order(ledger[i].height, ledger[i].position)};

			CHECK_OK(
				apm_contract_load_consent(s, needs->apid, tx->u.consent.grantee, tx->u.consent.purpose, &c));
		}
	}
}

static void
load_record(ApmContractState *s, const ApmUuid *rid)
{
	ApmRecordState r = {0};

	for (size_t i = 0; i < ledger_count; i++)
	{
		const ApmTransaction *tx = &ledger[i].opened.tx;

		if (tx->kind != APM_KIND_PRIMARY)
			continue;
		if (memcmp(&tx->u.primary.rid, rid, sizeof(*rid)) == 0)
		{
			r.known = true;
			CHECK_OK(apm_sha256(tx->u.primary.apid.data, tx->u.primary.apid.len, &r.patient));
		}
		if ((tx->u.primary.flags & APM_PRIMARY_AMENDS) != 0 &&
			memcmp(&tx->u.primary.amends, rid, sizeof(*rid)) == 0)
			r.superseded = true;
	}
	if (r.known)
		CHECK_OK(apm_contract_load_record(s, rid, &r));
}

static void
load_query(ApmContractState *s, const ApmUuid *tid)
{
	ApmQueryState q = {0};

	for (size_t i = 0; i < ledger_count; i++)
	{
		const ApmTransaction *tx = &ledger[i].opened.tx;

		if (tx->kind == APM_KIND_QUERY && memcmp(&ledger[i].opened.tid, tid, sizeof(*tid)) == 0)
		{
			q.known = true;
			q.scope = tx->u.query.scope;
			memcpy(q.actor, tx->actor, APM_STAFF_LEN);
			memcpy(q.acting, tx->u.query.acting, APM_STAFF_LEN);
			if (tx->u.query.apid.len > 0)
				CHECK_OK(apm_sha256(tx->u.query.apid.data, tx->u.query.apid.len, &q.patient));
		}
		if (tx->kind == APM_KIND_CONSENT && memcmp(&tx->u.consent.reviewed, tid, sizeof(*tid)) == 0)
			q.reviewed = true;
	}
	if (q.known)
		CHECK_OK(apm_contract_load_query(s, tid, &q));
}

static bool
moves(const ApmTransaction *tx, const ApmCountNeed *need)
{
	uint8_t counters[APM_COUNTERS];
	int n = apm_contract_counters(tx, counters);
	ApmSlice apid = apm_transaction_apid(tx);
	ApmDigest subject = {0};

	memcpy(subject.bytes, tx->actor, APM_STAFF_LEN);
	if (apm_counter_of_patient(need->counter))
		CHECK_OK(apm_sha256(apid.data, apid.len, &subject));
	if (memcmp(&subject, &need->subject, sizeof(subject)) != 0)
		return false;
	while (n > 0 && counters[n - 1] != need->counter)
		n--;
	return n > 0;
}

/* The newest point, and the newest not after the begin of the window. */
static void
load_count(ApmContractState *s, const ApmCountNeed *need, uint64_t block_time_us)
{
	uint64_t begin_us = block_time_us - need->seconds * SECOND;
	uint64_t total = 0;
	uint64_t newest_us = 0;
	uint64_t begin_total = 0;
	uint64_t begin_point_us = 0;

	for (size_t i = 0; i < ledger_count; i++)
	{
		if (!moves(&ledger[i].opened.tx, need))
			continue;
		total++;
		newest_us = ledger[i].time_us;
		if (newest_us <= begin_us)
		{
			begin_total = total;
			begin_point_us = newest_us;
		}
	}
	if (total > 0)
		CHECK_OK(apm_contract_load_count(s, need->counter, &need->subject, newest_us, total));
	if (begin_total > 0 && need->seconds > 0)
		CHECK_OK(apm_contract_load_count(s, need->counter, &need->subject, begin_point_us, begin_total));
}

static void
load_study(ApmContractState *s, const ApmNeeds *needs)
{
	uint32_t releases = 0;

	for (size_t i = 0; i < ledger_count; i++)
		releases += ledger[i].opened.tx.kind == APM_KIND_EXPORT &&
					memcmp(ledger[i].opened.tx.u.export.study, needs->study, APM_STUDY_LEN) == 0;
	CHECK_OK(apm_contract_load_study(s, needs->study, releases));
}

static void
load_needs(ApmContractState *s, const ApmNeeds *needs, uint64_t block_time_us)
{
	if (needs->apid.len > 0)
		load_of_patient(s, needs);
	if (needs->has_rid)
		load_record(s, &needs->rid);
	if (needs->has_amends)
		load_record(s, &needs->amends);
	if (needs->has_query)
		load_query(s, &needs->query);
	if (needs->has_study)
		load_study(s, needs);
	for (int i = 0; i < needs->ncounts; i++)
		load_count(s, &needs->counts[i], block_time_us);
}

static ApmContractState *
new_state(void)
{
	ApmDigest chain = sample_digest(0xc0);
	ApmContractState *s;

	CHECK_OK(apm_contract_new(&chain, &s));
	load_member(s, APM_MEMBER_ORIGIN, origin);
	for (uint16_t n = 1; n <= 7; n++)
	{
		ApmItem item = {.type = APM_ITEM_PURPOSE, .key = n, .name = sample_text(apm_genesis_purpose(n))};
		ApmItem reason = {.type = APM_ITEM_REASON, .key = 1, .name = sample_text("flood")};

		CHECK_OK(apm_contract_load_item(s, &item, 0));
		if (n == 1)
			CHECK_OK(apm_contract_load_item(s, &reason, 0));
	}
	return s;
}

/* What the node loads for the transactions of a batch; nothing more. */
static ApmContractState *
node_state(const Entry *batch, int n, uint64_t block_time_us)
{
	ApmContractState *s = new_state();

	load_items(s);
	for (int i = 0; i < n; i++)
	{
		ApmNeeds needs;

		CHECK_OK(apm_contract_needs(s, &batch[i].opened, &needs));
		load_needs(s, &needs, block_time_us);
	}
	return s;
}

/* Judges a batch as node and as verifier; what is valid goes to the ledger. */
static void
judge_block(ApmContractState *verifier, Entry *batch, int n, uint64_t height, uint64_t time_us)
{
	ApmContractState *node = node_state(batch, n, time_us);
	ApmDigest digests[2];
	uint32_t position = 0;

	for (int i = 0; i < n; i++)
	{
		uint16_t rule = apm_contract_evaluate(verifier, &batch[i].opened, height, time_us);

		CHECK(apm_contract_evaluate(node, &batch[i].opened, height, time_us) == rule);
		verdicts[rule < APM_SITE_RULE ? rule : APM_SITE_RULE]++;
		if (rule != APM_RULE_NONE)
		{
			apm_buf_reset(&batch[i].bytes);
			continue;
		}
		CHECK_OK(apm_contract_apply(verifier, &batch[i].opened, height, position, time_us));
		CHECK_OK(apm_contract_apply(node, &batch[i].opened, height, position, time_us));
		batch[i].height = height;
		batch[i].position = position++;
		batch[i].time_us = time_us;
		ledger[ledger_count++] = batch[i];
	}
	CHECK_OK(apm_contract_digest(verifier, &digests[0]));
	CHECK_OK(apm_contract_digest(node, &digests[1]));
	CHECK(memcmp(&digests[0], &digests[1], sizeof(ApmDigest)) == 0);
	apm_contract_free(node);
}

static void
replay(unsigned seed)
{
	ApmContractState *verifier = new_state();
	uint64_t time_us = SAMPLE_TIME;

	srandom(seed);
	ledger_count = 0;
	for (uint64_t height = 1; height <= BLOCKS; height++)
	{
		Entry batch[BATCH] = {0};
		int n = pick(BATCH) + 1;

		/* often not at all, and sometimes longer than anything is borne with */
		time_us += pick(8) == 0 ? APM_QUEUED_GRACE_US + 3000 * SECOND : (uint64_t) pick(4) * 300 * SECOND;
		for (int i = 0; i < n; i++)
		{
			ApmTransaction tx = some_transaction(verifier, time_us);

			sample_sign(origin, &tx, &batch[i].bytes);
			CHECK_OK(apm_open_signed(p_slice(&batch[i].bytes), &batch[i].opened));
		}
		judge_block(verifier, batch, n, height, time_us);
	}
	for (size_t i = 0; i < ledger_count; i++)
		apm_buf_reset(&ledger[i].bytes);
	apm_contract_free(verifier);
}

int
main(void)
{
	static const uint16_t expected[] = {APM_RULE_NONE,	APM_RULE_TEMPLATE, APM_RULE_FRESH,	 APM_RULE_PATIENT,
										APM_RULE_ACTOR, APM_RULE_AMENDS,   APM_RULE_CONSENT, APM_RULE_SELF,
										APM_RULE_RATE,	APM_RULE_BASIS,	   APM_RULE_RULESET, APM_RULE_RELEASE,
										APM_RULE_ITEM,	APM_SITE_RULE};

	origin = sample_key();
	apm_ec_id(origin, &origin_id);
	for (unsigned seed = 1; seed <= CHAINS; seed++)
		replay(seed);
	/* the chains said something */
	for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++)
		CHECK(verdicts[expected[i]] > 0);
	apm_ec_free(origin);
	return check_summary();
}
