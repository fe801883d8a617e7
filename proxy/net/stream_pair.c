/*
 * Streams that are each other's peer (stream_pair.h).
 *
 *             sides[0].incoming  <---- what sides[1] sends
 *             sides[1].incoming  <---- what sides[0] sends
 *
 * Edges are made by hand: whoever puts bytes in, takes some out for which the other waits, or
 * closes, makes the other's event active; the loop then calls it, never we.
 *
 * Invariant: the pair is freed with the second of its ends.
 * Thread: the loop's.
 */
#include "net/stream_pair.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* Open, but none of the kernel's. */
#define NO_DESCRIPTOR INT_MAX

struct side {
    struct stream *stream; /* NULL: closed */
    struct buffer incoming;
    bool ended; /* sends no more */
};

struct stream_pair {
    struct side sides[2];
    bool aborted;
};

static struct side *own_side(const struct stream *stream)
{
    return &stream->pair->sides[stream->pair->sides[0].stream == stream ? 0 : 1];
}

static struct side *other_side(const struct stream *stream)
{
    return &stream->pair->sides[stream->pair->sides[0].stream == stream ? 1 : 0];
}

static void tell(const struct side *side, short what)
{
    if (side->stream != NULL) {
        event_active(&side->stream->event, what, 0);
    }
}

static ssize_t pair_receive(struct stream *stream, void *memory, size_t size)
{
    struct side *own = own_side(stream);
    const struct side *other = other_side(stream);
    if (stream->pair->aborted) {
        errno = ECONNRESET;
        return -1;
    }
    if (own->incoming.size == 0) {
        errno = EAGAIN;
        return other->ended ? 0 : -1;
    }
    size_t taken = own->incoming.size < size ? own->incoming.size : size;
    memcpy(memory, own->incoming.data, taken);
    buffer_consume(&own->incoming, taken);
    if (own->incoming.size == 0) {
        buffer_free(&own->incoming); /* idle ones keep no memory */
    }
    if (other->stream != NULL && !other->stream->writable) {
        tell(other, EV_WRITE);
    }
    return (ssize_t)taken;
}

static ssize_t pair_send(struct stream *stream, const void *memory, size_t size)
{
    struct side *other = other_side(stream);
    if (stream->pair->aborted || other->stream == NULL || own_side(stream)->ended) {
        errno = EPIPE;
        return -1;
    }
    size_t room = STREAM_PAIR_BYTES_MAX - other->incoming.size;
    size_t sent = room < size ? room : size;
    if (sent == 0 || buffer_append(&other->incoming, memory, sent) != STATUS_OK) {
        errno = sent == 0 ? EAGAIN : ENOBUFS;
        return -1;
    }
    tell(other, EV_READ);
    return (ssize_t)sent;
}

static const struct stream_transport transport_pair = {
    .receive = pair_receive,
    .send = pair_send,
};

static void on_event(evutil_socket_t descriptor, short what, void *context)
{
    (void)descriptor;
    stream_take_event(context, what);
}

static void on_kick(evutil_socket_t descriptor, short what, void *context)
{
    (void)descriptor;
    (void)what;
    stream_take_event(context, EV_READ);
}

static void attach(struct stream_pair *pair, size_t index, struct event_base *base,
                   const struct stream_pair_end *end)
{
    struct stream *stream = end->stream;
    pair->sides[index].stream = stream;
    buffer_init(&pair->sides[index].incoming, STREAM_PAIR_BYTES_MAX);
    stream->pair = pair;
    stream->descriptor = NO_DESCRIPTOR;
    stream->transport = &transport_pair;
    stream->writable = true;
    stream->callbacks = end->callbacks;
    stream->context = end->context;
    (void)event_assign(&stream->event, base, -1, 0, on_event, stream);
    (void)event_assign(&stream->kick_event, base, -1, 0, on_kick, stream);
}

enum status stream_pair_open(struct event_base *base, const struct stream_pair_end *one,
                             const struct stream_pair_end *other)
{
    struct stream_pair *pair = calloc(1, sizeof *pair);
    if (pair == NULL) {
        return STATUS_MEMORY;
    }
    attach(pair, 0, base, one);
    attach(pair, 1, base, other);
    return STATUS_OK;
}

bool stream_pair_is_quiet(const struct stream *stream)
{
    return stream->pair != NULL && !stream->pair->aborted && own_side(stream)->incoming.size == 0 &&
           !other_side(stream)->ended;
}

bool stream_pair_has_ended(const struct stream *stream)
{
    return stream->pair != NULL &&
           (stream->pair->aborted ||
            (own_side(stream)->incoming.size == 0 && other_side(stream)->ended));
}

bool stream_pair_is_alone(const struct stream *stream)
{
    return stream->pair != NULL && other_side(stream)->stream == NULL;
}

bool stream_pair_is_aborted(const struct stream *stream)
{
    return stream->pair != NULL && stream->pair->aborted;
}

void stream_pair_shutdown(struct stream *stream)
{
    own_side(stream)->ended = true;
    tell(other_side(stream), EV_READ | EV_CLOSED);
}

void stream_pair_close(struct stream *stream, bool orderly)
{
    struct stream_pair *pair = stream->pair;
    struct side *own = own_side(stream);
    const struct side *other = other_side(stream);
    pair->aborted = pair->aborted || !orderly;
    own->ended = true;
    tell(other, EV_READ | EV_CLOSED);
    buffer_free(&own->incoming);
    own->stream = NULL;
    stream->pair = NULL;
    if (other->stream == NULL) {
        buffer_free(&pair->sides[0].incoming);
        buffer_free(&pair->sides[1].incoming);
        free(pair);
    }
}
