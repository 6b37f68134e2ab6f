/*
 * consent.c
 *	  apm_grant_access(), apm_revoke_access(): a patient's word about who may read him.
 *
 * A registrar enters what the patient says.  It goes to the chain as a transaction and holds from the
 * block that admits it; the contract alone decides what it means.  What the origin adds is what the contract cannot know
 * by itself: which roles the acting role and the login belong to.  Both, because many people share one
 * login: whoever can become a reader can grant that reader nothing.
 *
 * A grantee is a role of this server.  On the chain it is a pseudonym, made of its name, which the origin resolves
 * (apm.staff).  A role that is renamed is another grantee.
 *
 * What can be told at once is refused at once: who may not enter consent, an unknown patient or role,
 * a grant to oneself.  The contract refuses the same, and more, when the block is made.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/catalog.h"
#include "fmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "anonymize/consent.h"
#include "anonymize/gate.h"
#include "anonymize/groups.h"
#include "anonymize/publicfield.h"
#include "apm_errors.h"
#include "apm_loghook.h"

PG_FUNCTION_INFO_V1(apm_grant_access);
PG_FUNCTION_INFO_V1(apm_revoke_access);

void
apm_consent_groups(const ApmActing *who, ApmGroups *out)
{
	Oid roles[] = {who->actor.role, who->actor.login};

	apm_groups_of(roles, lengthof(roles), out);
}

void
apm_consent_refuse_self(const char *doing)
{
	ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("permission denied to %s", doing),
					errdetail("Rule \"%s\" of the contract: %s.", apm_rule_name(APM_RULE_SELF),
							  apm_rule_text(APM_RULE_SELF)),
					errhint("What counts is what the acting role and the login are, and are members of.")));
}

ApmUuid
apm_consent_send(ApmOutgoing *out, ApmTransaction *tx, Jsonb *fields)
{
	ApmBuf encoded = {0};
	ApmUuid tid;

	apm_public_fields_read(fields, &encoded);
	tx->fields = APM_SLICE(encoded.data, encoded.len);
	apm_staff_note(out->who);
	tid = out->items[apm_outgoing_add(out, tx)].tid;
	apm_outgoing_send(out);
	/* a withdrawal that was acknowledged and lost would be worse than a slow one, whatever the client has set */
	ForceSyncCommit();
	return tid;
}

/* What the patient says, as the arguments have it. */
typedef struct Word
{
	ApmConsentFields consent; /* all but aPid and groups */
	ApmSlice pid;
	const NameData *grantee; /* NULL: everybody */
	Jsonb *fields;			 /* public fields; NULL: none */
} Word;

static void
enter_grantee(const NameData *grantee, Word *word)
{
	word->grantee = grantee;
	apm_role_pseudonym(NameStr(*grantee), word->consent.grantee);
}

/*
 * Raises 42704 unless the grantee is a role; what a role that is gone was granted can be taken back.  Predefined roles
 * are nobody's groups.  In a section.
 */
static void
check_grantee(const Word *word)
{
	const char *name = NameStr(*word->grantee);
	NameData acting;
	NameData login;

	if (!IsReservedName(name) && OidIsValid(get_role_oid(name, true)))
		return;
	if (word->consent.action == APM_CONSENT_REVOKE && apm_staff_find(word->consent.grantee, &acting, &login))
		return;
	ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("the grantee is no role of this server"),
					errhint("Access is granted to a role that somebody can act as, or to a group of such.")));
}

/* The end of a grant, in microseconds since 1970; 0 for none. */
static uint64
end_of_grant(TimestampTz until)
{
	if (TIMESTAMP_IS_NOEND(until))
		return 0;
	if (until <= GetCurrentTimestamp())
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the grant would have ended already"),
				 errhint("Access is taken back with apm_revoke_access().")));
	return apm_us_of(until);
}

/* Sends it, in the caller's transaction; answers its Tid. */
static ApmUuid
send_word(const ApmActing *who, const Word *word)
{
	ApmTransaction tx = {.kind = APM_KIND_CONSENT};
	char apid[APM_APID_MAX + 1];
	ApmSection section;
	ApmOutgoing out;
	ApmPid pid;
	ApmUuid tid;

	apm_section_begin(&section);
	apm_outgoing_start(&out, who);
	tx.u.consent = word->consent;
	apm_consent_groups(who, &tx.u.consent.groups);
	if (word->grantee != NULL)
	{
		check_grantee(word);
		/* the contract refuses it, too; but the registrar should hear of it now */
		if (word->consent.action == APM_CONSENT_GRANT &&
			apm_groups_have(&tx.u.consent.groups, word->consent.grantee))
			apm_consent_refuse_self("grant oneself access");
		apm_staff_note_role(word->grantee);
	}
	apm_pid_read(word->pid, &pid);
	if (apm_patient_find(&pid.index, apid) != APM_FOUND_PATIENT)
		ereport(ERROR, (errcode(ERRCODE_APM_UNKNOWN_PATIENT), errmsg("no such patient is registered"),
						errhint("Patients are registered with apm_register_patient().")));
	tx.u.consent.apid = APM_SLICE(apid, strlen(apid));
	tid = apm_consent_send(&out, &tx, word->fields);
	apm_section_end(&section);
	return tid;
}

/*
 * apm_grant_access(pid text, grantee name, until timestamptz DEFAULT NULL, purpose text DEFAULT NULL,
 * fields jsonb DEFAULT NULL)
 */
Datum
apm_grant_access(PG_FUNCTION_ARGS)
{
	Word word = {.consent.action = APM_CONSENT_GRANT};
	ApmActing who;
	ApmUuid tid;

	apm_hide_statement();
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("pid and grantee must not be null")));
	apm_acting(&who);
	apm_acting_require(&who, APM_ROLE_REGISTRAR, "enter a patient's consent");
	word.pid = APM_SLICE_OF(PG_GETARG_TEXT_PP(0));
	enter_grantee(PG_GETARG_NAME(1), &word);
	if (!PG_ARGISNULL(2))
		word.consent.until_us = end_of_grant(PG_GETARG_TIMESTAMPTZ(2));
	word.consent.purpose = apm_gate_purpose(PG_ARGISNULL(3) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(3)));
	word.fields = PG_ARGISNULL(4) ? NULL : PG_GETARG_JSONB_P(4);
	tid = send_word(&who, &word);
	PG_RETURN_DATUM(apm_uuid_datum(&tid));
}

/*
 * apm_revoke_access(pid text, grantee name DEFAULT NULL, purpose text DEFAULT NULL, fields jsonb DEFAULT NULL):
 * without a grantee the patient withdraws, for everybody.
 */
Datum
apm_revoke_access(PG_FUNCTION_ARGS)
{
	Word word = {.consent.action = APM_CONSENT_REVOKE};
	ApmActing who;
	ApmUuid tid;

	apm_hide_statement();
	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("the pid must not be null")));
	apm_acting(&who);
	apm_acting_require(&who, APM_ROLE_REGISTRAR, "enter a patient's consent");
	word.pid = APM_SLICE_OF(PG_GETARG_TEXT_PP(0));
	if (!PG_ARGISNULL(1))
		enter_grantee(PG_GETARG_NAME(1), &word);
	word.consent.purpose = apm_gate_purpose(PG_ARGISNULL(2) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(2)));
	word.fields = PG_ARGISNULL(3) ? NULL : PG_GETARG_JSONB_P(3);
	tid = send_word(&who, &word);
	PG_RETURN_DATUM(apm_uuid_datum(&tid));
}
