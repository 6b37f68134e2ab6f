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

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "anonymize/acting.h"
#include "apm_errors.h"
#include "core/digest.h"
#include "keys/keyring.h"

/* microseconds from 1970 to 2000 */
#define EPOCH_SHIFT ((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY)

void
apm_acting(ApmActing *out)
{
	ApmBuf names = {0};
	ApmSlice part;
	ApmDigest mac;

	apm_actor(&out->actor);
	namestrcpy(&out->acting, GetUserNameFromId(out->actor.role, false));
	namestrcpy(&out->login, GetUserNameFromId(out->actor.login, false));

	apm_put_bytes(&names, NameStr(out->acting), strlen(NameStr(out->acting)));
	apm_put_bytes(&names, NameStr(out->login), strlen(NameStr(out->login)));
	apm_check(apm_buf_status(&names), "name the actor");
	part = APM_SLICE(names.data, names.len);
	apm_check(apm_hmac_sha256(apm_key_secret(APM_SECRET_STAFF), APM_SECRET_LEN, &part, 1, &mac),
			  "name the actor");
	memcpy(out->staff, mac.bytes, APM_STAFF_LEN);
	apm_buf_reset(&names);
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

void
apm_staff_note(const ApmActing *who)
{
	static ApmStatement note = {
		"INSERT INTO apm.staff (pseudonym, acting, login) SELECT $1, $2, $3"
		" WHERE NOT EXISTS (SELECT FROM apm.staff WHERE pseudonym = $1)",
		3,
		{BYTEAOID, NAMEOID, NAMEOID},
		NULL,
	};
	Datum args[] = {apm_bytea_datum(APM_SLICE(who->staff, APM_STAFF_LEN)), NameGetDatum(&who->acting),
					NameGetDatum(&who->login)};

	apm_run(&note, args);
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

uint64
apm_run_latest(ApmStatement *statement, const Datum *args)
{
	uint64 rows;

	PushActiveSnapshot(GetLatestSnapshot());
	rows = apm_run_read(statement, args);
	PopActiveSnapshot();
	return rows;
}

TimestampTz
apm_time_of(uint64 us)
{
	return (TimestampTz) us - EPOCH_SHIFT;
}
