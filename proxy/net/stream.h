#ifndef HOLDFAST_NET_STREAM_H
#define HOLDFAST_NET_STREAM_H

/*
 * One non-blocking TCP connection: reads into the caller's memory, writes at once, or at the end of
 * the loop's turn, and keeps what the kernel does not take.
 *
 *           stream_receive()                      stream_send()
 *   kernel ------------------> caller   caller ------------------> kernel
 *                                         \                        ^
 *                                          `-> pending (the rest) -'  when it becomes writable
 *
 * Events are edge-triggered and registered once. `readable` remembers an edge that was not yet read
 * to its end, so a caller may stop reading (back-pressure) and go on later with stream_kick().
 *
 * Thread: that of the worker it was opened with. Callbacks come from its loop, never from inside
 * stream_send() or stream_receive(); a callback may close the stream.
 */

#include <event2/event.h>
#include <event2/event_struct.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "base/buffer.h"
#include "holdfast/error.h"
#include "holdfast/slice.h"
#include "holdfast/write_permit.h"
#include "net/worker.h"

struct send_entry;
struct send_queue;
struct stream;
struct stream_tls;
struct stream_pair;

/* What carries the bytes: plain sockets here; TLS is another table of the same two functions
   (stream_tls.h), a peer in the same process a third (stream_pair.h). */
struct stream_transport {
    /* As recv(2) and writev(2): bytes, 0 at the end of input, -1 with errno. */
    ssize_t (*receive)(struct stream *stream, void *memory, size_t size);
    ssize_t (*send)(struct stream *stream, const void *memory, size_t size);
};

extern const struct stream_transport stream_transport_plain;
/*
 * To the server: plain, but nothing is sent without a permit (holdfast/write_permit.h); the
 * connection breaks instead. What the peer's kernel has not confirmed after STREAM_RESEND_MS is not
 * sent again, and breaks the connection. The owner sets it after stream_init().
 */
extern const struct stream_transport stream_transport_permitted;

/* With LEASE_KILL_MS no later than LEASE_VALID_MS and the default of upstream.fenceWait. */
#define STREAM_RESEND_MS WRITE_PERMIT_RESEND_MS

/* After so much silence the peer is asked, so often; if it answers none the connection has ended:
   two minutes, where the kernel's own defaults take more than two hours. */
#define STREAM_SILENCE_S 60
#define STREAM_PROBE_S 10
#define STREAM_PROBES 6

struct stream_callbacks {
    /* After stream_connect(), and of a stream that speaks TLS. */
    void (*connected)(void *context, enum status status);
    void (*readable)(void *context); /* stream_receive() may give bytes */
    void (*drained)(void *context);  /* pending became empty, or stream_shutdown() may go on */
};

struct stream {
    int descriptor; /* -1: closed */
    bool connecting;
    bool readable;
    bool writable;
    bool peer_closed; /* its end is there to be read, perhaps behind data: no further edge comes */
    bool ended;       /* the peer ended its direction, or the connection broke */
    bool broken;      /* `ended`, and as far as is known not by an orderly end of input */
    /*
     * Set by the owner before it is opened, if it tells the ends of the two directions apart: after
     * the peer's orderly end it can still be sent to, and a reset right behind data, which has no
     * edge of its own, is found by reading until there is nothing: one more system call a read.
     */
    bool half_open;
    /*
     * Set by the owner before it is opened: small sends wait for the end of the loop's turn and
     * leave together with those of other streams (send_queue.h). That the connection is broken
     * shows as the end of input then, not at once.
     */
    bool gathers;
    struct event event;
    struct event kick_event;
    struct stream_tls *tls;   /* NULL: plain */
    struct stream_pair *pair; /* NULL: a connection of the kernel's */
    const struct stream_transport *transport;
    const struct stream_callbacks *callbacks;
    void *context;
    struct buffer pending;
    struct send_queue *sends;  /* NULL: sends at once */
    struct send_entry *queued; /* NULL: nothing waits for the end of the turn */
};

/* Closed, with nothing allocated. */
void stream_init(struct stream *stream);

/* Takes over a connected, non-blocking descriptor (closes it also on failure). */
MUST_CHECK enum status stream_open(struct stream *stream, struct worker *worker, int descriptor,
                                   const struct stream_callbacks *callbacks, void *context);

/*
 * Starts connecting to a numeric address; `connected` tells the result, or STATUS_UNREACHABLE comes
 * back at once.
 */
MUST_CHECK enum status stream_connect(struct stream *stream, struct worker *worker,
                                      const struct sockaddr *address, size_t address_size,
                                      const struct stream_callbacks *callbacks, void *context);

/*
 * Reads what is there. STATUS_OK with *ret_size > 0; STATUS_NOT_FOUND: nothing now;
 * STATUS_UNREACHABLE: the peer has gone (stream->ended).
 */
MUST_CHECK enum status stream_receive(struct stream *stream, void *memory, size_t size,
                                      size_t *ret_size);

/*
 * Sends, or keeps the rest. STATUS_UNREACHABLE: broken; STATUS_MEMORY. The caller looks at
 * stream_pending() and stops its source above its own bound.
 */
MUST_CHECK enum status stream_send(struct stream *stream, struct slice bytes);

/* Sends what waits for the end of the turn now. stream_close() and stream_shutdown() do it, too. */
void stream_flush(struct stream *stream);

/* What the kernel did not take. What waits for the end of the turn is not in it. */
static inline size_t stream_pending(const struct stream *stream)
{
    return stream->pending.size;
}

/* Makes `readable` come again from the loop if an edge was left unread. */
void stream_kick(struct stream *stream);

/*
 * Half-close: no more bytes will be sent (what is pending is lost: call when drained). False: the
 * kernel has no room now for TLS's own word of it, without which the peer takes the end for a cut;
 * nothing was shut, `drained` tells when to call again.
 */
MUST_CHECK bool stream_shutdown(struct stream *stream);

/* Closes and frees everything. A closed stream is harmless. */
void stream_close(struct stream *stream);

/* The same by a reset, so that the peer cannot take what it got for the whole. */
void stream_abort(struct stream *stream);

/* ------------------------------------------------------------------ for send_queue.c only */

bool stream_may_send(const struct stream *stream);
/* What became of `bytes`: as send(2), but -errno in place of -1. */
void stream_sent(struct stream *stream, struct slice bytes, ssize_t result);

#endif
