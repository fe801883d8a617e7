#ifndef HOLDFAST_FRONT_GRPC_H
#define HOLDFAST_FRONT_GRPC_H

/*
 * What the front must know of gRPC over HTTP/2: which requests are of it, and whether an answer
 * says that its call has succeeded. gRPC-Web, which puts its status into the body, is none.
 *
 * Pure; any thread.
 */

#include <stdbool.h>

#include "base/buffer.h"
#include "front/head.h"
#include "holdfast/slice.h"

/* Status codes of gRPC that the front gives itself. */
enum grpc_status {
    GRPC_OK = 0,
    GRPC_INVALID_ARGUMENT = 3,
    GRPC_DEADLINE_EXCEEDED = 4,
    GRPC_RESOURCE_EXHAUSTED = 8,
    GRPC_FAILED_PRECONDITION = 9,
    GRPC_ABORTED = 10,
    GRPC_UNIMPLEMENTED = 12,
    GRPC_INTERNAL = 13,
    GRPC_UNAVAILABLE = 14,
};

/* Of a request's or an answer's content-type: "application/grpc", with "+proto", ";..." or so. */
bool grpc_is_type(struct slice content_type);

/*
 * Whether a whole answer, head and chunked or empty body, says `grpc-status: 0`: in its last
 * `trailer_bytes`, or in its head where it has no body. An answer without that status is none.
 */
bool grpc_has_succeeded(struct slice answer, size_t trailer_bytes);

/* `message` as the value of grpc-message, which is percent-encoded. Errors: as buffer_append(). */
MUST_CHECK enum status grpc_append_message(const char *message, struct buffer *out);

#endif
