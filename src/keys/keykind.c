/*
 * keykind.c
 *	  The kinds of key that there are and how their files are called.
 *
 * The names are for the person who looks into the directory, and they are what %k in
 * apm.secret_command stands for, so they are made of letters, digits, dots and
 * hyphens only and mean nothing to a shell.
 */
#include "postgres.h"

#include "lib/stringinfo.h"

#include "keys/keykind.h"

const ApmKeyKind apm_key_kinds[APM_KEY_KINDS] = {
	{"apm-index", APM_FORM_SECRET, false},		{"apm-pepper", APM_FORM_SECRET, false},
	{"apm-staff", APM_FORM_SECRET, false},		{"apm-search", APM_FORM_SECRET, false},
	{"apm-export", APM_FORM_SECRET, false},		{"apm-wrapping", APM_FORM_SECRET, true},
	{"apm-envelope", APM_FORM_RSA, true},		{"network-server", APM_FORM_RSA, true},
	{"private-blockchain", APM_FORM_RSA, true}, {"apm-signing", APM_FORM_EC, true},
	{"node-signing", APM_FORM_EC, true},
};

/* Names of the kinds that have generations, for a hint. */
static char *
list_rotated(void)
{
	StringInfoData list;

	initStringInfo(&list);
	for (int i = 0; i < APM_KEY_KINDS; i++)
	{
		if (apm_key_kinds[i].generations)
			appendStringInfo(&list, "%s%s", list.len > 0 ? ", " : "", apm_key_kinds[i].name);
	}
	return list.data;
}

const ApmKeyKind *
apm_key_kind_rotated(const char *name)
{
	for (int i = 0; i < APM_KEY_KINDS; i++)
	{
		if (strcmp(apm_key_kinds[i].name, name) != 0)
			continue;
		if (apm_key_kinds[i].generations)
			return &apm_key_kinds[i];
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("keys of the kind \"%s\" have no generations", apm_key_kinds[i].name),
				 errdetail("What such a key has made, pseudonyms and indexes, is found again by it alone.")));
	}
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("there is no such kind of key"),
					errhint("Kinds with generations are: %s.", list_rotated())));
	pg_unreachable();
}

char *
apm_key_file_name(const ApmKeyKind *kind, uint32 generation)
{
	if (!kind->generations)
		return psprintf("%s.key", kind->name);
	return psprintf("%s.%u.%s", kind->name, generation, kind->form == APM_FORM_SECRET ? "key" : "pem");
}

char *
apm_key_public_name(const ApmKeyKind *kind, uint32 generation)
{
	Assert(kind->form != APM_FORM_SECRET);
	return psprintf("%s.%u.pub.pem", kind->name, generation);
}

uint32
apm_key_generation_of(const ApmKeyKind *kind, const char *name)
{
	size_t len = strlen(kind->name);
	uint32 generation = 1;

	if (strncmp(name, kind->name, len) != 0 || name[len] != '.')
		return 0;
	if (kind->generations)
	{
		/* at most nine digits, so that it cannot overflow, and one spelling of a number */
		size_t digits = strspn(name + len + 1, "0123456789");

		if (digits == 0 || digits > 9 || name[len + 1] == '0')
			return 0;
		generation = (uint32) strtoul(name + len + 1, NULL, 10);
	}
	if (strcmp(name, apm_key_file_name(kind, generation)) == 0)
		return generation;
	if (kind->form != APM_FORM_SECRET && strcmp(name, apm_key_public_name(kind, generation)) == 0)
		return generation;
	return 0;
}
