/*
 * waiting.c
 *	  Records that wait, sealed, until their patient is registered.
 *
 * A sensor must not learn from an answer whether a patient or a name exists, so its record
 * is accepted either way; one whose patient is unknown, or whose identifying attributes are
 * not the patient's, is sealed for the APM alone and waits.  Whoever registers or
 * corrects the patient sends what waited, with the time and the actor of its submission.
 *
 * The two must not miss each other: a record put to wait in one transaction while another
 * registers its patient would wait for ever.  Hence a lock a patient, shared by those who
 * put to wait, and above it one for all, of which a transaction that deals with very many
 * patients takes a stronger mode instead, so that it cannot use the lock table up.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "utils/timestamp.h"

#include "anonymize/patient.h"
#include "apm_errors.h"
#include "keys/keyring.h"

/* tells our locks from those of pg_advisory_lock(), which uses 1 and 2 */
#define LOCK_ONE 0xA901
#define LOCK_ALL 0xA902
#define LOCKS_PER_TRANSACTION 500

#define WAITING_TAG 'W'
#define WAITING_VERSION 1

/* released at a time */
#define RELEASE_ROWS 200
#define RELEASE_BYTES (16 * 1024 * 1024)

static const char *const reasons[] = {"patient", "identity"};

static void
lock(uint32 key1, uint32 key2, uint16 space, LOCKMODE mode)
{
	LOCKTAG tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, key1, key2, space);
	(void) LockAcquire(&tag, mode, false, false);
}

void
apm_patient_lock(const ApmDigest *index, bool exclusive)
{
	static LocalTransactionId counted_in = InvalidLocalTransactionId;
	static int count = 0;
	uint32 key[2];

	if (counted_in != MyProc->lxid)
	{
		counted_in = MyProc->lxid;
		count = 0;
	}
	if (++count > LOCKS_PER_TRANSACTION)
	{
		lock(0, 0, LOCK_ALL, exclusive ? ExclusiveLock : ShareLock);
		return;
	}
	memcpy(key, index->bytes, sizeof(key));
	lock(0, 0, LOCK_ALL, exclusive ? RowExclusiveLock : RowShareLock);
	lock(key[0], key[1], LOCK_ONE, exclusive ? ExclusiveLock : ShareLock);
}

/* What is sealed: everything that the transaction will need. */
static void
encode(const ApmActing *who, const ApmWaiting *row, ApmBuf *out)
{
	static const ApmUuid none;
	ApmBuf text = {.secret = true};

	apm_json_put(&text, row->record->value);
	apm_put_u8(out, WAITING_TAG);
	apm_put_u8(out, WAITING_VERSION);
	apm_put_raw(out, row->record->rid.bytes, APM_UUID_LEN);
	apm_put_u8(out, apm_record_flags(row->record));
	apm_put_raw(out, row->record->has_amends ? row->record->amends.bytes : none.bytes, APM_UUID_LEN);
	apm_put_u64(out, row->time_us);
	apm_put_raw(out, who->staff, APM_STAFF_LEN);
	apm_put_u16(out, who->actor.roles);
	apm_put_bytes(out, text.data, text.len);
	apm_check(apm_buf_status(out), "keep a record that waits");
	apm_buf_reset(&text);
}

/* The reverse: the record, and a transaction that has its actor and time.  False if it is something else. */
static bool
decode(ApmSlice in, ApmRecord *record, ApmTransaction *tx)
{
	ApmReader r;
	ApmSlice text;
	uint8 flags;

	apm_reader_init(&r, in);
	apm_expect_u8(&r, WAITING_TAG);
	apm_expect_u8(&r, WAITING_VERSION);
	apm_get_raw(&r, record->rid.bytes, APM_UUID_LEN);
	flags = apm_get_u8(&r);
	record->has_amends = (flags & APM_PRIMARY_AMENDS) != 0;
	record->late = (flags & APM_PRIMARY_LATE) != 0;
	apm_get_raw(&r, record->amends.bytes, APM_UUID_LEN);
	tx->time_us = apm_get_u64(&r);
	apm_get_raw(&r, tx->actor, APM_STAFF_LEN);
	tx->roles = apm_get_u16(&r);
	text = apm_get_bytes(&r, APM_TEXT_MAX);
	if (!apm_reader_done(&r))
		return false;
	record->value = apm_json_parse(text);
	return true;
}

void
apm_waiting_put(const ApmActing *who, const ApmWaiting *rows, int n)
{
	static ApmStatement put = {
		"INSERT INTO apm.waiting (rid, index_key, sealed, reason, since)"
		" SELECT * FROM unnest($1, $2, $3, $4, $5)",
		5,
		{UUIDARRAYOID, BYTEAARRAYOID, BYTEAARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID},
		NULL,
	};
	ApmUuid *rids = palloc(sizeof(ApmUuid) * n);
	ApmDigest *indexes = palloc(sizeof(ApmDigest) * n);
	ApmSlice *sealed = palloc(sizeof(ApmSlice) * n);
	ApmSlice *why = palloc(sizeof(ApmSlice) * n);
	TimestampTz *since = palloc(sizeof(TimestampTz) * n);
	ApmSealer *sealer = apm_key_sealer(true, false, false);
	Datum args[5];

	for (int i = 0; i < n; i++)
	{
		ApmBuf plain = {.secret = true};
		ApmBuf envelope = {0};

		encode(who, &rows[i], &plain);
		apm_check(apm_sealer_seal(sealer, APM_SLICE(plain.data, plain.len), apm_now_us(), &envelope),
				  "seal a record that waits");
		apm_buf_reset(&plain);
		rids[i] = rows[i].record->rid;
		indexes[i] = rows[i].index;
		sealed[i] = APM_SLICE(envelope.data, envelope.len);
		why[i] = APM_SLICE(reasons[rows[i].reason], strlen(reasons[rows[i].reason]));
		since[i] = apm_time_of(rows[i].time_us);
	}
	args[0] = apm_uuid_array(rids, n);
	args[1] = apm_digest_array(indexes, n);
	args[2] = apm_bytea_array(sealed, n);
	args[3] = apm_text_array(why, n);
	args[4] = apm_time_array(since, n);
	apm_run_whole(&put, args, (uint64) n);
}

/* Records that leave, their Tids, and those that go on waiting. */
typedef struct Release
{
	int sent;
	ApmUuid rids[RELEASE_ROWS];
	ApmUuid tids[RELEASE_ROWS];
	int kept;
	ApmUuid kept_rids[RELEASE_ROWS];
} Release;

/* False if this is not a record, or not this one, that we can open. */
static bool
open_waiting(const ApmUuid *rid, ApmSlice sealed, ApmRecord *record, ApmTransaction *tx)
{
	ApmBuf plain = {.secret = true};
	ApmStatus status = apm_opener_open(apm_key_opener(APM_PAIR_APM), sealed, &plain);
	bool good;

	if (status == APM_ERR_MEMORY || status == APM_ERR_CRYPTO)
		apm_raise(status, "open a record that waits");
	good = status == APM_OK && decode(APM_SLICE(plain.data, plain.len), record, tx) &&
		   memcmp(&record->rid, rid, sizeof(ApmUuid)) == 0;
	apm_buf_reset(&plain);
	return good;
}

/*
 * One waiting record: into out if it is the patient's.  One that cannot be opened goes on waiting and
 * keeps nobody from being registered: what it lacks may be a key, which comes back.
 */
static void
release_one(const ApmPatient *patient, const ApmDeclared *declared, const ApmUuid *rid, ApmSlice sealed,
			ApmOutgoing *out, Release *release)
{
	ApmTransaction tx = {0};
	ApmRecord record;
	ApmFields fields;
	ApmFields identifying = {0};

	if (!open_waiting(rid, sealed, &record, &tx))
	{
		ereport(WARNING, (errcode(ERRCODE_APM_CANNOT_OPEN),
						  errmsg("a record that waits cannot be opened and goes on waiting"),
						  errhint("If a key is missing, bring it back and call apm_update_patient().")));
		return;
	}
	if (apm_fields_of(record.value, &fields))
		apm_declared_pick(declared, &fields, APM_CLASS_IDENTIFYING, true, &identifying);

	if (apm_patient_differs(patient, &identifying))
		release->kept_rids[release->kept++] = record.rid;
	else
	{
		int place = apm_record_add(out, patient, &record, declared, &tx);

		release->rids[release->sent] = record.rid;
		release->tids[release->sent++] = out->items[place].tid;
	}
	apm_core_free(record.value);
}

static void
write_release(const Release *release)
{
	static ApmStatement leave = {"DELETE FROM apm.waiting WHERE rid = ANY ($1)", 1, {UUIDARRAYOID}, NULL};
	static ApmStatement name = {
		"UPDATE apm.submission AS s SET tid = u.tid, queued_at = pg_catalog.now() FROM unnest($1, $2) AS u (rid, tid)"
		" WHERE s.rid = u.rid",
		2,
		{UUIDARRAYOID, UUIDARRAYOID},
		NULL,
	};
	static ApmStatement keep = {
		"UPDATE apm.waiting SET reason = 'identity' WHERE rid = ANY ($1) AND reason <> 'identity'",
		1,
		{UUIDARRAYOID},
		NULL,
	};
	Datum args[] = {apm_uuid_array(release->rids, release->sent),
					apm_uuid_array(release->tids, release->sent)};
	Datum kept[] = {apm_uuid_array(release->kept_rids, release->kept)};

	/* in REPEATABLE READ, rows younger than the snapshot can be read but not deleted */
	if (apm_run(&leave, args) != (uint64) release->sent || apm_run(&name, args) != (uint64) release->sent)
		ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
						errmsg("could not release waiting records that were submitted meanwhile"),
						errhint("Repeat the transaction.")));
	apm_run(&keep, kept);
}

void
apm_waiting_release(const ApmPatient *patient, const ApmDeclared *declared, ApmOutgoing *out)
{
	static ApmStatement next = {
		"SELECT rid, sealed FROM (SELECT rid, sealed, pg_catalog.sum(pg_catalog.octet_length(sealed)) OVER w"
		" - pg_catalog.octet_length(sealed) AS before FROM apm.waiting WHERE index_key = $1 AND rid > $2"
		" WINDOW w AS (ORDER BY rid ROWS UNBOUNDED PRECEDING) ORDER BY rid LIMIT $3) AS w WHERE before < $4",
		4,
		{BYTEAOID, UUIDOID, INT4OID, INT4OID},
		NULL,
	};
	ApmUuid last = {{0}};
	uint64 rows;

	do
	{
		Datum args[] = {apm_digest_datum(&patient->index), apm_uuid_datum(&last), Int32GetDatum(RELEASE_ROWS),
						Int32GetDatum(RELEASE_BYTES)};
		Release *release = palloc0(sizeof(Release));
		SPITupleTable *found;

		CHECK_FOR_INTERRUPTS();
		rows = apm_run_latest(&next, args);
		found = SPI_tuptable;
		for (uint64 i = 0; i < rows; i++)
		{
			apm_row_uuid(i, 1, &last);
			release_one(patient, declared, &last, apm_row_bytea(i, 2), out, release);
		}
		SPI_freetuptable(found);
		if (rows > 0)
			write_release(release);
		apm_outgoing_send(out);
		pfree(release);
	} while (rows > 0);
}
