#ifndef HOLDFAST_TELEMETRY_HTTP_POST_H
#define HOLDFAST_TELEMETRY_HTTP_POST_H

/*
 * One HTTP POST at a time, waited for. A connection is made for each: they are rare, and what is
 * kept open would have to be watched.
 *
 * Threads: one per struct http_post; http_post_hurry() any.
 */

#include <stdint.h>

#include "holdfast/error.h"

struct http_post;

/* http://HOST[:PORT][/PATH]. Errors: STATUS_INVALID, STATUS_MEMORY. */
MUST_CHECK enum status http_post_new(const char *url, const char *secret,
                                     struct http_post **ret_post, struct error *ret_error);
/* NULL is harmless; returns NULL. */
struct http_post *http_post_free(struct http_post *post);

/*
 * Sends JSON and waits for the answer, at most wait_ms. *ret_status gets the HTTP status. Errors:
 * STATUS_UNREACHABLE: no answer, with the reason; STATUS_MEMORY.
 */
MUST_CHECK enum status http_post_send(struct http_post *post, const char *body, uint64_t wait_ms,
                                      int *ret_status, struct error *ret_error);

/* A http_post_send() that is under way, and each that follows, ends within some 100 ms of its
   `wait_ms` from now. */
void http_post_hurry(struct http_post *post, uint64_t wait_ms);

#endif
