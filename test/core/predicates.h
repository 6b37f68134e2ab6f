/*
 * predicates.h
 *	  Predicates written in prefix order, one call a node.
 */
#ifndef APM_TEST_PREDICATES_H
#define APM_TEST_PREDICATES_H

#include <string.h>

#include "core/predicate.h"

static inline void
p_op(ApmBuf *p, ApmOperator op)
{
	apm_put_u8(p, op);
}

/* and, or */
static inline void
p_group(ApmBuf *p, ApmOperator op, uint8_t count)
{
	apm_put_u8(p, op);
	apm_put_u8(p, count);
}

static inline void
p_integer(ApmBuf *p, int64_t value)
{
	apm_put_u8(p, APM_OP_INTEGER);
	apm_put_u64(p, (uint64_t) value);
}

static inline void
p_text(ApmBuf *p, const char *text)
{
	apm_put_u8(p, APM_OP_TEXT);
	apm_put_bytes(p, text, strlen(text));
}

static inline void
p_field(ApmBuf *p, ApmTermField field)
{
	apm_put_u8(p, APM_OP_FIELD);
	apm_put_u8(p, field);
}

static inline void
p_public(ApmBuf *p, const char *name)
{
	apm_put_u8(p, APM_OP_PUBLIC);
	apm_put_bytes(p, name, strlen(name));
}

static inline void
p_count(ApmBuf *p, ApmCounter counter, uint32_t seconds)
{
	apm_put_u8(p, APM_OP_COUNT);
	apm_put_u8(p, counter);
	apm_put_u32(p, seconds);
}

static inline void
p_role(ApmBuf *p, uint16_t roles)
{
	apm_put_u8(p, APM_OP_ROLE);
	apm_put_u16(p, roles);
}

static inline ApmSlice
p_slice(const ApmBuf *p)
{
	return APM_SLICE(p->data, p->len);
}

/* counter within seconds < limit */
static inline void
p_limit(ApmBuf *p, ApmCounter counter, uint32_t seconds, int64_t limit)
{
	p_op(p, APM_OP_LT);
	p_count(p, counter, seconds);
	p_integer(p, limit);
}

#endif /* APM_TEST_PREDICATES_H */
