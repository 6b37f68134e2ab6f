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
#include "anonymize/known.h"
#include "anonymize/submission.h"
#include "anonymize/waiting.h"
#include "apm_errors.h"
#include "core/digest.h"
#include "keys/keyring.h"

#define FLUSH_ROWS 1000
#define FLUSH_BYTES (16 * 1024 * 1024)

#define SUBMITTERS (APM_ROLE_CLINICIAN | APM_ROLE_ADMIN | APM_ROLE_SENSOR)
#define REGISTRARS (APM_ROLE_CLINICIAN | APM_ROLE_ADMIN | APM_ROLE_REGISTRAR)

/* What becomes of a record. */
typedef enum Fate
{
	FATE_OPEN,	 /* not known yet */
	FATE_REPEAT, /* was submitted before: nothing to do */
	FATE_AGAIN,	 /* its Rid was: needs another */
	FATE_SEND,
	FATE_WAIT /* for reception */
} Fate;

typedef struct Row
{
	ApmSource source;
	ApmRecord record;
	bool drawn; /* the Rid is ours, so nobody can have used it before */
	ApmPid pid;
	uint64 time_us;
	ApmDigest fingerprint;
	Fate fate;
	ApmFields identifying; /* during a flush */
	ApmKnown *known;	   /* during a flush */
	ApmWaiting waiting;	   /* of FATE_WAIT */
	int place;			   /* in the outgoing transactions; -1: in none */
} Row;

struct ApmSubmission
{
	MemoryContext context; /* of the rows' contents */
	ApmActing who;
	Size bytes;
	int n;
	int capacity;
	Row *rows;
};

/* A flush in progress; in its section's memory. */
typedef struct Flush
{
	ApmSubmission *all;
	ApmDeclared declared;
	ApmOutgoing out;
	Row **by_rid; /* all rows in order of Rid, then of arrival */
} Flush;

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
	all->rows = palloc(sizeof(Row));
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
fingerprint(Row *row, const ApmActing *who)
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

static void
draw_rid(Row *row)
{
	apm_check(apm_uuid7_random(row->time_us / 1000, &row->record.rid), "draw a record id");
	row->drawn = true;
}

void
apm_submission_add(ApmSubmission *all, const ApmGiven *given, ApmUuid *used)
{
	MemoryContext caller = MemoryContextSwitchTo(all->context);
	Row *row;

	Assert(all->n < FLUSH_ROWS);
	apm_record_check(given->record);
	if (all->n == all->capacity)
	{
		all->capacity *= 2;
		all->rows = repalloc(all->rows, sizeof(Row) * all->capacity);
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
		draw_rid(row);
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

static int
compare_rids(const void *a, const void *b)
{
	const Row *left = *(Row *const *) a;
	const Row *right = *(Row *const *) b;
	int order = memcmp(&left->record.rid, &right->record.rid, sizeof(ApmUuid));

	return order != 0 ? order : left < right ? -1 : 1;
}

/* A row whose Rid has been submitted before; a client may repeat himself, as when he lost an answer. */
static void
repeat(Row *row, const ApmDigest *before)
{
	if (row->source == APM_SOURCE_INSERT)
	{
		row->fate = FATE_AGAIN;
		return;
	}
	if (row->source == APM_SOURCE_CLIENT && !apm_equal(&row->fingerprint, before, sizeof(ApmDigest)))
		ereport(ERROR,
				(errcode(ERRCODE_APM_RID_REUSED), errmsg("the record id was used before, with other content"),
				 errhint("Repeat a submission with exactly the same pid and record, or draw a new id.")));
	row->fate = FATE_REPEAT;
}

/* The open row of a Rid. */
static Row *
row_of(const Flush *flush, const ApmUuid *rid)
{
	int low = 0;
	int high = flush->all->n;

	while (low < high)
	{
		int middle = (low + high) / 2;

		if (memcmp(&flush->by_rid[middle]->record.rid, rid, sizeof(ApmUuid)) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	/* the first of its Rid is the one that counts */
	Assert(low < flush->all->n);
	return flush->by_rid[low];
}

/* Marks what the table has already among n Rids. */
static void
mark_submitted(const Flush *flush, const ApmUuid *rids, int n)
{
	static ApmStatement find = {
		"SELECT rid, fingerprint FROM apm.submission WHERE rid = ANY ($1)", 1, {UUIDARRAYOID}, NULL};
	Datum args[] = {apm_uuid_array(rids, n)};
	uint64 found = n > 0 ? apm_run_latest(&find, args) : 0;

	for (uint64 i = 0; i < found; i++)
	{
		ApmUuid rid;
		ApmDigest before;

		apm_row_uuid(i, 1, &rid);
		apm_row_digest(i, 2, &before);
		repeat(row_of(flush, &rid), &before);
	}
}

/* Gives rows that need another Rid one, which nobody can have used. */
static void
draw_again(Flush *flush)
{
	for (int i = 0; i < flush->all->n; i++)
	{
		Row *row = &flush->all->rows[i];

		if (row->fate != FATE_AGAIN)
			continue;
		draw_rid(row);
		row->fate = FATE_OPEN;
	}
	qsort(flush->by_rid, flush->all->n, sizeof(Row *), compare_rids);
}

static void
find_repeats(Flush *flush)
{
	ApmSubmission *all = flush->all;
	ApmUuid *given = palloc(sizeof(ApmUuid) * all->n);
	int n = 0;

	flush->by_rid = palloc(sizeof(Row *) * all->n);
	for (int i = 0; i < all->n; i++)
		flush->by_rid[i] = &all->rows[i];
	qsort(flush->by_rid, all->n, sizeof(Row *), compare_rids);

	for (int i = 0; i < all->n; i++)
	{
		Row *row = flush->by_rid[i];
		const Row *first = row_of(flush, &row->record.rid);

		if (row != first)
			repeat(row, &first->fingerprint);
		else if (!row->drawn)
			given[n++] = row->record.rid;
	}
	mark_submitted(flush, given, n);
	draw_again(flush);
}

/* A record may amend one that was submitted; whether it is this patient's, the contract says. */
static void
check_amends(const ApmSubmission *all)
{
	static ApmStatement find = {"SELECT FROM apm.submission WHERE rid = $1", 1, {UUIDOID}, NULL};

	for (int i = 0; i < all->n; i++)
	{
		const Row *row = &all->rows[i];
		Datum args[] = {apm_uuid_datum(&row->record.amends)};

		if (row->fate == FATE_OPEN && row->record.has_amends && apm_run_latest(&find, args) == 0)
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							errmsg("the record that is to be amended was never submitted")));
	}
}

/* The identifying attributes that each open row carries; refuses what cannot be one before any patient is looked up. */
static void
pick_identifying(Flush *flush)
{
	for (int i = 0; i < flush->all->n; i++)
	{
		Row *row = &flush->all->rows[i];
		ApmBuf value = {.secret = true};
		ApmFields fields;

		row->identifying.n = 0;
		if (row->fate != FATE_OPEN || !apm_fields_of(row->record.value, &fields))
			continue;
		apm_declared_pick(&flush->declared, &fields, APM_CLASS_IDENTIFYING, true, &row->identifying);
		for (int f = 0; f < row->identifying.n; f++)
			apm_identifying_value(&row->identifying.v[f], &value);
		apm_buf_reset(&value);
	}
}

static void
find_patients(Flush *flush)
{
	ApmKnownSet *set = apm_known_new();

	for (int i = 0; i < flush->all->n; i++)
	{
		Row *row = &flush->all->rows[i];

		if (row->fate == FATE_OPEN)
			row->known = apm_known_enter(set, &row->pid.index);
	}
	apm_known_load_new(set);
}

/* Registers the patient of a record that carries identifying attributes, as the paper's client does. */
static void
register_patient(Flush *flush, Row *row)
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
match_all(Flush *flush)
{
	for (int i = 0; i < flush->all->n; i++)
	{
		Row *row = &flush->all->rows[i];

		if (row->fate != FATE_OPEN)
			continue;
		if (row->known->patient == NULL)
			register_patient(flush, row);
		if (apm_patient_differs(row->known->patient, &row->identifying))
			ereport(ERROR, (errcode(ERRCODE_APM_IDENTITY),
							errmsg("the record's identifying attributes are not the patient's"),
							errhint("A registrar changes them with apm_update_patient().")));
		row->fate = FATE_SEND;
	}
}

/* Holds all rows to what the contract asks; the client is told of what it does not let in. */
static void
hold_all(Flush *flush)
{
	bool reader = (flush->all->who.actor.roles & APM_ROLE_CLINICIAN) != 0;
	ApmProspect *prospects = palloc(sizeof(ApmProspect) * flush->all->n);
	int n = 0;

	for (int i = 0; i < flush->all->n; i++)
	{
		Row *row = &flush->all->rows[i];

		if (row->fate == FATE_SEND)
			prospects[n++] = (ApmProspect){.patient = row->known->patient, .record = &row->record};
	}
	apm_records_hold(prospects, n, &flush->declared, reader ? APM_TOLD_ALL : APM_TOLD_RECORD);
	pfree(prospects);
}

static void
encrypt_all(Flush *flush)
{
	for (int i = 0; i < flush->all->n; i++)
	{
		Row *row = &flush->all->rows[i];
		ApmTransaction tx = {0};

		CHECK_FOR_INTERRUPTS();
		if (row->fate == FATE_SEND)
			row->place =
				apm_record_add(&flush->out, row->known->patient, &row->record, &flush->declared, &tx);
	}
}

/* Seals all rows for reception. */
static void
seal_all(Flush *flush)
{
	for (int i = 0; i < flush->all->n; i++)
	{
		Row *row = &flush->all->rows[i];

		CHECK_FOR_INTERRUPTS();
		if (row->fate != FATE_OPEN)
			continue;
		apm_waiting_seal(&flush->all->who, &row->record, &row->pid.index, row->time_us, &row->waiting);
		row->fate = FATE_WAIT;
	}
}

/* Leaves out the rows of n Rids that another session has taken meanwhile; those in SPI_tuptable are ours. */
static void
withdraw_taken(Flush *flush, const ApmUuid *rids, int n)
{
	ApmUuid *taken = palloc(sizeof(ApmUuid) * n);
	int ours = SPI_processed;
	int count = 0;

	/* what is returned comes in the order of what was given */
	for (int i = 0; i < n; i++)
	{
		ApmUuid next;

		if (i - count < ours)
			apm_row_uuid(i - count, 1, &next);
		if (i - count == ours || memcmp(&next, &rids[i], sizeof(next)) != 0)
			taken[count++] = rids[i];
	}
	mark_submitted(flush, taken, count);
	for (int i = 0; i < count; i++)
	{
		Row *row = row_of(flush, &taken[i]);

		if (row->fate != FATE_REPEAT && row->fate != FATE_AGAIN)
			elog(ERROR, "a record id is taken and not there");
		if (row->place >= 0)
			flush->out.items[row->place].withdrawn = true;
	}
	pfree(taken);
}

/*
 * Takes the Rids.  Where another session was faster, its record is the one that counts, and
 * ours is withdrawn if it is the same.
 */
static void
take_rids(Flush *flush)
{
	static ApmStatement put = {
		"INSERT INTO apm.submission (rid, fingerprint, tid, submitted_at, queued_at)"
		" SELECT rid, fingerprint, NULLIF(tid, '00000000-0000-0000-0000-000000000000'), at,"
		" CASE WHEN tid <> '00000000-0000-0000-0000-000000000000' THEN at END"
		" FROM unnest($1, $2, $3, $4) AS u (rid, fingerprint, tid, at)"
		" ON CONFLICT (rid) DO NOTHING RETURNING rid",
		4,
		{UUIDARRAYOID, BYTEAARRAYOID, UUIDARRAYOID, TIMESTAMPTZARRAYOID},
		NULL,
	};
	static const ApmUuid none;
	int count = flush->all->n;
	ApmUuid *rids = palloc(sizeof(ApmUuid) * count);
	ApmDigest *prints = palloc(sizeof(ApmDigest) * count);
	ApmUuid *tids = palloc(sizeof(ApmUuid) * count);
	TimestampTz *times = palloc(sizeof(TimestampTz) * count);
	Datum args[4];
	int n = 0;

	/* in order of Rid, so that two sessions with the same ones do not wait for each other */
	for (int i = 0; i < count; i++)
	{
		const Row *row = flush->by_rid[i];

		if (row->fate == FATE_REPEAT)
			continue;
		rids[n] = row->record.rid;
		prints[n] = row->fingerprint;
		tids[n] = row->fate == FATE_SEND ? flush->out.items[row->place].tid : none;
		times[n++] = apm_time_of(row->time_us);
	}
	if (n == 0)
		return;
	args[0] = apm_uuid_array(rids, n);
	args[1] = apm_digest_array(prints, n);
	args[2] = apm_uuid_array(tids, n);
	args[3] = apm_time_array(times, n);
	if (apm_run(&put, args) == (uint64) n)
		return;
	withdraw_taken(flush, rids, n);
}

static void
put_waiting(const Flush *flush)
{
	const ApmSubmission *all = flush->all;
	const ApmWaiting **waiting = palloc(sizeof(ApmWaiting *) * all->n);
	int n = 0;

	for (int i = 0; i < all->n; i++)
	{
		if (all->rows[i].fate == FATE_WAIT)
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
	Flush flush = {.all = all};
	ApmSection section;

	apm_section_begin(&section);
	apm_outgoing_start(&flush.out, &all->who);
	apm_declared_load(&flush.declared);

	find_repeats(&flush);
	check_amends(all);
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

	take_rids(&flush);
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
		Row *row = &all->rows[i];

		if (row->fate != FATE_AGAIN)
			continue;
		draw_rid(row);
		row->fate = FATE_OPEN;
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
