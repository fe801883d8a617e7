#ifndef HOLDFAST_NET_STREAM_PAIR_H
#define HOLDFAST_NET_STREAM_PAIR_H

/*
 * Two streams of one event loop that are each other's peer, without the kernel: what one sends the
 * other receives.
 *
 *   one --stream_send()--> [ STREAM_PAIR_BYTES_MAX ] --stream_receive()--> other, and back
 *
 * They behave as sockets do: what does not fit stays with the sender as pending, `readable` and
 * `drained` come from the loop, a closed end is read as the end of input behind what was sent
 * before, stream_abort() as a break at once. A closed end also takes nothing more.
 *
 * Thread: that of the loop.
 */

#include "net/stream.h"

/* A frame or two of what is passed on; more only costs memory. */
#define STREAM_PAIR_BYTES_MAX (64u * 1024u)

struct stream_pair_end {
    struct stream *stream; /* after stream_init() */
    const struct stream_callbacks *callbacks;
    void *context;
};

/* Errors: STATUS_MEMORY; both are as they were. */
MUST_CHECK enum status stream_pair_open(struct event_base *base, const struct stream_pair_end *one,
                                        const struct stream_pair_end *other);

/* Whether the other end is open and nothing of it is to be read. */
bool stream_pair_is_quiet(const struct stream *stream);

/* Whether all that is to be read is its end. */
bool stream_pair_has_ended(const struct stream *stream);
/* Whether the other end was closed, whatever of it is still to be read; it may have been aborted.
 */
bool stream_pair_is_alone(const struct stream *stream);
bool stream_pair_is_aborted(const struct stream *stream);

/* ------------------------------------------------------------------ for stream.c only */

void stream_pair_shutdown(struct stream *stream);
void stream_pair_close(struct stream *stream, bool orderly);
/* What stream.c does with an event. */
void stream_take_event(struct stream *stream, short what);

#endif
