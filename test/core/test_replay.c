/*
 * test_replay.c
 *	  A node, which loads for each block what its transactions need, and a verifier, which
 *	  applies the chain from its genesis, give the same verdicts and the same contract.  So does a
 *	  verifier who comes later, when what erasures voided is gone.
 *
 * The node's ledger is the list of what was valid; of counters it gives the two points that the
 * contract's header promises to be enough.  The late verifier has what a ledger keeps: what is valid
 * and not void, and queries, refused ones too.
 */
#include "core/contract.h"

#include "by_chance.h"
#include "core/digest.h"

static uint32_t verdicts[APM_SITE_RULE + 1]; /* how often each came; site rules together */
static Entry *kept[2 * LEDGER_MAX];			 /* what stands in the blocks, in its order */
static Entry refused[LEDGER_MAX];			 /* queries */
static size_t kept_count;
static size_t refused_count;
static ApmDigest contracts[BLOCKS + 1];
static uint32_t voided[APM_KIND_CONTRACT + 1]; /* transactions of all chains, by kind */
static uint32_t replaced;					   /* keys */

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
	ApmPatientState p = {0};

	for (size_t i = 0; i < ledger_count; i++)
	{
		const ApmTransaction *tx = &ledger[i].opened.tx;

		if (!apm_slices_equal(apm_transaction_apid(tx), needs->apid))
			continue;
		if (tx->kind == APM_KIND_PATIENT)
		{
			p = (ApmPatientState){.known = true,
								  .origin = ledger[i].home,
								  .version = tx->u.patient.version,
								  .profile = tx->u.patient.profile};
		}
		if (tx->kind == APM_KIND_ERASURE)
		{
			p.erased = true;
			memset(&p.profile, 0, sizeof(p.profile));
		}
		if (needs->leaves && !ledger[i].voided &&
			(tx->kind == APM_KIND_PATIENT || tx->kind == APM_KIND_PRIMARY))
			CHECK_OK(apm_contract_load_leaf(s, needs->apid, &ledger[i].leaf));
		if (tx->kind == APM_KIND_CONSENT && tx->u.consent.action != APM_CONSENT_REVIEW && needs->consents)
		{
			ApmConsentState c = {.granted = tx->u.consent.action == APM_CONSENT_GRANT,
								 .until_us = tx->u.consent.until_us,
								 .order = apm_order(ledger[i].height, ledger[i].position)};

			CHECK_OK(
				apm_contract_load_consent(s, needs->apid, tx->u.consent.grantee, tx->u.consent.purpose, &c));
		}
	}
	if (p.known)
		CHECK_OK(apm_contract_load_patient(s, needs->apid, &p));
}

static void
load_record(ApmContractState *s, const ApmUuid *rid)
{
	ApmRecordState r = {0};

	for (size_t i = 0; i < ledger_count; i++)
	{
		const ApmTransaction *tx = &ledger[i].opened.tx;

		if (tx->kind != APM_KIND_PRIMARY || ledger[i].voided)
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

/* As after the genesis block. */
static ApmContractState *
new_state(void)
{
	static const struct
	{
		uint16_t code;
		const char *name;
	} reasons[] = {{1, "flood"}, {6, "no-longer-needed"}};
	ApmDigest chain = sample_digest(0xc0);
	ApmContractState *s;

	CHECK_OK(apm_contract_new(&chain, &s));
	load_member(s, APM_MEMBER_ORIGIN, origin.v[0]);
	load_member(s, APM_MEMBER_ORIGIN, other.v[0]);
	load_member(s, APM_MEMBER_NODE, node.v[0]);
	for (uint16_t n = 1; apm_genesis_purpose(n) != NULL; n++)
	{
		ApmItem item = {.type = APM_ITEM_PURPOSE, .key = n, .name = sample_text(apm_genesis_purpose(n))};

		CHECK_OK(apm_contract_load_item(s, &item, 0));
	}
	for (int i = 0; i < 2; i++)
	{
		ApmItem item = {
			.type = APM_ITEM_REASON, .key = reasons[i].code, .name = sample_text(reasons[i].name)};

		CHECK_OK(apm_contract_load_item(s, &item, 0));
	}
	return s;
}

static void
load_keys(ApmContractState *s, ApmMember member, const Keys *keys)
{
	for (int i = 0; i < keys->n; i++)
	{
		ApmMemberState m = sample_first_key(member, keys->v[i]);

		m.home = keys->ids[0];
		m.ended = i < keys->n - 1;
		m.ended_us = keys->ended_us[i];
		CHECK_OK(apm_contract_load_member(s, &m));
	}
}

/* What the node loads for the transactions of a batch; nothing more. */
static ApmContractState *
node_state(const Entry *batch, int n, uint64_t block_time_us)
{
	ApmContractState *s = new_state();

	load_keys(s, APM_MEMBER_ORIGIN, &origin);
	load_keys(s, APM_MEMBER_NODE, &node);
	load_items(s);
	for (int i = 0; i < n; i++)
	{
		ApmNeeds needs;

		CHECK_OK(apm_contract_needs(s, &batch[i].opened, &needs));
		load_needs(s, &needs, block_time_us);
	}
	return s;
}

/* What a valid erasure voids, once its block is there. */
static void
erase(const Entry *erasure)
{
	ApmSlice apid = erasure->opened.tx.u.erasure.apid;

	for (size_t i = 0; i < ledger_count; i++)
	{
		const ApmTransaction *tx = &ledger[i].opened.tx;

		if ((tx->kind == APM_KIND_PATIENT || tx->kind == APM_KIND_PRIMARY) &&
			apm_slices_equal(apm_transaction_apid(tx), apid))
			ledger[i].voided = true;
	}
	for (int i = 0; i < PATIENTS; i++)
		comebacks[i] += apid.data[2] == (uint8_t) ('0' + i);
}

/* The key that a valid transaction brought: our spare one, for no other was new. */
static void
replace_key(const Entry *e)
{
	uint8_t member = e->opened.tx.u.membership.member;
	Keys *keys = member == APM_MEMBER_ORIGIN ? &origin : &node;
	Keys *spare = &spares[member];

	keys->ended_us[keys->n - 1] = e->time_us;
	replaced++;
	add_key(keys, spare->v[--spare->n]);
	add_key(spare, sample_key());
}

/* What was valid goes to the ledger; of the rest queries are kept. */
static void
enter(Entry *e)
{
	ApmDigest sender = e->opened.tx.origin;

	if (e->rule != APM_RULE_NONE && e->opened.tx.kind != APM_KIND_QUERY)
	{
		apm_buf_reset(&e->bytes);
		return;
	}
	e->home = memcmp(&sender, &other.ids[0], sizeof(sender)) == 0 ? sender : origin.ids[0];
	e->leaf = (ApmVoid){.leaf = e->opened.leaf, .kind = (uint8_t) e->opened.tx.kind, .tid = e->opened.tid};
	memcpy(e->leaf.actor, e->opened.tx.actor, APM_STAFF_LEN);
	kept[kept_count] = e->rule == APM_RULE_NONE ? &ledger[ledger_count++] : &refused[refused_count++];
	*kept[kept_count++] = *e;
}

/* Judges a batch as node and as verifier. */
static void
judge_block(ApmContractState *verifier, Entry *batch, int n, uint64_t height, uint64_t time_us)
{
	ApmContractState *s = node_state(batch, n, time_us);
	size_t before = ledger_count;
	uint32_t position = 0;
	ApmDigest digest;

	for (int i = 0; i < n; i++)
	{
		Entry *e = &batch[i];

		e->rule = apm_contract_evaluate(verifier, &e->opened, height, time_us);
		CHECK(apm_contract_evaluate(s, &e->opened, height, time_us) == e->rule);
		verdicts[e->rule < APM_SITE_RULE ? e->rule : APM_SITE_RULE]++;
		e->height = height;
		e->position = position;
		e->time_us = time_us;
		if (e->rule == APM_RULE_NONE)
		{
			CHECK_OK(apm_contract_apply(verifier, &e->opened, height, position, time_us));
			CHECK_OK(apm_contract_apply(s, &e->opened, height, position++, time_us));
		}
		enter(e);
	}
	for (; before < ledger_count; before++)
	{
		if (ledger[before].opened.tx.kind == APM_KIND_ERASURE)
			erase(&ledger[before]);
		if (ledger[before].opened.tx.kind == APM_KIND_MEMBERSHIP)
			replace_key(&ledger[before]);
	}
	CHECK_OK(apm_contract_digest(verifier, &contracts[height]));
	CHECK_OK(apm_contract_digest(s, &digest));
	CHECK(memcmp(&digest, &contracts[height], sizeof(ApmDigest)) == 0);
	apm_contract_free(s);
}

/* Once more from the genesis, with what is left. */
static void
verify_late(void)
{
	ApmContractState *s = new_state();
	size_t at = 0;
	ApmDigest digest;

	for (uint64_t height = 1; height <= BLOCKS; height++)
	{
		for (; at < kept_count && kept[at]->height == height; at++)
		{
			const Entry *e = kept[at];

			if (e->voided)
			{
				voided[e->leaf.kind]++;
				CHECK_OK(apm_contract_apply_void(s, apm_transaction_apid(&e->opened.tx), &e->home, &e->leaf,
												 e->time_us));
				continue;
			}
			CHECK(apm_contract_evaluate(s, &e->opened, height, e->time_us) == e->rule);
			if (e->rule == APM_RULE_NONE)
				CHECK_OK(apm_contract_apply(s, &e->opened, height, e->position, e->time_us));
		}
		CHECK_OK(apm_contract_digest(s, &digest));
		CHECK(memcmp(&digest, &contracts[height], sizeof(ApmDigest)) == 0);
	}
	CHECK(at == kept_count);
	apm_contract_free(s);
}

static void
free_keys(Keys *keys)
{
	for (int i = 0; i < keys->n; i++)
		apm_ec_free(keys->v[i]);
	keys->n = 0;
}

static void
begin(unsigned seed)
{
	srandom(seed);
	ledger_count = kept_count = refused_count = 0;
	memset(comebacks, 0, sizeof(comebacks));
	add_key(&origin, sample_key());
	add_key(&node, sample_key());
	add_key(&other, sample_key());
	add_key(&spares[APM_MEMBER_NODE], sample_key());
	add_key(&spares[APM_MEMBER_ORIGIN], sample_key());
}

static void
end(void)
{
	for (size_t i = 0; i < kept_count; i++)
		apm_buf_reset(&kept[i]->bytes);
	free_keys(&origin);
	free_keys(&node);
	free_keys(&other);
	free_keys(&spares[APM_MEMBER_NODE]);
	free_keys(&spares[APM_MEMBER_ORIGIN]);
}

static void
replay(unsigned seed)
{
	ApmContractState *verifier;
	uint64_t time_us = SAMPLE_TIME;

	begin(seed);
	verifier = new_state();
	for (uint64_t height = 1; height <= BLOCKS; height++)
	{
		Entry batch[BATCH] = {0};
		int n = pick(BATCH) + 1;

		/* often not at all, and sometimes longer than anything is borne with */
		time_us += pick(8) == 0 ? APM_QUEUED_GRACE_US + 3000 * SECOND : (uint64_t) pick(4) * 300 * SECOND;
		for (int i = 0; i < n; i++)
		{
			ApmTransaction tx = some_transaction(verifier, time_us);

			sample_sign(key_of(&tx.origin), &tx, &batch[i].bytes);
			CHECK_OK(apm_open_signed(p_slice(&batch[i].bytes), &batch[i].opened));
		}
		judge_block(verifier, batch, n, height, time_us);
	}
	apm_contract_free(verifier);
	verify_late();
	end();
}

int
main(void)
{
	static const uint16_t expected[] = {
		APM_RULE_NONE,	  APM_RULE_TEMPLATE, APM_RULE_ORIGIN,	  APM_RULE_FRESH,	APM_RULE_PATIENT,
		APM_RULE_ERASED,  APM_RULE_HOME,	 APM_RULE_ACTOR,	  APM_RULE_PROFILE, APM_RULE_AMENDS,
		APM_RULE_CONSENT, APM_RULE_SELF,	 APM_RULE_MEMBERSHIP, APM_RULE_RATE,	APM_RULE_BASIS,
		APM_RULE_RULESET, APM_RULE_RELEASE,	 APM_RULE_ITEM,		  APM_RULE_ERASURE, APM_SITE_RULE};

	for (unsigned seed = 1; seed <= CHAINS; seed++)
		replay(seed);
	/* the chains said something */
	for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++)
	{
		if (!CHECK(verdicts[expected[i]] > 0))
			fprintf(stderr, "rule %u never refused\n", (unsigned) expected[i]);
	}
	CHECK(voided[APM_KIND_PATIENT] > 0 && voided[APM_KIND_PRIMARY] > 0 && replaced > 0);
	return check_summary();
}
