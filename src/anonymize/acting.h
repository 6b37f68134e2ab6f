/*
 * acting.h
 *	  On whose behalf the APM acts, and the sections in which it reads and writes tables.
 */
#ifndef APM_ACTING_H
#define APM_ACTING_H

#include "postgres.h"

#include "apm_sql.h"
#include "apm_time.h"
#include "apm_user.h"
#include "chain/make.h"
#include "core/transaction.h"

/* The Uid of the paper: who acts, and what stands for him on the chain. */
typedef struct ApmActing
{
	ApmActor actor;
	NameData acting;
	NameData login;
	uint8 staff[APM_STAFF_LEN];
} ApmActing;

extern void apm_acting(ApmActing *out);

/* Raises 42501 unless the actor has one of these roles; doing completes "permission denied to ...". */
extern void apm_acting_require(const ApmActing *who, uint16 roles, const char *doing);

/* A sensor may not learn whether a patient exists; whoever has another role besides may. */
extern bool apm_acting_is_sensor(const ApmActing *who);

/* Keeps, in the caller's transaction, who the pseudonym is.  In a section. */
extern void apm_staff_note(const ApmActing *who);
/* The same for the pseudonym of a role (groups.h). */
extern void apm_staff_note_role(const NameData *role);
/*
 * Who a pseudonym is, as it was noted here; login is empty for a role's.  False where it is not known, also
 * where somebody has written another name beside it.  In a section.
 */
extern bool apm_staff_find(const uint8 pseudonym[APM_STAFF_LEN], NameData *acting, NameData *login);
/* What to show for it: who acted, and in *login who had logged in; where it is not known, itself in hex. */
extern const char *apm_staff_text(const uint8 pseudonym[APM_STAFF_LEN], NameData *login);

/*
 * A section: SPI connected, with the rights of apm_worker.  Memory allocated in it goes
 * with its end, secrets wiped, however it ends.
 */
typedef struct ApmSection
{
	ApmPrivileged user;
} ApmSection;

extern void apm_section_begin(ApmSection *section);
extern void apm_section_end(const ApmSection *section);

#endif /* APM_ACTING_H */
