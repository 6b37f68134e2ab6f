/*
 * head.c
 *	  A digest of the ledger: written, read and checked.
 */
#include "head.h"

#include <stdio.h>
#include <string.h>

#include "digest.h"
#include "json.h"

#define HEAD_TYPE "apm digest"
#define HEAD_VERSION 1
#define HEAD_MEMBERS 9

#define SECONDS_A_DAY 86400

/* Days since 1970-01-01 as a date of the Gregorian calendar, counted from 1 March of the year 0, when a leap day comes last. */
static void
date_of_days(uint64_t days, unsigned *year, unsigned *month, unsigned *day)
{
	uint64_t from_march = days + 719468;
	unsigned era = (unsigned) (from_march / 146097);
	unsigned of_era = (unsigned) (from_march % 146097);
	unsigned year_of_era = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
	unsigned of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
	unsigned march_month = (5 * of_year + 2) / 153;

	*day = of_year - (153 * march_month + 2) / 5 + 1;
	*month = march_month < 10 ? march_month + 3 : march_month - 9;
	*year = era * 400 + year_of_era + (*month <= 2);
}

ApmStatus
apm_time_write(uint64_t time_us, char out[APM_TIME_TEXT_LEN + 1])
{
	uint64_t seconds = time_us / 1000000;
	unsigned of_day = (unsigned) (seconds % SECONDS_A_DAY);
	unsigned year;
	unsigned month;
	unsigned day;
	char text[64];

	/* first second of the year 10000 */
	if (seconds >= UINT64_C(253402300800))
		return APM_ERR_RANGE;
	date_of_days(seconds / SECONDS_A_DAY, &year, &month, &day);
	snprintf(text, sizeof(text), "%04u-%02u-%02uT%02u:%02u:%02u.%06uZ", year, month, day, of_day / 3600,
			 of_day / 60 % 60, of_day % 60, (unsigned) (time_us % 1000000));
	memcpy(out, text, APM_TIME_TEXT_LEN + 1);
	return APM_OK;
}

/* Is the signature that of the key, and the key that of the header? */
static ApmStatus
check_signed(const ApmHead *head)
{
	ApmEcKey *key;
	ApmDigest id;
	ApmStatus status = apm_ec_from_spki(APM_SLICE(head->node, APM_SPKI_LEN), &key);

	if (status != APM_OK)
		return status == APM_ERR_KEY ? APM_ERR_FORMAT : status;
	apm_ec_id(key, &id);
	status = APM_ERR_VERIFY;
	if (memcmp(&id, &head->header.node, sizeof(id)) == 0)
		status = apm_block_verify(key, &head->hash, &head->signature);
	apm_ec_free(key);
	return status;
}

ApmStatus
apm_head_check(ApmHead *head)
{
	char time[APM_TIME_TEXT_LEN + 1];
	ApmStatus status = apm_header_decode(APM_SLICE(head->encoded, APM_HEADER_LEN), &head->header);

	if (status == APM_OK && apm_time_write(head->header.time_us, time) != APM_OK)
		status = APM_ERR_FORMAT;
	if (status == APM_OK)
		status = apm_header_hash(head->encoded, &head->hash);
	if (status == APM_OK && !apm_hash_meets(&head->hash, head->header.bits))
		status = APM_ERR_VERIFY;
	return status == APM_OK ? check_signed(head) : status;
}

/* The head is one that apm_head_check() found good. */
void
apm_head_write(const ApmHead *head, ApmBuf *out)
{
	char time[APM_TIME_TEXT_LEN + 1];

	if (apm_time_write(head->header.time_us, time) != APM_OK)
	{
		out->failed = true;
		return;
	}
	apm_json_begin(out);
	apm_json_put_text(out, "type", HEAD_TYPE);
	apm_json_put_number(out, "version", HEAD_VERSION);
	apm_json_put_hex(out, "chain", head->header.chain.bytes, APM_DIGEST_LEN);
	apm_json_put_number(out, "height", head->header.height);
	apm_json_put_text(out, "time", time);
	apm_json_put_hex(out, "hash", head->hash.bytes, APM_DIGEST_LEN);
	apm_json_put_hex(out, "header", head->encoded, APM_HEADER_LEN);
	apm_json_put_hex(out, "signature", head->signature.bytes, APM_SIGNATURE_LEN);
	apm_json_put_hex(out, "node", head->node, APM_SPKI_LEN);
	apm_json_end(out);
}

/* Do the members that repeat the header say what it says? */
static bool
repeats(const ApmHead *head, const ApmDigest *chain, uint64_t height, const ApmDigest *hash,
		const ApmJson *json)
{
	char time[APM_TIME_TEXT_LEN + 1];

	return memcmp(chain, &head->header.chain, sizeof(*chain)) == 0 && height == head->header.height &&
		   memcmp(hash, &head->hash, sizeof(*hash)) == 0 &&
		   apm_time_write(head->header.time_us, time) == APM_OK && apm_json_says(json, "time", time);
}

ApmStatus
apm_head_read(ApmSlice text, ApmHead *out)
{
	ApmJson json;
	uint64_t version;
	uint64_t height;
	ApmDigest chain;
	ApmDigest hash;
	ApmHead head;
	ApmStatus status;

	if (text.len > APM_HEAD_TEXT_MAX || apm_json_read(text, &json) != APM_OK ||
		json.nmembers != HEAD_MEMBERS || !apm_json_says(&json, "type", HEAD_TYPE) ||
		!apm_json_number(&json, "version", HEAD_VERSION, &version) || version != HEAD_VERSION ||
		!apm_json_hex(&json, "chain", chain.bytes, APM_DIGEST_LEN) ||
		!apm_json_number(&json, "height", INT64_MAX, &height) ||
		apm_json_find(&json, "time", APM_JSON_STRING) == NULL ||
		!apm_json_hex(&json, "hash", hash.bytes, APM_DIGEST_LEN) ||
		!apm_json_hex(&json, "header", head.encoded, APM_HEADER_LEN) ||
		!apm_json_hex(&json, "signature", head.signature.bytes, APM_SIGNATURE_LEN) ||
		!apm_json_hex(&json, "node", head.node, APM_SPKI_LEN))
		return APM_ERR_FORMAT;
	status = apm_head_check(&head);
	if (status == APM_OK && !repeats(&head, &chain, height, &hash, &json))
		status = APM_ERR_VERIFY;
	if (status == APM_OK)
		*out = head;
	return status;
}
