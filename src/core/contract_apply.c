/*
 * contract_apply.c
 *	  A transaction taken apart, what the ledger must be asked to judge it, and how a valid
 *	  one changes the contract's state.
 */
#include "contract_state.h"

#include <string.h>

ApmStatus
apm_open_signed(ApmSlice in, ApmOpened *out)
{
	ApmSigned envelope;
	ApmStatus status = apm_signed_decode(in, &envelope);

	return status == APM_OK ? apm_open_envelope(&envelope, out) : status;
}

/* The leaf stands whether or not the inner parts can be read. */
ApmStatus
apm_open_envelope(const ApmSigned *envelope, ApmOpened *out)
{
	ApmStatus status;

	if (envelope->transaction.len > APM_TRANSACTION_MAX || envelope->proof.len > APM_ORIGIN_PROOF_MAX)
		return APM_ERR_FORMAT;
	memset(&out->tx, 0, sizeof(out->tx));
	memset(&out->proof, 0, offsetof(ApmOriginProof, path.nodes));
	out->envelope = *envelope;
	status = apm_transaction_leaf(out->envelope.nonce, out->envelope.transaction, &out->leaf);
	if (status != APM_OK)
		return status;

	/* what cannot be read has no time: its Tid is that of time 0 */
	out->wellformed = apm_transaction_decode(out->envelope.transaction, &out->tx) == APM_OK;
	apm_transaction_tid(out->tx.time_us, &out->leaf, &out->tid);
	if (apm_origin_proof_decode(out->envelope.proof, &out->proof) != APM_OK)
		out->wellformed = false;
	return APM_OK;
}

/* Emergencies do not wait, and an export asks for every patient of its dataset. */
bool
apm_query_limited(const ApmQueryFields *query)
{
	return query->scope != APM_SCOPE_EMERGENCY && query->scope != APM_SCOPE_EXPORT;
}

bool
apm_transaction_basis(const ApmTransaction *tx, ApmUuid *tid)
{
	if (tx->kind == APM_KIND_QUERY &&
		(tx->u.query.scope == APM_SCOPE_MATCH || tx->u.query.scope == APM_SCOPE_NOTE))
		memcpy(tid->bytes, tx->u.query.basis, APM_UUID_LEN);
	else if (tx->kind == APM_KIND_CONSENT && tx->u.consent.action == APM_CONSENT_REVIEW)
		*tid = tx->u.consent.reviewed;
	else
		return false;
	return true;
}

/* Once each; that there is room for all is what admission sees to. */
static void
need_count(ApmNeeds *needs, const ApmSubjects *subjects, ApmCounterTerm term)
{
	const ApmDigest *subject = apm_subject_of(subjects, term.counter);

	if (subject == NULL || needs->ncounts == APM_COUNTS_MAX)
		return;
	for (int i = 0; i < needs->ncounts; i++)
	{
		if (needs->counts[i].counter == term.counter && needs->counts[i].seconds == term.seconds)
			return;
	}
	needs->counts[needs->ncounts++] =
		(ApmCountNeed){.counter = term.counter, .seconds = term.seconds, .subject = *subject};
}

/* The rate's counter always: a policy that limits it may come in the same block. */
static ApmStatus
need_counts(const ApmContractState *s, const ApmTransaction *tx, ApmNeeds *needs)
{
	static const ApmCounterTerm rate = {APM_COUNT_ACTOR_QUERIES, APM_RATE_SECONDS};
	bool limited = tx->kind == APM_KIND_QUERY && apm_query_limited(&tx->u.query);
	const ApmHeld *rule = apm_inforce_next_rule(&s->items, tx->kind, APM_FOREVER, 0);
	ApmSubjects subjects;
	ApmStatus status;

	if (!limited && rule == NULL)
		return APM_OK;
	status = apm_transaction_subjects(tx, &subjects);
	if (status != APM_OK)
		return status;
	if (limited)
		need_count(needs, &subjects, rate);
	for (; rule != NULL; rule = apm_inforce_next_rule(&s->items, tx->kind, APM_FOREVER, rule->number))
	{
		for (int i = 0; i < rule->nterms; i++)
			need_count(needs, &subjects, rule->terms[i]);
	}
	return APM_OK;
}

ApmStatus
apm_contract_needs(const ApmContractState *s, const ApmOpened *t, ApmNeeds *out)
{
	const ApmTransaction *tx = &t->tx;

	memset(out, 0, offsetof(ApmNeeds, counts));
	out->tid = t->tid;
	if (!t->wellformed)
		return APM_OK;
	out->apid = apm_transaction_apid(tx);
	out->has_query = apm_transaction_basis(tx, &out->query);
	if (tx->kind == APM_KIND_PRIMARY)
	{
		out->has_rid = true;
		out->rid = tx->u.primary.rid;
		out->has_amends = (tx->u.primary.flags & APM_PRIMARY_AMENDS) != 0;
		out->amends = tx->u.primary.amends;
	}
	if (tx->kind == APM_KIND_QUERY)
		out->consents = out->apid.len > 0;
	out->leaves = tx->kind == APM_KIND_ERASURE;
	if (tx->kind == APM_KIND_EXPORT)
	{
		out->has_study = true;
		memcpy(out->study, tx->u.export.study, APM_STUDY_LEN);
	}
	return need_counts(s, tx, out);
}

/* Remembers what an erasure of the patient will have to void. */
static ApmStatus
enter_leaf(ApmContractState *s, const ApmOpened *t, const ApmDigest *patient)
{
	ApmVoid leaf = {.leaf = t->leaf, .kind = (uint8_t) t->tx.kind, .tid = t->tid};

	memcpy(leaf.actor, t->tx.actor, APM_STAFF_LEN);
	return apm_contract_enter_leaf(s, patient, &leaf);
}

static ApmStatus
apply_patient(ApmContractState *s, const ApmOpened *t, const ApmDigest *patient)
{
	const ApmPatientFields *f = &t->tx.u.patient;
	ApmPatientState p = {.known = true, .version = f->version, .profile = f->profile};
	ApmStatus status = enter_leaf(s, t, patient);

	if (!apm_contract_home(s, APM_MEMBER_ORIGIN, &t->tx.origin, &p.origin))
		return APM_ERR_KEY;
	return status == APM_OK ? apm_contract_load_patient(s, f->apid, &p) : status;
}

static ApmStatus
apply_primary(ApmContractState *s, const ApmOpened *t, const ApmDigest *patient)
{
	const ApmPrimaryFields *f = &t->tx.u.primary;
	ApmRecordState r = {.known = true, .patient = *patient};
	ApmStatus status = enter_leaf(s, t, patient);

	if (status == APM_OK)
		status = apm_contract_load_record(s, &f->rid, &r);
	if (status == APM_OK && (f->flags & APM_PRIMARY_AMENDS) != 0)
	{
		r.superseded = true; /* of the same patient, says the rule that let it through */
		status = apm_contract_load_record(s, &f->amends, &r);
	}
	return status;
}

/* Others rest on searches and emergencies only. */
static ApmStatus
apply_query(ApmContractState *s, const ApmOpened *t, const ApmDigest *patient)
{
	const ApmQueryFields *f = &t->tx.u.query;
	ApmQueryState q = {.known = true, .scope = f->scope, .patient = *patient};

	if (f->scope != APM_SCOPE_SEARCH && f->scope != APM_SCOPE_EMERGENCY)
		return APM_OK;
	memcpy(q.actor, t->tx.actor, APM_STAFF_LEN);
	memcpy(q.acting, f->acting, APM_STAFF_LEN);
	return apm_contract_load_query(s, &t->tid, &q);
}

static ApmStatus
count(ApmContractState *s, const ApmTransaction *tx, const ApmSubjects *subjects, uint64_t time_us)
{
	uint8_t counters[APM_COUNTERS];
	int n = apm_contract_counters(tx, counters);
	ApmStatus status = APM_OK;

	for (int i = 0; i < n && status == APM_OK; i++)
		status = apm_tally_add(&s->tallies[counters[i]], apm_subject_of(subjects, counters[i]), time_us);
	return status;
}

static ApmStatus
apply_consent(ApmContractState *s, const ApmConsentFields *f, uint64_t height, uint32_t position)
{
	ApmConsentState c = {.granted = f->action == APM_CONSENT_GRANT,
						 .until_us = f->until_us,
						 .order = apm_order(height, position)};
	ApmQueryState q;

	if (f->action != APM_CONSENT_REVIEW)
		return apm_contract_load_consent(s, f->apid, f->grantee, f->purpose, &c);
	apm_contract_query(s, &f->reviewed, &q);
	q.reviewed = true;
	return apm_contract_load_query(s, &f->reviewed, &q);
}

/* His records stay in the state, where his being erased makes them unknown to who asks for their Rids. */
static ApmStatus
apply_erasure(ApmContractState *s, const ApmErasureFields *f, const ApmDigest *patient)
{
	ApmPatientState p;

	apm_contract_patient_of(s, patient, &p);
	p.erased = true;
	memset(&p.profile, 0, sizeof(p.profile));
	apm_contract_drop_leaves(s, patient);
	return apm_contract_load_patient(s, f->apid, &p);
}

static ApmStatus
apply_contract(ApmContractState *s, const ApmContractFields *f, uint64_t height, uint64_t time_us)
{
	ApmStatus status = APM_OK;
	ApmReader r;
	ApmItem item;

	apm_reader_init(&r, f->items);
	for (int i = 0; i < f->count && status == APM_OK; i++)
	{
		apm_item_get(&r, &item);
		status = r.failed ? APM_ERR_FORMAT : apm_inforce_enter(&s->items, &item, height, time_us);
	}
	return status;
}

/*
 * Only what apm_contract_evaluate() found valid against this state.  After a failure the
 * effects may be half entered: free the state.
 */
ApmStatus
apm_contract_apply(ApmContractState *s, const ApmOpened *t, uint64_t height, uint32_t position,
				   uint64_t block_time_us)
{
	const ApmTransaction *tx = &t->tx;
	ApmSubjects subjects;
	ApmStatus status;

	if (!t->wellformed)
		return APM_ERR_FORMAT;
	status = apm_transaction_subjects(tx, &subjects);
	if (status == APM_OK)
		status = apm_contract_load_tid(s, &t->tid);
	if (status == APM_OK)
		status = count(s, tx, &subjects, block_time_us);
	if (status != APM_OK)
		return status;

	switch (tx->kind)
	{
		case APM_KIND_PATIENT:
			return apply_patient(s, t, &subjects.patient);
		case APM_KIND_PRIMARY:
			return apply_primary(s, t, &subjects.patient);
		case APM_KIND_QUERY:
			return apply_query(s, t, &subjects.patient);
		case APM_KIND_CONSENT:
			return apply_consent(s, &tx->u.consent, height, position);
		case APM_KIND_ERASURE:
			return apply_erasure(s, &tx->u.erasure, &subjects.patient);
		case APM_KIND_EXPORT:
			return apm_contract_load_study(s, tx->u.export.study, tx->u.export.release);
		case APM_KIND_MEMBERSHIP:
			return apm_members_apply(s, &tx->u.membership, height, block_time_us);
		case APM_KIND_CONTRACT:
			return apply_contract(s, &tx->u.contract, height, block_time_us);
	}
	return APM_ERR_FORMAT;
}

ApmStatus
apm_contract_apply_void(ApmContractState *s, ApmSlice apid, const ApmDigest *home, const ApmVoid *voided,
						uint64_t block_time_us)
{
	ApmTransaction tx = {.kind = (ApmKind) voided->kind};
	ApmSubjects subjects = {.has_patient = true};
	ApmPatientState p;
	ApmStatus status = apm_patient_digest(apid, &subjects.patient);

	if (status == APM_OK)
		status = apm_contract_load_tid(s, &voided->tid);
	if (status == APM_OK)
		status = apm_contract_enter_leaf(s, &subjects.patient, voided);
	if (status != APM_OK)
		return status;
	memcpy(tx.actor, voided->actor, APM_STAFF_LEN);
	memcpy(subjects.actor.bytes, voided->actor, APM_STAFF_LEN);
	apm_contract_patient_of(s, &subjects.patient, &p);
	p.known = true;
	p.origin = *home;
	if (tx.kind == APM_KIND_PATIENT)
		p.version++;
	status = apm_contract_load_patient(s, apid, &p);
	return status == APM_OK ? count(s, &tx, &subjects, block_time_us) : status;
}
