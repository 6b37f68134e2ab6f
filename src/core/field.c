/*
 * field.c
 *	  Public fields of transactions and of templates, encoded.
 *
 * Both lists are short, so they are kept as they are written: ascending by name, looked
 * through from the start.  What a writer puts a reader takes and the other way round:
 * both ask the same questions of a name, of a value and of the order.
 */
#include "field.h"

#include <string.h>

static bool
lower_case_letter(uint8_t c)
{
	return c >= 'a' && c <= 'z';
}

bool
apm_field_name_ok(ApmSlice name)
{
	if (name.len < 1 || name.len > APM_FIELD_NAME_MAX || !lower_case_letter(name.data[0]))
		return false;
	for (size_t i = 1; i < name.len; i++)
	{
		uint8_t c = name.data[i];

		if (!lower_case_letter(c) && !(c >= '0' && c <= '9') && c != '_')
			return false;
	}
	return true;
}

static bool
code_ok(ApmSlice code)
{
	if (code.len < 1 || code.len > APM_FIELD_CODE_MAX)
		return false;
	for (size_t i = 0; i < code.len; i++)
	{
		if (code.data[i] < 0x21 || code.data[i] > 0x7e)
			return false;
	}
	return true;
}

static bool
field_in_bounds(const ApmPublicField *f)
{
	if (!apm_field_name_ok(f->name))
		return false;
	switch (f->type)
	{
		case APM_FIELD_INTEGER:
			return true;
		case APM_FIELD_BOOLEAN:
			return f->number == 0 || f->number == 1;
		case APM_FIELD_CODE:
			return code_ok(f->code);
		default:
			return false;
	}
}

static bool
fields_in_bounds(const ApmPublicField *v, int n)
{
	if (n < 0 || n > APM_FIELDS_MAX)
		return false;
	for (int i = 0; i < n; i++)
	{
		if (!field_in_bounds(&v[i]) || (i > 0 && apm_slices_compare(v[i - 1].name, v[i].name) >= 0))
			return false;
	}
	return true;
}

ApmStatus
apm_fields_encode(const ApmPublicField *v, int n, ApmBuf *out)
{
	if (!fields_in_bounds(v, n))
		return APM_ERR_RANGE;
	if (n == 0)
		return APM_OK;

	apm_put_u8(out, (uint8_t) n);
	for (int i = 0; i < n; i++)
	{
		apm_put_bytes(out, v[i].name.data, v[i].name.len);
		apm_put_u8(out, v[i].type);
		if (v[i].type == APM_FIELD_CODE)
			apm_put_bytes(out, v[i].code.data, v[i].code.len);
		else
			apm_put_u64(out, (uint64_t) v[i].number);
	}
	return apm_buf_status(out);
}

ApmStatus
apm_fields_decode(ApmSlice in, ApmPublicField *v, int *n)
{
	ApmReader r;
	int count;

	*n = 0;
	if (in.len == 0)
		return APM_OK;
	apm_reader_init(&r, in);
	count = apm_get_u8(&r);
	if (count < 1 || count > APM_FIELDS_MAX)
		return APM_ERR_FORMAT;
	memset(v, 0, (size_t) count * sizeof(*v));
	for (int i = 0; i < count; i++)
	{
		v[i].name = apm_get_bytes(&r, APM_FIELD_NAME_MAX);
		v[i].type = apm_get_u8(&r);
		if (v[i].type == APM_FIELD_CODE)
			v[i].code = apm_get_bytes(&r, APM_FIELD_CODE_MAX);
		else
			v[i].number = (int64_t) apm_get_u64(&r);
	}
	if (!apm_reader_done(&r) || !fields_in_bounds(v, count))
		return APM_ERR_FORMAT;
	*n = count;
	return APM_OK;
}

static bool
codes_in_bounds(const ApmFieldSpec *s)
{
	if (s->ncodes < 1 || s->ncodes > APM_FIELD_CODES_MAX)
		return false;
	for (int i = 0; i < s->ncodes; i++)
	{
		if (!code_ok(s->codes[i]) || (i > 0 && apm_slices_compare(s->codes[i - 1], s->codes[i]) >= 0))
			return false;
	}
	return true;
}

static bool
spec_in_bounds(const ApmFieldSpec *s)
{
	if (!apm_field_name_ok(s->name))
		return false;
	switch (s->type)
	{
		case APM_FIELD_INTEGER:
			return s->least <= s->most;
		case APM_FIELD_BOOLEAN:
			return true;
		case APM_FIELD_CODE:
			return codes_in_bounds(s);
		default:
			return false;
	}
}

static bool
specs_in_bounds(const ApmFieldSpec *v, int n)
{
	if (n < 1 || n > APM_FIELDS_MAX)
		return false;
	for (int i = 0; i < n; i++)
	{
		if (!spec_in_bounds(&v[i]) || (i > 0 && apm_slices_compare(v[i - 1].name, v[i].name) >= 0))
			return false;
	}
	return true;
}

static void
put_spec(const ApmFieldSpec *s, ApmBuf *out)
{
	apm_put_bytes(out, s->name.data, s->name.len);
	apm_put_u8(out, s->type);
	apm_put_u8(out, s->required ? 1 : 0);
	if (s->type == APM_FIELD_INTEGER)
	{
		apm_put_u64(out, (uint64_t) s->least);
		apm_put_u64(out, (uint64_t) s->most);
	}
	else if (s->type == APM_FIELD_CODE)
	{
		apm_put_u8(out, s->ncodes);
		for (int i = 0; i < s->ncodes; i++)
			apm_put_bytes(out, s->codes[i].data, s->codes[i].len);
	}
}

ApmStatus
apm_specs_encode(const ApmFieldSpec *v, int n, ApmBuf *out)
{
	if (!specs_in_bounds(v, n))
		return APM_ERR_RANGE;

	apm_put_u8(out, (uint8_t) n);
	for (int i = 0; i < n; i++)
		put_spec(&v[i], out);
	return apm_buf_status(out);
}

static void
get_spec(ApmReader *r, ApmFieldSpec *s)
{
	uint8_t required;

	s->name = apm_get_bytes(r, APM_FIELD_NAME_MAX);
	s->type = apm_get_u8(r);
	required = apm_get_u8(r);
	if (required > 1)
		r->failed = true;
	s->required = required == 1;
	if (s->type == APM_FIELD_INTEGER)
	{
		s->least = (int64_t) apm_get_u64(r);
		s->most = (int64_t) apm_get_u64(r);
	}
	else if (s->type == APM_FIELD_CODE)
	{
		s->ncodes = apm_get_u8(r);
		if (s->ncodes > APM_FIELD_CODES_MAX)
		{
			r->failed = true;
			s->ncodes = 0;
		}
		for (int i = 0; i < s->ncodes; i++)
			s->codes[i] = apm_get_bytes(r, APM_FIELD_CODE_MAX);
	}
}

ApmStatus
apm_specs_decode(ApmSlice in, ApmFieldSpec *v, int *n)
{
	ApmReader r;
	int count;

	*n = 0;
	apm_reader_init(&r, in);
	count = apm_get_u8(&r);
	if (count < 1 || count > APM_FIELDS_MAX)
		return APM_ERR_FORMAT;
	memset(v, 0, (size_t) count * sizeof(*v));
	for (int i = 0; i < count; i++)
		get_spec(&r, &v[i]);
	if (!apm_reader_done(&r) || !specs_in_bounds(v, count))
		return APM_ERR_FORMAT;
	*n = count;
	return APM_OK;
}

bool
apm_field_fits(const ApmPublicField *field, const ApmFieldSpec *spec)
{
	if (apm_slices_compare(field->name, spec->name) != 0 || field->type != spec->type)
		return false;
	switch (field->type)
	{
		case APM_FIELD_INTEGER:
			return field->number >= spec->least && field->number <= spec->most;
		case APM_FIELD_CODE:
			for (int i = 0; i < spec->ncodes; i++)
			{
				if (apm_slices_compare(field->code, spec->codes[i]) == 0)
					return true;
			}
			return false;
		default:
			return true;
	}
}
