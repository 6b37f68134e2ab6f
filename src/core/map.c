/*
 * map.c
 *	  Open addressing with linear probing in a table that is at most half full.
 *
 * The hash is pair-multiply-shift (Thorup, "High speed hashing for integers and strings",
 * section 3.5): the key's four words, each with a secret added, multiplied in pairs, the
 * upper half of the sum taken.  For secrets that the chooser of keys does not know, two
 * keys meet no more often than by chance.
 */
#include "map.h"

#include <string.h>

#define FIRST_CAPACITY 16

ApmStatus
apm_map_init(ApmMap *map, size_t value_size)
{
	memset(map, 0, sizeof(*map));
	map->value_size = value_size;
	return apm_random(map->seed, sizeof(map->seed));
}

void
apm_map_free(ApmMap *map)
{
	apm_core_free(map->keys);
	memset(map, 0, sizeof(*map));
}

void
apm_map_clear(ApmMap *map)
{
	if (map->count < map->capacity / 8)
	{
		apm_core_free(map->keys);
		map->keys = NULL;
		map->capacity = 0;
	}
	else if (map->count > 0)
		memset(map->used, 0, map->capacity * sizeof(bool));
	map->count = 0;
}

static uint64_t
hash_key(const ApmMap *map, const ApmDigest *key)
{
	uint64_t w[4];
	unsigned __int128 sum;

	memcpy(w, key->bytes, sizeof(w));
	sum = (unsigned __int128) (map->seed[0] + w[0]) * (map->seed[1] + w[1]);
	sum += (unsigned __int128) (map->seed[2] + w[2]) * (map->seed[3] + w[3]);
	sum += map->seed[4];
	return (uint64_t) (sum >> 64);
}

/* The place of the key, or the free place where it belongs.  The table is never full. */
static size_t
place_of(const ApmMap *map, const ApmDigest *key)
{
	size_t at = hash_key(map, key) & (map->capacity - 1);

	while (map->used[at] && memcmp(&map->keys[at], key, sizeof(*key)) != 0)
		at = (at + 1) & (map->capacity - 1);
	return at;
}

static ApmStatus
grow(ApmMap *map)
{
	ApmMap bigger = *map;
	uint8_t *memory;

	bigger.capacity = map->capacity == 0 ? FIRST_CAPACITY : map->capacity * 2;
	memory = apm_core_alloc(bigger.capacity * (sizeof(ApmDigest) + map->value_size + sizeof(bool)), false);
	if (memory == NULL)
		return APM_ERR_MEMORY;
	/* the keys' length is a multiple of 32, so the values that follow are aligned for any type */
	bigger.keys = (ApmDigest *) memory;
	bigger.values = memory + bigger.capacity * sizeof(ApmDigest);
	bigger.used = (bool *) (bigger.values + bigger.capacity * map->value_size);

	for (size_t i = 0; i < map->capacity; i++)
	{
		size_t at;

		if (!map->used[i])
			continue;
		at = place_of(&bigger, &map->keys[i]);
		bigger.used[at] = true;
		bigger.keys[at] = map->keys[i];
		memcpy(bigger.values + at * map->value_size, map->values + i * map->value_size, map->value_size);
	}
	apm_core_free(map->keys);
	*map = bigger;
	return APM_OK;
}

void *
apm_map_find(const ApmMap *map, const ApmDigest *key)
{
	size_t at;

	if (map->capacity == 0)
		return NULL;
	at = place_of(map, key);
	return map->used[at] ? map->values + at * map->value_size : NULL;
}

ApmStatus
apm_map_put(ApmMap *map, const ApmDigest *key, void **value)
{
	size_t at;

	if (map->count >= map->capacity / 2)
	{
		ApmStatus status = grow(map);

		if (status != APM_OK)
			return status;
	}
	at = place_of(map, key);
	if (!map->used[at])
	{
		map->used[at] = true;
		map->keys[at] = *key;
		memset(map->values + at * map->value_size, 0, map->value_size);
		map->count++;
	}
	*value = map->values + at * map->value_size;
	return APM_OK;
}

bool
apm_map_next(const ApmMap *map, size_t *at, const ApmDigest **key, void **value)
{
	for (; *at < map->capacity; (*at)++)
	{
		if (!map->used[*at])
			continue;
		*key = &map->keys[*at];
		*value = map->values + *at * map->value_size;
		(*at)++;
		return true;
	}
	return false;
}
