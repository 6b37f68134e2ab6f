/*
 * reading.c
 *	  From the gate's answers to records: read from the cloud, checked, opened.
 *
 * What comes from the cloud is believed in nothing: the gate's answers list the records
 * with the digest of each, and each must be there and match before anything of it is opened.
 * It is all or an error, because a part would look like the whole.
 *
 * Records are read from the cloud in portions, of many patients together if need be; each patient's
 * profile is opened when his first record comes, and wiped before the next one's.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/uuid.h"

#include "anonymize/reading.h"
#include "apm_errors.h"
#include "cloud/cloud.h"

/* Records read from the cloud at a time: few at first, then as many as these bytes hold. */
#define FIRST_READ 16
#define MOST_READ 1000
#define READ_BYTES (16 * 1024 * 1024)

/* A place among the answers' lists. */
typedef struct Cursor
{
	int question;
	int record;
} Cursor;

typedef struct Reader
{
	const ApmGateQuestion *answers;
	const ApmSlice *apids;
	int n;
	Cursor next;
	ApmReadingCallback callback;
	void *closure;
	MemoryContext patient_memory;
	int patient_of; /* question; -1: none is open */
	ApmPatient *patient;
	MemoryContext record_memory;
} Reader;

/* An erasure that overtakes a reading takes what is read from under it; whatever is missing then was not tampered with. */
static void
refuse_forgotten(ApmSlice apid)
{
	ApmSection section;

	apm_section_begin(&section);
	apm_patient_refuse_forgotten(apid);
	apm_section_end(&section);
}

static void
record_fault(const ApmPlace *place, ApmSlice apid, const char *fault)
{
	char *rid = DatumGetCString(DirectFunctionCall1(uuid_out, apm_uuid_datum(&place->rid)));

	refuse_forgotten(apid);
	ereport(
		ERROR,
		(errcode(ERRCODE_APM_TAMPERED), errmsg("record %s does not match the ledger", rid),
		 errdetail("What the cloud holds for it %s.", fault),
		 errhint("No record of the patient is given out. The operator of the cloud must be asked, unless an "
				 "older key \"apm-envelope\" was removed here.")));
}

/* The transaction in what the cloud sent for a place, if it is the one that the ledger lists there. */
static void
open_checked(const ApmPlace *place, ApmSlice apid, ApmSlice apr, ApmBuf *plain, ApmOpened *opened)
{
	static const char *const faults[] = {[APM_CLOUD_MISSING] = "is missing",
										 [APM_CLOUD_ALTERED] = "was altered",
										 [APM_CLOUD_ANOTHER] = "belongs to another record"};
	ApmCloudFault fault = apm_cloud_open(&place->rid, apid, &place->leaf, apr, plain, opened);

	if (fault != APM_CLOUD_GOOD)
		record_fault(place, apid, faults[fault]);
}

/* What is behind the record in the sealed text: names of data rules as a JSON array, or nothing. */
static void
read_flags(ApmSlice text, bool late, ApmReading *out)
{
	static const char late_flag[] = "late";
	Jsonb *names = text.len > 0 ? apm_json_parse(text) : NULL;
	int n = names != NULL ? (int) JB_ROOT_COUNT(names) : 0;

	if (names != NULL && !JB_ROOT_IS_ARRAY(names))
		apm_raise(APM_ERR_OPEN, "open a record");
	out->flags = palloc(sizeof(ApmSlice) * (n + 1));
	out->nflags = 0;
	for (int i = 0; i < n; i++)
	{
		JsonbValue *name = getIthJsonbValueFromContainer(&names->root, i);

		if (name == NULL || name->type != jbvString)
			apm_raise(APM_ERR_OPEN, "open a record");
		out->flags[out->nflags++] = APM_SLICE(name->val.string.val, name->val.string.len);
	}
	if (late)
		out->flags[out->nflags++] = APM_SLICE(late_flag, strlen(late_flag));
}

void
apm_reading_open(const ApmPatient *patient, const ApmTransaction *tx, ApmReading *out)
{
	const ApmPrimaryFields *fields = &tx->u.primary;
	ApmBuf text = {.secret = true};
	const uint8 *newline;
	size_t len;

	apm_check(apm_record_open(patient->key, &patient->key_id, &fields->rid, apm_patient_apid(patient),
							  fields->record, &text),
			  "open a record");
	newline = memchr(text.data, '\n', text.len);
	len = newline != NULL ? (size_t) (newline - text.data) : text.len;
	out->patient = patient;
	out->tx = tx;
	out->own = apm_json_parse(APM_SLICE(text.data, len));
	read_flags(newline != NULL ? APM_SLICE(newline + 1, text.len - len - 1) : APM_SLICE(NULL, 0),
			   (fields->flags & APM_PRIMARY_LATE) != 0, out);
	apm_buf_reset(&text);
}

Jsonb *
apm_reading_record(const ApmReading *reading)
{
	return apm_patient_record(reading->patient, reading->own);
}

Datum
apm_reading_flags(const ApmReading *reading)
{
	return apm_text_array(reading->flags, reading->nflags);
}

/* The patient that the gate let through, with the profile that the answer names; in the current memory context. */
static ApmPatient *
open_patient(ApmSlice apid, const ApmGateQuestion *answer)
{
	MemoryContext caller = CurrentMemoryContext;
	ApmPatient *patient;
	ApmSection section;

	apm_section_begin(&section);
	MemoryContextSwitchTo(caller);
	patient = apm_patient_at(apid, &answer->patient);
	apm_section_end(&section);
	return patient;
}

ApmPatient *
apm_reading_ask(const ApmAsk *ask, ApmSlice apid)
{
	ApmGateQuestion *answer = apm_gate_ask(ask, &apid, 1);

	apm_gate_require(answer);
	return open_patient(apid, answer);
}

/* The patient of a question, opened unless he is the one who is open. */
static ApmPatient *
patient_of(Reader *reader, int question)
{
	MemoryContext caller;

	if (reader->patient_of == question)
		return reader->patient;
	MemoryContextReset(reader->patient_memory);
	caller = MemoryContextSwitchTo(reader->patient_memory);
	reader->patient = open_patient(reader->apids[question], &reader->answers[question]);
	reader->patient_of = question;
	MemoryContextSwitchTo(caller);
	return reader->patient;
}

/* Opens one record and hands it over. */
static void
hand_over(Reader *reader, Cursor at, ApmSlice apr)
{
	const ApmPlace *place = &reader->answers[at.question].records[at.record];
	ApmPatient *patient = patient_of(reader, at.question);
	ApmReading reading = {.question = at.question, .place = place};
	ApmBuf plain = {0};
	ApmOpened opened;

	open_checked(place, reader->apids[at.question], apr, &plain, &opened);
	apm_reading_open(patient, &opened.tx, &reading);
	reader->callback(&reading, reader->closure);
}

/* Moves to the next record; false at the end. */
static bool
advance(Reader *reader, Cursor *at)
{
	Cursor *next = &reader->next;

	while (next->question < reader->n && next->record == reader->answers[next->question].nrecords)
	{
		next->question++;
		next->record = 0;
	}
	*at = *next;
	if (next->question == reader->n)
		return false;
	next->record++;
	return true;
}

/* Reads up to most of the next records; answers how many, and the bytes that the cloud sent for them. */
static int
read_portion(Reader *reader, int most, Size *bytes)
{
	Cursor *wanted = palloc(sizeof(Cursor) * most);
	ApmUuid *rids = palloc(sizeof(ApmUuid) * most);
	ApmSlice *aprs = palloc(sizeof(ApmSlice) * most);
	MemoryContext caller;
	int n = 0;

	while (n < most && advance(reader, &wanted[n]))
	{
		rids[n] = reader->answers[wanted[n].question].records[wanted[n].record].rid;
		n++;
	}
	*bytes = 0;
	if (n == 0)
		return 0;
	apm_cloud_read(rids, n, aprs);

	caller = MemoryContextSwitchTo(reader->record_memory);
	for (int i = 0; i < n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		hand_over(reader, wanted[i], aprs[i]);
		*bytes += aprs[i].len;
		MemoryContextReset(reader->record_memory);
	}
	MemoryContextSwitchTo(caller);
	return n;
}

void
apm_reading_run(const ApmGateQuestion *answers, const ApmSlice *apids, int n, ApmReadingCallback callback,
				void *closure)
{
	MemoryContext part = AllocSetContextCreate(CurrentMemoryContext, "apm reading", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(part);
	Reader reader = {
		.answers = answers,
		.apids = apids,
		.n = n,
		.callback = callback,
		.closure = closure,
		.patient_memory = AllocSetContextCreate(caller, "apm patient", ALLOCSET_SMALL_SIZES),
		.patient_of = -1,
		.record_memory = AllocSetContextCreate(caller, "apm record", ALLOCSET_DEFAULT_SIZES),
	};
	int most = FIRST_READ;
	Size bytes;
	int done;

	while ((done = read_portion(&reader, most, &bytes)) > 0)
	{
		most = (int) Max(1, Min(MOST_READ, READ_BYTES / (bytes / done + 1)));
		MemoryContextReset(part);
	}
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(reader.record_memory);
	MemoryContextDelete(reader.patient_memory);
	MemoryContextDelete(part);
}
