/*
 * test_erasure.c
 *	  An erasure names what it voids, all of it and nothing else; what is left is enough to judge
 *	  everybody else's transactions once more.
 */
#include "world.h"

#include "core/contract_state.h"
#include "core/digest.h"
#include "predicates.h"

#define LEAVES_MAX 8
#define OTHER_APID "r.another"

/* A world with a patient, and the leaves that the chain has of him. */
typedef struct Scene
{
	World w;
	ApmVoid leaves[LEAVES_MAX];
	uint32_t n;
} Scene;

static int
compare_leaves(const void *a, const void *b)
{
	return memcmp(&((const ApmVoid *) a)->leaf, &((const ApmVoid *) b)->leaf, sizeof(ApmDigest));
}

/* Takes what must be valid, and notes its leaf. */
static void
add(Scene *s, const ApmTransaction *tx)
{
	CHECK(take(&s->w, tx) == APM_RULE_NONE);
	s->leaves[s->n++] = s->w.leaf;
	qsort(s->leaves, s->n, sizeof(ApmVoid), compare_leaves);
}

static ApmTransaction
record(const Scene *s, const char *apid, uint8_t rid)
{
	ApmTransaction tx = of_kind(&s->w, APM_KIND_PRIMARY);

	tx.u.primary.apid = sample_text(apid);
	tx.u.primary.rid = sample_uuid(rid);
	tx.actor[0] = rid;
	return tx;
}

static ApmTransaction
registration(const Scene *s, const char *apid)
{
	ApmTransaction tx = of_kind(&s->w, APM_KIND_PATIENT);

	tx.u.patient.apid = sample_text(apid);
	return tx;
}

/* A registration, a change, a record and its amendment, each in a block of its own. */
static void
scene_open(Scene *s)
{
	ApmTransaction tx;

	memset(s, 0, sizeof(*s));
	world_open(&s->w);
	tx = registration(s, SAMPLE_APID);
	add(s, &tx);
	next_block(&s->w, HOUR);
	tx.u.patient.version = 2;
	tx.u.patient.old_profile = tx.u.patient.profile;
	add(s, &tx);
	next_block(&s->w, HOUR);
	tx = record(s, SAMPLE_APID, 1);
	add(s, &tx);
	next_block(&s->w, HOUR);
	tx = record(s, SAMPLE_APID, 2);
	tx.u.primary.flags = APM_PRIMARY_AMENDS;
	tx.u.primary.amends = sample_uuid(1);
	add(s, &tx);
	next_block(&s->w, HOUR);
	tx = registration(s, OTHER_APID);
	CHECK(take(&s->w, &tx) == APM_RULE_NONE);
}

static void
scene_close(Scene *s)
{
	world_close(&s->w);
}

static ApmTransaction
erasure(const Scene *s, const ApmVoid *voids, uint32_t n)
{
	ApmTransaction tx = of_kind(&s->w, APM_KIND_ERASURE);

	sample_voids(voids, n, &tx.u.erasure);
	return tx;
}

static void
test_erased(void)
{
	Scene s;
	ApmTransaction tx;
	ApmTransaction again;
	ApmPatientState p;
	ApmDigest none = sample_digest(0);

	scene_open(&s);
	tx = erasure(&s, s.leaves, s.n);
	CHECK(take(&s.w, &tx) == APM_RULE_NONE);
	CHECK_OK(apm_contract_patient(s.w.state, sample_text(SAMPLE_APID), &p));
	CHECK(p.known && p.erased && memcmp(&p.profile, &none, sizeof(none)) == 0);
	CHECK(memcmp(&p.origin, &s.w.origin_id, sizeof(p.origin)) == 0);

	/* in the same block, and in later ones */
	for (int turn = 0; turn < 2; turn++)
	{
		CHECK(verdict(&s.w, &tx) == APM_RULE_ERASED);
		again = record(&s, SAMPLE_APID, 3);
		CHECK(verdict(&s.w, &again) == APM_RULE_ERASED);
		again = of_kind(&s.w, APM_KIND_QUERY);
		CHECK(verdict(&s.w, &again) == APM_RULE_ERASED);
		again = of_kind(&s.w, APM_KIND_PATIENT);
		again.u.patient.version = 3;
		CHECK(verdict(&s.w, &again) == APM_RULE_ERASED);
		again = of_kind(&s.w, APM_KIND_PATIENT); /* nor does he come back under this pseudonym */
		CHECK(verdict(&s.w, &again) == APM_RULE_PATIENT);
		next_block(&s.w, HOUR);
	}
	scene_close(&s);
}

/* Less, more, and other than what there is. */
static void
test_other_voids(void)
{
	Scene s;
	ApmVoid voids[LEAVES_MAX + 1];
	ApmTransaction tx;

	scene_open(&s);
	for (uint32_t i = 0; i < s.n; i++)
	{
		memcpy(voids, s.leaves, sizeof(s.leaves));
		memmove(&voids[i], &voids[i + 1], (s.n - i - 1) * sizeof(ApmVoid));
		tx = erasure(&s, voids, s.n - 1);
		CHECK(verdict(&s.w, &tx) == APM_RULE_ERASURE);
		memcpy(voids, s.leaves, sizeof(s.leaves));
		voids[i].actor[15] ^= 1;
		tx = erasure(&s, voids, s.n);
		CHECK(verdict(&s.w, &tx) == APM_RULE_ERASURE);
		voids[i].actor[15] ^= 1;
		voids[i].tid.bytes[15] ^= 1;
		tx = erasure(&s, voids, s.n);
		CHECK(verdict(&s.w, &tx) == APM_RULE_ERASURE);
		voids[i].tid.bytes[15] ^= 1;
		voids[i].leaf.bytes[31] ^= 1;
		tx = erasure(&s, voids, s.n);
		CHECK(verdict(&s.w, &tx) == APM_RULE_ERASURE);
		voids[i].leaf.bytes[31] ^= 1;
		voids[i].kind = voids[i].kind == APM_KIND_PATIENT ? APM_KIND_PRIMARY : APM_KIND_PATIENT;
		tx = erasure(&s, voids, s.n);
		CHECK(verdict(&s.w, &tx) == APM_RULE_ERASURE);
	}
	/* a leaf that is not there, and one that is another's */
	memcpy(voids, s.leaves, sizeof(s.leaves));
	voids[s.n] = (ApmVoid){.leaf = sample_digest(0xff), .kind = APM_KIND_PRIMARY};
	tx = erasure(&s, voids, s.n + 1);
	CHECK(verdict(&s.w, &tx) == APM_RULE_ERASURE);
	tx = record(&s, OTHER_APID, 7);
	CHECK(take(&s.w, &tx) == APM_RULE_NONE);
	voids[s.n] = s.w.leaf;
	qsort(voids, s.n + 1, sizeof(ApmVoid), compare_leaves);
	tx = erasure(&s, voids, s.n + 1);
	CHECK(verdict(&s.w, &tx) == APM_RULE_ERASURE);
	tx = erasure(&s, s.leaves, s.n);
	CHECK(verdict(&s.w, &tx) == APM_RULE_NONE);
	tx.u.erasure.apid = sample_text(OTHER_APID);
	CHECK(verdict(&s.w, &tx) == APM_RULE_ERASURE);
	scene_close(&s);
}

static void
test_who_and_why(void)
{
	const ApmItem more = {.type = APM_ITEM_REASON, .key = 11, .name = sample_text("court-order")};
	Scene s;
	ApmTransaction good;
	ApmTransaction tx;

	scene_open(&s);
	good = erasure(&s, s.leaves, s.n);
	for (uint16_t reason = 1; reason <= 11; reason++)
	{
		tx = good;
		tx.u.erasure.reason = reason;
		CHECK(verdict(&s.w, &tx) == (reason >= 6 && reason <= 10 ? APM_RULE_NONE : APM_RULE_ERASURE));
		tx = of_kind(&s.w, APM_KIND_QUERY);
		tx.u.query.scope = APM_SCOPE_EMERGENCY;
		tx.u.query.purpose = APM_PURPOSE_EMERGENCY;
		tx.u.query.reason = reason;
		CHECK(verdict(&s.w, &tx) == (reason <= 5 ? APM_RULE_NONE : APM_RULE_EMERGENCY));
	}
	/* one that the chain adds is for both */
	CHECK_OK(apm_contract_load_item(s.w.state, &more, 0));
	tx.u.query.reason = 11;
	CHECK(verdict(&s.w, &tx) == APM_RULE_NONE);
	tx = good;
	tx.u.erasure.reason = 11;
	CHECK(verdict(&s.w, &tx) == APM_RULE_NONE);

	tx = good;
	tx.u.erasure.apid = sample_text("r.nobody");
	CHECK(verdict(&s.w, &tx) == APM_RULE_PATIENT);
	load_origin(&s.w, s.w.stranger);
	tx = good;
	tx.origin = s.w.stranger_id;
	CHECK(judge(&s.w, s.w.stranger, &tx, s.w.height, false) == APM_RULE_HOME);
	tx = good;
	tx.fields = APM_SLICE("\1\0\0\0\4ward\3\0\0\0\2B2", 16);
	CHECK(verdict(&s.w, &tx) == APM_RULE_TEMPLATE);
	scene_close(&s);
}

/* What is in the erasure's own block before it is voided too; what was refused has nothing to void. */
static void
test_same_block(void)
{
	Scene s;
	ApmTransaction early;
	ApmTransaction tx;

	scene_open(&s);
	early = erasure(&s, s.leaves, s.n);
	CHECK(verdict(&s.w, &early) == APM_RULE_NONE);
	tx = record(&s, SAMPLE_APID, 2); /* its Rid was seen */
	CHECK(verdict(&s.w, &tx) == APM_RULE_FRESH);
	CHECK(verdict(&s.w, &early) == APM_RULE_NONE);
	tx = record(&s, SAMPLE_APID, 3);
	add(&s, &tx);
	CHECK(verdict(&s.w, &early) == APM_RULE_ERASURE);
	tx = of_kind(&s.w, APM_KIND_QUERY);
	CHECK(take(&s.w, &tx) == APM_RULE_NONE); /* reads are not voided */
	tx = erasure(&s, s.leaves, s.n);
	CHECK(take(&s.w, &tx) == APM_RULE_NONE);
	tx = record(&s, SAMPLE_APID, 4);
	CHECK(verdict(&s.w, &tx) == APM_RULE_ERASED);
	scene_close(&s);
}

/* An erased patient's Rids are as if never seen: free, and nothing to amend. */
static void
test_rids(void)
{
	Scene s;
	ApmTransaction tx;
	ApmTransaction other;

	scene_open(&s);
	other = record(&s, OTHER_APID, 2);
	CHECK(verdict(&s.w, &other) == APM_RULE_FRESH);
	tx = erasure(&s, s.leaves, s.n);
	CHECK(take(&s.w, &tx) == APM_RULE_NONE);
	tx = record(&s, OTHER_APID, 9);
	tx.u.primary.flags = APM_PRIMARY_AMENDS;
	tx.u.primary.amends = sample_uuid(2);
	CHECK(verdict(&s.w, &tx) == APM_RULE_AMENDS);
	CHECK(take(&s.w, &other) == APM_RULE_NONE);
	CHECK(verdict(&s.w, &other) == APM_RULE_FRESH);
	CHECK(take(&s.w, &tx) == APM_RULE_NONE); /* it is the other's now */
	scene_close(&s);
}

/* What a node loads stands for what a verifier saw happen; twice does no harm. */
static void
test_loaded_leaves(void)
{
	Scene s;
	ApmBuf buf = {0};
	ApmOpened opened;
	ApmNeeds needs;
	ApmTransaction tx;

	scene_open(&s);
	tx = erasure(&s, s.leaves, s.n);
	sample_sign(s.w.origin, &tx, &buf);
	CHECK_OK(apm_open_signed(p_slice(&buf), &opened));
	CHECK_OK(apm_contract_needs(s.w.state, &opened, &needs));
	CHECK(needs.leaves && !needs.consents && !needs.has_rid && needs.ncounts == 0);
	CHECK(apm_slices_equal(needs.apid, sample_text(SAMPLE_APID)));
	apm_buf_reset(&buf);
	apm_contract_forget(s.w.state);
	load_patient(&s.w, false);
	CHECK(verdict(&s.w, &tx) == APM_RULE_ERASURE);
	for (uint32_t i = 0; i < 2 * s.n; i++)
	{
		CHECK_OK(apm_contract_load_leaf(s.w.state, sample_text(SAMPLE_APID), &s.leaves[i % s.n]));
		CHECK(verdict(&s.w, &tx) == (i + 1 < s.n ? APM_RULE_ERASURE : APM_RULE_NONE));
	}
	scene_close(&s);
}

static uint64_t
count_of(const Scene *s, ApmCounter counter, const ApmDigest *subject, uint32_t seconds)
{
	return apm_tally_count(&s->w.state->tallies[counter], subject, seconds, s->w.time_us);
}

/* A void leaves what its transaction left, but for what only its body says. */
static void
test_void(void)
{
	Scene s;
	ApmDigest patient;
	ApmDigest actor = {{1}};
	ApmRecordState r;
	ApmPatientState unknown = {0};
	ApmPatientState p;
	ApmTransaction tx;
	ApmUuid rid = sample_uuid(1);
	uint64_t times[] = {BLOCK_TIME, BLOCK_TIME + HOUR, BLOCK_TIME + 2 * HOUR, BLOCK_TIME + 3 * HOUR};
	int records = 0;

	scene_open(&s);
	memset(actor.bytes + 1, 0x5a, APM_STAFF_LEN - 1);
	tx = record(&s, SAMPLE_APID, 1);
	apm_contract_forget(s.w.state);
	CHECK_OK(apm_contract_load_patient(s.w.state, sample_text(SAMPLE_APID), &unknown));
	for (uint32_t i = 0; i < s.n; i++)
	{
		CHECK_OK(apm_contract_apply_void(s.w.state, sample_text(SAMPLE_APID), &s.w.origin_id, &s.leaves[i],
										 times[records]));
		records += s.leaves[i].kind == APM_KIND_PRIMARY;
		CHECK(apm_contract_tid_seen(s.w.state, &s.leaves[i].tid));
	}
	CHECK_OK(apm_contract_patient(s.w.state, sample_text(SAMPLE_APID), &p));
	CHECK(p.known && !p.erased && p.version == 2);
	CHECK(memcmp(&p.origin, &s.w.origin_id, sizeof(p.origin)) == 0);
	CHECK_OK(apm_sha256(SAMPLE_APID, strlen(SAMPLE_APID), &patient));
	CHECK(records == 2 && count_of(&s, APM_COUNT_PATIENT_RECORDS, &patient, 0) == 2);
	CHECK(count_of(&s, APM_COUNT_PATIENT_RECORDS, &patient, 3 * 3600 + 1) == 1);
	CHECK(count_of(&s, APM_COUNT_ACTOR_RECORDS, &actor, 0) == 1);
	apm_contract_record(s.w.state, &rid, &r);
	CHECK(!r.known);
	tx = of_kind(&s.w, APM_KIND_QUERY);
	CHECK(verdict(&s.w, &tx) == APM_RULE_NONE);
	tx = erasure(&s, s.leaves, s.n - 1);
	CHECK(verdict(&s.w, &tx) == APM_RULE_ERASURE);
	tx = erasure(&s, s.leaves, s.n);
	CHECK(take(&s.w, &tx) == APM_RULE_NONE);
	tx = of_kind(&s.w, APM_KIND_QUERY);
	CHECK(verdict(&s.w, &tx) == APM_RULE_ERASED);
	scene_close(&s);
}

int
main(void)
{
	test_erased();
	test_other_voids();
	test_who_and_why();
	test_same_block();
	test_rids();
	test_loaded_leaves();
	test_void();
	return check_summary();
}
