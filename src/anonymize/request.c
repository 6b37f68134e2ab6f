/*
 * request.c
 *	  Requests to forget a patient: rows of apm.erasure, from being asked to being done or refused.
 *
 * The registrar has the request's id on paper beside the pid.  So when the patient is gone, the request
 * must not lead to the pseudonym, under which the ledger remembers who read him: aPid, Tid and actor leave
 * it when it ends.  Of the times of one that is done only the days stay, since the ledger has the moment of the erasure.
 *
 * An erasure has to name just what the ledger has of the patient.  Records that were under way when he was
 * forgotten can come before it; then the contract refuses it, and it is built once more.  That ends,
 * because nobody submits records of a patient who is unknown.
 */
#include "postgres.h"

#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "anonymize/contractcache.h"
#include "anonymize/outgoing.h"
#include "anonymize/patient.h"
#include "anonymize/request.h"
#include "anonymize/waiting.h"
#include "apm_errors.h"
#include "chain/chain.h"

#define ASIDE_MIN_MS (10 * 1000)
#define ASIDE_MAX_MS (10 * 60 * 1000)

/* The one in hand. */
static ApmUuid current;

/* Those on which sending failed.  They are tried again, less and less often, so that they keep nobody else waiting. */
static struct
{
	ApmUuid *ids; /* NULL: there never was one */
	int n;
	int pause_ms; /* the last one; 0: none failed since all got through */
	TimestampTz until;
} aside;

ApmUuid
apm_request_ask(const ApmActing *who, ApmSlice apid, uint16 reason)
{
	static ApmStatement put = {
		"INSERT INTO apm.erasure (id, asked_at, reason, apid, actor, roles)"
		" VALUES (pg_catalog.gen_random_uuid(), pg_catalog.now(), $1, $2, $3, $4) RETURNING id",
		4,
		{INT2OID, TEXTOID, BYTEAOID, INT2OID},
		NULL,
	};
	Datum args[] = {Int16GetDatum((int16) reason), apm_text_datum(apid),
					apm_bytea_datum(APM_SLICE(who->staff, APM_STAFF_LEN)),
					Int16GetDatum((int16) who->actor.roles)};
	ApmUuid id;

	apm_run_whole(&put, args, 1);
	apm_row_uuid(0, 1, &id);
	return id;
}

int
apm_requests_ask_again(const ApmErased *entries, int n)
{
	static ApmStatement put = {
		"INSERT INTO apm.erasure (id, asked_at, reason, apid, actor, roles)"
		" SELECT pg_catalog.gen_random_uuid(), pg_catalog.now(), u.reason, u.apid, u.actor, u.roles"
		" FROM unnest($1, $2, $3, $4) AS u (apid, reason, actor, roles)"
		" JOIN ONLY apm.ledger_patient AS p ON p.apid = u.apid WHERE p.erased_height IS NULL"
		" ON CONFLICT (apid) WHERE apid IS NOT NULL DO NOTHING",
		4,
		{TEXTARRAYOID, INT2ARRAYOID, BYTEAARRAYOID, INT2ARRAYOID},
		NULL,
	};
	ApmSlice *apids = palloc_array(ApmSlice, Max(n, 1));
	ApmSlice *actors = palloc_array(ApmSlice, Max(n, 1));
	int16 *reasons = palloc_array(int16, Max(n, 1));
	int16 *roles = palloc_array(int16, Max(n, 1));
	Datum args[4];

	for (int i = 0; i < n; i++)
	{
		apids[i] = APM_SLICE(entries[i].apid, strlen(entries[i].apid));
		reasons[i] = (int16) entries[i].reason;
		actors[i] = APM_SLICE(entries[i].actor, APM_STAFF_LEN);
		roles[i] = (int16) entries[i].roles;
	}
	args[0] = apm_text_array(apids, n);
	args[1] = apm_int2_array(reasons, n);
	args[2] = apm_bytea_array(actors, n);
	args[3] = apm_int2_array(roles, n);
	return (int) apm_run(&put, args);
}

/* Columns from column on: aPid, reason, actor, roles. */
static void
read_entry(uint64 row, int column, ApmErased *out)
{
	ApmSlice apid = apm_row_text(row, column);
	ApmSlice actor = apm_row_bytea(row, column + 2);

	memset(out, 0, sizeof(*out));
	if (apid.len > APM_APID_MAX || actor.len != APM_STAFF_LEN)
		apm_raise(APM_ERR_FORMAT, "read a request to forget a patient");
	memcpy(out->apid, apid.data, apid.len);
	out->reason = (uint16) apm_row_int2(row, column + 1);
	memcpy(out->actor, actor.data, APM_STAFF_LEN);
	out->roles = (uint16) apm_row_int2(row, column + 3);
	out->time_us = apm_now_us();
}

/*
 * The reason that the erasure gives.  A chain that went back to an older state may not know the one that
 * the journal has; what was carried out has to be carried out again all the same.
 */
static uint16
reason_on_list(uint16 reason)
{
	uint64 serial;
	const ApmContractState *contract = apm_contract_now(&serial);

	if (apm_contract_reason_name(contract, reason) != NULL && apm_reason_fits(reason, true))
		return reason;
	return apm_contract_reason_code(contract, "legal-obligation");
}

/* Queues the erasure of all that the ledger has of a patient; answers its Tid. */
static ApmUuid
send_erasure(const ApmErased *asked)
{
	ApmTransaction tx = {.kind = APM_KIND_ERASURE, .time_us = asked->time_us, .roles = asked->roles};
	ApmErasureFields *erasure = &tx.u.erasure;
	ApmBuf encoded = {0};
	ApmOutgoing out;
	ApmVoid *voids;
	ApmUuid tid;
	int n;

	memcpy(tx.actor, asked->actor, APM_STAFF_LEN);
	erasure->apid = APM_SLICE(asked->apid, strlen(asked->apid));
	erasure->reason = reason_on_list(asked->reason);
	n = apm_ledger_voids(erasure->apid, &voids);
	for (int i = 0; i < n; i++)
		apm_void_put(&encoded, &voids[i]);
	apm_check(apm_buf_status(&encoded), "build an erasure");
	erasure->count = (uint32) n;
	erasure->voids = APM_SLICE(encoded.data, encoded.len);

	apm_outgoing_start(&out, NULL);
	tid = out.items[apm_outgoing_add(&out, &tx)].tid;
	apm_outgoing_send(&out);
	apm_buf_reset(&encoded);
	pfree(voids);
	return tid;
}

bool
apm_request_send(void)
{
	static ApmStatement next = {
		"SELECT e.id, e.apid, e.reason, e.actor, e.roles FROM ONLY apm.erasure AS e"
		" JOIN ONLY apm.ledger_patient AS p ON p.apid = e.apid"
		" WHERE e.apid IS NOT NULL AND e.state = 'asked' AND p.erased_height IS NULL AND e.id <> ALL ($1)"
		" ORDER BY e.asked_at, e.id LIMIT 1",
		1,
		{UUIDARRAYOID},
		NULL,
	};
	static ApmStatement sent = {
		"UPDATE ONLY apm.erasure SET state = 'sent', tid = $2 WHERE id = $1", 2, {UUIDOID, UUIDOID}, NULL};
	Datum args[2];
	ApmErased asked;
	ApmUuid tid;

	memset(&current, 0, sizeof(current));
	if (aside.n > 0 && GetCurrentTimestamp() >= aside.until)
		aside.n = 0;
	args[0] = apm_uuid_array(aside.ids, aside.n);
	if (apm_run(&next, args) == 0)
		return false;
	apm_row_uuid(0, 1, &current);
	read_entry(0, 2, &asked);
	tid = send_erasure(&asked);
	args[0] = apm_uuid_datum(&current);
	args[1] = apm_uuid_datum(&tid);
	apm_run_whole(&sent, args, 1);
	if (aside.n == 0)
		aside.pause_ms = 0;
	return true;
}

void
apm_request_leave_aside(void)
{
	static const ApmUuid none;
	MemoryContext old;

	if (memcmp(&current, &none, sizeof(none)) == 0)
		return;
	/* the first of those that fail together makes the pause longer */
	if (aside.n == 0)
		aside.pause_ms = Min(Max(2 * aside.pause_ms, ASIDE_MIN_MS), ASIDE_MAX_MS);
	aside.until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), aside.pause_ms);
	old = MemoryContextSwitchTo(TopMemoryContext);
	aside.ids =
		aside.ids == NULL ? palloc_array(ApmUuid, 1) : repalloc_array(aside.ids, ApmUuid, aside.n + 1);
	aside.ids[aside.n++] = current;
	memset(&current, 0, sizeof(current));
	MemoryContextSwitchTo(old);
}

/* Has it built once more. */
static void
ask_again(const ApmUuid *id)
{
	static ApmStatement ask = {
		"UPDATE ONLY apm.erasure SET state = 'asked', tid = NULL WHERE id = $1", 1, {UUIDOID}, NULL};
	Datum args[] = {apm_uuid_datum(id)};

	apm_run_whole(&ask, args, 1);
}

/* A request that the contract refused. */
typedef struct Refused
{
	ApmUuid id;
	ApmSlice apid;
	int16 rule;
} Refused;

/* Ends it, and the patient is known again; false if somebody has him under change. */
static bool
end(const Refused *refused)
{
	static ApmStatement find = {
		"SELECT p.index_key FROM ONLY apm.patient AS p WHERE p.apid = $1", 1, {TEXTOID}, NULL};
	static ApmStatement restore = {
		"UPDATE ONLY apm.patient SET erasing = false WHERE apid = $1 AND erasing", 1, {TEXTOID}, NULL};
	static ApmStatement refuse = {
		"UPDATE ONLY apm.erasure SET state = 'refused', rule = $2, finished_at = pg_catalog.clock_timestamp(),"
		" apid = NULL, tid = NULL, actor = NULL, roles = NULL WHERE id = $1",
		2,
		{UUIDOID, INT2OID},
		NULL,
	};
	Datum patient[] = {apm_text_datum(refused->apid)};
	Datum args[] = {apm_uuid_datum(&refused->id), Int16GetDatum(refused->rule)};
	ApmDigest index;

	if (apm_run(&find, patient) > 0)
	{
		apm_row_digest(0, 1, &index);
		if (!apm_patient_try_lock(&index, true))
			return false;
		if (apm_run(&restore, patient) > 0)
			apm_waiting_release(&index);
	}
	apm_run_whole(&refuse, args, 1);
	return true;
}

int
apm_requests_review(bool *erased)
{
	static ApmStatement get = {
		"SELECT e.id, e.apid, t.rule FROM ONLY apm.erasure AS e"
		" JOIN ONLY apm.final_transaction AS t ON t.tid = e.tid"
		" WHERE e.apid IS NOT NULL AND e.state = 'sent' AND t.rule <> 0",
		0,
		{0},
		NULL,
	};
	int rows = (int) apm_run(&get, NULL);
	Refused *refused = palloc_array(Refused, Max(rows, 1));
	int count = 0;

	for (int i = 0; i < rows; i++)
	{
		apm_row_uuid(i, 1, &refused[i].id);
		refused[i].apid = apm_row_text(i, 2);
		refused[i].rule = apm_row_int2(i, 3);
	}
	for (int i = 0; i < rows; i++)
	{
		if (refused[i].rule == APM_RULE_ERASED)
			*erased = true;
		else if (refused[i].rule == APM_RULE_ERASURE)
			ask_again(&refused[i].id);
		if (refused[i].rule == APM_RULE_ERASURE || (refused[i].rule != APM_RULE_ERASED && end(&refused[i])))
			count++;
	}
	return count;
}

int
apm_requests_unknown(ApmErased *out, int limit)
{
	static ApmStatement get = {
		"SELECT e.apid, e.reason, e.actor, e.roles FROM ONLY apm.erasure AS e"
		" WHERE e.apid IS NOT NULL AND e.state = 'asked'"
		" AND NOT EXISTS (SELECT FROM ONLY apm.ledger_patient AS p WHERE p.apid = e.apid)"
		" AND NOT EXISTS (SELECT FROM ONLY apm.profile AS f WHERE f.apid = e.apid"
		" AND NOT EXISTS (SELECT FROM ONLY apm.final_transaction AS t WHERE t.tid = f.tid AND t.rule <> 0))"
		" LIMIT $1",
		1,
		{INT4OID},
		NULL,
	};
	Datum args[] = {Int32GetDatum(limit)};
	uint64 rows = apm_run(&get, args);

	for (uint64 row = 0; row < rows; row++)
		read_entry(row, 1, &out[row]);
	return (int) rows;
}

void
apm_requests_finish(const ApmSlice *apids, const int64 *voided, int n)
{
	static ApmStatement finish = {
		"UPDATE ONLY apm.erasure AS e SET state = 'done', voided = u.voided,"
		" asked_at = pg_catalog.date_trunc('day', e.asked_at, 'UTC'),"
		" finished_at = pg_catalog.date_trunc('day', pg_catalog.clock_timestamp(), 'UTC'),"
		" apid = NULL, tid = NULL, actor = NULL, roles = NULL"
		" FROM unnest($1, $2) AS u (apid, voided) WHERE e.apid = u.apid",
		2,
		{TEXTARRAYOID, INT8ARRAYOID},
		NULL,
	};
	Datum args[] = {apm_text_array(apids, n), apm_int8_array(voided, n)};

	apm_run(&finish, args);
}
