/*
 * head.h
 *	  Digests of the ledger (core/head.h) and what is proved by them, as SQL gives and takes them.  For this room;
 *	  others use apm_chain_head().
 */
#ifndef APM_CHAIN_HEAD_H
#define APM_CHAIN_HEAD_H

#include "postgres.h"

#include "utils/jsonb.h"

#include "chain/identity.h"
#include "core/head.h"

/* The JSON text of a jsonb argument, palloc'd. */
extern ApmSlice apm_json_argument(Jsonb *argument);
/* The jsonb of a JSON text of ours, which it frees.  Raises if the writer ran out of memory. */
extern Datum apm_json_datum(ApmBuf *text);

/* A digest that somebody gives: checked in itself.  Raises 22023 if it is none, or contradicts itself. */
extern void apm_head_argument(Jsonb *argument, ApmHead *out);

/* The last block, as apm_chain_head(); raises AP005 if there is none.  Expects SPI and apm_privileged, as all below. */
extern void apm_head_tip(ApmHead *out);
/* Raises 22023 if the digest is of another chain than this. */
extern void apm_head_of_chain(const ApmHead *head, const ApmChainIdentity *identity);
/* Raises as above, and AP005 if the ledger does not have this head. */
extern void apm_head_of_ledger(const ApmHead *head, const ApmChainIdentity *identity);

#endif /* APM_CHAIN_HEAD_H */
