#ifndef HOLDFAST_NET_SEND_QUEUE_H
#define HOLDFAST_NET_SEND_QUEUE_H

/*
 * The small sends of one turn of an event loop, which leave together when it ends: by one system
 * call where the kernel has io_uring for us (send_ring.h), else one after the other.
 *
 *   stream_send() --> [ entry | entry | entry ] -- end of the turn --> kernel
 *                          one a stream                  |
 *                                                        `--> pending (what it did not take)
 *
 * No callback is called from here: a connection that turns out to be broken is told by its loop, as
 * the end of input is.
 *
 * Thread: that of the loop.
 */

#include <event2/event.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "holdfast/slice.h"

struct send_entry;
struct send_queue;
struct stream;

/* What one stream can have in it: more is sent at once, for copying it would cost more. */
#define SEND_QUEUE_STREAM_BYTES 4096u
/* Streams at a time. With one more those before it are sent. */
#define SEND_QUEUE_STREAMS 64u

/* NULL: no memory. It takes SEND_QUEUE_STREAMS times SEND_QUEUE_STREAM_BYTES once it was full. */
struct send_queue *send_queue_new(struct event_base *base);

/* Sends what is in it. */
void send_queue_send(struct send_queue *queue);

/* With nothing in it, when its loop does not run any more. NULL is fine. */
struct send_queue *send_queue_free(struct send_queue *queue);

/* From now on with io_uring, if the kernel lets us. Before anything is put in. */
void send_queue_allow_ring(struct send_queue *queue);

/* ------------------------------------------------------------------ for stream.c only */

/*
 * Copies `bytes` behind what the stream has in it. False: they are too many, and of the stream
 * nothing is in it any more: what was has been sent.
 */
bool send_queue_put(struct send_queue *queue, struct stream *stream, struct slice bytes);

/* Takes out what the stream has in it, and returns it; valid until the next put. */
struct slice send_queue_take(struct stream *stream);

#endif
