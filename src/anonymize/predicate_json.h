/*
 * predicate_json.h
 *	  Predicates of site rules and fields of templates, from the JSON that an administrator writes.
 */
#ifndef APM_PREDICATE_JSON_H
#define APM_PREDICATE_JSON_H

#include "postgres.h"

#include "utils/jsonb.h"

#include "core/transaction.h"

/*
 * Appends the encoding (core/predicate.h) of a condition for transactions of that kind; the form is that which
 * apm.contract shows (chain/item_json.h).  Raises 22023 with the place of what is not right.
 */
extern void apm_predicate_read(Jsonb *json, ApmKind kind, ApmBuf *out);

/* The same for the fields of a template (core/field.h). */
extern void apm_template_read(Jsonb *json, ApmBuf *out);

#endif /* APM_PREDICATE_JSON_H */
