/*
 * acting.c
 *	  On whose behalf the APM acts, and the sections in which it reads and writes tables.
 *
 * The chain names a member of staff by a pseudonym, which only the origin resolves.  The
 * table that resolves it has no unique key: two transactions that name the same person
 * first would wait for each other, and the network server, which writes the same row for a
 * query, would wait for the very transaction that waits for its answer.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "anonymize/acting.h"
#include "anonymize/groups.h"
#include "apm_errors.h"
#include "core/digest.h"
#include "keys/keyring.h"

PG_FUNCTION_INFO_V1(apm_staff_of);

/* What stands for somebody who acts as one role and logged in as another. */
static void
staff_pseudonym(const NameData *acting, const NameData *login, uint8 out[APM_STAFF_LEN])
{
	ApmBuf names = {0};
	ApmSlice part;
	ApmDigest mac;

	apm_put_bytes(&names, NameStr(*acting), strlen(NameStr(*acting)));
	apm_put_bytes(&names, NameStr(*login), strlen(NameStr(*login)));
	apm_check(apm_buf_status(&names), "name the actor");
	part = APM_SLICE(names.data, names.len);
	apm_check(apm_hmac_sha256(apm_key_secret(APM_SECRET_STAFF), APM_SECRET_LEN, &part, 1, &mac),
			  "name the actor");
	memcpy(out, mac.bytes, APM_STAFF_LEN);
	apm_buf_reset(&names);
}

void
apm_acting(ApmActing *out)
{
	apm_actor(&out->actor);
	namestrcpy(&out->acting, GetUserNameFromId(out->actor.role, false));
	namestrcpy(&out->login, GetUserNameFromId(out->actor.login, false));
	staff_pseudonym(&out->acting, &out->login, out->staff);
}

void
apm_acting_require(const ApmActing *who, uint16 roles, const char *doing)
{
	if ((who->actor.roles & roles) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("permission denied to %s", doing),
				 errhint("The acting role, which goes into the ledger, must be granted the role of apm "
						 "that this is for; being superuser does not count.")));
}

bool
apm_acting_is_sensor(const ApmActing *who)
{
	return (who->actor.roles & APM_ROLE_SENSOR) != 0 &&
		   (who->actor.roles & (APM_ROLE_ADMIN | APM_ROLE_REGISTRAR | APM_ROLE_CLINICIAN)) == 0;
}

/* Keeps what a pseudonym stands for; login is NULL for a role's. */
static void
note_staff(const uint8 pseudonym[APM_STAFF_LEN], const NameData *acting, const NameData *login)
{
	static ApmStatement note = {
		"INSERT INTO apm.staff (pseudonym, acting, login) SELECT $1, $2, $3"
		" WHERE NOT EXISTS (SELECT FROM ONLY apm.staff WHERE pseudonym = $1 AND acting = $2"
		" AND login IS NOT DISTINCT FROM $3)",
		3,
		{BYTEAOID, NAMEOID, NAMEOID},
		NULL,
	};
	Datum args[] = {apm_bytea_datum(APM_SLICE(pseudonym, APM_STAFF_LEN)), NameGetDatum(acting),
					NameGetDatum(login)};

	apm_run_nulls(&note, args, login != NULL ? "   " : "  n", 0);
}

void
apm_staff_note(const ApmActing *who)
{
	note_staff(who->staff, &who->acting, &who->login);
}

void
apm_staff_note_role(const NameData *role)
{
	uint8 pseudonym[APM_STAFF_LEN];

	apm_role_pseudonym(NameStr(*role), pseudonym);
	note_staff(pseudonym, role, NULL);
}

/* Is this what the pseudonym stands for?  The table that says so has no guard: anybody who owns it can write it. */
static bool
staff_fits(const uint8 pseudonym[APM_STAFF_LEN], const NameData *acting, const NameData *login)
{
	uint8 expected[APM_STAFF_LEN];

	if (NameStr(*login)[0] == '\0')
		apm_role_pseudonym(NameStr(*acting), expected);
	else
		staff_pseudonym(acting, login, expected);
	return memcmp(pseudonym, expected, APM_STAFF_LEN) == 0;
}

bool
apm_staff_find(const uint8 pseudonym[APM_STAFF_LEN], NameData *acting, NameData *login)
{
	static ApmStatement find = {
		"SELECT acting::pg_catalog.text, coalesce(login, '')::pg_catalog.text FROM ONLY apm.staff"
		" WHERE pseudonym = $1",
		1,
		{BYTEAOID},
		NULL,
	};
	Datum args[] = {apm_bytea_datum(APM_SLICE(pseudonym, APM_STAFF_LEN))};
	uint64 rows = apm_run_latest(&find, args);

	for (uint64 row = 0; row < rows; row++)
	{
		ApmSlice names[] = {apm_row_text(row, 1), apm_row_text(row, 2)};

		namestrcpy(acting, pnstrdup((const char *) names[0].data, names[0].len));
		namestrcpy(login, pnstrdup((const char *) names[1].data, names[1].len));
		if (staff_fits(pseudonym, acting, login))
			return true;
	}
	return false;
}

const char *
apm_staff_text(const uint8 pseudonym[APM_STAFF_LEN], NameData *login)
{
	char *shown = palloc(Max(NAMEDATALEN, 2 * APM_STAFF_LEN + 1));
	NameData acting;

	if (apm_staff_find(pseudonym, &acting, login))
		strcpy(shown, NameStr(acting));
	else
	{
		apm_hex_encode(pseudonym, APM_STAFF_LEN, shown);
		NameStr(*login)[0] = '\0';
	}
	return shown;
}

void
apm_section_begin(ApmSection *section)
{
	apm_privileged_begin(&section->user);
	SPI_connect();
}

void
apm_section_end(const ApmSection *section)
{
	SPI_finish();
	apm_privileged_end(&section->user);
}

/*
 * apm.staff_of(pseudonym bytea): acting, login.
 */
Datum
apm_staff_of(PG_FUNCTION_ARGS)
{
	ApmSlice pseudonym = APM_SLICE_OF(PG_GETARG_BYTEA_PP(0));
	MemoryContext caller = CurrentMemoryContext;
	bool nulls[2] = {false, false};
	Datum values[2];
	ApmSection section;
	TupleDesc desc;
	NameData login;

	if (pseudonym.len != APM_STAFF_LEN)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("a staff pseudonym has %d bytes", APM_STAFF_LEN)));
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "the result of the function is not a row");
	apm_section_begin(&section);
	MemoryContextSwitchTo(caller);
	values[0] = CStringGetTextDatum(apm_staff_text(pseudonym.data, &login));
	nulls[1] = NameStr(login)[0] == '\0';
	values[1] = nulls[1] ? (Datum) 0 : CStringGetTextDatum(NameStr(login));
	apm_section_end(&section);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
