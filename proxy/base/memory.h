#ifndef HOLDFAST_BASE_MEMORY_H
#define HOLDFAST_BASE_MEMORY_H

/*
 * Zeroed memory for structs that hold a bson_t: its 128-byte alignment is more than calloc() gives.
 * Any thread. Give the result to free().
 */

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* `alignment`: _Alignof of the element, a power of two. NULL: out of memory. */
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

#endif
