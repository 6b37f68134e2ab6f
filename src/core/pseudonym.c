/*
 * pseudonym.c
 *	  bcrypt, and the pseudonyms that are made with it.
 *
 * crypt_rn() answers a setting that it does not like with another algorithm's hash or
 * with a string that begins with '*', and a cost of 31 would keep a process for weeks.
 * So the setting is checked before, character by character, and the result after.
 */
#include "pseudonym.h"

#include <crypt.h>
#include <stdlib.h>
#include <string.h>

#include "digest.h"

#define SETTING_LEN 29 /* "$2b$", two digits, "$", 22 characters of salt */
#define SALT_AT 7
#define SALT_BYTES 16
#define RANDOM_BYTES 24 /* 32 characters of base64url */
#define PEPPERED_LEN 44 /* base64 of 32 bytes */

static bool
is_bcrypt_character(char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '/';
}

/* Is it a "$2b$" setting, alone or with the hash that it led to? */
static bool
setting_is_whole(const char *setting, size_t len)
{
	if ((len != SETTING_LEN && len != APM_PSEUDONYM_LEN) || strncmp(setting, "$2b$", 4) != 0 ||
		setting[6] != '$')
		return false;
	if (setting[4] < '0' || setting[4] > '9' || setting[5] < '0' || setting[5] > '9')
		return false;
	for (size_t i = SALT_AT; i < len; i++)
		if (!is_bcrypt_character(setting[i]))
			return false;
	return true;
}

/*
 * Reads at most 72 bytes of secret, as bcrypt does.  APM_ERR_FORMAT: not a "$2b$" setting;
 * APM_ERR_RANGE: its cost is not between APM_SALTING_ROUNDS_MIN and _MAX.
 */
ApmStatus
apm_bcrypt(const char *secret, const char *setting, char out[APM_PSEUDONYM_LEN + 1])
{
	struct crypt_data *work;
	const char *result;
	ApmStatus status = APM_ERR_CRYPTO;
	int rounds;

	if (!setting_is_whole(setting, strnlen(setting, APM_PSEUDONYM_LEN + 1)))
		return APM_ERR_FORMAT;
	rounds = 10 * (setting[4] - '0') + (setting[5] - '0');
	if (rounds < APM_SALTING_ROUNDS_MIN || rounds > APM_SALTING_ROUNDS_MAX)
		return APM_ERR_RANGE;

	work = apm_core_alloc(sizeof(*work), true);
	if (work == NULL)
		return APM_ERR_MEMORY;
	result = crypt_rn(secret, setting, work, (int) sizeof(*work));
	if (result != NULL && result[0] != '*' && strlen(result) == APM_PSEUDONYM_LEN &&
		memcmp(result, setting, SALT_AT) == 0)
	{
		memcpy(out, result, APM_PSEUDONYM_LEN + 1);
		status = APM_OK;
	}
	apm_core_free(work);
	return status;
}

ApmStatus
apm_bcrypt_setting(int rounds, char out[SETTING_LEN + 1])
{
	char setting[CRYPT_GENSALT_OUTPUT_SIZE];
	char salt[SALT_BYTES];
	ApmStatus status;

	if (rounds < APM_SALTING_ROUNDS_MIN || rounds > APM_SALTING_ROUNDS_MAX)
		return APM_ERR_RANGE;
	status = apm_random(salt, sizeof(salt));
	if (status != APM_OK)
		return status;
	if (crypt_gensalt_rn("$2b$", (unsigned long) rounds, salt, sizeof(salt), setting, sizeof(setting)) ==
			NULL ||
		strlen(setting) != SETTING_LEN)
		return APM_ERR_CRYPTO;
	memcpy(out, setting, SETTING_LEN + 1);
	return APM_OK;
}

ApmStatus
apm_pseudonym_blind(const uint8_t patient_key[32], uint8_t out[APM_BLIND_LEN])
{
	static const char info[] = "apm pseudonym";

	return apm_hkdf_sha256(patient_key, 32, NULL, 0, info, sizeof(info) - 1, out, APM_BLIND_LEN);
}

/* What bcrypt is given: base64 of the HMAC under the pepper. */
static ApmStatus
pepper_parts(const uint8_t pepper[32], const uint8_t blind[APM_BLIND_LEN], const ApmBuf *message,
			 char out[PEPPERED_LEN + 1])
{
	ApmSlice parts[] = {{message->data, message->len}, {blind, APM_BLIND_LEN}};
	ApmDigest mac;
	ApmStatus status = apm_buf_status(message);

	if (status == APM_OK)
		status = apm_hmac_sha256(pepper, 32, parts, 2, &mac);
	if (status == APM_OK)
	{
		apm_base64_encode(mac.bytes, sizeof(mac.bytes), out);
		apm_wipe(&mac, sizeof(mac));
	}
	return status;
}

static void
put_attribute(ApmBuf *message, ApmSlice name, ApmSlice value)
{
	apm_put_bytes(message, name.data, name.len);
	apm_put_bytes(message, value.data, value.len);
}

/* bcrypt of a message under pepper and blind; setting NULL: a new one of this many rounds. */
static ApmStatus
hash_message(const uint8_t pepper[32], const uint8_t blind[APM_BLIND_LEN], const ApmBuf *message,
			 const char *setting, int rounds, char out[APM_PSEUDONYM_LEN + 1])
{
	char fresh[SETTING_LEN + 1];
	char peppered[PEPPERED_LEN + 1];
	ApmStatus status = APM_OK;

	if (setting == NULL)
	{
		status = apm_bcrypt_setting(rounds, fresh);
		setting = fresh;
	}
	if (status == APM_OK)
		status = pepper_parts(pepper, blind, message, peppered);
	if (status == APM_OK)
	{
		status = apm_bcrypt(peppered, setting, out);
		apm_wipe(peppered, sizeof(peppered));
	}
	return status;
}

ApmStatus
apm_pseudonym(const uint8_t pepper[32], const uint8_t blind[APM_BLIND_LEN], ApmSlice attribute,
			  ApmSlice value, int rounds, char out[APM_PSEUDONYM_LEN + 1])
{
	ApmBuf message = {.secret = true};
	ApmStatus status;

	put_attribute(&message, attribute, value);
	status = hash_message(pepper, blind, &message, NULL, rounds, out);
	apm_buf_reset(&message);
	return status;
}

/* Ascending by the bytes of the name, a name before those that it begins. */
static int
compare_names(const void *a, const void *b)
{
	const ApmSlice *left = &(*(const ApmAttribute *const *) a)->name;
	const ApmSlice *right = &(*(const ApmAttribute *const *) b)->name;
	size_t common = left->len < right->len ? left->len : right->len;
	int order = common == 0 ? 0 : memcmp(left->data, right->data, common);

	if (order != 0)
		return order;
	return (left->len > right->len) - (left->len < right->len);
}

ApmStatus
apm_identity(const uint8_t pepper[32], const uint8_t blind[APM_BLIND_LEN], const ApmAttribute *attrs,
			 size_t n, int rounds, char out[APM_PSEUDONYM_LEN + 1])
{
	const ApmAttribute **sorted;
	ApmBuf message = {.secret = true};
	ApmStatus status = APM_OK;

	if (n == 0 || n > SIZE_MAX / sizeof(*sorted))
		return APM_ERR_RANGE;
	sorted = apm_core_alloc(n * sizeof(*sorted), false);
	if (sorted == NULL)
		return APM_ERR_MEMORY;
	for (size_t i = 0; i < n; i++)
		sorted[i] = &attrs[i];
	qsort(sorted, n, sizeof(*sorted), compare_names);
	for (size_t i = 0; i < n && status == APM_OK; i++)
	{
		if (i > 0 && compare_names(&sorted[i - 1], &sorted[i]) == 0)
			status = APM_ERR_RANGE;
		put_attribute(&message, sorted[i]->name, sorted[i]->value);
	}
	if (status == APM_OK)
		status = hash_message(pepper, blind, &message, NULL, rounds, out);
	apm_buf_reset(&message);
	apm_core_free(sorted);
	return status;
}

ApmStatus
apm_pseudonym_check(const uint8_t pepper[32], const uint8_t blind[APM_BLIND_LEN], ApmSlice attribute,
					ApmSlice value, const char *pseudonym, bool *matches)
{
	char hashed[APM_PSEUDONYM_LEN + 1];
	ApmBuf message = {.secret = true};
	ApmStatus status;

	if (strnlen(pseudonym, APM_PSEUDONYM_LEN + 1) != APM_PSEUDONYM_LEN)
		return APM_ERR_FORMAT;
	put_attribute(&message, attribute, value);
	status = hash_message(pepper, blind, &message, pseudonym, 0, hashed);
	if (status == APM_OK)
		*matches = apm_equal(hashed, pseudonym, APM_PSEUDONYM_LEN);
	apm_buf_reset(&message);
	return status;
}

ApmStatus
apm_pseudonym_random(char out[APM_APID_MAX + 1])
{
	uint8_t random[RANDOM_BYTES];
	ApmStatus status = apm_random(random, sizeof(random));

	if (status != APM_OK)
		return status;
	memcpy(out, "r.", 2);
	apm_base64url_encode(random, sizeof(random), out + 2, NULL);
	return APM_OK;
}
