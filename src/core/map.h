/*
 * map.h
 *	  A hash table from 32-byte keys to values of one size; what the contract's state
 *	  is kept in.  Private to src/core.
 *
 * The keys are digests and ids, many of which a hostile submitter can choose by trying,
 * so their own bits do not serve as a hash: they go through a universal hash whose
 * multipliers are random in each process that makes a map, and nobody outside can aim at
 * one place of the table.
 *
 * Single entries are never removed.  A value's address holds until the next apm_map_put().
 */
#ifndef APM_CORE_MAP_H
#define APM_CORE_MAP_H

#include "bytes.h"

typedef struct ApmMap
{
	uint64_t seed[5];
	size_t value_size;
	size_t capacity; /* 0 or a power of two */
	size_t count;
	ApmDigest *keys; /* start of the one allocation that holds all three arrays */
	uint8_t *values;
	bool *used;
} ApmMap;

extern ApmStatus apm_map_init(ApmMap *map, size_t value_size);
extern void apm_map_free(ApmMap *map); /* not what values point to */
/* Takes all entries out, and keeps the room if most of it was used. */
extern void apm_map_clear(ApmMap *map);
/* NULL when the key is not there */
extern void *apm_map_find(const ApmMap *map, const ApmDigest *key);
/* Finds the key or enters it with a value of zeros. */
extern ApmStatus apm_map_put(ApmMap *map, const ApmDigest *key, void **value);
/* One entry after the other, in no order: start with *at = 0; false at the end. */
extern bool apm_map_next(const ApmMap *map, size_t *at, const ApmDigest **key, void **value);

#endif /* APM_CORE_MAP_H */
