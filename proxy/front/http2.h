#ifndef HOLDFAST_FRONT_HTTP2_H
#define HOLDFAST_FRONT_HTTP2_H

/*
 * Private to the front: what sessions with callers and with services have in common. The frames are
 * nghttp2's; here is what it leaves to its users: how much a peer may cost, and how much is sent at
 * a time.
 *
 * A peer pays for frames that are cheap to send and of no use (PING, SETTINGS, PRIORITY, empty
 * DATA, and above all RST_STREAM: requests that are taken back at once) out of a budget that time
 * and DATA fill up again. Who has spent it is told ENHANCE_YOUR_CALM, and the connection ends. The
 * bounds are far from what well-behaved peers need: 1,000 taken back at once, 50 a second.
 *
 * Thread: the session's.
 */

#include <nghttp2/nghttp2.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "front/http2_lane.h"
#include "holdfast/slice.h"
#include "net/stream.h"

/* Streams of one connection at a time; as many as other proxies allow. */
#define HTTP2_STREAMS_MAX 100u
/* CONTINUATION frames behind one HEADERS: what fits into the bound of a list needs four. */
#define HTTP2_CONTINUATIONS_MAX 8u
/* A list that grows to this, out of a few compressed bytes, ends the connection; one that is larger
   than HTTP2_FIELDS_BYTES_MAX only its request. */
#define HTTP2_FIELDS_SPENT_BYTES (1024u * 1024u)
/* What a stream's peer may send before it is taken, from a caller and from a service. */
#define HTTP2_CALLER_WINDOW_BYTES (64u * 1024u - 1u)
#define HTTP2_SERVICE_WINDOW_BYTES (256u * 1024u)
/* Of a connection: given back at once, so that one slow stream does not hold up the others. */
#define HTTP2_CONNECTION_WINDOW_BYTES (4u * 1024u * 1024u)
/* Frames that wait for the kernel; then no more are made. */
#define HTTP2_PENDING_BYTES_MAX (256u * 1024u)

struct http2_budget {
    uint64_t tokens;
    uint64_t filled_ms;
    unsigned continuations;
};

/* A frame was received. False: the budget is spent. */
bool http2_budget_pay(struct http2_budget *budget, const nghttp2_frame *frame);
/* DATA was sent: frames that belong to it are paid for. */
void http2_budget_earn(struct http2_budget *budget);

/* A session, as its owner has it: the first of that, and the context of the handlers. */
struct http2_peer {
    nghttp2_session *session;
    struct http2_budget budget;
};

/*
 * What the owner sees of frames. The user data of a stream is its lane, which is the first of the
 * owner's, or NULL: fields and DATA go there by themselves, within the bounds above.
 */
struct http2_handlers {
    nghttp2_on_begin_headers_callback begin_headers;
    nghttp2_on_frame_recv_callback received;
    nghttp2_on_frame_send_callback sent;
    nghttp2_on_stream_close_callback closed;
};

/* False: out of memory, `peer` is as it was. The session is the caller's to delete. */
bool http2_peer_start(struct http2_peer *peer, const struct http2_handlers *handlers,
                      bool is_server);

/*
 * Sends what the session has to say, as far as the peer takes it. False: it is broken, or out of
 * memory.
 */
bool http2_session_send(nghttp2_session *session, struct stream *to);

/* Whether `data` begins as a caller's connection does; *ret_whole: with all of that. */
bool http2_is_preface(struct slice data, bool *ret_whole);

#endif
