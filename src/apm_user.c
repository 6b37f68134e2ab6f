/*
 * apm_user.c
 *	  Who acts, and with whose rights our own statements run.
 *
 * Clients have no right on any table of apm: what they may do is what our C functions
 * do for them.  Those functions therefore run their statements as apm_worker, the role
 * that the workers run as, which is not superuser and owns nothing.  The Uid of the
 * paper must not follow that switch, nor that of a SECURITY DEFINER wrapper, which
 * anybody can write: it is the outer user, the one that a session logged in as or
 * chose by SET ROLE.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/guc.h"

#include "apm_user.h"
#include "core/transaction.h"

static const struct
{
	const char *name;
	uint16 bit;
} role_bits[] = {
	{"apm_admin", APM_ROLE_ADMIN},			 {"apm_registrar", APM_ROLE_REGISTRAR},
	{"apm_clinician", APM_ROLE_CLINICIAN},	 {"apm_sensor", APM_ROLE_SENSOR},
	{"apm_researcher", APM_ROLE_RESEARCHER}, {"apm_auditor", APM_ROLE_AUDITOR},
};

void
apm_privileged_begin(ApmPrivileged *saved)
{
	Oid worker = get_role_oid("apm_worker", false);

	GetUserIdAndSecContext(&saved->user, &saved->security);
	saved->guc_level = NewGUCNestLevel();
	SetUserIdAndSecContext(worker, saved->security | SECURITY_LOCAL_USERID_CHANGE);
	(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
}

void
apm_privileged_end(const ApmPrivileged *saved)
{
	AtEOXact_GUC(false, saved->guc_level);
	SetUserIdAndSecContext(saved->user, saved->security);
}

void
apm_actor(ApmActor *actor)
{
	actor->role = GetOuterUserId();
	actor->login = GetAuthenticatedUserId();
	actor->roles = 0;
	for (size_t i = 0; i < lengthof(role_bits); i++)
	{
		Oid role = get_role_oid(role_bits[i].name, true);

		if (OidIsValid(role) && is_member_of_role_nosuper(actor->role, role))
			actor->roles |= role_bits[i].bit;
	}
}

void
apm_require_admin(const char *doing)
{
	ApmActor actor;

	apm_actor(&actor);
	if ((actor.roles & APM_ROLE_ADMIN) == 0 && !superuser_arg(actor.role))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("permission denied to %s", doing),
						errhint("This needs a superuser or a member of the role apm_admin.")));
}
