/*
 * keygen.c
 *	  apm_keygen() and apm_keys(): the keyring as a DBA sees it.
 *
 * Making keys must be safe to repeat and to interrupt: a key that is there is never
 * replaced, because what was sealed for it would be lost, and a file appears under its
 * name only whole.  A kind of which any generation is here is left alone, also where
 * only its public half is: such a server is meant not to open what it seals.
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/tuplestore.h"

#include "apm_compat.h"
#include "apm_errors.h"
#include "apm_user.h"
#include "keys/keycommand.h"
#include "keys/keyfile.h"
#include "keys/keykind.h"
#include "keys/keymake.h"
#include "keys/keyring.h"

static bool
kind_is_here(const ApmKeyKind *kind, List *names)
{
	ListCell *cell;

	foreach(cell, names)
	{
		if (apm_key_generation_of(kind, lfirst(cell)) != 0)
			return true;
	}
	return false;
}

PG_FUNCTION_INFO_V1(apm_keygen);

/* apm_keygen() returns setof (kind text, key_id text, created boolean) */
Datum
apm_keygen(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	bool created[APM_KEY_KINDS] = {false};
	ApmKeyInfo *keys;
	List *names;
	int n;

	apm_require_admin("make keys");
	if (apm_keycommand_is_set())
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("keys come from apm.secret_command and are not made here")));
	InitMaterializedSRF(fcinfo, 0);

	apm_keyfile_make_directory();
	names = apm_keyfile_names();
	for (int kind = 0; kind < APM_KEY_KINDS; kind++)
	{
		CHECK_FOR_INTERRUPTS();
		if (!kind_is_here(&apm_key_kinds[kind], names))
			created[kind] = apm_key_make(&apm_key_kinds[kind], 1);
	}
	apm_key_forget();

	n = apm_key_list(&keys);
	for (int i = 0; i < n; i++)
	{
		Datum values[3];
		bool nulls[3] = {false};
		int kind = 0;

		if (!keys[i].active)
			continue;
		while (strcmp(apm_key_kinds[kind].name, keys[i].kind) != 0)
			kind++;
		values[0] = CStringGetTextDatum(keys[i].kind);
		values[1] = CStringGetTextDatum(keys[i].id);
		values[2] = BoolGetDatum(created[kind]);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}

PG_FUNCTION_INFO_V1(apm_keys);

/* apm_keys() returns setof (kind text, key_id text, generation integer, active boolean, has_private boolean) */
Datum
apm_keys(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	ApmKeyInfo *keys;
	int n;

	InitMaterializedSRF(fcinfo, 0);
	n = apm_key_list(&keys);
	for (int i = 0; i < n; i++)
	{
		Datum values[5];
		bool nulls[5] = {false};

		values[0] = CStringGetTextDatum(keys[i].kind);
		values[1] = CStringGetTextDatum(keys[i].id);
		values[2] = Int32GetDatum((int32) keys[i].generation);
		values[3] = BoolGetDatum(keys[i].active);
		values[4] = BoolGetDatum(keys[i].has_private);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}
