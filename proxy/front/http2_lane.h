#ifndef HOLDFAST_FRONT_HTTP2_LANE_H
#define HOLDFAST_FRONT_HTTP2_LANE_H

/*
 * Private to the front: what lies between one stream of an HTTP/2 session and the exchange that its
 * request is the business of. A lane carries one request and its answer, then perhaps the next:
 *
 *             fields, DATA       in: frames to text            text
 *    session ---------------> [ fields ]-------------> pipe ==========> exchange
 *    session <--------------- [ body ]<--------------- pipe <========== exchange
 *             fields, DATA      out: text to frames            text
 *
 * Towards a caller `in` is the request and `out` the answer, towards a service the other way round.
 *
 * Back-pressure: DATA that the exchange has not taken gives no window back, and the pipe is not
 * read while HTTP2_BODY_BYTES_MAX wait for the peer's window. So a lane holds at most its stream's
 * window and that much, however large what passes.
 *
 * A lane is freed by its role, never from inside its own functions. Thread: the session's.
 */

#include <nghttp2/nghttp2.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "front/framing.h"
#include "front/head.h"
#include "front/http2_text.h"
#include "net/stream.h"
#include "net/stream_pair.h"

#define HTTP2_BODY_BYTES_MAX (64u * 1024u)

struct http2_lane;

/* What callers' and services' lanes do in ways of their own. */
struct http2_role {
    /* When the exchange closes its end the request is given up, whatever of it is still to be sent;
       that it only sends no more means nothing. Else what it has sent goes on. */
    bool close_gives_up;
    /* The text's head is there: submits it and says how its body is delimited. False: the lane is
       of no use any more, the role has dealt with it. */
    bool (*submit)(struct http2_lane *lane, struct slice head);
    /* What came through the pipe is malformed, or it has ended (lane->pipe.broken says how). */
    void (*pipe_ended)(struct http2_lane *lane, bool malformed);
    /* The session may have something to send. Neither of these frees the lane or sends. */
    void (*worked)(struct http2_lane *lane);
    /* Bytes that the exchange has sent, before they are looked at; NULL: none of its business. */
    void (*received)(struct http2_lane *lane, struct slice bytes);
};

enum http2_phase {
    HTTP2_HEAD,
    HTTP2_BODY,
    HTTP2_DONE,
};

struct http2_lane {
    const struct http2_role *role;
    nghttp2_session *session; /* NULL: none at the moment */
    int32_t stream;           /* -1: none */
    struct stream pipe;
    uint8_t *scratch; /* the worker's receive buffer */

    enum http2_phase in;
    struct http2_fields fields;
    enum http2_body in_body;
    size_t unconsumed; /* DATA for which no window was given back */
    bool refused;      /* nothing of it is wanted any more: the role has answered, or reset */

    enum http2_phase out;
    struct buffer text; /* not worked through: an unfinished head */
    struct head_scan scan;
    struct framing framing;
    struct buffer body; /* waits for the peer's window */
    struct buffer trailers;
    uint64_t given; /* bytes, to the peer; 1 more with the head */
    bool deferred;  /* nghttp2 waits to be told that there is more */
};

/* `pipe` is to be opened by the role. */
void http2_lane_init(struct http2_lane *lane, const struct http2_role *role, uint8_t *scratch);
/* Ready for the next request; the pipe stays. */
void http2_lane_reset(struct http2_lane *lane);
/* `orderly`: what was sent through the pipe is still read there. */
void http2_lane_close(struct http2_lane *lane, bool orderly);

/* ---- frames to text. What the exchange does not want any more is dropped. */

void http2_lane_send_head(struct http2_lane *lane, struct slice text);
void http2_lane_take_data(struct http2_lane *lane, struct slice bytes);
/* `trailers`: what lane->fields holds are such. False: they are malformed. */
bool http2_lane_end_in(struct http2_lane *lane, bool trailers);

/* ---- text to frames. */

/* For the role's `submit`: what follows the head, so that the data source finds its end. */
void http2_lane_begin_body(struct http2_lane *lane, enum framing_kind kind, uint64_t length);
/* The data of what was submitted. */
extern const nghttp2_data_source_read_callback http2_lane_read;
/* Works through what the exchange sends, as far as that goes. */
void http2_lane_work(struct http2_lane *lane);
/* The same for bytes that are here already. */
void http2_lane_take_text(struct http2_lane *lane, struct slice bytes);
/* The pipe has ended, in order, and that is the end of the text: true. False: it was cut off. */
bool http2_lane_end_out(struct http2_lane *lane);

extern const struct stream_callbacks http2_lane_callbacks; /* of `pipe`, with the lane */

#endif
