/*
 * test_keys.c
 *	  The sign-state, the journal of erasures, sealing and wiping, as SQL functions for the tests of src/keys and
 *	  of the core's memory.
 */
#include "postgres.h"

#include "fmgr.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "apm_errors.h"
#include "apm_memory.h"
#include "keys/journal.h"
#include "keys/keyring.h"
#include "keys/signstate.h"

PG_MODULE_MAGIC;

/* The chain that the tests sign for. */
static ApmDigest
test_chain(void)
{
	ApmDigest chain;

	memset(chain.bytes, 0xab, sizeof(chain.bytes));
	return chain;
}

PG_FUNCTION_INFO_V1(test_signstate_write);

/* test_signstate_write(height bigint) returns void */
Datum
test_signstate_write(PG_FUNCTION_ARGS)
{
	ApmSignState state;

	apm_signstate_here(&state);
	state.chain = test_chain();
	state.height = PG_GETARG_INT64(0);
	state.vote_target = state.height;
	apm_signstate_write(&state);
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(test_signstate_read);

/* test_signstate_read() returns text: height, target, system id, timeline, database; null if there is none */
Datum
test_signstate_read(PG_FUNCTION_ARGS)
{
	ApmDigest chain = test_chain();
	ApmSignState state;

	if (!apm_signstate_read(&chain, &state))
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(
		cstring_to_text(psprintf(UINT64_FORMAT " " UINT64_FORMAT " " UINT64_FORMAT " %u %u", state.height,
								 state.vote_target, state.system_id, state.timeline, state.database)));
}

PG_FUNCTION_INFO_V1(test_signstate_lock);

/* test_signstate_lock() returns boolean */
Datum
test_signstate_lock(PG_FUNCTION_ARGS)
{
	ApmDigest chain = test_chain();

	PG_RETURN_BOOL(apm_signstate_lock(&chain));
}

PG_FUNCTION_INFO_V1(test_seal_and_open);

/*
 * test_seal_and_open(text, pair integer) returns text: sealed for the APM and the
 * chain with the process's sealer, opened with that pair.
 */
Datum
test_seal_and_open(PG_FUNCTION_ARGS)
{
	text *plain = PG_GETARG_TEXT_PP(0);
	ApmBuf sealed = {0};
	ApmBuf opened = {.secret = true};

	apm_check(apm_sealer_seal(apm_key_sealer(true, false, true),
							  APM_SLICE(VARDATA_ANY(plain), VARSIZE_ANY_EXHDR(plain)), 1, &sealed),
			  "seal a text");
	apm_check(apm_key_open(PG_GETARG_INT32(1), APM_SLICE(sealed.data, sealed.len), &opened), "open a text");
	PG_RETURN_TEXT_P(cstring_to_text_with_len((char *) opened.data, opened.len));
}

PG_FUNCTION_INFO_V1(test_secret_left);

/*
 * test_secret_left(secret boolean) returns integer: how many of 64 bytes still stand in
 * memory after the memory context of their block was reset.  The context keeps its
 * first chunk of memory over a reset, so that one may look.
 */
Datum
test_secret_left(PG_FUNCTION_ARGS)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "test", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	uint8 *freed = apm_core_alloc(64, PG_GETARG_BOOL(0));
	uint8 *block = apm_core_alloc(64, PG_GETARG_BOOL(0));
	int left = 0;

	MemoryContextSwitchTo(old);
	apm_core_free(freed);
	memset(block, 0x5a, 64);
	MemoryContextReset(context);
	for (int i = 0; i < 64; i++)
		left += ((volatile uint8 *) block)[i] == 0x5a;
	MemoryContextDelete(context);
	PG_RETURN_INT32(left);
}

PG_FUNCTION_INFO_V1(test_journal_add);

/* test_journal_add(apid text) returns void */
Datum
test_journal_add(PG_FUNCTION_ARGS)
{
	ApmDigest chain = test_chain();
	ApmErased erased = {.time_us = 1, .reason = 2, .roles = 3};

	strlcpy(erased.apid, text_to_cstring(PG_GETARG_TEXT_PP(0)), sizeof(erased.apid));
	memset(erased.actor, 0xcd, sizeof(erased.actor));
	apm_journal_add(&chain, &erased);
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(test_journal_has);

/* test_journal_has(apid text) returns boolean */
Datum
test_journal_has(PG_FUNCTION_ARGS)
{
	ApmDigest chain = test_chain();
	text *apid = PG_GETARG_TEXT_PP(0);

	PG_RETURN_BOOL(apm_journal_has(&chain, APM_SLICE(VARDATA_ANY(apid), VARSIZE_ANY_EXHDR(apid))));
}

PG_FUNCTION_INFO_V1(test_journal_read);

/* test_journal_read() returns text: the entries, one a line */
Datum
test_journal_read(PG_FUNCTION_ARGS)
{
	ApmDigest chain = test_chain();
	StringInfoData all;
	ApmErased *erased;
	int n = apm_journal_read(&chain, &erased);

	initStringInfo(&all);
	for (int i = 0; i < n; i++)
		appendStringInfo(&all, "%s%s " UINT64_FORMAT " %u %x %u", i > 0 ? "\n" : "", erased[i].apid,
						 erased[i].time_us, erased[i].reason, erased[i].actor[APM_STAFF_LEN - 1],
						 erased[i].roles);
	PG_RETURN_TEXT_P(cstring_to_text_with_len(all.data, all.len));
}
