/*
 * paperkey.c
 *	  The two keys of the paper's profile.
 */
#include "postgres.h"

#include "apm_errors.h"
#include "keys/keycommand.h"
#include "keys/keyfile.h"
#include "keys/keykind.h"
#include "keys/paperkey.h"

#define RSA_NAME "paper-rsa.pem"
#define AES_NAME "paper-aes.key"

static void
read_key(const char *name, ApmBuf *out)
{
	int exit_code;
	bool found = apm_keycommand_is_set()
					 ? apm_keycommand_read(name, APM_KEY_FILE_MAX, out, &exit_code) == APM_COMMAND_KEY
					 : apm_keyfile_read(name, APM_FILE_PRIVATE, APM_KEY_FILE_MAX, out);

	if (!found)
		ereport(ERROR, (errcode(ERRCODE_APM_KEY_MISSING),
						errmsg("this server lacks the key \"%s\" of the paper's profile", name),
						errhint("It is put beside the other keys by hand; doc/paper-profile.md says how.")));
}

void
apm_key_paper(uint8 aes[32], ApmRsa **rsa)
{
	ApmBuf bytes = {.secret = true};

	read_key(AES_NAME, &bytes);
	if (bytes.len != 32)
		ereport(ERROR, (errcode(ERRCODE_APM_KEY_REFUSED), errmsg("key \"%s\" has the wrong length", AES_NAME),
						errdetail("It must have 32 bytes.")));
	memcpy(aes, bytes.data, 32);
	apm_buf_reset(&bytes);

	read_key(RSA_NAME, &bytes);
	if (apm_rsa_from_pem(APM_SLICE(bytes.data, bytes.len), rsa) != APM_OK)
		ereport(ERROR, (errcode(ERRCODE_APM_KEY_REFUSED), errmsg("key \"%s\" is not an RSA key", RSA_NAME)));
	apm_buf_reset(&bytes);
}
