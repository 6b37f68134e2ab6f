/*
 * lastvalue.c
 *	  The last values of a patient's attributes that data rules compare with.
 *
 * A patient's earlier records lie in the cloud, and the backend that submits a new one may not read
 * them.  What rules compare with is therefore kept beside the profile: a few values, sealed under the
 * patient's key, so that they die with it.  Two sessions that submit for one patient must see each other's
 * values, so the row is locked until the end of the transaction.  Each patient has one from his registration
 * on, empty at first, so that there is always something to lock.  A batch's rows are locked in the order of the aPids,
 * so that two batches about the same patients wait for each other and not in a circle.
 *
 * Sealed is: u8 'V', u8 version, u16 count, and for each value: attribute, u64 time, Rid, value.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"

#include "anonymize/lastvalue.h"
#include "apm_errors.h"

#define VALUES_TAG 'V'
#define VALUES_VERSION 1
#define VALUES_MAX UINT16_MAX

/* Copies, in memory that is wiped, belong to the current memory context. */
static ApmSlice
copy_secret(ApmSlice bytes)
{
	ApmBuf copy = {.secret = true};

	apm_put_raw(&copy, bytes.data, bytes.len);
	apm_check(apm_buf_status(&copy), "keep a patient's last values");
	return APM_SLICE(copy.data, copy.len);
}

static void
free_secret(ApmSlice bytes)
{
	apm_core_free(unconstify(uint8 *, bytes.data));
}

static int
place_of(const ApmLastValues *values, ApmSlice attribute)
{
	for (int i = 0; i < values->n; i++)
	{
		if (apm_slices_equal(values->v[i].attribute, attribute))
			return i;
	}
	return -1;
}

const ApmLastValue *
apm_last_value_find(const ApmLastValues *values, ApmSlice attribute)
{
	int place = place_of(values, attribute);

	return place >= 0 ? &values->v[place] : NULL;
}

static void
append(ApmLastValues *values, const ApmLastValue *value)
{
	ApmLastValue *new;

	if (values->n == values->capacity)
	{
		values->capacity = Max(4, values->capacity * 2);
		values->v = values->v == NULL ? palloc(sizeof(ApmLastValue) * values->capacity)
									  : repalloc(values->v, sizeof(ApmLastValue) * values->capacity);
	}
	new = &values->v[values->n++];
	*new = *value;
	new->attribute = copy_secret(value->attribute);
	new->value = copy_secret(value->value);
}

void
apm_last_value_put(ApmLastValues *values, const ApmLastValue *value)
{
	apm_last_value_remove(values, value->attribute);
	append(values, value);
	values->changed = true;
}

void
apm_last_value_remove(ApmLastValues *values, ApmSlice attribute)
{
	int place = place_of(values, attribute);

	if (place < 0)
		return;
	free_secret(values->v[place].attribute);
	free_secret(values->v[place].value);
	values->v[place] = values->v[--values->n];
	values->changed = true;
}

static void
decode(ApmSlice text, ApmLastValues *out)
{
	ApmReader r;
	int count;

	apm_reader_init(&r, text);
	apm_expect_u8(&r, VALUES_TAG);
	apm_expect_u8(&r, VALUES_VERSION);
	count = apm_get_u16(&r);
	for (int i = 0; i < count && !r.failed; i++)
	{
		ApmLastValue value;

		value.attribute = apm_get_bytes(&r, APM_TEXT_MAX);
		value.time_us = apm_get_u64(&r);
		apm_get_raw(&r, value.rid.bytes, APM_UUID_LEN);
		value.value = apm_get_bytes(&r, APM_TEXT_MAX);
		if (!r.failed)
			append(out, &value);
	}
	if (!apm_reader_done(&r))
		apm_raise(APM_ERR_FORMAT, "open a patient's last values");
}

static void
encode(const ApmLastValues *values, ApmBuf *out)
{
	if (values->n > VALUES_MAX)
		apm_raise(APM_ERR_RANGE, "keep a patient's last values");
	apm_put_u8(out, VALUES_TAG);
	apm_put_u8(out, VALUES_VERSION);
	apm_put_u16(out, (uint16) values->n);
	for (int i = 0; i < values->n; i++)
	{
		const ApmLastValue *value = &values->v[i];

		apm_put_bytes(out, value->attribute.data, value->attribute.len);
		apm_put_u64(out, value->time_us);
		apm_put_raw(out, value->rid.bytes, APM_UUID_LEN);
		apm_put_bytes(out, value->value.data, value->value.len);
	}
	apm_check(apm_buf_status(out), "keep a patient's last values");
}

static void
open_values(ApmSlice sealed, ApmLastValues *out)
{
	const ApmPatient *patient = out->patient;
	ApmBuf text = {.secret = true};

	if (sealed.len == 0) /* there were none yet */
		return;
	apm_check(apm_last_values_open(patient->key, &patient->key_id, apm_patient_apid(patient), sealed, &text),
			  "open a patient's last values");
	decode(APM_SLICE(text.data, text.len), out);
	apm_buf_reset(&text);
}

void
apm_last_values_begin(ApmSlice apid)
{
	static ApmStatement put = {
		"INSERT INTO apm.last_value (apid, sealed) VALUES ($1, '')", 1, {TEXTOID}, NULL};
	Datum args[] = {apm_text_datum(apid)};

	apm_run_whole(&put, args, 1);
}

/*
 * In REPEATABLE READ a patient who was registered after the snapshot has no row that could be locked; nor has one who
 * was forgotten since he was found.
 */
static void
row_missing(ApmSlice apid)
{
	apm_patient_refuse_forgotten(apid);
	if (IsolationUsesXactSnapshot())
		ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
						errmsg("the patient was registered by another transaction meanwhile"),
						errhint("Repeat the transaction.")));
	elog(ERROR, "a patient has no row for his last values");
}

/* Takes away what one record says. */
static void
drop_record(ApmLastValues *values, const ApmUuid *rid)
{
	for (int i = values->n - 1; i >= 0; i--)
	{
		if (memcmp(&values->v[i].rid, rid, sizeof(*rid)) == 0)
			apm_last_value_remove(values, values->v[i].attribute);
	}
}

/*
 * Takes away what records say that the contract refused since: nobody reads them, and nobody could amend them, so
 * nothing is to be measured by them either.
 */
static void
drop_refused(ApmLastValues *all, int n)
{
	static ApmStatement find = {
		"SELECT s.rid FROM ONLY apm.submission AS s JOIN ONLY apm.final_transaction AS t ON t.tid = s.tid"
		" WHERE s.rid = ANY ($1) AND t.rule <> 0",
		1,
		{UUIDARRAYOID},
		NULL,
	};
	ApmUuid *rids;
	ApmUuid refused;
	Datum args[1];
	uint64 rows;
	int count = 0;

	for (int i = 0; i < n; i++)
		count += all[i].n;
	if (count == 0)
		return;
	rids = palloc(sizeof(ApmUuid) * count);
	count = 0;
	for (int i = 0; i < n; i++)
	{
		for (int v = 0; v < all[i].n; v++)
			rids[count++] = all[i].v[v].rid;
	}
	args[0] = apm_uuid_array(rids, count);
	rows = apm_run_latest(&find, args);
	for (uint64 row = 0; row < rows; row++)
	{
		apm_row_uuid(row, 1, &refused);
		for (int i = 0; i < n; i++)
			drop_record(&all[i], &refused);
	}
	SPI_freetuptable(SPI_tuptable);
	pfree(rids);
}

ApmLastValues *
apm_last_values_lock(const ApmPatient *const *patients, int n, bool wait)
{
	/* sorted first, and locked then */
	static ApmStatement lock = {
		"SELECT l.apid, l.sealed FROM ONLY apm.last_value AS l WHERE l.apid = ANY ($1) ORDER BY l.apid"
		" FOR UPDATE",
		1,
		{TEXTARRAYOID},
		NULL,
	};
	static ApmStatement try_lock = {
		"SELECT l.apid, l.sealed FROM ONLY apm.last_value AS l WHERE l.apid = ANY ($1) ORDER BY l.apid"
		" FOR UPDATE SKIP LOCKED",
		1,
		{TEXTARRAYOID},
		NULL,
	};
	ApmLastValues *all = palloc0(sizeof(ApmLastValues) * Max(n, 1));
	ApmSlice *apids = palloc(sizeof(ApmSlice) * Max(n, 1));
	Datum args[1];
	SPITupleTable *found;
	uint64 rows;
	uint64 row = 0;

	for (int i = 0; i < n; i++)
		apids[i] = apm_patient_apid(patients[i]);
	args[0] = apm_text_array(apids, n);
	rows = apm_run(wait ? &lock : &try_lock, args);
	found = SPI_tuptable;
	for (int i = 0; i < n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		all[i].patient = patients[i];
		all[i].locked = row < rows && apm_slices_equal(apm_row_text(row, 1), apids[i]);
		if (all[i].locked)
			open_values(apm_row_bytea(row++, 2), &all[i]);
		else if (wait)
			row_missing(apids[i]);
	}
	SPI_freetuptable(found);
	pfree(apids);
	drop_refused(all, n);
	return all;
}

void
apm_last_values_write(const ApmLastValues *all, int n)
{
	static ApmStatement write = {
		"UPDATE ONLY apm.last_value AS l SET sealed = u.sealed FROM unnest($1, $2) AS u (apid, sealed)"
		" WHERE l.apid = u.apid",
		2,
		{TEXTARRAYOID, BYTEAARRAYOID},
		NULL,
	};
	ApmSlice *apids = palloc(sizeof(ApmSlice) * Max(n, 1));
	ApmSlice *sealed = palloc(sizeof(ApmSlice) * Max(n, 1));
	int changed = 0;

	for (int i = 0; i < n; i++)
	{
		const ApmPatient *patient = all[i].patient;
		ApmBuf text = {.secret = true};
		ApmBuf envelope = {0};

		if (!all[i].changed)
			continue;
		encode(&all[i], &text);
		apids[changed] = apm_patient_apid(patient);
		apm_check(apm_last_values_seal(patient->key, &patient->key_id, apids[changed],
									   APM_SLICE(text.data, text.len), &envelope),
				  "seal a patient's last values");
		apm_buf_reset(&text);
		sealed[changed++] = APM_SLICE(envelope.data, envelope.len);
	}
	if (changed > 0)
	{
		Datum args[] = {apm_text_array(apids, changed), apm_bytea_array(sealed, changed)};

		apm_run_whole(&write, args, (uint64) changed);
	}
	pfree(apids);
	pfree(sealed);
}
