/*
 * room.c
 *	  Arrays that grow, by doubling, from memory that cannot be resized in place.
 */
#include "room.h"

#include <string.h>

#define FIRST_CAPACITY 4

void *
apm_room(void *array, size_t *capacity, size_t count, size_t size)
{
	size_t wanted = *capacity == 0 ? FIRST_CAPACITY : *capacity;
	void *bigger;

	if (count <= *capacity)
		return array;
	while (wanted < count)
		wanted *= 2;
	bigger = apm_core_alloc(wanted * size, false);
	if (bigger == NULL)
		return NULL;
	if (*capacity > 0)
		memcpy(bigger, array, *capacity * size);
	apm_core_free(array);
	*capacity = wanted;
	return bigger;
}
