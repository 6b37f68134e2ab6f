/*
 * test_map.c
 *	  The hash table finds what was put, nothing else, and survives a lack of memory.
 */
#include "core/map.h"

#include "sample.h"

/* Ten thousand keys that differ in their last bytes only, found again, and none that was not put. */
static void
test_map(void)
{
	ApmMap map;
	uint32_t *value;
	void *found;
	const ApmDigest *key;
	size_t at = 0;
	long n = 0;
	long wrong = 0;

	CHECK_OK(apm_map_init(&map, sizeof(uint32_t)));
	for (uint32_t i = 0; i < 20000; i++)
	{
		ApmDigest d = sample_digest(0);

		memcpy(d.bytes + 28, &i, sizeof(i));
		if (i % 2 == 0 && apm_map_put(&map, &d, &found) == APM_OK)
			*(uint32_t *) found = i;
	}
	for (uint32_t i = 0; i < 20000; i++)
	{
		ApmDigest d = sample_digest(0);

		memcpy(d.bytes + 28, &i, sizeof(i));
		value = apm_map_find(&map, &d);
		if ((value != NULL) != (i % 2 == 0) || (value != NULL && *value != i))
			wrong++;
	}
	CHECK(wrong == 0);
	CHECK(map.count == 10000 && map.capacity >= 20000);
	while (apm_map_next(&map, &at, &key, &found))
		n++;
	CHECK(n == 10000);
	apm_map_free(&map);
}

/* Cleared, nothing is found and values begin at zeros again; room that little of was used is given back. */
static void
test_clear(void)
{
	ApmMap map;
	void *value;
	size_t capacity;

	CHECK_OK(apm_map_init(&map, sizeof(uint32_t)));
	for (uint32_t round = 0; round < 2; round++)
	{
		for (uint8_t i = 0; i < 100; i++)
		{
			ApmDigest d = sample_digest(i);

			CHECK(apm_map_find(&map, &d) == NULL);
			CHECK_OK(apm_map_put(&map, &d, &value));
			CHECK(*(uint32_t *) value == 0);
			*(uint32_t *) value = 7;
		}
		capacity = map.capacity;
		apm_map_clear(&map);
		CHECK(map.count == 0 && map.capacity == capacity);
	}
	for (uint8_t i = 0; i < 2; i++)
	{
		ApmDigest d = sample_digest(i);

		CHECK_OK(apm_map_put(&map, &d, &value));
	}
	apm_map_clear(&map);
	CHECK(map.count == 0 && map.capacity == 0);
	apm_map_free(&map);
}

static ApmStatus
put_many(void)
{
	ApmMap map;
	void *value;
	ApmStatus status = apm_map_init(&map, 8);

	for (uint8_t i = 0; i < 100 && status == APM_OK; i++)
	{
		ApmDigest d = sample_digest(i);

		status = apm_map_put(&map, &d, &value);
		if (status == APM_OK)
			CHECK(apm_map_find(&map, &d) == value);
	}
	apm_map_free(&map);
	return status;
}

int
main(void)
{
	test_map();
	test_clear();
	CHECK_EACH_ALLOCATION(put_many);
	return check_summary();
}
