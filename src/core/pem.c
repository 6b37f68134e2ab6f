/*
 * pem.c
 *	  Reading and writing keys as PEM (RFC 7468).
 *
 * OpenSSL's own readers take the first block of any text and ignore the rest, try several
 * formats and ask for a pass phrase on the terminal.  A key file of a server must
 * be one thing, so the block's name is looked at first, DER must fill it exactly, and
 * an encrypted block is refused.
 */
#include "pem.h"

#include <string.h>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#define PEM_MAX (64 * 1024)

static EVP_PKEY *
private_from_der(const unsigned char *der, long len)
{
	const unsigned char *at = der;
	PKCS8_PRIV_KEY_INFO *info = d2i_PKCS8_PRIV_KEY_INFO(NULL, &at, len);
	EVP_PKEY *key = NULL;

	if (info != NULL && at == der + len)
		key = EVP_PKCS82PKEY(info);
	PKCS8_PRIV_KEY_INFO_free(info);
	return key;
}

static EVP_PKEY *
public_from_der(const unsigned char *der, long len)
{
	const unsigned char *at = der;
	EVP_PKEY *key = d2i_PUBKEY(NULL, &at, len);

	if (key != NULL && at != der + len)
	{
		EVP_PKEY_free(key);
		key = NULL;
	}
	return key;
}

static bool
only_space_left(BIO *bio)
{
	char c;

	while (BIO_read(bio, &c, 1) == 1)
		if (c != ' ' && c != '\t' && c != '\r' && c != '\n')
			return false;
	return true;
}

/* The key of one block, or NULL. */
static EVP_PKEY *
key_from_block(BIO *bio, bool *is_private)
{
	char *name = NULL;
	char *header = NULL;
	unsigned char *der = NULL;
	long len = 0;
	EVP_PKEY *key = NULL;

	if (PEM_read_bio(bio, &name, &header, &der, &len) == 1)
	{
		if (header[0] == '\0' && only_space_left(bio))
		{
			*is_private = strcmp(name, PEM_STRING_PKCS8INF) == 0;
			if (*is_private)
				key = private_from_der(der, len);
			else if (strcmp(name, PEM_STRING_PUBLIC) == 0)
				key = public_from_der(der, len);
		}
		OPENSSL_free(name);
		OPENSSL_free(header);
		OPENSSL_clear_free(der, (size_t) len);
	}
	return key;
}

ApmStatus
apm_pem_read(ApmSlice pem, int type, EVP_PKEY **out, bool *is_private)
{
	static const char begin[] = "-----BEGIN ";
	BIO *bio;
	EVP_PKEY *key;

	if (pem.len < sizeof(begin) - 1 || pem.len > PEM_MAX || memcmp(pem.data, begin, sizeof(begin) - 1) != 0)
		return APM_ERR_FORMAT;
	bio = BIO_new_mem_buf(pem.data, (int) pem.len);
	if (bio == NULL)
	{
		ERR_clear_error();
		return APM_ERR_MEMORY;
	}
	key = key_from_block(bio, is_private);
	BIO_free(bio);
	ERR_clear_error();
	if (key == NULL)
		return APM_ERR_FORMAT;
	if (EVP_PKEY_get_base_id(key) != type)
	{
		EVP_PKEY_free(key);
		return APM_ERR_KEY;
	}
	*out = key;
	return APM_OK;
}

/* Appends what was written to bio and frees it, wiping its memory. */
static ApmStatus
take_text(BIO *bio, bool written, ApmBuf *out)
{
	char *text = NULL;
	long len = BIO_get_mem_data(bio, &text);
	ApmStatus status = APM_ERR_CRYPTO;

	if (written && len > 0)
	{
		apm_put_raw(out, text, (size_t) len);
		status = apm_buf_status(out);
	}
	if (len > 0)
		apm_wipe(text, (size_t) len);
	BIO_free(bio);
	if (status == APM_ERR_CRYPTO)
		ERR_clear_error();
	return status;
}

ApmStatus
apm_pem_write_private(EVP_PKEY *key, ApmBuf *out)
{
	BIO *bio = BIO_new(BIO_s_mem());

	if (bio == NULL)
	{
		ERR_clear_error();
		return APM_ERR_MEMORY;
	}
	out->secret = true;
	return take_text(bio, PEM_write_bio_PKCS8PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) == 1, out);
}

ApmStatus
apm_pem_write_public(EVP_PKEY *key, ApmBuf *out)
{
	BIO *bio = BIO_new(BIO_s_mem());

	if (bio == NULL)
	{
		ERR_clear_error();
		return APM_ERR_MEMORY;
	}
	return take_text(bio, PEM_write_bio_PUBKEY(bio, key) == 1, out);
}
