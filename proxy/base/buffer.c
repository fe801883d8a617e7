/*
 * The growable byte buffer.
 *
 * Invariant, checked on the way in and out: size <= capacity <= limit, and data is NULL if and only
 * if capacity is 0. Growth doubles, so that n appended bytes cost O(n) copies, but never passes the
 * limit.
 *
 * Threads: one at a time per buffer.
 */

#include "base/buffer.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { CAPACITY_SMALLEST = 256 };

void buffer_init(struct buffer *buffer, size_t limit)
{
    *buffer = (struct buffer){.limit = limit};
}

bool buffer_validate(const struct buffer *buffer)
{
    return buffer != NULL && buffer->size <= buffer->capacity &&
           buffer->capacity <= buffer->limit && (buffer->data == NULL) == (buffer->capacity == 0);
}

enum status buffer_reserve(struct buffer *buffer, size_t size)
{
    assert(buffer_validate(buffer));
    if (size <= buffer->capacity - buffer->size) {
        return STATUS_OK;
    }
    if (size > buffer->limit - buffer->size) {
        return STATUS_LIMIT;
    }
    size_t needed = buffer->size + size;
    size_t capacity = buffer->capacity == 0 ? CAPACITY_SMALLEST : buffer->capacity;
    while (capacity < needed && capacity <= buffer->limit / 2) {
        capacity *= 2;
    }
    if (capacity < needed || capacity > buffer->limit) {
        capacity = buffer->limit;
    }
    uint8_t *data = realloc(buffer->data, capacity);
    if (data == NULL) {
        return STATUS_MEMORY;
    }
    buffer->data = data;
    buffer->capacity = capacity;
    assert(buffer_validate(buffer));
    return STATUS_OK;
}

void buffer_grew(struct buffer *buffer, size_t size)
{
    assert(size <= buffer->capacity - buffer->size);
    buffer->size += size;
}

enum status buffer_append(struct buffer *buffer, const void *data, size_t size)
{
    enum status status = buffer_reserve(buffer, size);
    if (status != STATUS_OK) {
        return status;
    }
    if (size > 0) {
        memcpy(buffer->data + buffer->size, data, size);
    }
    buffer_grew(buffer, size);
    return STATUS_OK;
}

void buffer_consume(struct buffer *buffer, size_t size)
{
    assert(buffer_validate(buffer));
    assert(size <= buffer->size);
    if (size > 0 && size < buffer->size) {
        memmove(buffer->data, buffer->data + size, buffer->size - size);
    }
    buffer->size -= size;
}

void buffer_clear(struct buffer *buffer)
{
    assert(buffer_validate(buffer));
    buffer->size = 0;
}

void buffer_free(struct buffer *buffer)
{
    if (buffer == NULL) {
        return;
    }
    assert(buffer_validate(buffer));
    free(buffer->data);
    *buffer = (struct buffer){.limit = buffer->limit};
}
