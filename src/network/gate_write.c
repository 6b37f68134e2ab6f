/*
 * gate_write.c
 *	  The trace of a reading: the questions of the query gate's letters, written before anybody is answered.
 *
 * All questions of a letter go into the pool in one transaction, with who is behind the
 * staff pseudonym and the notes that the questions have the digests of.  From then on the trace is
 * there, whatever the reader does.  It is not waited for until it is on disk: the miner flushes it with the
 * candidate of its block, and once more with the block, before anybody is answered.  A crash before that takes
 * back a question to which there was no answer.
 *
 * Nothing that is written here can be locked by a client, or a reader's own transaction could make the
 * worker wait for the reader who waits for it: apm.staff has no unique key for that reason, and apm.note is
 * written here only.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "apm_errors.h"
#include "apm_sql.h"
#include "network/gatekeeper.h"
#include "network/network_server.h"

static const char *const not_understood = "the network server does not understand the query";

void
apm_gate_free(ApmGateLetter *letter)
{
	MemoryContextDelete(letter->memory);
}

/* Has the query the digest of this note, and none without one? */
static bool
note_fits(const ApmQueryFields *query, ApmSlice note)
{
	static const ApmDigest none = {{0}};
	ApmDigest digest = none;

	if (note.len > 0)
		apm_check(apm_note_digest(note, &digest), "check a note");
	return memcmp(&digest, &query->note, sizeof(digest)) == 0;
}

/* Takes a question; false if it is none. */
static bool
open_question(const ApmGateQuestion *question, ApmAsked *out)
{
	ApmOpened opened;
	const ApmQueryFields *query = &opened.tx.u.query;

	if (apm_open_signed(question->query, &opened) != APM_OK || !opened.wellformed)
		return false;
	out->tid = opened.tid;
	out->list = question->list;
	if (opened.tx.kind == APM_KIND_EXPORT)
		return question->note.len == 0;
	if (opened.tx.kind != APM_KIND_QUERY || !note_fits(query, question->note))
		return false;

	out->search = query->scope == APM_SCOPE_SEARCH;
	out->apid = apm_slice_copy(CurrentMemoryContext, query->apid);
	out->tokens.count = query->tokens.count;
	out->tokens.bytes =
		apm_slice_copy(CurrentMemoryContext,
					   APM_SLICE(query->tokens.bytes, (size_t) query->tokens.count * APM_TOKEN_LEN))
			.data;
	return true;
}

/* Takes the questions of a letter, whose memory is the current one. */
static bool
open_questions(ApmGateLetter *letter)
{
	ApmGateRequest reading = letter->request;

	letter->n = (int) reading.n;
	letter->asked = palloc0(sizeof(ApmAsked) * letter->n);
	for (int i = 0; i < letter->n; i++)
	{
		ApmGateQuestion question;

		letter->asked[i].letter = letter;
		if (!apm_gate_get_question(&reading, &question) || !open_question(&question, &letter->asked[i]))
			return false;
	}
	return apm_reader_done(&reading.questions);
}

ApmGateLetter *
apm_gate_open_letter(const ApmLetter *letter)
{
	MemoryContext memory =
		AllocSetContextCreate(TopMemoryContext, "apm letter of the query gate", ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(memory);
	ApmGateLetter *out = palloc0(sizeof(ApmGateLetter));
	bool good;

	out->memory = memory;
	out->letter = *letter;
	good = apm_gate_get_request(APM_SLICE(letter->request, letter->request_len), &out->request) &&
		   open_questions(out);
	MemoryContextSwitchTo(old);
	if (good)
		return out;
	apm_gate_free(out);
	apm_mailbox_fail(letter, ERRCODE_PROTOCOL_VIOLATION, not_understood, "");
	return NULL;
}

/* Who is behind the pseudonyms, for those not known yet. */
static void
write_staff(ApmGateLetter *const *letters, int n)
{
	static ApmStatement note = {
		"INSERT INTO apm.staff (pseudonym, acting, login)"
		" SELECT DISTINCT u.* FROM unnest($1, $2::pg_catalog.name[], $3::pg_catalog.name[])"
		" AS u (pseudonym, acting, login)"
		" WHERE NOT EXISTS (SELECT FROM ONLY apm.staff AS s"
		" WHERE s.pseudonym = u.pseudonym AND s.acting = u.acting AND s.login = u.login)",
		3,
		{BYTEAARRAYOID, TEXTARRAYOID, TEXTARRAYOID},
		NULL,
	};
	ApmSlice *pseudonyms = palloc(sizeof(ApmSlice) * n);
	ApmSlice *acting = palloc(sizeof(ApmSlice) * n);
	ApmSlice *login = palloc(sizeof(ApmSlice) * n);
	Datum args[3];

	for (int i = 0; i < n; i++)
	{
		pseudonyms[i] = APM_SLICE(letters[i]->request.staff, APM_STAFF_LEN);
		acting[i] = letters[i]->request.acting;
		login[i] = letters[i]->request.login;
	}
	args[0] = apm_bytea_array(pseudonyms, n);
	args[1] = apm_text_array(acting, n);
	args[2] = apm_text_array(login, n);
	apm_run(&note, args);
}

/* A question's note, if it has one. */
static void
write_note(const ApmAsked *asked, ApmSlice sealed)
{
	static ApmStatement keep = {
		"INSERT INTO apm.note (tid, apid, sealed) VALUES ($1, $2, $3)",
		3,
		{UUIDOID, TEXTOID, BYTEAOID},
		NULL,
	};
	Datum args[] = {apm_uuid_datum(&asked->tid), apm_text_datum(asked->apid), apm_bytea_datum(sealed)};

	if (sealed.len > 0)
		apm_run_whole(&keep, args, 1);
}

/* The Tids and QTs of a letter's questions; writes its notes. */
static void
seal_questions(const ApmGateLetter *letter, ApmUuid *tids, ApmSlice *qts)
{
	ApmGateRequest reading = letter->request;

	for (int i = 0; i < letter->n; i++)
	{
		ApmGateQuestion question;

		(void) apm_gate_get_question(&reading, &question);
		tids[i] = letter->asked[i].tid;
		qts[i] = apm_template_seal(question.query);
		write_note(&letter->asked[i], question.note);
	}
}

/* All of them in one transaction, their QTs in one statement; raises. */
static void
write_letters(ApmGateLetter *const *letters, int n)
{
	ApmUuid *tids;
	ApmSlice *qts;
	int questions = 0;

	apm_turn_begin("writing queries");
	for (int i = 0; i < n; i++)
		questions += letters[i]->n;
	tids = palloc(sizeof(ApmUuid) * questions);
	qts = palloc(sizeof(ApmSlice) * questions);
	questions = 0;
	write_staff(letters, n);
	for (int i = 0; i < n; i++)
	{
		seal_questions(letters[i], tids + questions, qts + questions);
		questions += letters[i]->n;
	}
	apm_pool_put(tids, qts, questions);
	apm_hurry_at_commit(APM_WORKER_MINER);
	apm_turn_commit_async();
}

void
apm_gate_write(ApmGateLetter **letters, int n)
{
	MemoryContext turn = CurrentMemoryContext;
	volatile int sqlstate = 0;

	PG_TRY();
	{
		write_letters(letters, n);
	}
	PG_CATCH();
	{
		sqlstate = apm_turn_blame(turn, apm_blames_row);
	}
	PG_END_TRY();

	if (sqlstate == 0)
		return;
	if (n == 1)
	{
		apm_mailbox_fail(&letters[0]->letter, sqlstate, "the network server cannot write the query",
						 "Nothing was read. The server's log has the reason.");
		apm_gate_free(letters[0]);
		letters[0] = NULL;
		return;
	}
	for (int i = 0; i < n; i++)
		apm_gate_write(&letters[i], 1);
}
