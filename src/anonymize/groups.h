/*
 * groups.h
 *	  Roles of this server as the chain names them.
 */
#ifndef APM_GROUPS_H
#define APM_GROUPS_H

#include "postgres.h"

#include "core/transaction.h"

/*
 * The pseudonym of a role: first bytes of HMAC(staff secret, len "" len name).  It names the role, not who acts
 * as it, so it differs from every pseudonym of an actor (acting.h).
 */
extern void apm_role_pseudonym(const char *name, uint8 out[APM_STAFF_LEN]);

/*
 * The roles that any of n roles is a member of, directly or not, themselves included, those that PostgreSQL
 * predefines left out; being superuser makes nobody a member.  palloc'd.  54000 when there are more than
 * APM_GROUPS_MAX.
 */
extern void apm_groups_of(const Oid *roles, int n, ApmGroups *out);

/* Has the member the role's rights without acting as it?  Being superuser does not count. */
extern bool apm_role_inherits(Oid member, Oid role);

#endif /* APM_GROUPS_H */
