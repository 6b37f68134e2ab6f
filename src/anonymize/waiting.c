/*
 * waiting.c
 *	  Records that wait, sealed, for reception or for their patient.
 *
 * A sensor must not learn whether a patient or a name exists: not from an answer, and not from
 * what else its session can see, such as locks, statistics and time.  So its backend looks no
 * patient up.  Whatever it submits is sealed for the APM alone, with the time and the actor
 * of the submission, and waits for reception (reception.c), which finds the patients.  It can wait for years, and then
 * its patient may be forgotten.  So it is sealed as a patient's key is wrapped, under a secret that is replaced in the course of
 * time, and not for the APM's key pair.
 *
 * What fits no patient goes on waiting.  Whoever registers or changes a patient hands what
 * waits for him to reception again.  The two must not miss each other: a record put to wait in one
 * transaction while another registers its patient would wait for ever.  Hence a lock a patient,
 * shared by reception and exclusive for the other, and above it one for all, of which a
 * transaction that deals with very many patients takes a stronger mode instead, so that it
 * cannot use the lock table up.  Reception does not wait for these locks: a registration in a
 * long transaction must not hold up the records of everybody else.
 *
 * How many rows may wait for reception is bounded.  Those that wait for a patient are not counted:
 * a sensor that fills the table and is refused, or not, would learn whether its patients exist.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "utils/timestamp.h"

#include "anonymize/waiting.h"
#include "apm_depth.h"
#include "apm_errors.h"
#include "apm_guc.h"
#include "apm_prepare.h"
#include "core/cipher.h"
#include "keys/keyring.h"
#include "worker/worker.h"

/* tells our locks from those of pg_advisory_lock(), which uses 1 and 2 */
#define LOCK_ONE 0xA901
#define LOCK_ALL 0xA902
#define LOCKS_PER_TRANSACTION 500

#define WAITING_TAG 'W'
#define WAITING_VERSION 1

const char *const apm_wait_reasons[APM_WAIT_REASONS] = {
	[APM_WAIT_NEW] = "new",
	[APM_WAIT_PATIENT] = "patient",
	[APM_WAIT_IDENTITY] = "identity",
	[APM_WAIT_FAILED] = "failed",
};

static bool
lock(uint32 key1, uint32 key2, uint16 space, LOCKMODE mode, bool wait)
{
	LOCKTAG tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, key1, key2, space);
	return LockAcquire(&tag, mode, false, !wait) != LOCKACQUIRE_NOT_AVAIL;
}

static bool
lock_patient(const ApmDigest *index, bool exclusive, bool wait)
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
		return lock(0, 0, LOCK_ALL, exclusive ? ExclusiveLock : ShareLock, wait);
	memcpy(key, index->bytes, sizeof(key));
	return lock(0, 0, LOCK_ALL, exclusive ? RowExclusiveLock : RowShareLock, wait) &&
		   lock(key[0], key[1], LOCK_ONE, exclusive ? ExclusiveLock : ShareLock, wait);
}

void
apm_patient_lock(const ApmDigest *index)
{
	(void) lock_patient(index, true, true);
}

bool
apm_patient_try_lock(const ApmDigest *index, bool exclusive)
{
	return lock_patient(index, exclusive, false);
}

/* What is sealed: everything that the transaction will need. */
static void
encode(const ApmActing *who, const ApmRecord *record, const ApmWaiting *row, ApmBuf *out)
{
	static const ApmUuid none;
	ApmBuf text = {.secret = true};

	apm_json_put(&text, record->value);
	if (text.len > APM_SENSOR_RECORD_MAX)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("the record is larger than %d bytes", APM_SENSOR_RECORD_MAX)));
	apm_put_u8(out, WAITING_TAG);
	apm_put_u8(out, WAITING_VERSION);
	apm_put_raw(out, row->rid.bytes, APM_UUID_LEN);
	apm_put_raw(out, row->index.bytes, APM_DIGEST_LEN);
	apm_put_u8(out, apm_record_flags(record));
	apm_put_raw(out, record->has_amends ? record->amends.bytes : none.bytes, APM_UUID_LEN);
	apm_put_u64(out, row->time_us);
	apm_put_raw(out, who->staff, APM_STAFF_LEN);
	apm_put_u16(out, who->actor.roles);
	apm_put_bytes(out, text.data, text.len);
	apm_check(apm_buf_status(out), "keep a record that waits");
	apm_buf_reset(&text);
}

void
apm_waiting_seal(const ApmActing *who, const ApmRecord *record, const ApmDigest *index, uint64 time_us,
				 ApmWaiting *out)
{
	ApmBuf plain = {.secret = true};
	ApmBuf sealed = {0};

	out->rid = record->rid;
	out->index = *index;
	out->time_us = time_us;
	out->generation = apm_key_wrapping_active();
	encode(who, record, out, &plain);
	apm_check(apm_waiting_record_seal(apm_key_wrapping(out->generation), out->generation, &out->rid,
									  APM_SLICE(plain.data, plain.len), &sealed),
			  "seal a record that waits");
	apm_buf_reset(&plain);
	out->sealed = APM_SLICE(sealed.data, sealed.len);
}

/* The reverse. */
static bool
decode(ApmSlice in, ApmDigest *index, ApmRecord *record, ApmTransaction *tx)
{
	ApmReader r;
	ApmSlice text;
	uint8 flags;

	apm_reader_init(&r, in);
	apm_expect_u8(&r, WAITING_TAG);
	apm_expect_u8(&r, WAITING_VERSION);
	apm_get_raw(&r, record->rid.bytes, APM_UUID_LEN);
	apm_get_raw(&r, index->bytes, APM_DIGEST_LEN);
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

bool
apm_waiting_open(const ApmWaiting *waiting, ApmRecord *record, ApmTransaction *tx)
{
	ApmBuf plain = {.secret = true};
	ApmStatus status = apm_waiting_record_open(apm_key_wrapping(waiting->generation), waiting->generation,
											   &waiting->rid, waiting->sealed, &plain);
	ApmDigest sealed_index;
	bool good;

	/* whose fault it is must be told apart: lack of memory says nothing of the row */
	if (status == APM_ERR_MEMORY || status == APM_ERR_CRYPTO)
		apm_raise(status, "open a record that waits");
	good = status == APM_OK && decode(APM_SLICE(plain.data, plain.len), &sealed_index, record, tx) &&
		   memcmp(&record->rid, &waiting->rid, sizeof(ApmUuid)) == 0 &&
		   memcmp(&sealed_index, &waiting->index, sizeof(ApmDigest)) == 0;
	apm_buf_reset(&plain);
	return good;
}

static void
check_room(int n)
{
	static ApmDepth depth = {
		.sequence = "waiting_id_seq",
		.count = {"SELECT pg_catalog.count(*) FROM"
				  " (SELECT FROM ONLY apm.waiting WHERE reason = 'new' LIMIT $1) AS bounded",
				  1,
				  {INT8OID},
				  NULL},
	};

	if (apm_depth_beyond(&depth, apm_max_queue, n))
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED), errmsg("too many records wait for reception"),
				 errhint("Submit again later. apm.max_queue is %d; apm.status tells why nobody takes them.",
						 apm_max_queue)));
}

void
apm_waiting_put(const ApmWaiting *const *rows, int n)
{
	/* numbered in the order of what is given, which is that of their arrival */
	static ApmStatement put = {
		"INSERT INTO apm.waiting (rid, index_key, generation, sealed, reason, since)"
		" SELECT u.rid, u.index_key, u.generation, u.sealed, 'new', u.since"
		" FROM unnest($1, $2, $3, $4, $5) AS u (rid, index_key, generation, sealed, since)",
		5,
		{UUIDARRAYOID, BYTEAARRAYOID, INT4ARRAYOID, BYTEAARRAYOID, TIMESTAMPTZARRAYOID},
		NULL,
	};
	ApmUuid *rids = palloc(sizeof(ApmUuid) * n);
	ApmDigest *indexes = palloc(sizeof(ApmDigest) * n);
	int32 *generations = palloc(sizeof(int32) * n);
	ApmSlice *sealed = palloc(sizeof(ApmSlice) * n);
	TimestampTz *since = palloc(sizeof(TimestampTz) * n);
	Datum args[5];

	check_room(n);
	apm_prepare_forbid();
	for (int i = 0; i < n; i++)
	{
		rids[i] = rows[i]->rid;
		indexes[i] = rows[i]->index;
		generations[i] = (int32) rows[i]->generation;
		sealed[i] = rows[i]->sealed;
		since[i] = apm_time_of(rows[i]->time_us);
	}
	args[0] = apm_uuid_array(rids, n);
	args[1] = apm_digest_array(indexes, n);
	args[2] = apm_int4_array(generations, n);
	args[3] = apm_bytea_array(sealed, n);
	args[4] = apm_time_array(since, n);
	apm_run_whole(&put, args, (uint64) n);
	apm_wake_at_commit(APM_WORKER_RECEPTION);
}

void
apm_waiting_release(const ApmDigest *index)
{
	static ApmStatement release = {
		"UPDATE ONLY apm.waiting SET reason = 'new' WHERE index_key = $1 AND reason <> 'new'",
		1,
		{BYTEAOID},
		NULL,
	};
	static ApmStatement left = {
		"SELECT FROM ONLY apm.waiting WHERE index_key = $1 AND reason <> 'new' LIMIT 1", 1, {BYTEAOID}, NULL};
	Datum args[] = {apm_digest_datum(index)};

	apm_run(&release, args);
	/* in REPEATABLE READ, rows younger than the snapshot can be read but not changed */
	if (apm_run_latest(&left, args) > 0)
		ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
						errmsg("could not release waiting records that were submitted meanwhile"),
						errhint("Repeat the transaction.")));
	/* also where nothing waited: reception may have left new ones aside because of our lock */
	apm_wake_at_commit(APM_WORKER_RECEPTION);
}
