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

#include "admin/token.h"
#include "holdfast/error.h"

#define ADMIN_HTTP_CONNECTIONS_MAX 64
#define ADMIN_HTTP_HEADER_BYTES 8192
#define ADMIN_HTTP_CONNECTION_MS 5000

struct admin_http;

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
};

struct admin_http_options {
    const struct admin_http_page *pages; /* outlive the server */
    size_t page_count;
    void *context;
    /*
     * Whether who sent this Authorization header (NULL: none) may be served a page that acts. NULL:
     * whoever can reach the socket may. On the server's thread.
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

/* Closes every connection and waits for the thread. NULL is harmless; returns NULL. */
struct admin_http *admin_http_stop(struct admin_http *http);

#endif
