/*
 * item.h
 *	  What a contract transaction changes: a list of items.
 *
 * Encoding of an item: u8 type and then
 *
 *		policy			u16 key, u64 value
 *		purpose, reason	u16 code (1 to 999; 0: the one after the last that is listed), name
 *		template		name, u8 kind, template's public fields (field.h) as u32-length bytes
 *		rule			name, u8 kind, predicate (predicate.h) as u32-length bytes
 *		data rule		name, attribute, check: canonical JSON text, u8 on violation
 *		drop ...		name
 *
 * A contract transaction carries 1 to APM_ITEMS_MAX of them, at most APM_ITEMS_BYTES
 * together.  Items are applied in their order.  A template, rule or data rule whose name is in force
 * replaces that; dropping what is not in force is refused.
 *
 * Site rules are numbered from APM_SITE_RULE on in the order in which the chain admitted
 * them, replacements included: that is the code of their verdict.
 */
#ifndef APM_CORE_ITEM_H
#define APM_CORE_ITEM_H

#include "bytes.h"

#define APM_ITEMS_MAX 64
#define APM_ITEMS_BYTES (64 * 1024)
#define APM_ITEM_NAME_MAX 63 /* a lower case letter, then lower case letters, digits, _ and - */
#define APM_ITEM_NEXT_CODE 0
#define APM_CHECK_MAX 4096
#define APM_ATTRIBUTE_MAX 1024
#define APM_SITE_RULE 1000

typedef enum ApmItemType
{
	APM_ITEM_POLICY = 1,
	APM_ITEM_PURPOSE = 2,
	APM_ITEM_REASON = 3,
	APM_ITEM_TEMPLATE = 4,
	APM_ITEM_RULE = 5,
	APM_ITEM_DATA_RULE = 6,
	APM_ITEM_DROP_TEMPLATE = 7,
	APM_ITEM_DROP_RULE = 8,
	APM_ITEM_DROP_DATA_RULE = 9
} ApmItemType;

typedef enum ApmViolation
{
	APM_VIOLATION_REFUSE = 1, /* the APM does not accept the record */
	APM_VIOLATION_FLAG = 2	  /* it accepts it and says so in the transaction */
} ApmViolation;

typedef struct ApmItem
{
	uint8_t type; /* ApmItemType */
	uint16_t key; /* policy's key; purpose's or reason's code */
	uint64_t value;
	ApmSlice name;
	uint8_t kind;		/* ApmKind, of template and rule */
	ApmSlice body;		/* template's fields, predicate, check */
	ApmSlice attribute; /* of data rule; UTF-8 */
	uint8_t violation;	/* ApmViolation, of data rule */
} ApmItem;

extern ApmStatus apm_item_put(const ApmItem *item, ApmBuf *out); /* APM_ERR_RANGE beyond its bounds */
/* Reads the next item; slices point into the input.  A fault is the reader's. */
extern void apm_item_get(ApmReader *r, ApmItem *out);
extern bool apm_item_name_ok(ApmSlice name);

#endif /* APM_CORE_ITEM_H */
