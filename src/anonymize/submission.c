/*
 * submission.c
 *	  Records that one statement submits, from the client's values to the queue.
 *
 * Few statements must do for many records, so they are collected in memory and go through
 * each step together: those that were submitted before are found and left out, the patients
 * are looked up, all are held to what the contract asks and encrypted, and only then are they written: the
 * Rids, which decide between two sessions that submit the same one, and the queue.
 *
 * A sensor's records go another way: no patient is looked up, and sealed they wait for
 * reception (waiting.c).
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "anonymize/datarule.h"
#include "anonymize/submissionrow.h"
#include "apm_errors.h"
#include "core/digest.h"
#include "keys/keyring.h"

#define FLUSH_ROWS 1000
#define FLUSH_BYTES (16 * 1024 * 1024)

#define SUBMITTERS (APM_ROLE_CLINICIAN | APM_ROLE_ADMIN | APM_ROLE_SENSOR)
#define REGISTRARS (APM_ROLE_CLINICIAN | APM_ROLE_ADMIN | APM_ROLE_REGISTRAR)

ApmSubmission *
apm_submission_new(void)
{
	ApmSubmission *all = palloc(sizeof(ApmSubmission));

	apm_acting(&all->who);
	apm_acting_require(&all->who, SUBMITTERS, "submit records");
	all->context = AllocSetContextCreate(CurrentMemoryContext, "apm submission", ALLOCSET_DEFAULT_SIZES);
	all->bytes = 0;
	all->n = 0;
	all->capacity = 1;
	all->rows = palloc(sizeof(ApmSubmittedRow));
	return all;
}

bool
apm_submission_is_ours(const ApmSubmission *all)
{
	return all->who.actor.role == GetOuterUserId() && all->who.actor.login == GetAuthenticatedUserId();
}

bool
apm_submission_full(const ApmSubmission *all)
{
	return all->n == FLUSH_ROWS || all->bytes >= FLUSH_BYTES;
}

void
apm_submission_free(ApmSubmission *all)
{
	MemoryContextDelete(all->context);
	pfree(all->rows);
	pfree(all);
}

static void
empty(ApmSubmission *all)
{
	MemoryContextReset(all->context);
	all->bytes = 0;
	all->n = 0;
}

void
apm_record_check(Jsonb *record)
{
	JsonbValue scalar;

	if (JB_ROOT_IS_OBJECT(record) && JB_ROOT_COUNT(record) == 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the record must not be empty")));
	if (JB_ROOT_IS_SCALAR(record) && JsonbExtractScalar(&record->root, &scalar) && scalar.type == jbvNull)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the record must not be a JSON null")));
}

/*
 * The keyed digest by which a repetition is told from other content under the same Rid.  A
 * sensor's repetitions are its own only: it could find out what is in somebody else's record
 * by guessing until it is told that it repeats him.
 */
static void
fingerprint(ApmSubmittedRow *row, const ApmActing *who)
{
	ApmBuf text = {.secret = true};
	ApmBuf head = {.secret = true};
	ApmSlice parts[2];

	apm_put_bytes(&head, "fingerprint", strlen("fingerprint"));
	apm_put_bytes(&head, row->pid.text.data, row->pid.text.len);
	apm_put_bytes(&head, row->record.amends.bytes, row->record.has_amends ? APM_UUID_LEN : 0);
	if (apm_acting_is_sensor(who))
		apm_put_bytes(&head, who->staff, APM_STAFF_LEN);
	apm_check(apm_buf_status(&head), "keep a record");
	apm_json_put(&text, row->record.value);
	parts[0] = APM_SLICE(head.data, head.len);
	parts[1] = APM_SLICE(text.data, text.len);
	apm_check(apm_hmac_sha256(apm_key_secret(APM_SECRET_INDEX), APM_SECRET_LEN, parts, 2, &row->fingerprint),
			  "keep a record");
	apm_buf_reset(&head);
	apm_buf_reset(&text);
}

void
apm_submission_add(ApmSubmission *all, const ApmGiven *given, ApmUuid *used)
{
	MemoryContext caller = MemoryContextSwitchTo(all->context);
	ApmSubmittedRow *row;

	Assert(all->n < FLUSH_ROWS);
	apm_record_check(given->record);
	if (all->n == all->capacity)
	{
		all->capacity *= 2;
		all->rows = repalloc(all->rows, sizeof(ApmSubmittedRow) * all->capacity);
	}
	row = &all->rows[all->n];
	memset(row, 0, sizeof(*row));
	apm_pid_read(given->pid, &row->pid);
	row->source = given->source;
	row->time_us = apm_now_us();
	row->place = -1;
	if (given->rid != NULL)
		row->record.rid = *given->rid;
	else
		apm_rid_draw(row);
	row->record.has_amends = given->amends != NULL;
	if (given->amends != NULL)
		row->record.amends = *given->amends;
	row->record.late = given->late;
	row->record.dated = given->observed_us != 0;
	row->record.observed_us = row->record.dated ? Min(given->observed_us, row->time_us)
							  : given->late		? 0
												: row->time_us;
	row->record.value = apm_json_copy(given->record);
	fingerprint(row, &all->who);

	*used = row->record.rid;
	all->bytes += VARSIZE(given->record);
	all->n++;
	MemoryContextSwitchTo(caller);
}

/* The identifying attributes that each open row carries; refuses what cannot be one before any patient is looked up. */
static void
pick_identifying(ApmFlush *flush)
{
	for (int i = 0; i < flush->all->n; i++)
	{
		ApmSubmittedRow *row = &flush->all->rows[i];
		ApmBuf value = {.secret = true};
		ApmFields fields;

		row->identifying.n = 0;
		if (row->fate != APM_FATE_OPEN || !apm_fields_of(row->record.value, &fields))
			continue;
		apm_declared_pick(&flush->declared, &fields, APM_CLASS_IDENTIFYING, true, &row->identifying);
		for (int f = 0; f < row->identifying.n; f++)
			apm_identifying_value(&row->identifying.v[f], &value);
		apm_buf_reset(&value);
	}
}

static void
find_patients(ApmFlush *flush)
{
	ApmKnownSet *set = apm_known_new();

	for (int i = 0; i < flush->all->n; i++)
	{
		ApmSubmittedRow *row = &flush->all->rows[i];

		if (row->fate == APM_FATE_OPEN)
			row->known = apm_known_enter(set, &row->pid.index);
	}
	apm_known_load_new(set);
}

/* Registers the patient of a record that carries identifying attributes, as the paper's client does. */
static void
register_patient(ApmFlush *flush, ApmSubmittedRow *row)
{
	ApmFields fields;
	ApmFields attributes;

	if (row->identifying.n == 0 || (flush->all->who.actor.roles & REGISTRARS) == 0)
		ereport(ERROR, (errcode(ERRCODE_APM_UNKNOWN_PATIENT), errmsg("no such patient is registered"),
						errhint("Register the patient with apm_register_patient(), or send the identifying "
								"attributes along with the record.")));
	(void) apm_fields_of(row->record.value, &fields);
	apm_declared_pick(&flush->declared, &fields, APM_CLASS_OTHER, true, &attributes);
	if (row->source != APM_SOURCE_CLIENT)
		attributes.n = 0;
	if (apm_patient_register(&row->pid, &row->identifying, &attributes, &flush->out, &row->known->patient))
	{
		apm_outgoing_send(&flush->out);
		apm_waiting_release(&row->pid.index);
		return;
	}
	apm_known_load(&row->known, 1); /* somebody else did */
	if (row->known->patient == NULL)
		elog(ERROR, "a patient is registered and not there");
}

/* Makes sure that each row is its patient's, registering those who are not known and may be. */
static void
match_all(ApmFlush *flush)
{
	for (int i = 0; i < flush->all->n; i++)
	{
		ApmSubmittedRow *row = &flush->all->rows[i];

		if (row->fate != APM_FATE_OPEN)
			continue;
		if (row->known->patient == NULL)
			register_patient(flush, row);
		if (apm_patient_differs(row->known->patient, &row->identifying))
			ereport(ERROR, (errcode(ERRCODE_APM_IDENTITY),
							errmsg("the record's identifying attributes are not the patient's"),
							errhint("A registrar changes them with apm_update_patient().")));
		row->fate = APM_FATE_SEND;
	}
}

/* Holds all rows to what the contract asks; the client is told of what it does not let in. */
static void
hold_all(ApmFlush *flush)
{
	bool reader = (flush->all->who.actor.roles & APM_ROLE_CLINICIAN) != 0;
	ApmProspect *prospects = palloc(sizeof(ApmProspect) * flush->all->n);
	int n = 0;

	for (int i = 0; i < flush->all->n; i++)
	{
		ApmSubmittedRow *row = &flush->all->rows[i];

		if (row->fate == APM_FATE_SEND)
			prospects[n++] = (ApmProspect){.patient = row->known->patient, .record = &row->record};
	}
	apm_records_hold(prospects, n, &flush->declared, reader ? APM_TOLD_ALL : APM_TOLD_RECORD);
	pfree(prospects);
}

static void
encrypt_all(ApmFlush *flush)
{
	for (int i = 0; i < flush->all->n; i++)
	{
		ApmSubmittedRow *row = &flush->all->rows[i];
		ApmTransaction tx = {0};

		CHECK_FOR_INTERRUPTS();
		if (row->fate == APM_FATE_SEND)
			row->place =
				apm_record_add(&flush->out, row->known->patient, &row->record, &flush->declared, &tx);
	}
}

/* Seals all rows for reception; refuses what can be refused whoever the patient is. */
static void
seal_all(ApmFlush *flush)
{
	const ApmRecord **records = palloc(sizeof(ApmRecord *) * flush->all->n);
	int n = 0;

	for (int i = 0; i < flush->all->n; i++)
	{
		if (flush->all->rows[i].fate == APM_FATE_OPEN)
			records[n++] = &flush->all->rows[i].record;
	}
	apm_records_require_fields(records, n, &flush->declared);
	for (int i = 0; i < flush->all->n; i++)
	{
		ApmSubmittedRow *row = &flush->all->rows[i];

		CHECK_FOR_INTERRUPTS();
		if (row->fate != APM_FATE_OPEN)
			continue;
		apm_waiting_seal(&flush->all->who, &row->record, &row->pid.index, row->time_us, &row->waiting);
		row->fate = APM_FATE_WAIT;
	}
	pfree(records);
}

static void
put_waiting(const ApmFlush *flush)
{
	const ApmSubmission *all = flush->all;
	const ApmWaiting **waiting = palloc(sizeof(ApmWaiting *) * all->n);
	int n = 0;

	for (int i = 0; i < all->n; i++)
	{
		if (all->rows[i].fate == APM_FATE_WAIT)
			waiting[n++] = &all->rows[i].waiting;
	}
	if (n > 0)
		apm_waiting_put(waiting, n);
	pfree(waiting);
}

/* All steps for all rows. */
static void
flush_rows(ApmSubmission *all)
{
	ApmFlush flush = {.all = all};
	ApmSection section;

	apm_section_begin(&section);
	apm_outgoing_start(&flush.out, &all->who);
	apm_declared_load(&flush.declared);

	apm_rids_find(&flush);
	apm_rids_check_amends(all);
	pick_identifying(&flush);
	if (apm_acting_is_sensor(&all->who))
		seal_all(&flush);
	else
	{
		find_patients(&flush);
		match_all(&flush);
		hold_all(&flush);
		encrypt_all(&flush);
	}

	apm_rids_take(&flush);
	put_waiting(&flush);
	apm_staff_note(&all->who);
	apm_outgoing_send(&flush.out);
	apm_section_end(&section);
}

/* Keeps the rows whose Rid another session took, and which need another. */
static void
keep_unsent(ApmSubmission *all)
{
	int n = 0;

	for (int i = 0; i < all->n; i++)
	{
		ApmSubmittedRow *row = &all->rows[i];

		if (row->fate != APM_FATE_AGAIN)
			continue;
		apm_rid_draw(row);
		row->fate = APM_FATE_OPEN;
		row->place = -1;
		all->rows[n++] = *row;
	}
	all->n = n;
}

void
apm_submission_flush(ApmSubmission *all)
{
	while (all->n > 0)
	{
		flush_rows(all);
		keep_unsent(all);
	}
	empty(all);
}
