#ifndef HOLDFAST_BASE_BUFFER_H
#define HOLDFAST_BASE_BUFFER_H

/*
 * A byte buffer that grows up to a hard limit.
 *
 *     data                    size                capacity          limit
 *      |--- bytes held --------|--- room, allocated --|--- may grow ----|
 *
 * Bytes are put in at the end (buffer_append(), or buffer_reserve(), writing at data + size and
 * buffer_grew()) and taken from the front (buffer_consume()). At the limit an append fails with
 * STATUS_LIMIT and the buffer is as it was: memory that depends on a peer stays bounded.
 *
 * Any pointer or slice into the buffer dies with the next call that may change it.
 * One thread at a time per buffer. A zeroed struct with a limit set is an empty buffer.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "holdfast/error.h"
#include "holdfast/slice.h"

struct buffer {
    uint8_t *data; /* NULL while capacity is 0 */
    size_t size;
    size_t capacity;
    size_t limit;
};

/* An empty buffer that owns no memory yet. */
void buffer_init(struct buffer *buffer, size_t limit);

/* Whether the invariant of the picture holds; false for NULL. */
bool buffer_validate(const struct buffer *buffer);

/* Makes room for `size` more bytes at data + size. Errors: STATUS_LIMIT, STATUS_MEMORY. */
MUST_CHECK enum status buffer_reserve(struct buffer *buffer, size_t size);

/* Counts `size` bytes that the caller wrote into reserved room. */
void buffer_grew(struct buffer *buffer, size_t size);

/* Copies `size` bytes to the end; all or nothing. Errors: STATUS_LIMIT, STATUS_MEMORY. */
MUST_CHECK enum status buffer_append(struct buffer *buffer, const void *data, size_t size);

/* Drops `size` bytes (at most buffer->size) from the front; what is left moves there. */
void buffer_consume(struct buffer *buffer, size_t size);

/* Empties the buffer and keeps its memory for the next use. */
void buffer_clear(struct buffer *buffer);

/* Empties the buffer and releases its memory; it may be used again. NULL and twice are harmless. */
void buffer_free(struct buffer *buffer);

/* The bytes held. */
static inline struct slice buffer_slice(const struct buffer *buffer)
{
    return slice_make(buffer->data, buffer->size);
}

#endif
