/*
 * retirement.c
 *	  apm_retire_key(): an old generation of a key goes, when nothing needs it any more.
 *
 * What it opened cannot be opened again by anybody: that is the purpose, for it makes the copies in old backups worthless,
 * and it is why this is a step of its own, with checks.  What is wrapped or sealed under the generation, or names it as
 * a recipient, is counted; the key of a member must not be in force, nor good for what is still on its way.
 *
 * Rows can be counted when they are there, so the count is taken at a time when no more can come.  A process
 * uses keys as of its last reload, or of a later transaction (keyring.c), and the rotation has told all of
 * them to reload.  Whoever may still use the old generation is therefore in a transaction that runs now.  We
 * count, to refuse early, wait for the end of all of them, and count again.  That also covers a reader who has
 * seen an old row, and a letter under way, whose sender waits for the answer in his transaction.  Who does not want to
 * wait for long sets lock_timeout.
 *
 * A prepared transaction is not waited for.  It does nothing any more, it may stay for months, and nothing that is wrapped or
 * sealed can be in it (apm_prepare.c).
 *
 * Other databases of the server, and other servers with copies of the key directory, cannot be asked from here.
 */
#include "postgres.h"

#include "access/twophase.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "postmaster/interrupt.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "utils/timestamp.h"

#include "anonymize/acting.h"
#include "anonymize/rotation.h"
#include "apm_errors.h"
#include "cloud/cloud.h"
#include "core/contract.h"

PG_FUNCTION_INFO_V1(apm_retire_key);

/* The generation in question. */
typedef struct Retired
{
	const char *kind;
	uint32 generation;
	ApmKeyInfo key;
} Retired;

static void
refuse(const Retired *retired, const char *why, const char *hint)
{
	ereport(ERROR, (errcode(ERRCODE_OBJECT_IN_USE),
					errmsg("generation %u of key \"%s\" cannot be retired: %s", retired->generation,
						   retired->kind, why),
					hint != NULL ? errhint("%s", hint) : 0));
}

/* Adds a number of rows that need the key to the list of those that do. */
static void
add_need(StringInfo needs, ApmSlice relation, int64 rows)
{
	if (rows > 0)
		appendStringInfo(needs, "%s" INT64_FORMAT " of %.*s", needs->len > 0 ? ", " : "", rows,
						 (int) relation.len, (const char *) relation.data);
}

/* Adds what a statement that answers (relation, rows) says. */
static void
add_needs(StringInfo needs, ApmStatement *statement, const Datum *args)
{
	uint64 n = apm_run_latest(statement, args);

	for (uint64 i = 0; i < n; i++)
		add_need(needs, apm_row_text(i, 1), apm_row_int8(i, 2));
}

static void
count_wrapped(const Retired *retired, StringInfo needs)
{
	static ApmStatement count = {
		"SELECT 'apm.patient', count(*) FROM ONLY apm.patient AS p WHERE p.generation = $1"
		" UNION ALL SELECT 'apm.waiting', count(*) FROM ONLY apm.waiting AS w WHERE w.generation = $1",
		1,
		{INT4OID},
		NULL,
	};
	Datum args[] = {Int32GetDatum((int32) retired->generation)};

	add_needs(needs, &count, args);
}

/* Envelopes have the ids of their recipients' keys in their heads. */
static void
count_sealed(const Retired *retired, StringInfo needs)
{
	static ApmStatement count = {
		"SELECT t.relation, count(*) FROM ("
		"SELECT 'apm.queue', substring(q.sealed FROM 1 FOR $2) FROM ONLY apm.queue AS q"
		" UNION ALL SELECT 'apm.pool', substring(p.pt FROM 1 FOR $2) FROM ONLY apm.pool AS p"
		" UNION ALL SELECT 'apm.final_queue', substring(f.sealed FROM 1 FOR $2) FROM ONLY apm.final_queue AS f"
		" UNION ALL SELECT 'apm.outbox', substring(o.apr FROM 1 FOR $2) FROM ONLY apm.outbox AS o"
		" UNION ALL SELECT 'apm.quarantine', substring(u.content FROM 1 FOR $2) FROM ONLY apm.quarantine AS u"
		" UNION ALL SELECT 'apm.attached_table', substring(a.position FROM 1 FOR $2)"
		" FROM ONLY apm.attached_table AS a WHERE a.finished_at IS NULL"
		") AS t (relation, head) WHERE position($1 IN t.head) > 0 GROUP BY t.relation ORDER BY t.relation",
		2,
		{BYTEAOID, INT4OID},
		NULL,
	};
	ApmKeyId id;
	Datum args[2];

	apm_check(apm_hex_decode(retired->key.id, 2 * APM_KEY_ID_LEN, id.bytes), "read the id of a key");
	args[0] = apm_bytea_datum(APM_SLICE(id.bytes, APM_KEY_ID_LEN));
	args[1] = Int32GetDatum(APM_ENVELOPE_HEAD_MAX);
	add_needs(needs, &count, args);
	add_need(needs, APM_SLICE("the cloud", 9), apm_cloud_sealed_for(&id));
}

/* A key that the chain knows must have been replaced, and an origin's long enough ago. */
static void
check_member(const Retired *retired, const ApmSigningKind *signing)
{
	static ApmStatement find = {
		"SELECT m.ended_height IS NULL, coalesce(m.ended_time, 0) FROM ONLY apm.member AS m"
		" WHERE m.member = $1 AND pg_catalog.left(pg_catalog.encode(m.id, 'hex'), 16) = $2",
		2,
		{INT2OID, TEXTOID},
		NULL,
	};
	Datum args[] = {Int16GetDatum((int16) signing->member),
					apm_text_datum(APM_SLICE(retired->key.id, strlen(retired->key.id)))};
	uint64 good_until;

	if (apm_run_latest(&find, args) == 0)
		return; /* it never came into force */
	if (apm_row_bool(0, 1))
		refuse(retired, "it is in force on the chain",
			   "Its successor is when its block is there; see apm.rotation.");
	good_until = (uint64) apm_row_int8(0, 2) + APM_QUEUED_GRACE_US;
	if (signing->member == APM_MEMBER_ORIGIN && apm_now_us() <= good_until)
		refuse(retired, "what it signed may still be on its way to the chain",
			   psprintf("That is so until %s.", timestamptz_to_str(apm_time_of(good_until))));
}

/* Refuses while something needs the generation. */
static void
check_needs(const Retired *retired)
{
	const ApmSigningKind *signing = apm_rotation_signing(retired->kind);
	StringInfoData needs;

	if (signing != NULL)
	{
		check_member(retired, signing);
		return;
	}
	initStringInfo(&needs);
	if (strcmp(retired->kind, "apm-wrapping") == 0)
		count_wrapped(retired, &needs);
	else
		count_sealed(retired, &needs);
	if (needs.len > 0)
		ereport(
			ERROR,
			(errcode(ERRCODE_OBJECT_IN_USE),
			 errmsg("generation %u of key \"%s\" is still needed", retired->generation, retired->kind),
			 errdetail("By rows: %s.", needs.data),
			 errhint("Reception moves patients and what waits, see apm.rotation; queues drain by themselves; "
					 "the cloud's rows are sealed anew by apm_rebuild_cloud().")));
}

/* When the successor was given out; refuses if none was, or if processes may not have been told of it. */
static void
check_successor(const Retired *retired)
{
	static ApmStatement find = {
		"SELECT max(r.started_at) FROM ONLY apm.key_rotation AS r WHERE r.kind = $1 AND r.generation > $2",
		2,
		{TEXTOID, INT4OID},
		NULL,
	};
	Datum args[] = {apm_text_datum(APM_SLICE(retired->kind, strlen(retired->kind))),
					Int32GetDatum((int32) retired->generation)};

	(void) apm_run_latest(&find, args);
	if (apm_row_null(0, 1))
		refuse(retired, "it was not replaced here", "Call apm_rotate_key() first.");
	if (!ConfigReloadPending && PgReloadTime <= apm_row_time(0, 1))
		refuse(retired, "the server has not been told of its successor",
			   "SELECT pg_reload_conf() tells it; then try again.");
}

static bool
is_prepared(VirtualTransactionId transaction)
{
	bool more;

	return TransactionIdIsValid(TwoPhaseGetXidByVirtualXID(transaction, &more));
}

/* Waits until the transactions that run in this database now have ended. */
static void
wait_for_others(void)
{
	int n;
	VirtualTransactionId *running =
		GetCurrentVirtualXIDs(InvalidTransactionId, false, false, PROC_IS_AUTOVACUUM | PROC_IN_VACUUM, &n);

	for (int i = 0; i < n; i++)
	{
		if (!is_prepared(running[i]))
			(void) VirtualXactLock(running[i], true);
	}
}

/* Finds the generation among the keys that are here; false if its private half is not. */
static bool
find_key(Retired *retired)
{
	uint32 newest = apm_key_newest(retired->kind);
	ApmKeyInfo *keys;
	int n;

	if (retired->generation < 1 || retired->generation > newest)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("there never was a generation %u of key \"%s\"", retired->generation,
							   retired->kind)));
	if (retired->generation == newest)
		refuse(retired, "it is the newest", "Call apm_rotate_key() first.");
	n = apm_key_list(&keys);
	for (int i = 0; i < n; i++)
	{
		if (strcmp(keys[i].kind, retired->kind) != 0 || keys[i].generation != retired->generation)
			continue;
		retired->key = keys[i];
		return keys[i].has_private;
	}
	return false;
}

/* apm_retire_key(kind text, generation integer) returns void */
Datum
apm_retire_key(PG_FUNCTION_ARGS)
{
	Retired retired = {
		.kind = apm_rotation_kind(PG_GETARG_DATUM(0), "retire keys"),
		.generation = (uint32) PG_GETARG_INT32(1),
	};
	ApmSection section;

	apm_key_forget();
	if (!find_key(&retired))
	{
		ereport(NOTICE,
				(errmsg("generation %u of key \"%s\" is gone already", retired.generation, retired.kind)));
		PG_RETURN_VOID();
	}
	apm_section_begin(&section);
	apm_rotation_lock();
	check_successor(&retired);
	check_needs(&retired);
	wait_for_others();
	check_needs(&retired);
	apm_section_end(&section);

	apm_key_remove(retired.kind, retired.generation);
	apm_rotation_tell();
	ereport(LOG, (errmsg("generation %u of key \"%s\" was retired", retired.generation, retired.kind)));
	PG_RETURN_VOID();
}
