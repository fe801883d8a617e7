/*
 * Where a body ends; see framing.h. Bytes of a body itself are counted, never looked at; those
 * between chunks go one by one through the states, in the order in which framing.h names them.
 *
 * Invariant: after FRAMING_ENDED or FRAMING_BROKEN nothing more is taken.
 */
#include "front/framing.h"

static int digit_value(uint8_t byte)
{
    if (byte >= '0' && byte <= '9') {
        return byte - '0';
    }
    if (byte >= 'a' && byte <= 'f') {
        return byte - 'a' + 10;
    }
    return byte >= 'A' && byte <= 'F' ? byte - 'A' + 10 : -1;
}

static bool is_text(uint8_t byte)
{
    return byte == '\t' || (byte >= ' ' && byte != 0x7f);
}

void framing_start(struct framing *framing, enum framing_kind kind, uint64_t length,
                   bool padding_allowed)
{
    *framing =
        (struct framing){.kind = kind, .state = FRAMING_DATA, .padding_allowed = padding_allowed};
    if (kind == FRAMING_CHUNKED) {
        framing->state = FRAMING_SIZE_FIRST;
    } else if (kind == FRAMING_NONE || (kind == FRAMING_LENGTH && length == 0)) {
        framing->state = FRAMING_ENDED;
    }
    framing->remaining = length;
}

bool framing_is_complete(const struct framing *framing)
{
    return framing->state == FRAMING_ENDED;
}

static enum framing_state after_size(const struct framing *framing, uint8_t byte)
{
    if (byte == '\r') {
        return FRAMING_SIZE_LF;
    }
    if (byte == ';') {
        return FRAMING_EXTENSION;
    }
    return framing->padding_allowed && (byte == ' ' || byte == '\t') ? FRAMING_SIZE_PADDING
                                                                     : FRAMING_BROKEN;
}

static enum framing_state take_size(struct framing *framing, uint8_t byte)
{
    int digit = digit_value(byte);
    if (digit < 0) {
        framing->counted = 0;
        return framing->state == FRAMING_SIZE_FIRST ? FRAMING_BROKEN : after_size(framing, byte);
    }
    if (framing->remaining > UINT64_MAX >> 8) {
        return FRAMING_BROKEN;
    }
    framing->remaining = framing->remaining << 4 | (uint64_t)digit;
    return FRAMING_SIZE;
}

static enum framing_state bounded(struct framing *framing, uint8_t byte, size_t limit)
{
    return is_text(byte) && ++framing->counted <= limit ? framing->state : FRAMING_BROKEN;
}

static enum framing_state expect(uint8_t byte, uint8_t wanted, enum framing_state next)
{
    return byte == wanted ? next : FRAMING_BROKEN;
}

/* The state after one byte between chunks. */
static enum framing_state step(struct framing *framing, uint8_t byte)
{
    switch (framing->state) {
    case FRAMING_SIZE_FIRST:
    case FRAMING_SIZE:
        return take_size(framing, byte);
    case FRAMING_SIZE_PADDING:
        return after_size(framing, byte);
    case FRAMING_EXTENSION:
        return byte == '\r' ? FRAMING_SIZE_LF : bounded(framing, byte, FRAMING_EXTENSION_BYTES_MAX);
    case FRAMING_SIZE_LF:
        framing->counted = 0;
        return expect(byte, '\n', framing->remaining > 0 ? FRAMING_DATA : FRAMING_TRAILER_START);
    case FRAMING_DATA_CR:
        return expect(byte, '\r', FRAMING_DATA_LF);
    case FRAMING_DATA_LF:
        return expect(byte, '\n', FRAMING_SIZE_FIRST);
    case FRAMING_TRAILER_START:
        if (byte == '\r') {
            return FRAMING_END_LF;
        }
        framing->state = FRAMING_TRAILER;
        return byte == ' ' || byte == '\t' || byte == ':'
                   ? FRAMING_BROKEN
                   : bounded(framing, byte, FRAMING_TRAILER_BYTES_MAX);
    case FRAMING_TRAILER:
        return byte == '\r' ? FRAMING_TRAILER_LF
                            : bounded(framing, byte, FRAMING_TRAILER_BYTES_MAX);
    case FRAMING_TRAILER_LF:
        return expect(byte, '\n', FRAMING_TRAILER_START);
    case FRAMING_END_LF:
        return expect(byte, '\n', FRAMING_ENDED);
    case FRAMING_DATA:
    case FRAMING_ENDED:
    case FRAMING_BROKEN:
        break;
    }
    return framing->state;
}

static size_t skip_data(struct framing *framing, size_t size)
{
    size_t skipped = size < framing->remaining ? size : (size_t)framing->remaining;
    framing->remaining -= skipped;
    if (framing->remaining == 0) {
        framing->state = framing->kind == FRAMING_CHUNKED ? FRAMING_DATA_CR : FRAMING_ENDED;
    }
    return skipped;
}

static enum framing_result result_of(const struct framing *framing)
{
    if (framing->state == FRAMING_BROKEN) {
        return FRAMING_MALFORMED;
    }
    return framing->state == FRAMING_ENDED ? FRAMING_COMPLETE : FRAMING_MORE;
}

static bool is_over(const struct framing *framing)
{
    return framing->state == FRAMING_ENDED || framing->state == FRAMING_BROKEN;
}

/* Trailer lines with their ends, as they came; the empty one that ends them is none. */
static bool in_trailers(const struct framing *framing)
{
    return framing->state == FRAMING_TRAILER_START || framing->state == FRAMING_TRAILER ||
           framing->state == FRAMING_TRAILER_LF;
}

enum framing_result framing_take(struct framing *framing, struct slice data, size_t *ret_used)
{
    size_t used = 0;
    if (framing->kind == FRAMING_CLOSE) {
        *ret_used = data.size;
        return FRAMING_MORE;
    }
    while (used < data.size && !is_over(framing)) {
        if (framing->state == FRAMING_DATA) {
            used += skip_data(framing, data.size - used);
        } else {
            framing->trailer_bytes += in_trailers(framing);
            framing->state = step(framing, data.data[used++]);
        }
    }
    *ret_used = used;
    return result_of(framing);
}

enum framing_result framing_take_part(struct framing *framing, struct slice data,
                                      struct framing_part *ret_part)
{
    size_t used = 0;
    size_t from = 0;
    size_t trailers = 0; /* bytes of them, one behind the other */
    *ret_part = (struct framing_part){0};
    if (framing->kind == FRAMING_CLOSE) {
        *ret_part = (struct framing_part){.used = data.size, .body = data};
        return FRAMING_MORE;
    }
    while (used < data.size && !is_over(framing)) {
        if (framing->state == FRAMING_DATA) {
            size_t size = skip_data(framing, data.size - used);
            ret_part->body = slice_front(slice_rest(data, used), size);
            used += size;
            break;
        }
        bool trailing = in_trailers(framing);
        framing->state = step(framing, data.data[used++]);
        if (trailing && in_trailers(framing)) {
            from = trailers == 0 ? used - 1 : from;
            trailers++;
        }
    }
    ret_part->trailers = slice_front(slice_rest(data, from), trailers);
    ret_part->used = used;
    return result_of(framing);
}
