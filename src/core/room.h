/*
 * room.h
 *	  Arrays that grow.  Private to src/core.
 */
#ifndef APM_CORE_ROOM_H
#define APM_CORE_ROOM_H

#include "bytes.h"

/*
 * An array with room for count entries of that size: the one given, or a larger one that holds the same and
 * zeros behind it.  NULL when there is no memory, and then the one given stands.  Starts as NULL with
 * capacity 0.
 */
extern void *apm_room(void *array, size_t *capacity, size_t count, size_t size);

#endif /* APM_CORE_ROOM_H */
