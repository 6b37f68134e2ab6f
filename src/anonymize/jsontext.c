/*
 * jsontext.c
 *	  Records and profiles as JSON: the text that is sealed, and what becomes of it.
 *
 * jsonb's own output would do but for two things: it grows a buffer that nobody wipes,
 * and it promises no form.  The text here is hashed for a record's fingerprint, so the same
 * value must give the same bytes in every version; and it is written straight into a
 * buffer that is wiped.
 */
#include "postgres.h"

#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/numeric.h"

#include "anonymize/jsontext.h"
#include "anonymize/unicode.h"
#include "apm_errors.h"

/* the order in which jsonb keeps keys */
static int
compare_names(const ApmField *a, const ApmField *b)
{
	int alen = a->name.val.string.len;
	int blen = b->name.val.string.len;

	if (alen != blen)
		return alen < blen ? -1 : 1;
	return memcmp(a->name.val.string.val, b->name.val.string.val, alen);
}

/* The members of an object's container. */
static void
read_fields(JsonbContainer *container, ApmFields *out)
{
	JsonbIterator *it = JsonbIteratorInit(container);
	JsonbValue v;
	JsonbIteratorToken token;

	out->n = 0;
	out->v = JsonContainerSize(container) > 0
				 ? MemoryContextAllocHuge(CurrentMemoryContext,
										  sizeof(ApmField) * (Size) JsonContainerSize(container))
				 : NULL;
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			out->v[out->n].name = v;
		else if (token == WJB_VALUE)
			out->v[out->n++].value = v;
	}
}

/* The members of a container that is an object's; false if it is none. */
static bool
fields_in(JsonbContainer *container, ApmFields *out)
{
	if (!JsonContainerIsObject(container))
		return false;
	read_fields(container, out);
	return true;
}

bool
apm_fields_of(Jsonb *value, ApmFields *out)
{
	return fields_in(&value->root, out);
}

bool
apm_json_object(const JsonbValue *value, ApmFields *out)
{
	return value->type == jbvBinary && fields_in(value->val.binary.data, out);
}

bool
apm_json_array(const JsonbValue *value, JsonbValue **out, int *n)
{
	JsonbContainer *array = value->type == jbvBinary ? value->val.binary.data : NULL;

	if (array == NULL || !JsonContainerIsArray(array) || JsonContainerIsScalar(array))
		return false;
	*n = (int) JsonContainerSize(array);
	*out = palloc(sizeof(JsonbValue) * Max(*n, 1));
	for (int i = 0; i < *n; i++)
		(*out)[i] = *getIthJsonbValueFromContainer(array, (uint32) i);
	return true;
}

bool
apm_json_integer(const JsonbValue *value, int64 *out)
{
	char *digits;
	char *end;

	if (value->type != jbvNumeric)
		return false;
	digits = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(value->val.numeric)));
	errno = 0;
	*out = strtoi64(digits, &end, 10);
	return errno == 0 && end != digits && *end == '\0';
}

char *
apm_json_text(const JsonbValue *value)
{
	return value->type == jbvString ? pnstrdup(value->val.string.val, value->val.string.len) : NULL;
}

void
apm_fields_member(const ApmFields *fields, const char *name, ApmFields *out)
{
	const ApmField *found = apm_fields_find(fields, APM_SLICE(name, strlen(name)));

	if (found == NULL || found->value.type != jbvBinary || !fields_in(found->value.val.binary.data, out))
		apm_raise(APM_ERR_OPEN, "read the profile");
}

const ApmField *
apm_fields_find(const ApmFields *fields, ApmSlice name)
{
	for (int i = 0; i < fields->n; i++)
	{
		ApmSlice has = apm_field_name(&fields->v[i]);

		if (has.len == name.len && memcmp(has.data, name.data, name.len) == 0)
			return &fields->v[i];
	}
	return NULL;
}

void
apm_fields_overlay(const ApmFields *base, const ApmFields *over, ApmFields *out)
{
	int b = 0;
	int o = 0;

	out->n = 0;
	out->v = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(ApmField) * ((Size) base->n + over->n + 1));
	while (b < base->n || o < over->n)
	{
		int order = b == base->n ? 1 : o == over->n ? -1 : compare_names(&base->v[b], &over->v[o]);

		out->v[out->n++] = order < 0 ? base->v[b] : over->v[o];
		b += order <= 0;
		o += order >= 0;
	}
}

Jsonb *
apm_fields_jsonb(const ApmFields *fields)
{
	JsonbParseState *state = NULL;
	JsonbValue *object;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < fields->n; i++)
	{
		pushJsonbValue(&state, WJB_KEY, &fields->v[i].name);
		pushJsonbValue(&state, WJB_VALUE, &fields->v[i].value);
	}
	object = pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	return JsonbValueToJsonb(object);
}

/* RFC 8259, section 7: only the quotation mark, the reverse solidus and what is below U+0020. */
static void
put_string(ApmBuf *out, const char *text, size_t len)
{
	size_t plain = 0; /* start of what is written as it is */

	apm_put_u8(out, '"');
	for (size_t i = 0; i < len; i++)
	{
		unsigned char c = text[i];
		char escape[7];

		if (c >= 0x20 && c != '"' && c != '\\')
			continue;
		apm_put_raw(out, text + plain, i - plain);
		plain = i + 1;
		if (c == '"' || c == '\\')
			snprintf(escape, sizeof(escape), "\\%c", c);
		else
			snprintf(escape, sizeof(escape), "\\u%04x", c);
		apm_put_raw(out, escape, strlen(escape));
	}
	apm_put_raw(out, text + plain, len - plain);
	apm_put_u8(out, '"');
}

static void
put_word(ApmBuf *out, const char *word)
{
	apm_put_raw(out, word, strlen(word));
}

static void
put_number(ApmBuf *out, Numeric number)
{
	char *digits = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(number)));
	size_t len = strlen(digits);

	apm_put_raw(out, digits, len);
	apm_wipe(digits, len);
	pfree(digits);
}

static void
put_scalar(ApmBuf *out, const JsonbValue *value)
{
	switch (value->type)
	{
		case jbvNull:
			put_word(out, "null");
			break;
		case jbvBool:
			put_word(out, value->val.boolean ? "true" : "false");
			break;
		case jbvNumeric:
			put_number(out, value->val.numeric);
			break;
		case jbvString:
			put_string(out, value->val.string.val, value->val.string.len);
			break;
		default:
			elog(ERROR, "unexpected kind of JSON value");
	}
}

/* Writes a container, however deep, in the server's encoding. */
static void
put_container(ApmBuf *out, JsonbContainer *container)
{
	JsonbIterator *it = JsonbIteratorInit(container);
	JsonbValue v;
	JsonbIteratorToken token;
	bool scalar = JsonContainerIsScalar(container); /* kept in an array of one, which is not written */
	bool first = true;								/* in its array or object */

	while ((token = JsonbIteratorNext(&it, &v, false)) != WJB_DONE)
	{
		bool opens = token == WJB_BEGIN_ARRAY || token == WJB_BEGIN_OBJECT;
		bool closes = token == WJB_END_ARRAY || token == WJB_END_OBJECT;

		if (scalar && (opens || closes))
			continue;
		if (!first && !closes && token != WJB_VALUE && (!opens || out->data[out->len - 1] != ':'))
			apm_put_u8(out, ',');
		if (opens)
			apm_put_u8(out, token == WJB_BEGIN_ARRAY ? '[' : '{');
		else if (closes)
			apm_put_u8(out, token == WJB_END_ARRAY ? ']' : '}');
		else
			put_scalar(out, &v);
		if (token == WJB_KEY)
			apm_put_u8(out, ':');
		first = opens;
		/* a failed buffer holds nothing that could be looked at */
		apm_check(apm_buf_status(out), "write a record");
	}
}

/* What is in the server's encoding from start on becomes UTF-8. */
static void
to_utf8(ApmBuf *out, size_t start)
{
	ApmBuf text = {.secret = true};

	apm_check(apm_buf_status(out), "write a record");
	if (GetDatabaseEncoding() == PG_UTF8)
		return;
	apm_put_raw(&text, out->data + start, out->len - start);
	apm_check(apm_buf_status(&text), "write a record");
	out->len = start;
	apm_utf8_put(out, APM_SLICE(text.data, text.len), "the record");
	apm_buf_reset(&text);
}

void
apm_json_put(ApmBuf *out, Jsonb *value)
{
	size_t start = out->len;

	/* mostly right at the first try: the text is about as long as the jsonb */
	(void) apm_buf_reserve(out, VARSIZE(value) + VARSIZE(value) / 8);
	put_container(out, &value->root);
	to_utf8(out, start);
}

static void
put_value(ApmBuf *out, const JsonbValue *value)
{
	if (value->type == jbvBinary)
		put_container(out, value->val.binary.data);
	else
		put_scalar(out, value);
}

void
apm_json_put_value(ApmBuf *out, const JsonbValue *value)
{
	size_t start = out->len;

	put_value(out, value);
	to_utf8(out, start);
}

void
apm_json_put_fields(ApmBuf *out, const ApmFields *fields)
{
	size_t start = out->len;

	apm_put_u8(out, '{');
	for (int i = 0; i < fields->n; i++)
	{
		if (i > 0)
			apm_put_u8(out, ',');
		put_scalar(out, &fields->v[i].name);
		apm_put_u8(out, ':');
		put_value(out, &fields->v[i].value);
	}
	apm_put_u8(out, '}');
	to_utf8(out, start);
}

void
apm_json_put_string(ApmBuf *out, ApmSlice utf8)
{
	put_string(out, (const char *) utf8.data, utf8.len);
	apm_check(apm_buf_status(out), "write a record");
}

/* numeric_normalize() tells equal numbers by equal texts */
static void
put_normal_number(ApmBuf *out, Numeric number)
{
	char *digits = numeric_normalize(number);
	size_t len = strlen(digits);

	apm_put_raw(out, digits, len);
	apm_wipe(digits, len);
	pfree(digits);
}

bool
apm_json_put_scalar(ApmBuf *out, const JsonbValue *value, const char *what)
{
	switch (value->type)
	{
		case jbvString:
			apm_put_u8(out, 't');
			apm_nfc_put(out, APM_SLICE(value->val.string.val, value->val.string.len), what);
			return true;
		case jbvNumeric:
			apm_put_u8(out, 'n');
			put_normal_number(out, value->val.numeric);
			return true;
		case jbvBool:
			apm_put_u8(out, 'b');
			apm_put_u8(out, value->val.boolean ? '1' : '0');
			return true;
		default:
			return false;
	}
}

Numeric
apm_json_scalar_number(ApmSlice scalar)
{
	char *digits;
	Datum number;

	if (scalar.len < 2 || scalar.data[0] != 'n')
		return NULL;
	digits = pnstrdup((const char *) scalar.data + 1, scalar.len - 1);
	number = DirectFunctionCall3(numeric_in, CStringGetDatum(digits), ObjectIdGetDatum(InvalidOid),
								 Int32GetDatum(-1));
	apm_wipe(digits, scalar.len - 1);
	pfree(digits);
	return DatumGetNumeric(number);
}

Jsonb *
apm_json_copy(Jsonb *value)
{
	Size size = VARSIZE(value);
	Jsonb *copy = apm_core_alloc(size, true);

	if (copy == NULL)
		apm_raise(APM_ERR_MEMORY, "keep a record");
	memcpy(copy, value, size);
	return copy;
}

Jsonb *
apm_json_parse(ApmSlice text)
{
	ApmBuf server = {.secret = true};
	Jsonb *parsed;
	Jsonb *value;

	(void) apm_buf_reserve(&server, text.len + 1);
	apm_server_text_put(&server, text, "the record");
	apm_put_u8(&server, '\0');
	apm_check(apm_buf_status(&server), "read a record");
	parsed = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum((char *) server.data)));
	apm_buf_reset(&server);

	value = apm_json_copy(parsed);
	apm_wipe(parsed, VARSIZE(parsed));
	pfree(parsed);
	return value;
}
