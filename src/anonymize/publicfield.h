/*
 * publicfield.h
 *	  Public fields of a transaction (core/field.h), from JSON.
 */
#ifndef APM_PUBLICFIELD_H
#define APM_PUBLICFIELD_H

#include "postgres.h"

#include "anonymize/jsontext.h"
#include "core/contract.h"
#include "core/field.h"

/*
 * Appends the encoding of what a caller gives as public fields; NULL and the empty object are none.  Raises
 * 22023 for what is no object of public fields, and 54000 for too many.
 */
extern void apm_public_fields_read(Jsonb *given, ApmBuf *out);

/* Has the contract a template for records? */
extern bool apm_public_fields_asked(const ApmContractState *contract);

/*
 * Appends the encoding of a record's attributes that a template for records has in force: those of the
 * first template, by name, of which the record has all that must be there.  If it has them of none, raises
 * 22023 with refuse, or leaves it to the contract to refuse the record.
 */
extern void apm_public_fields_pick(const ApmFields *record, const ApmContractState *contract, bool refuse,
								   ApmBuf *out);

#endif /* APM_PUBLICFIELD_H */
