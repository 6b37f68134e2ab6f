/*
 * unicode.c
 *	  Text of the server as the UTF-8 that is hashed and sealed, and back.
 *
 * PostgreSQL's own conversions give back ordinary memory, which nobody wipes, and name
 * the offending bytes in their errors.  The conversion procedures underneath write into a
 * buffer of the caller's and can be told not to raise; this uses them a piece at a
 * time.  A database in SQL_ASCII says nothing of its texts, so they are taken as UTF-8 if they
 * are valid as that.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "common/unicode_norm.h"
#include "mb/pg_wchar.h"

#include "anonymize/unicode.h"
#include "apm_errors.h"

/* bytes converted at a time */
#define PIECE (64 * 1024)

/* Appends text converted from one encoding to the other; false where it cannot be. */
static bool
convert(ApmBuf *out, ApmSlice text, int from, int to)
{
	Oid procedure = FindDefaultConversionProc(from, to);

	if (!OidIsValid(procedure))
		return false;
	while (text.len > 0)
	{
		int piece = Min(text.len, PIECE);
		int room = piece * MAX_CONVERSION_GROWTH + 1;
		int done;

		if (!apm_buf_reserve(out, room))
			apm_raise(APM_ERR_MEMORY, "convert a text");
		done = pg_do_encoding_conversion_buf(procedure, from, to, unconstify(uint8 *, text.data), piece,
											 out->data + out->len, room, true);
		if (done <= 0)
			return false;
		out->len += strlen((char *) out->data + out->len);
		text.data += done;
		text.len -= done;
	}
	return true;
}

void
apm_utf8_put(ApmBuf *out, ApmSlice text, const char *what)
{
	int encoding = GetDatabaseEncoding();
	bool good = true;

	if (encoding == PG_UTF8)
		apm_put_raw(out, text.data, text.len);
	else if (encoding == PG_SQL_ASCII)
	{
		good = pg_verify_mbstr(PG_UTF8, (const char *) text.data, text.len, true);
		if (good)
			apm_put_raw(out, text.data, text.len);
	}
	else
		good = convert(out, text, encoding, PG_UTF8);
	if (!good)
		ereport(ERROR,
				(errcode(ERRCODE_CHARACTER_NOT_IN_REPERTOIRE), errmsg("%s is not valid as UTF-8", what),
				 errhint("In a database with encoding SQL_ASCII, texts must be sent in UTF-8.")));
	apm_check(apm_buf_status(out), "convert a text");
}

void
apm_server_text_put(ApmBuf *out, ApmSlice utf8, const char *what)
{
	int encoding = GetDatabaseEncoding();

	if (encoding == PG_UTF8 || encoding == PG_SQL_ASCII)
		apm_put_raw(out, utf8.data, utf8.len);
	else if (!convert(out, utf8, PG_UTF8, encoding))
		ereport(ERROR, (errcode(ERRCODE_UNTRANSLATABLE_CHARACTER),
						errmsg("%s has characters that this database's encoding does not have", what)));
	apm_check(apm_buf_status(out), "convert a text");
}

static bool
all_ascii(ApmSlice text)
{
	for (size_t i = 0; i < text.len; i++)
	{
		if (IS_HIGHBIT_SET(text.data[i]))
			return false;
	}
	return true;
}

/* Appends code points up to a zero as UTF-8. */
static void
put_code_points(ApmBuf *out, const pg_wchar *points)
{
	for (; *points != 0; points++)
	{
		unsigned char bytes[MAX_MULTIBYTE_CHAR_LEN];

		unicode_to_utf8(*points, bytes);
		apm_put_raw(out, bytes, pg_utf_mblen(bytes));
	}
}

void
apm_nfc_put(ApmBuf *out, ApmSlice text, const char *what)
{
	ApmBuf utf8 = {.secret = true};
	pg_wchar *points;
	pg_wchar *normal;
	size_t count;

	if (all_ascii(text))
	{
		apm_put_raw(out, text.data, text.len);
		apm_check(apm_buf_status(out), "normalize a text");
		return;
	}

	apm_utf8_put(&utf8, text, what);
	points = apm_core_alloc((utf8.len + 1) * sizeof(pg_wchar), true);
	if (points == NULL)
		apm_raise(APM_ERR_MEMORY, "normalize a text");
	pg_encoding_mb2wchar_with_len(PG_UTF8, (const char *) utf8.data, points, utf8.len);

	normal = unicode_normalize(UNICODE_NFC, points);
	put_code_points(out, normal);
	for (count = 0; normal[count] != 0; count++)
		;
	apm_wipe(normal, count * sizeof(pg_wchar));
	pfree(normal);
	apm_core_free(points);
	apm_buf_reset(&utf8);
	apm_check(apm_buf_status(out), "normalize a text");
}
