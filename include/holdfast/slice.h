#ifndef HOLDFAST_SLICE_H
#define HOLDFAST_SLICE_H

/*
 * A view of bytes that somebody else owns, and the checked reads through which all bytes of a peer
 * or of a file pass. This is the only file that does pointer arithmetic on such bytes.
 *
 * Every slice_take_*() returns false and leaves both the slice and the output untouched when too
 * few bytes are left. A slice is valid as long as the memory it looks at.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "holdfast/error.h"

struct slice {
    const uint8_t *data; /* may be NULL only if size is 0 */
    size_t size;         /* bytes */
};

static inline struct slice slice_make(const void *data, size_t size)
{
    return (struct slice){.data = data, .size = size};
}

static inline struct slice slice_text(const char *text)
{
    return slice_make(text, strlen(text));
}

static inline bool slice_equal(struct slice a, struct slice b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

/* Byte by byte, as unsigned numbers; of two that begin alike the shorter one is less. */
static inline int slice_compare(struct slice a, struct slice b)
{
    size_t common = a.size < b.size ? a.size : b.size;
    int order = common == 0 ? 0 : memcmp(a.data, b.data, common);
    return order != 0 ? order : (a.size > b.size) - (a.size < b.size);
}

/* Cuts `size` bytes off the front of *slice. */
MUST_CHECK static inline bool slice_take(struct slice *slice, size_t size, struct slice *ret_front)
{
    if (slice->size < size) {
        return false;
    }
    *ret_front = slice_make(slice->data, size);
    slice->data = size == 0 ? slice->data : slice->data + size;
    slice->size -= size;
    return true;
}

/* Where `part`, which was cut out of `whole`, begins in it. */
static inline size_t slice_offset(struct slice whole, struct slice part)
{
    return (size_t)(part.data - whole.data);
}

/* Little-endian integers: BSON and the MongoDB wire protocol. */
static inline uint32_t slice_load_u32le(const uint8_t *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static inline void slice_store_u32le(uint8_t *at, uint32_t value)
{
    at[0] = (uint8_t)value;
    at[1] = (uint8_t)(value >> 8);
    at[2] = (uint8_t)(value >> 16);
    at[3] = (uint8_t)(value >> 24);
}

/* Big-endian integers: journal keys and headers, so that byte order is number order. */
static inline uint64_t slice_load_u64be(const uint8_t *at)
{
    uint64_t value = 0;
    for (int i = 0; i < 8; i++) {
        value = value << 8 | at[i];
    }
    return value;
}

static inline void slice_store_u64be(uint8_t *at, uint64_t value)
{
    for (int i = 7; i >= 0; i--) {
        at[i] = (uint8_t)value;
        value >>= 8;
    }
}

static inline uint32_t slice_load_u32be(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | (uint32_t)at[3];
}

static inline void slice_store_u32be(uint8_t *at, uint32_t value)
{
    at[0] = (uint8_t)(value >> 24);
    at[1] = (uint8_t)(value >> 16);
    at[2] = (uint8_t)(value >> 8);
    at[3] = (uint8_t)value;
}

MUST_CHECK static inline bool slice_take_u8(struct slice *slice, uint8_t *ret_value)
{
    struct slice front;
    if (!slice_take(slice, 1, &front)) {
        return false;
    }
    *ret_value = front.data[0];
    return true;
}

MUST_CHECK static inline bool slice_take_u32le(struct slice *slice, uint32_t *ret_value)
{
    struct slice front;
    if (!slice_take(slice, 4, &front)) {
        return false;
    }
    *ret_value = slice_load_u32le(front.data);
    return true;
}

/* Where the first NUL is, or slice.size. Names are short: most end before a call would pay off. */
static inline size_t slice_find_nul(struct slice slice)
{
    size_t at = 0;
    for (; at < slice.size && at < 16; at++) {
        if (slice.data[at] == 0) {
            return at;
        }
    }
    const uint8_t *found = at == slice.size ? NULL : memchr(slice.data + at, 0, slice.size - at);
    return found == NULL ? slice.size : (size_t)(found - slice.data);
}

/* Cuts a NUL-terminated string; *ret_text includes no NUL in its size but one follows it. */
MUST_CHECK static inline bool slice_take_cstring(struct slice *slice, struct slice *ret_text)
{
    size_t size = slice_find_nul(*slice);
    if (size == slice->size) {
        return false;
    }
    *ret_text = slice_make(slice->data, size);
    slice->data += size + 1;
    slice->size -= size + 1;
    return true;
}

/* What follows the first `from` bytes; empty if there are not so many. */
static inline struct slice slice_rest(struct slice slice, size_t from)
{
    struct slice skipped;
    return slice_take(&slice, from, &skipped) ? slice : (struct slice){0};
}

/* The first `size` bytes; empty if there are not so many. */
static inline struct slice slice_front(struct slice slice, size_t size)
{
    struct slice front = {0};
    return slice_take(&slice, size, &front) ? front : (struct slice){0};
}

#endif
