#ifndef HOLDFAST_FRONT_HTTP2_CALLER_H
#define HOLDFAST_FRONT_HTTP2_CALLER_H

/*
 * Private to the front: the HTTP/2 session with a caller. Each of its streams becomes a request to
 * an exchange of its own, as one connection of HTTP/1.1 would bring it; its answer goes back on the
 * stream. A stream that its caller resets is a caller that has hung up.
 *
 * Knows neither exchanges nor sockets: both are its host's. Thread: the host's loop.
 */

#include <event2/event.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "holdfast/slice.h"
#include "net/stream.h"
#include "net/stream_pair.h"

struct http2_caller_host {
    void *context;
    uint8_t *scratch; /* LIMIT_RECEIVE_BUFFER_BYTES, for the time of a call */
    /* An exchange with `end` as its caller; false: there may not be one more. */
    bool (*open)(void *context, const struct stream_pair_end *end);
    /* http2_caller_send() may have something to do. From inside anything. */
    void (*again)(void *context);
    /* What was refused, for the log. */
    void (*refused)(void *context, const char *reason);
};

struct http2_caller;

/* NULL: out of memory. `host` is copied. */
struct http2_caller *http2_caller_new(const struct http2_caller_host *host);
/* Its exchanges see their callers hang up. NULL is harmless; returns NULL. */
struct http2_caller *http2_caller_free(struct http2_caller *caller);

/* What the caller has sent, from its preface on. False: the connection is to end. */
bool http2_caller_receive(struct http2_caller *caller, struct slice bytes);
/* Gives `to` what there is for the caller. False: likewise, after what is pending. */
bool http2_caller_send(struct http2_caller *caller, struct stream *to);

/* Streams that are open. */
size_t http2_caller_streams(const struct http2_caller *caller);
/* Resets those whose answer waits for window and got none since the last time. */
void http2_caller_end_stalled(struct http2_caller *caller);
/* No new ones: those that are open end, then the connection. */
void http2_caller_drain(struct http2_caller *caller);

#endif
