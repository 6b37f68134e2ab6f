/*
 * groups.c
 *	  Roles of this server as the chain names them.
 *
 * Who may read is decided by grants to roles, and the contract looks at no table of ours: a query
 * brings the roles along that the acting role belongs to, under the origin's signature, each under a pseudonym
 * that only the origin resolves.
 *
 * Membership is followed through the catalog as is_member_of_role_nosuper() does.  Nothing is kept between
 * calls: the catalog's caches are right whenever a role is granted, revoked, renamed or dropped, and a pseudonym
 * costs a microsecond.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/catalog.h"
#include "catalog/pg_auth_members.h"
#include "catalog/pg_authid.h"
#include "miscadmin.h"
#include "utils/catcache.h"
#include "utils/syscache.h"

#include "anonymize/groups.h"
#include "apm_errors.h"
#include "core/digest.h"
#include "keys/keyring.h"

void
apm_role_pseudonym(const char *name, uint8 out[APM_STAFF_LEN])
{
	ApmBuf labelled = {0};
	ApmSlice part;
	ApmDigest mac;

	/* where the pseudonym of a person has the acting role, which is never without a name */
	apm_put_bytes(&labelled, "", 0);
	apm_put_bytes(&labelled, name, strlen(name));
	apm_check(apm_buf_status(&labelled), "name a role");
	part = APM_SLICE(labelled.data, labelled.len);
	apm_check(apm_hmac_sha256(apm_key_secret(APM_SECRET_STAFF), APM_SECRET_LEN, &part, 1, &mac),
			  "name a role");
	memcpy(out, mac.bytes, APM_STAFF_LEN);
	apm_buf_reset(&labelled);
}

/* Appends the roles that this one was granted and that are not there yet. */
static List *
add_granted(List *roles, Oid member)
{
	CatCList *granted = SearchSysCacheList1(AUTHMEMMEMROLE, ObjectIdGetDatum(member));

	for (int i = 0; i < granted->n_members; i++)
	{
		Form_pg_auth_members row = (Form_pg_auth_members) GETSTRUCT(&granted->members[i]->tuple);

		roles = list_append_unique_oid(roles, row->roleid);
	}
	ReleaseSysCacheList(granted);
	return roles;
}

static bool
inherits(Oid role)
{
	HeapTuple tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(role));
	bool answer = HeapTupleIsValid(tuple) && ((Form_pg_authid) GETSTRUCT(tuple))->rolinherit;

	if (HeapTupleIsValid(tuple))
		ReleaseSysCache(tuple);
	return answer;
}

bool
apm_role_inherits(Oid member, Oid role)
{
	List *all = list_make1_oid(member);
	bool found = member == role;

	/* the list grows while it is walked */
	for (int i = 0; i < list_length(all) && !found; i++)
	{
		if (inherits(list_nth_oid(all, i)))
			all = add_granted(all, list_nth_oid(all, i));
		found = list_member_oid(all, role);
	}
	list_free(all);
	return found;
}

static int
compare_ids(const void *a, const void *b)
{
	return memcmp(a, b, APM_STAFF_LEN);
}

void
apm_groups_of(const Oid *roles, int n, ApmGroups *out)
{
	List *all = NIL;
	uint8 *ids;
	int count = 0;

	for (int i = 0; i < n; i++)
		all = list_append_unique_oid(all, roles[i]);
	/* the list grows while it is walked */
	for (int i = 0; i < list_length(all); i++)
		all = add_granted(all, list_nth_oid(all, i));

	ids = palloc(APM_STAFF_LEN * list_length(all));
	for (int i = 0; i < list_length(all); i++)
	{
		char *name = GetUserNameFromId(list_nth_oid(all, i), true);

		/* dropped just now, or one of PostgreSQL's own */
		if (name == NULL || IsReservedName(name))
			continue;
		apm_role_pseudonym(name, &ids[APM_STAFF_LEN * count++]);
	}
	if (count > APM_GROUPS_MAX)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("the acting role belongs to more than %d roles", APM_GROUPS_MAX),
						errhint("All of them go into the ledger with what it asks.")));
	qsort(ids, count, APM_STAFF_LEN, compare_ids);
	list_free(all);
	out->count = (uint8) count;
	out->ids = ids;
}
