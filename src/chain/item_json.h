/*
 * item_json.h
 *	  Items of the contract as JSON that people read.
 */
#ifndef APM_CHAIN_ITEM_JSON_H
#define APM_CHAIN_ITEM_JSON_H

#include "postgres.h"

#include "lib/stringinfo.h"

#include "core/item.h"

/*
 * What the item says, in the server's encoding:
 *
 *		policy				its word or number
 *		purpose, reason		its code
 *		template			{"ward": {"type": "code", "codes": ["a", "b"], "required": true},
 *							 "bed": {"type": "integer", "least": 1, "most": 9, "required": false}}
 *		rule				the condition that must hold
 *		data rule			{"attribute": ..., "check": ..., "violation": "refuse"}
 *
 * Conditions are {"and": [c, ...]}, {"or": [c, ...]}, {"not": c}, {"role": ["apm_clinician", ...]},
 * {"in": [operand, [constant, ...]]}, and {"eq": [operand, operand]}, ne, lt, le, gt, ge; operands are
 * numbers, strings, {"field": "hour"}, {"public": "ward"} and {"count": "actor.queries", "within": 3600},
 * in seconds, which counts for ever without them.
 *
 * APM_ERR_FORMAT if the item cannot be read.
 */
extern ApmStatus apm_item_json(const ApmItem *item, StringInfo out);

#endif /* APM_CHAIN_ITEM_JSON_H */
