#ifndef HOLDFAST_TESTS_WIRE_BYTES_H
#define HOLDFAST_TESTS_WIRE_BYTES_H

/* What the wire tests share: bytes in memory of exactly their size, and repeatable random numbers.
 */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "holdfast/slice.h"

/*
 * A copy without a spare byte behind it, so that the address sanitizer sees any read past the end.
 * The caller frees it with exact_free().
 */
static inline struct slice exact_copy(const void *bytes, size_t size)
{
    uint8_t *copy = malloc(size == 0 ? 1 : size);
    if (copy == NULL) {
        abort();
    }
    if (size > 0) {
        memcpy(copy, bytes, size);
    }
    return slice_make(copy, size);
}

static inline void exact_free(struct slice bytes)
{
    union {
        const uint8_t *read;
        void *owned;
    } data = {.read = bytes.data};
    free(data.owned);
}

static inline uint32_t random_next(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

/* Changes 1 to 4 bytes, mostly to values that lengths and types are sensitive to. */
static inline void bytes_mutate(uint8_t *bytes, size_t size, uint32_t *state)
{
    static const uint8_t edges[] = {0, 1, 2, 4, 5, 0x0f, 0x7f, 0x80, 0xfe, 0xff};
    uint32_t changes = 1 + random_next(state) % 4;
    for (uint32_t i = 0; i < changes && size > 0; i++) {
        size_t at = random_next(state) % size;
        uint32_t kind = random_next(state) % 3;
        if (kind == 0) {
            bytes[at] = edges[random_next(state) % sizeof(edges)];
        } else if (kind == 1) {
            /* NOLINTNEXTLINE(clang-analyzer-core.uninitialized.Assign): the caller has filled it */
            bytes[at] ^= (uint8_t)(1u << random_next(state) % 8);
        } else {
            bytes[at] = (uint8_t)random_next(state);
        }
    }
}

#endif
