/*
 * keyload.c
 *	  A key as its source gives it, file or command, becomes one that can be used.
 *
 * What is not exactly the key that its name promises (length, kind, private or public half) is refused, by name and
 * without a byte of it.
 */
#include "postgres.h"

#include "common/base64.h"

#include "apm_errors.h"
#include "core/cipher.h"
#include "keys/keycommand.h"
#include "keys/keyfile.h"
#include "keys/keyload.h"

void
apm_key_release(ApmKey *key)
{
	apm_core_free(key->secret);
	apm_rsa_free(key->rsa);
	apm_ec_free(key->ec);
}

/* What a secret's source gave becomes its 32 bytes: a file has them raw, a command prints base64, or raw too. */
static void
take_secret(const char *name, const ApmBuf *bytes, ApmKey *key)
{
	size_t len = bytes->len;
	char decoded[APM_SECRET_LEN + 3];

	if (len != APM_SECRET_LEN && apm_keycommand_is_set())
	{
		while (len > 0 && isspace(bytes->data[len - 1]))
			len--;
		if (pg_b64_decode((const char *) bytes->data, len, decoded, sizeof(decoded)) == APM_SECRET_LEN)
			len = APM_SECRET_LEN;
		else
			len = 0;
	}
	else
		memcpy(decoded, bytes->data, Min(len, sizeof(decoded)));
	if (len != APM_SECRET_LEN)
	{
		apm_wipe(decoded, sizeof(decoded));
		ereport(ERROR, (errcode(ERRCODE_APM_KEY_REFUSED), errmsg("key \"%s\" has the wrong length", name),
						errdetail("It must have %d bytes.", APM_SECRET_LEN)));
	}
	key->secret = apm_core_alloc(APM_SECRET_LEN, true);
	if (key->secret != NULL)
		memcpy(key->secret, decoded, APM_SECRET_LEN);
	apm_wipe(decoded, sizeof(decoded));
	if (key->secret == NULL || apm_secret_key_id(key->secret, &key->id) != APM_OK)
		apm_raise(APM_ERR_MEMORY, "keep a key");
	key->has_private = true;
}

static void
take_pair(const char *name, const ApmKeyKind *kind, const ApmBuf *bytes, bool private_half, ApmKey *key)
{
	ApmSlice pem = APM_SLICE(bytes->data, bytes->len);
	ApmStatus status;

	if (kind->form == APM_FORM_RSA)
	{
		status = apm_rsa_from_pem(pem, &key->rsa);
		if (status == APM_OK)
		{
			apm_rsa_key_id(key->rsa, &key->id);
			key->has_private = apm_rsa_is_private(key->rsa);
		}
	}
	else
	{
		status = apm_ec_from_pem(pem, &key->ec);
		if (status == APM_OK)
		{
			ApmDigest id;

			apm_ec_id(key->ec, &id);
			memcpy(key->id.bytes, id.bytes, APM_KEY_ID_LEN);
			key->has_private = apm_ec_is_private(key->ec);
		}
	}
	if (status == APM_ERR_MEMORY)
		apm_raise(status, "keep a key");
	if (status != APM_OK || key->has_private != private_half)
	{
		apm_key_release(key);
		ereport(ERROR, (errcode(ERRCODE_APM_KEY_REFUSED),
						errmsg("key \"%s\" is not a %s %s key", name, private_half ? "private" : "public",
							   kind->form == APM_FORM_RSA ? "RSA" : "P-256"),
						errhint("Expected is PEM, unencrypted, and an RSA key of 2048 to 8192 bits.")));
	}
}

/*
 * Gets the bytes of one file from wherever keys come from, and of the public half
 * if there is no private one.  False if there is neither.  *retired as in keycommand.h.
 */
static bool
get_bytes(const ApmKeyKind *kind, uint32 generation, ApmBuf *bytes, char **name, bool *private_half,
		  bool *retired)
{
	int halves = kind->form == APM_FORM_SECRET ? 1 : 2;

	*retired = false;
	for (int half = 0; half < halves; half++)
	{
		*private_half = half == 0;
		*name = *private_half ? apm_key_file_name(kind, generation) : apm_key_public_name(kind, generation);
		if (!apm_keycommand_is_set())
		{
			if (apm_keyfile_read(*name, *private_half ? APM_FILE_PRIVATE : APM_FILE_PUBLIC, APM_KEY_FILE_MAX,
								 bytes))
				return true;
		}
		else
		{
			int exit_code;

			switch (apm_keycommand_read(*name, APM_KEY_FILE_MAX, bytes, &exit_code))
			{
				case APM_COMMAND_KEY:
					return true;
				case APM_COMMAND_RETIRED:
					*retired = true;
					return false;
				case APM_COMMAND_NONE:
					elog(DEBUG1, "apm.secret_command has no key \"%s\" (exit code %d)", *name, exit_code);
					apm_buf_reset(bytes);
					break;
			}
		}
	}
	return false;
}

bool
apm_key_load(const ApmKeyKind *kind, uint32 generation, MemoryContext context, ApmKey *out, bool *retired)
{
	ApmBuf bytes = {.secret = true};
	MemoryContext old;
	bool private_half;
	char *name;

	memset(out, 0, sizeof(*out));
	out->generation = generation;
	if (!get_bytes(kind, generation, &bytes, &name, &private_half, retired))
		return false;

	old = MemoryContextSwitchTo(context);
	if (kind->form == APM_FORM_SECRET)
		take_secret(name, &bytes, out);
	else
		take_pair(name, kind, &bytes, private_half, out);
	MemoryContextSwitchTo(old);
	apm_buf_reset(&bytes);
	return true;
}
