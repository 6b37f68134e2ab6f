/*
 * signature.c
 *	  ECDSA on P-256 and the form of its keys.
 *
 * OpenSSL signs into DER, where one signature has many spellings, and takes s as well
 * as n - s.  What stands in the ledger is therefore r || s with s in the lower half of
 * the order: signing flips a high s, verifying refuses one, and DER exists only between
 * here and OpenSSL.
 *
 * A public key is the 91 bytes of its SPKI, of which 26 never change.  They are compared,
 * not parsed, and the point is handed to OpenSSL, which checks that it is on the curve.
 * A key keeps its signing and verifying contexts, because making one costs a tenth of a
 * signature.
 */
#include "signature.h"

#include <string.h>

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>

#include "digest.h"
#include "pem.h"

#define SCALAR_LEN 32
#define POINT_LEN 65
#define SPKI_PREFIX_LEN (APM_SPKI_LEN - POINT_LEN)
#define DER_MAX 80 /* 72 is the longest DER of a P-256 signature */

static const char curve_name[] = "prime256v1";

/* SEQUENCE { SEQUENCE { id-ecPublicKey, prime256v1 }, BIT STRING (66 bytes, none unused) */
static const uint8_t spki_prefix[SPKI_PREFIX_LEN] = {
	0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01,
	0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
};

/* The order n of P-256 and n / 2, rounded down (SP 800-186, 3.2.1.3). */
static const uint8_t order[SCALAR_LEN] = {
	0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
	0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
};
static const uint8_t half_order[SCALAR_LEN] = {
	0x7f, 0xff, 0xff, 0xff, 0x80, 0x00, 0x00, 0x00, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
	0xde, 0x73, 0x7d, 0x56, 0xd3, 0x8b, 0xcf, 0x42, 0x79, 0xdc, 0xe5, 0x61, 0x7e, 0x31, 0x92, 0xa8,
};

struct ApmEcKey
{
	EVP_PKEY *pkey;
	EVP_PKEY_CTX *signer; /* NULL for a public key */
	EVP_PKEY_CTX *verifier;
	uint8_t spki[APM_SPKI_LEN];
	ApmDigest id;
};

/* Answers failed and leaves OpenSSL's error queue empty for whoever uses it next. */
static ApmStatus
give_up(ApmStatus failed)
{
	ERR_clear_error();
	return failed;
}

void
apm_ec_free(ApmEcKey *key)
{
	if (key == NULL)
		return;
	EVP_PKEY_CTX_free(key->signer);
	EVP_PKEY_CTX_free(key->verifier);
	EVP_PKEY_free(key->pkey);
	apm_core_free(key);
}

/* Is it on P-256, with the uncompressed form that makes the SPKI 91 bytes? */
static bool
read_point(EVP_PKEY *pkey, uint8_t point[POINT_LEN])
{
	char group[64];
	size_t len = 0;

	return EVP_PKEY_get_group_name(pkey, group, sizeof(group), &len) == 1 && strcmp(group, curve_name) == 0 &&
		   EVP_PKEY_get_octet_string_param(pkey, OSSL_PKEY_PARAM_PUB_KEY, point, POINT_LEN, &len) == 1 &&
		   len == POINT_LEN && point[0] == POINT_CONVERSION_UNCOMPRESSED;
}

/* Makes the contexts that belong to the key. */
static ApmStatus
make_contexts(ApmEcKey *key, bool is_private)
{
	key->verifier = EVP_PKEY_CTX_new_from_pkey(NULL, key->pkey, NULL);
	if (key->verifier == NULL || EVP_PKEY_verify_init(key->verifier) != 1)
		return give_up(APM_ERR_CRYPTO);
	if (!is_private)
		return APM_OK;
	key->signer = EVP_PKEY_CTX_new_from_pkey(NULL, key->pkey, NULL);
	if (key->signer == NULL || EVP_PKEY_sign_init(key->signer) != 1)
		return give_up(APM_ERR_CRYPTO);
	return APM_OK;
}

/* Is the point on the curve and, for a pair, the private half its own? */
static bool
key_is_sound(EVP_PKEY *pkey, bool is_private)
{
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, pkey, NULL);
	bool sound;

	sound = ctx != NULL && EVP_PKEY_public_check_quick(ctx) == 1 &&
			(!is_private || (EVP_PKEY_private_check(ctx) == 1 && EVP_PKEY_pairwise_check(ctx) == 1));
	EVP_PKEY_CTX_free(ctx);
	return sound;
}

/* Takes over pkey, also on failure. */
static ApmStatus
adopt(EVP_PKEY *pkey, bool is_private, ApmEcKey **out)
{
	ApmEcKey *key = apm_core_alloc(sizeof(ApmEcKey), false);
	ApmStatus status;

	if (key == NULL)
	{
		EVP_PKEY_free(pkey);
		return APM_ERR_MEMORY;
	}
	key->pkey = pkey;
	memcpy(key->spki, spki_prefix, SPKI_PREFIX_LEN);
	if (!read_point(pkey, key->spki + SPKI_PREFIX_LEN) || !key_is_sound(pkey, is_private))
		status = give_up(APM_ERR_KEY);
	else
		status = apm_sha256(key->spki, APM_SPKI_LEN, &key->id);
	if (status == APM_OK)
		status = make_contexts(key, is_private);
	if (status != APM_OK)
	{
		apm_ec_free(key);
		return status;
	}
	*out = key;
	return APM_OK;
}

ApmStatus
apm_ec_generate(ApmEcKey **out)
{
	EVP_PKEY *pkey = EVP_EC_gen(curve_name);

	if (pkey == NULL)
		return give_up(APM_ERR_CRYPTO);
	return adopt(pkey, true, out);
}

ApmStatus
apm_ec_from_pem(ApmSlice pem, ApmEcKey **out)
{
	EVP_PKEY *pkey;
	bool is_private;
	ApmStatus status = apm_pem_read(pem, EVP_PKEY_EC, &pkey, &is_private);

	if (status != APM_OK)
		return status;
	return adopt(pkey, is_private, out);
}

/* APM_ERR_FORMAT: not the fixed form; APM_ERR_KEY: no point of the curve. */
ApmStatus
apm_ec_from_spki(ApmSlice spki, ApmEcKey **out)
{
	EVP_PKEY_CTX *ctx;
	EVP_PKEY *pkey = NULL;
	OSSL_PARAM params[3];
	bool made;

	if (spki.len != APM_SPKI_LEN || memcmp(spki.data, spki_prefix, SPKI_PREFIX_LEN) != 0 ||
		spki.data[SPKI_PREFIX_LEN] != POINT_CONVERSION_UNCOMPRESSED)
		return APM_ERR_FORMAT;
	params[0] = OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, (char *) curve_name, 0);
	params[1] = OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY,
												  (void *) (spki.data + SPKI_PREFIX_LEN), POINT_LEN);
	params[2] = OSSL_PARAM_construct_end();
	ctx = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
	if (ctx == NULL || EVP_PKEY_fromdata_init(ctx) != 1)
	{
		EVP_PKEY_CTX_free(ctx);
		return give_up(APM_ERR_CRYPTO);
	}
	made = EVP_PKEY_fromdata(ctx, &pkey, EVP_PKEY_PUBLIC_KEY, params) == 1;
	EVP_PKEY_CTX_free(ctx);
	if (!made)
		return give_up(APM_ERR_KEY);
	return adopt(pkey, false, out);
}

/* APM_ERR_KEY for a public key. */
ApmStatus
apm_ec_private_pem(const ApmEcKey *key, ApmBuf *out)
{
	return apm_ec_is_private(key) ? apm_pem_write_private(key->pkey, out) : APM_ERR_KEY;
}

ApmStatus
apm_ec_public_pem(const ApmEcKey *key, ApmBuf *out)
{
	return apm_pem_write_public(key->pkey, out);
}

void
apm_ec_spki(const ApmEcKey *key, uint8_t out[APM_SPKI_LEN])
{
	memcpy(out, key->spki, APM_SPKI_LEN);
}

void
apm_ec_id(const ApmEcKey *key, ApmDigest *out)
{
	*out = key->id;
}

bool
apm_ec_is_private(const ApmEcKey *key)
{
	return key->signer != NULL;
}

/* s = n - s, for 0 < s < n. */
static void
negate_scalar(uint8_t s[SCALAR_LEN])
{
	int borrow = 0;

	for (int i = SCALAR_LEN - 1; i >= 0; i--)
	{
		int difference = order[i] - s[i] - borrow;

		borrow = difference < 0;
		s[i] = (uint8_t) (difference & 0xff);
	}
}

static ApmStatus
signature_from_der(const uint8_t *der, size_t len, ApmSignature *out)
{
	const unsigned char *at = der;
	ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &at, (long) len);
	bool fits;

	fits = sig != NULL && at == der + len &&
		   BN_bn2binpad(ECDSA_SIG_get0_r(sig), out->bytes, SCALAR_LEN) == SCALAR_LEN &&
		   BN_bn2binpad(ECDSA_SIG_get0_s(sig), out->bytes + SCALAR_LEN, SCALAR_LEN) == SCALAR_LEN;
	ECDSA_SIG_free(sig);
	return fits ? APM_OK : give_up(APM_ERR_CRYPTO);
}

/* Appends a DER INTEGER of a scalar that is not zero; gives its length. */
static size_t
der_integer(const uint8_t scalar[SCALAR_LEN], uint8_t *out)
{
	size_t skip = 0;
	size_t sign;
	size_t len;

	while (scalar[skip] == 0)
		skip++;
	sign = scalar[skip] >> 7;
	len = SCALAR_LEN - skip;
	out[0] = 0x02;
	out[1] = (uint8_t) (len + sign);
	out[2] = 0;
	memcpy(out + 2 + sign, scalar + skip, len);
	return 2 + sign + len;
}

static size_t
signature_to_der(const ApmSignature *sig, uint8_t out[DER_MAX])
{
	size_t len = der_integer(sig->bytes, out + 2);

	len += der_integer(sig->bytes + SCALAR_LEN, out + 2 + len);
	out[0] = 0x30;
	out[1] = (uint8_t) len;
	return 2 + len;
}

/* APM_ERR_KEY for a public key. */
ApmStatus
apm_sign(const ApmEcKey *key, const ApmDigest *message, ApmSignature *out)
{
	uint8_t der[DER_MAX];
	size_t len = sizeof(der);
	ApmStatus status;

	if (!apm_ec_is_private(key))
		return APM_ERR_KEY;
	if (EVP_PKEY_sign(key->signer, der, &len, message->bytes, APM_DIGEST_LEN) != 1)
		return give_up(APM_ERR_CRYPTO);
	status = signature_from_der(der, len, out);
	if (status == APM_OK && memcmp(out->bytes + SCALAR_LEN, half_order, SCALAR_LEN) > 0)
		negate_scalar(out->bytes + SCALAR_LEN);
	return status;
}

/* Everything but a good signature in its one form is APM_ERR_VERIFY. */
ApmStatus
apm_verify_signature(const ApmEcKey *key, const ApmDigest *message, const ApmSignature *sig)
{
	static const uint8_t zero[SCALAR_LEN] = {0};
	const uint8_t *r = sig->bytes;
	const uint8_t *s = sig->bytes + SCALAR_LEN;
	uint8_t der[DER_MAX];
	size_t len;

	if (memcmp(r, zero, SCALAR_LEN) == 0 || memcmp(s, zero, SCALAR_LEN) == 0 ||
		memcmp(r, order, SCALAR_LEN) >= 0 || memcmp(s, half_order, SCALAR_LEN) > 0)
		return APM_ERR_VERIFY;
	len = signature_to_der(sig, der);
	if (EVP_PKEY_verify(key->verifier, der, len, message->bytes, APM_DIGEST_LEN) != 1)
		return give_up(APM_ERR_VERIFY);
	return APM_OK;
}
