/*
 * apm_user.h
 *	  Who acts, and with whose rights our own statements run.
 */
#ifndef APM_USER_H
#define APM_USER_H

/*
 * A section in which SPI runs with the rights of the role apm_worker and with the
 * search path pg_catalog, whoever called.  Needs a transaction.  Sections
 * nest.  An error that leaves the (sub)transaction restores everything by itself;
 * whoever catches one and goes on in the same subtransaction calls apm_privileged_end
 * first.
 */
typedef struct ApmPrivileged
{
	Oid user;
	int security;
	int depth;
	int guc_level;
} ApmPrivileged;

extern void apm_privileged_begin(ApmPrivileged *saved);
extern void apm_privileged_end(const ApmPrivileged *saved);

/*
 * Do we run inside such a section?  The ledger's guards ask: a write from in there is
 * ours, any other is somebody's by hand or by a restore.  Being the role apm_worker is
 * not enough, since a superuser can become that.
 */
extern bool apm_in_own_code(void);

/* Who is asking. */
typedef struct ApmActor
{
	Oid role;	  /* whom the session acts as: SET ROLE counts, a definer function's owner never */
	Oid login;	  /* who logged in */
	uint16 roles; /* APM_ROLE_* that role is a member of; being superuser counts for none */
} ApmActor;

extern void apm_actor(ApmActor *actor);

/* "apm_clinician", ...: the role of an APM_ROLE_* bit, NULL if there is none; and the bit of a role, or 0. */
extern const char *apm_role_name(uint16 bit);
extern uint16 apm_role_bit(const char *name);

/* Raises 42501 unless the acting role is superuser or a member of apm_admin. */
extern void apm_require_admin(const char *doing);

#endif /* APM_USER_H */
