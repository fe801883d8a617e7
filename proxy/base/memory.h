#ifndef HOLDFAST_BASE_MEMORY_H
#define HOLDFAST_BASE_MEMORY_H

/*
 * Memory that malloc() and its kin do not give as it is needed. Any thread. Give the results to
 * free().
 */

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/*
 * Zeroed, for structs that hold a bson_t: its 128-byte alignment is more than calloc() gives.
 * `alignment`: _Alignof of the element, a power of two. NULL: out of memory.
 */
static inline void *memory_new_aligned(size_t count, size_t element_size, size_t alignment)
{
    if (element_size != 0 && count > (SIZE_MAX - alignment) / element_size) {
        return NULL;
    }
    size_t size = (count * element_size + alignment - 1) / alignment * alignment;
    void *memory = aligned_alloc(alignment, size == 0 ? alignment : size);
    if (memory != NULL) {
        memset(memory, 0, size);
    }
    return memory;
}

/*
 * Room for one more in an array of `count` that grows by doubling, for elements without such an
 * alignment: `items` (NULL for an empty one), or where it has moved to. NULL: out of memory;
 * `items` and *capacity are as they were.
 */
static inline void *memory_reserve(void *items, size_t count, size_t *capacity, size_t item_size)
{
    if (count < *capacity) {
        return items;
    }
    size_t wanted = *capacity == 0 ? 16 : *capacity * 2;
    void *more = reallocarray(items, wanted, item_size);
    if (more != NULL) {
        *capacity = wanted;
    }
    return more;
}

#endif
