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

#include "access/xact.h"
#include "catalog/namespace.h"
#include "jit/jit.h"
#include "miscadmin.h"
#include "optimizer/cost.h"
#include "utils/acl.h"
#include "utils/guc.h"

#include "apm_user.h"
#include "core/transaction.h"

/* What names are looked up in by our own statements. */
#define OUR_PATH "pg_catalog, pg_temp"

static const struct
{
	const char *name;
	uint16 bit;
} role_bits[] = {
	{"apm_admin", APM_ROLE_ADMIN},			 {"apm_registrar", APM_ROLE_REGISTRAR},
	{"apm_clinician", APM_ROLE_CLINICIAN},	 {"apm_sensor", APM_ROLE_SENSOR},
	{"apm_researcher", APM_ROLE_RESEARCHER}, {"apm_auditor", APM_ROLE_AUDITOR},
};

const char *
apm_role_name(uint16 bit)
{
	for (size_t i = 0; i < lengthof(role_bits); i++)
	{
		if (role_bits[i].bit == bit)
			return role_bits[i].name;
	}
	return NULL;
}

uint16
apm_role_bit(const char *name)
{
	for (size_t i = 0; i < lengthof(role_bits); i++)
	{
		if (strcmp(role_bits[i].name, name) == 0)
			return role_bits[i].bit;
	}
	return 0;
}

/*
 * The open sections, outermost first: at which level of subtransactions each was begun.
 * PostgreSQL restores user and settings when one is left by an error; this is ours to
 * restore.
 */
#define SECTION_MAX 32

static int section_levels[SECTION_MAX];
static int section_depth = 0;

static void
forget_sections(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
		section_depth = 0;
}

static void
forget_subsections(SubXactEvent event, SubTransactionId mySubid, SubTransactionId parentSubid, void *arg)
{
	if (event != SUBXACT_EVENT_ABORT_SUB)
		return;
	while (section_depth > 0 && section_levels[section_depth - 1] >= GetCurrentTransactionNestLevel())
		section_depth--;
}

static void
enter_section(ApmPrivileged *saved)
{
	static bool registered = false;

	if (!registered)
	{
		RegisterXactCallback(forget_sections, NULL);
		RegisterSubXactCallback(forget_subsections, NULL);
		registered = true;
	}
	if (section_depth == SECTION_MAX)
		elog(ERROR, "too many nested sections of apm");
	saved->depth = section_depth;
	section_levels[section_depth++] = GetCurrentTransactionNestLevel();
}

bool
apm_in_own_code(void)
{
	return section_depth > 0;
}

static void
set_option(const char *name, const char *value, int *level)
{
	if (*level == 0)
		*level = NewGUCNestLevel();
	(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

/*
 * The settings that our own statements run with.  The path holds nothing that somebody could put a name into; it
 * is set and not overridden, since an override would hold in functions with a path of their own, too: those of triggers that
 * others have on a table that we write.  A plan of ours is kept, and may be made while its tables are empty; so it goes by
 * indexes, as every statement of ours can, and is right when they have grown.
 *
 * The workers are set so for good, and nothing is done for them: to change the path costs looking its schemas up
 * again.  Returns the level of settings to go back from; 0: nothing was set.
 */
static int
set_options(void)
{
	static const struct
	{
		const char *name;
		bool *variable;
	} switched_off[] = {
		{"enable_seqscan", &enable_seqscan},
		{"enable_hashjoin", &enable_hashjoin},
		{"enable_mergejoin", &enable_mergejoin},
		{"jit", &jit_enabled},
	};
	int level = 0;

	if (strcmp(namespace_search_path, OUR_PATH) != 0)
		set_option("search_path", OUR_PATH, &level);
	for (size_t i = 0; i < lengthof(switched_off); i++)
	{
		if (*switched_off[i].variable)
			set_option(switched_off[i].name, "off", &level);
	}
	return level;
}

void
apm_privileged_begin(ApmPrivileged *saved)
{
	Oid worker = get_role_oid("apm_worker", false);

	enter_section(saved);
	GetUserIdAndSecContext(&saved->user, &saved->security);
	SetUserIdAndSecContext(worker, saved->security | SECURITY_LOCAL_USERID_CHANGE);
	saved->guc_level = set_options();
}

void
apm_privileged_end(const ApmPrivileged *saved)
{
	section_depth = saved->depth;
	if (saved->guc_level > 0)
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
