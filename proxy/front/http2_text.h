#ifndef HOLDFAST_FRONT_HTTP2_TEXT_H
#define HOLDFAST_FRONT_HTTP2_TEXT_H

/*
 * Heads and trailers of HTTP/2, which are lists of fields, as HTTP/1.1 text, and back (RFC 9113,
 * section 8). What is under way inside the front is the text: there is one life of a request
 * (exchange.c), whatever its caller and its service speak.
 *
 *   :method POST  :path /shop.Orders/Add   <-->  POST /shop.Orders/Add HTTP/1.1
 *   :authority shop                              host: shop
 *   te trailers                                  te: trailers
 *                                                transfer-encoding: chunked
 *
 * Fields keep order and value; those that concern one connection stay on it. Pure; any thread.
 */

#include <nghttp2/nghttp2.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/buffer.h"
#include "front/head.h"
#include "holdfast/error.h"
#include "holdfast/slice.h"

/* Of a list, counted as SETTINGS_MAX_HEADER_LIST_SIZE does (32 for each field beside its bytes):
   its text then is no larger than HEAD_BYTES_MAX, with what the front adds to it. */
#define HTTP2_FIELDS_BYTES_MAX (60u * 1024u)

/* ---- from fields to text */

/* Zeroed: empty. */
struct http2_fields {
    size_t size; /* as the bound counts */
    bool too_large;
    bool no_memory;
    bool malformed;
    bool has_length;
    bool is_grpc; /* its content-type is gRPC's */
    unsigned status;
    struct buffer method;
    struct buffer path;
    struct buffer authority;
    struct buffer cookie; /* its crumbs, put together */
    struct buffer lines;  /* the other fields, each with CR LF */
};

void http2_fields_init(struct http2_fields *fields);
/* Empties it for the next list. */
void http2_fields_clear(struct http2_fields *fields);
void http2_fields_free(struct http2_fields *fields);

/* One field, in the order in which they come. What is wrong is noted. */
void http2_fields_add(struct http2_fields *fields, struct slice name, struct slice value);

/* How the body of the text is delimited. */
enum http2_body {
    HTTP2_BODY_NONE,
    HTTP2_BODY_LENGTH, /* as the fields say */
    HTTP2_BODY_CHUNKED,
    HTTP2_BODY_CLOSE, /* by the end of the connection */
};

/*
 * The head as text, appended to `out`. `ended`: neither body nor trailers come. Errors:
 * STATUS_INVALID (no HTTP/1.1 says that), STATUS_LIMIT (too large), STATUS_MEMORY.
 */
MUST_CHECK enum status http2_write_request(const struct http2_fields *fields, bool ended,
                                           struct buffer *out, enum http2_body *ret_body);
/* `to_head`: it answers HEAD; `old`: a request of HTTP/1.0, which knows no chunks. Also of answers
   1xx, which have no body. One of gRPC with a body loses its content-length: only a chunked text
   has a place for its trailers. */
MUST_CHECK enum status http2_write_answer(const struct http2_fields *fields, bool ended,
                                          bool to_head, bool old, struct buffer *out,
                                          enum http2_body *ret_body);
/* What follows the last bytes of a chunked body. */
MUST_CHECK enum status http2_write_trailers(const struct http2_fields *fields, struct buffer *out);

/* ---- from text to fields */

struct http2_list {
    nghttp2_nv *fields;
    size_t count;
    struct buffer names; /* in lower case, as HTTP/2 wants them */
};

/*
 * `head` has been parsed as *parsed. The list points into it, and is to be freed. `tls`: it goes
 * out by that. Errors: STATUS_UNSUPPORTED (another protocol is asked for), STATUS_MEMORY.
 */
MUST_CHECK enum status http2_read_request(struct slice head, const struct http_head *parsed,
                                          bool tls, struct http2_list *ret_list);
/* `bodiless`: nothing follows it. */
MUST_CHECK enum status http2_read_answer(struct slice head, const struct http_head *parsed,
                                         bool bodiless, struct http2_list *ret_list);
/* `lines`: with their ends, without the empty one behind them. */
MUST_CHECK enum status http2_read_trailers(struct slice lines, struct http2_list *ret_list);
void http2_list_free(struct http2_list *list);

#endif
