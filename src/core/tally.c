/*
 * tally.c
 *	  Counters as points in time.
 *
 * The points of a subject are kept ascending by time.  New ones come at the end, so that
 * applying a chain block by block appends; a window's begin is found by halving.
 */
#include "tally.h"

#include <string.h>

#include "room.h"

#define US_PER_SECOND UINT64_C(1000000)

typedef struct Point
{
	uint64_t time_us;
	uint64_t total;
} Point;

typedef struct Points
{
	Point *v; /* ascending by time, none twice */
	size_t n;
	size_t capacity;
} Points;

ApmStatus
apm_tally_init(ApmTally *tally)
{
	return apm_map_init(&tally->subjects, sizeof(Points));
}

static void
free_points(ApmTally *tally)
{
	size_t at = 0;
	const ApmDigest *subject;
	void *value;

	if (tally->subjects.count == 0)
		return;
	while (apm_map_next(&tally->subjects, &at, &subject, &value))
		apm_core_free(((Points *) value)->v);
}

void
apm_tally_free(ApmTally *tally)
{
	free_points(tally);
	apm_map_free(&tally->subjects);
}

void
apm_tally_clear(ApmTally *tally)
{
	free_points(tally);
	apm_map_clear(&tally->subjects);
}

/* How many points are not after that time. */
static size_t
points_until(const Points *points, uint64_t time_us)
{
	size_t low = 0;
	size_t high = points->n;

	while (low < high)
	{
		size_t middle = low + (high - low) / 2;

		if (points->v[middle].time_us <= time_us)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static ApmStatus
put_point(Points *points, uint64_t time_us, uint64_t total)
{
	size_t at = points_until(points, time_us);
	Point *v;

	if (at > 0 && points->v[at - 1].time_us == time_us)
	{
		if (total > points->v[at - 1].total)
			points->v[at - 1].total = total;
		return APM_OK;
	}
	v = apm_room(points->v, &points->capacity, points->n + 1, sizeof(Point));
	if (v == NULL)
		return APM_ERR_MEMORY;
	points->v = v;
	memmove(&points->v[at + 1], &points->v[at], (points->n - at) * sizeof(Point));
	points->v[at] = (Point){time_us, total};
	points->n++;
	return APM_OK;
}

ApmStatus
apm_tally_point(ApmTally *tally, const ApmDigest *subject, uint64_t time_us, uint64_t total)
{
	void *value;
	ApmStatus status = apm_map_put(&tally->subjects, subject, &value);

	return status == APM_OK ? put_point(value, time_us, total) : status;
}

ApmStatus
apm_tally_add(ApmTally *tally, const ApmDigest *subject, uint64_t time_us)
{
	void *value;
	Points *points;
	ApmStatus status = apm_map_put(&tally->subjects, subject, &value);

	if (status != APM_OK)
		return status;
	points = value;
	return put_point(points, time_us, points->n == 0 ? 1 : points->v[points->n - 1].total + 1);
}

uint64_t
apm_tally_count(const ApmTally *tally, const ApmDigest *subject, uint32_t seconds, uint64_t now_us)
{
	const Points *points = apm_map_find(&tally->subjects, subject);
	uint64_t window_us = seconds * US_PER_SECOND;
	uint64_t newest;
	uint64_t base;
	size_t before;

	if (points == NULL || points->n == 0)
		return 0;
	newest = points->v[points->n - 1].total;
	if (seconds == 0 || now_us < window_us)
		return newest;
	before = points_until(points, now_us - window_us);
	base = before > 0 ? points->v[before - 1].total : 0;
	return newest > base ? newest - base : 0;
}
