/*
 * rotation.c
 *	  apm_rotate_key(): a key gets a successor.
 *
 * The new key is a file first, durably, and then a row of apm.key_rotation.  Whatever ends a call between the two
 * leaves a generation that is there and that no row names; the next call takes it.  From then on it depends on what
 * the key is for:
 *
 * - What seals is used at once, by every process when it reads its keys anew, for which the server is told to
 *   reload.  Older generations go on opening what they sealed.
 * - The wrapping key is used at once, too, and reception moves what older generations wrap to it (rewrap.c).
 * - What signs is used when the chain says so.  The key in force endorses its successor in a membership transaction,
 *   which is judged and mined like any other; the block after the one that has it is the new key's.  A call
 *   that is repeated before that sends another such transaction.  If the first one was lost on its way that helps, and
 *   else the contract refuses the second.
 *
 * Nothing that is stored as a record is touched.
 */
#include "postgres.h"

#include <signal.h>

#include "fmgr.h"
#include "miscadmin.h"
#include "postmaster/interrupt.h"
#include "storage/latch.h"
#include "storage/lock.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/wait_event.h"

#include "anonymize/outgoing.h"
#include "anonymize/rotation.h"
#include "apm_errors.h"
#include "chain/chain.h"
#include "worker/worker.h"

/* tells our lock from those of waiting.c and of pg_advisory_lock() */
#define LOCK_ROTATION 0xA903
/* Processes are told by the postmaster; retirement.c asks once more whether they were. */
#define TELL_MS 5000

PG_FUNCTION_INFO_V1(apm_rotate_key);

const ApmSigningKind *
apm_rotation_signing(const char *kind)
{
	static const ApmSigningKind kinds[] = {
		{"apm-signing", APM_MEMBER_ORIGIN, APM_SIGN_ORIGIN},
		{"node-signing", APM_MEMBER_NODE, APM_SIGN_NODE},
	};

	for (size_t i = 0; i < lengthof(kinds); i++)
	{
		if (strcmp(kinds[i].kind, kind) == 0)
			return &kinds[i];
	}
	return NULL;
}

char *
apm_rotation_kind(Datum kind, const char *doing)
{
	apm_require_admin(doing);
	PreventCommandIfReadOnly("a change of keys");
	return TextDatumGetCString(kind);
}

void
apm_rotation_lock(void)
{
	ApmDigest chain;
	ApmDigest origin;
	LOCKTAG tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, 0, 0, LOCK_ROTATION);
	(void) LockAcquire(&tag, ExclusiveLock, false, false);
	if (!apm_chain_identity(&chain, &origin))
		ereport(ERROR, (errcode(ERRCODE_APM_NOT_SET_UP), errmsg("apm is not set up in this database"),
						errhint("A superuser calls apm_setup() once.")));
	if (apm_chain_loaded())
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("no key changes in a database that was loaded, or is being loaded"),
						errhint("Call apm_accept_rollback() first; apm.status says why.")));
}

void
apm_rotation_tell(void)
{
	if (kill(PostmasterPid, SIGHUP) != 0)
		ereport(ERROR, (errcode(ERRCODE_SYSTEM_ERROR), errmsg("could not tell the server to reload: %m")));
	for (int waited = 0; !ConfigReloadPending && waited < TELL_MS; waited += 10)
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 10, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

/* The id of the key in force of this node, or of this APM. */
static void
key_in_force(ApmMember member, ApmDigest *out)
{
	static ApmStatement find = {
		"SELECT m.id FROM ONLY apm.member AS m CROSS JOIN ONLY apm.chain AS c WHERE m.member = $1"
		" AND m.home = CASE m.member WHEN 1 THEN c.node ELSE c.origin END AND m.ended_height IS NULL",
		1,
		{INT2OID},
		NULL,
	};
	Datum args[] = {Int16GetDatum((int16) member)};

	if (apm_run_latest(&find, args) != 1)
		ereport(ERROR, (errcode(ERRCODE_APM_TAMPERED),
						errmsg("the chain names no key of this server as the one in force"),
						errhint("apm_verify() tells what is wrong.")));
	apm_row_digest(0, 1, out);
}

/* The highest generation that was begun to be used here; the lowest that there is, if none ever was rotated. */
static uint32
generation_in_use(const char *kind)
{
	static ApmStatement last = {
		"SELECT max(r.generation) FROM ONLY apm.key_rotation AS r WHERE r.kind = $1", 1, {TEXTOID}, NULL};
	Datum args[] = {apm_text_datum(APM_SLICE(kind, strlen(kind)))};
	ApmKeyInfo *keys;
	int n;

	(void) apm_run_latest(&last, args);
	if (!apm_row_null(0, 1))
		return (uint32) apm_row_int4(0, 1);
	n = apm_key_list(&keys);
	for (int i = 0; i < n; i++)
	{
		if (strcmp(keys[i].kind, kind) == 0)
			return keys[i].generation;
	}
	return 0; /* there is none: making the next one says so */
}

/* The generation to be used from now on: one that is here and is not in use yet, or a new one. */
static uint32
next_generation(const char *kind)
{
	uint32 newest = apm_key_newest(kind);

	return newest > generation_in_use(kind) ? newest : apm_key_make_next(kind);
}

/* The same of a key that signs: here the chain knows which is in use. */
static uint32
next_signing_generation(const ApmSigningKind *signing, const ApmDigest *in_force)
{
	ApmDigest newest;

	apm_ec_id(apm_key_signer(signing->key), &newest);
	if (memcmp(&newest, in_force, sizeof(newest)) == 0)
		return apm_key_make_next(signing->kind);
	return apm_key_newest(signing->kind);
}

/* Writes the rotation down: items are wrapped by older generations, successor is the id of a key that signs. */
static void
put_rotation(const char *kind, uint32 generation, int64 items, const ApmDigest *successor, bool finished)
{
	static ApmStatement put = {
		"INSERT INTO apm.key_rotation AS r (kind, generation, started_at, items_total, key, finished_at)"
		" SELECT $1, $2, n.now, $3, $4, CASE WHEN $5 THEN n.now END FROM pg_catalog.clock_timestamp() AS n (now)"
		" ON CONFLICT (kind, generation) DO UPDATE SET (started_at, items_total, items_done, key, finished_at) ="
		" (EXCLUDED.started_at, EXCLUDED.items_total, 0, EXCLUDED.key, EXCLUDED.finished_at)",
		5,
		{TEXTOID, INT4OID, INT8OID, BYTEAOID, BOOLOID},
		NULL,
	};
	Datum args[] = {
		apm_text_datum(APM_SLICE(kind, strlen(kind))),
		Int32GetDatum((int32) generation),
		Int64GetDatum(items),
		successor != NULL ? apm_digest_datum(successor) : (Datum) 0,
		BoolGetDatum(finished),
	};

	(void) apm_run_nulls(&put, args, successor != NULL ? NULL : "   n ", 0);
}

/* Sends the membership transaction in which the key in force endorses the newest one. */
static void
send_successor(const ApmSigningKind *signing, const ApmDigest *in_force, const ApmEcKey *successor)
{
	ApmTransaction tx = {.kind = APM_KIND_MEMBERSHIP};
	ApmMembershipFields *fields = &tx.u.membership;
	ApmOutgoing out;
	ApmActing who;

	apm_acting(&who);
	/* a superuser sets members up as he did in the genesis block */
	who.actor.roles |= APM_ROLE_ADMIN;
	apm_outgoing_start(&out, &who);
	fields->member = (uint8) signing->member;
	fields->replaces = *in_force;
	apm_ec_spki(successor, fields->spki);
	apm_check(apm_member_endorse(apm_key_signer_of(signing->key, in_force), &out.chain, fields->member,
								 fields->spki, &fields->endorsement),
			  "endorse a key");
	apm_staff_note(&who);
	(void) apm_outgoing_add(&out, &tx);
	apm_outgoing_send(&out);
}

static uint32
rotate_signing(const ApmSigningKind *signing)
{
	ApmEcKey *successor;
	ApmDigest in_force;
	ApmDigest id;
	uint8 spki[APM_SPKI_LEN];
	uint32 generation;

	key_in_force(signing->member, &in_force);
	/* it must be here to endorse another */
	(void) apm_key_signer_of(signing->key, &in_force);
	generation = next_signing_generation(signing, &in_force);

	apm_ec_spki(apm_key_signer(signing->key), spki);
	apm_check(apm_ec_from_spki(APM_SLICE(spki, APM_SPKI_LEN), &successor), "read a key");
	apm_ec_id(successor, &id);
	send_successor(signing, &in_force, successor);
	apm_ec_free(successor);
	put_rotation(signing->kind, generation, 1, &id, false);
	return generation;
}

static uint32
rotate_wrapping(const char *kind)
{
	static ApmStatement count = {
		"SELECT (SELECT count(*) FROM ONLY apm.patient AS p WHERE p.generation < $1)"
		" + (SELECT count(*) FROM ONLY apm.waiting AS w WHERE w.generation < $1)",
		1,
		{INT4OID},
		NULL,
	};
	uint32 generation = next_generation(kind);
	Datum args[] = {Int32GetDatum((int32) generation)};

	(void) apm_run_latest(&count, args);
	put_rotation(kind, generation, apm_row_int8(0, 1), NULL, false);
	apm_wake_at_commit(APM_WORKER_RECEPTION);
	return generation;
}

static uint32
rotate_pair(const char *kind)
{
	uint32 generation = next_generation(kind);

	put_rotation(kind, generation, 0, NULL, true);
	return generation;
}

/* apm_rotate_key(kind text) returns integer */
Datum
apm_rotate_key(PG_FUNCTION_ARGS)
{
	char *kind = apm_rotation_kind(PG_GETARG_DATUM(0), "rotate keys");
	const ApmSigningKind *signing = apm_rotation_signing(kind);
	ApmSection section;
	uint32 generation;

	apm_key_forget();
	(void) apm_key_newest(kind); /* is there such a kind? */
	apm_section_begin(&section);
	apm_rotation_lock();
	if (signing != NULL)
		generation = rotate_signing(signing);
	else if (strcmp(kind, "apm-wrapping") == 0)
		generation = rotate_wrapping(kind);
	else
		generation = rotate_pair(kind);
	apm_section_end(&section);
	apm_rotation_tell();
	ereport(LOG, (errmsg("generation %u of key \"%s\" was given out for use", generation, kind)));
	PG_RETURN_INT32((int32) generation);
}
