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
#include "core/cipher.h"
#include "keys/keycommand.h"
#include "keys/keyfile.h"
#include "keys/keykind.h"
#include "keys/keyring.h"

#define RSA_BITS 3072

/* A new key's two halves as their files hold them, and its id. */
typedef struct ApmNewKey
{
	ApmBuf private_half;
	ApmBuf public_half; /* nothing for a secret */
	ApmKeyId id;
} ApmNewKey;

static ApmStatus
new_secret(ApmNewKey *out)
{
	uint8_t secret[APM_SECRET_LEN];
	ApmStatus status = apm_random(secret, sizeof(secret));

	if (status == APM_OK)
		status = apm_secret_key_id(secret, &out->id);
	if (status == APM_OK)
		apm_put_raw(&out->private_half, secret, sizeof(secret));
	apm_wipe(secret, sizeof(secret));
	return status != APM_OK ? status : apm_buf_status(&out->private_half);
}

static ApmStatus
new_rsa(ApmNewKey *out)
{
	ApmRsa *key;
	ApmStatus status = apm_rsa_generate(RSA_BITS, &key);

	if (status != APM_OK)
		return status;
	apm_rsa_key_id(key, &out->id);
	status = apm_rsa_private_pem(key, &out->private_half);
	if (status == APM_OK)
		status = apm_rsa_public_pem(key, &out->public_half);
	apm_rsa_free(key);
	return status;
}

static ApmStatus
new_ec(ApmNewKey *out)
{
	ApmEcKey *key;
	ApmDigest id;
	ApmStatus status = apm_ec_generate(&key);

	if (status != APM_OK)
		return status;
	apm_ec_id(key, &id);
	memcpy(out->id.bytes, id.bytes, APM_KEY_ID_LEN);
	status = apm_ec_private_pem(key, &out->private_half);
	if (status == APM_OK)
		status = apm_ec_public_pem(key, &out->public_half);
	apm_ec_free(key);
	return status;
}

/* Makes generation 1 of a kind; false if somebody else was faster. */
static bool
make_key(const ApmKeyKind *kind)
{
	ApmNewKey key = {.private_half = {.secret = true}};
	ApmStatus status = APM_ERR_KEY;
	bool made;

	switch (kind->form)
	{
		case APM_FORM_SECRET:
			status = new_secret(&key);
			break;
		case APM_FORM_RSA:
			status = new_rsa(&key);
			break;
		case APM_FORM_EC:
			status = new_ec(&key);
			break;
	}
	apm_check(status, "make a key");

	made = apm_keyfile_create(apm_key_file_name(kind, 1), APM_FILE_PRIVATE,
							  APM_SLICE(key.private_half.data, key.private_half.len));
	if (made && kind->form != APM_FORM_SECRET)
		(void) apm_keyfile_create(apm_key_public_name(kind, 1), APM_FILE_PUBLIC,
								  APM_SLICE(key.public_half.data, key.public_half.len));
	apm_buf_reset(&key.private_half);
	apm_buf_reset(&key.public_half);
	return made;
}

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
			created[kind] = make_key(&apm_key_kinds[kind]);
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
