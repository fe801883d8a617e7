#ifndef HOLDFAST_ADMIN_HTTP_H
#define HOLDFAST_ADMIN_HTTP_H

/*
 * A small HTTP server for people and monitors: fixed pages, each to be looked at (GET, HEAD) or to
 * be acted by (POST), one request a connection. It has an event loop and a thread of its own.
 *
 * Bounded against whoever reaches it: ADMIN_HTTP_CONNECTIONS_MAX connections (others wait in the
 * kernel's queue), ADMIN_HTTP_HEADER_BYTES of request, no request body, ADMIN_HTTP_CONNECTION_MS
 * from accepting to the end, however slowly the other side reads or writes.
 */

#include <event2/buffer.h>
#include <stdbool.h>
#include <stddef.h>

#include "admin/assets.h"
#include "admin/token.h"
#include "holdfast/error.h"

#define ADMIN_HTTP_CONNECTIONS_MAX 64
#define ADMIN_HTTP_HEADER_BYTES 8192
#define ADMIN_HTTP_CONNECTION_MS 5000
#define ADMIN_HTTP_LATER_MS 60000

struct admin_http;

/*
 * An answer that comes later: while its page waits for the server, others are served. It keeps its
 * connection for ADMIN_HTTP_LATER_MS. Whoever was given one sends it once, from any thread, and
 * before admin_http_stop(), which waits for it.
 */
struct admin_http_later;

struct evbuffer *admin_http_later_body(struct admin_http_later *later);
void admin_http_later_send(struct admin_http_later *later, int code);

struct admin_http_page {
    const char *path;         /* "/status" */
    const char *content_type; /* of its text */
    bool acts;                /* POST, else GET and HEAD */
    /*
     * Appends the text to `body` and returns the HTTP status. `query` is what stands behind the
     * question mark, as it came, or "". On the server's thread.
     */
    int (*write)(void *context, const char *query, struct evbuffer *body);
    /* Not NULL: called in its place, with the Accept header (NULL: none); it may put another type
       into *content_type. */
    int (*write_accepted)(void *context, const char *accept, struct evbuffer *body,
                          const char **content_type);
    bool
        guarded; /* not for pages of other sites that a browser shows (access.h); so is what acts */
    bool secret; /* needs the token though it only looks */
    /* In place of `write`: the answer comes later. It may also be sent from inside. */
    void (*begin)(void *context, const char *query, struct admin_http_later *later);
};

struct admin_http_options {
    const struct admin_http_page *pages; /* outlive the server */
    size_t page_count;
    const struct admin_asset *assets; /* served beside the pages, to be looked at; outlive it */
    size_t asset_count;
    void *context;
    /*
     * Whether who sent this Authorization header (NULL: none) may be served a page that acts or is
     * secret. NULL: whoever can reach the socket may, and no browser can. On the server's thread.
     */
    enum admin_token_result (*permit)(void *context, const char *authorization);
};

/*
 * Serves the pages on a socket that listens and does not block. Takes the
 * descriptor over, also on failure. Errors: STATUS_MEMORY. The caller gives *ret_http to
 * admin_http_stop().
 */
MUST_CHECK enum status admin_http_start(int descriptor, const struct admin_http_options *options,
                                        struct admin_http **ret_http, struct error *ret_error);

/* Waits until no page that is at work was begun before the call. NULL is harmless. */
void admin_http_settle(struct admin_http *http);

/* Waits for answers that come later, closes every connection, and waits for the thread. NULL is
   harmless; returns NULL. */
struct admin_http *admin_http_stop(struct admin_http *http);

#endif
