#ifndef HOLDFAST_BENCH_HTTP_TEXT_H
#define HOLDFAST_BENCH_HTTP_TEXT_H

/*
 * As much of HTTP/1.1 as the two ends of the load driver need, which send each other nothing else:
 * bodies have a Content-Length or are not there. Any thread; nothing is allocated.
 */

#include "holdfast/slice.h"

/* Of a request or an answer, head and body. */
#define HTTP_MESSAGE_BYTES_MAX 65536u

enum http_found {
    HTTP_PART, /* right so far, not all is here */
    HTTP_WHOLE,
    HTTP_BROKEN, /* none, one with a body of another kind, or larger than it may be */
};

/* Slices look into the bytes. */
struct http_message {
    size_t size;              /* head and body */
    int status;               /* of an answer; 0: it is a request */
    struct slice reason;      /* of an answer: what follows the status */
    struct slice method;      /* of a request */
    struct slice path;        /* of a request */
    struct slice traceparent; /* size 0: none */
    struct slice body;
};

/* Reads the message at the front of `bytes`; *ret_message is set for HTTP_WHOLE only. */
enum http_found http_message_parse(struct slice bytes, struct http_message *ret_message);

#endif
