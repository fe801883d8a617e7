#ifndef HOLDFAST_FRONT_ERROR_ANSWER_H
#define HOLDFAST_FRONT_ERROR_ANSWER_H

/* Answers of the front's own. Pure; any thread. */

#include <stdbool.h>

#include "base/buffer.h"
#include "front/grpc.h"
#include "holdfast/error.h"

/* X(name, reason in the body, status, gRPC's, may be sent again, sentence; "%s" stands for the
   detail) */
#define ERROR_ANSWER_LIST(X)                                                                       \
    X(QUEUE_FULL, "queueFull", 503, GRPC_UNAVAILABLE, true,                                        \
      "As many requests as may are waiting for the call that is open.")                            \
    X(QUEUE_TIMEOUT, "queueTimeout", 503, GRPC_UNAVAILABLE, true,                                  \
      "The request waited as long as it may for other calls to end.")                              \
    X(LATE, "late", 503, GRPC_UNAVAILABLE, true,                                                   \
      "The call that this request belongs to has ended already.")                                  \
    X(LIMIT, "limit", 503, GRPC_UNAVAILABLE, true, "As many calls as may are open.")               \
    X(DRAINING, "draining", 503, GRPC_UNAVAILABLE, true, "The proxy is shutting down.")            \
    X(TIMEOUT, "timeout", 503, GRPC_UNAVAILABLE, true,                                             \
      "The service took longer than http.callTimeout; what the call wrote was rolled back.")       \
    X(SERVICE_LOST, "serviceLost", 503, GRPC_UNAVAILABLE, true,                                    \
      "The service could not be reached, or broke off before its answer was complete; what a "     \
      "call wrote was rolled back.")                                                               \
    X(ROLLED_BACK, "rolledBack", 503, GRPC_ABORTED, true,                                          \
      "What the call wrote was rolled back: %s.")                                                  \
    X(CONFLICT, "conflict", 503, GRPC_FAILED_PRECONDITION, false,                                  \
      "What the call wrote could not be undone without overwriting newer data, or the server "     \
      "cannot say whether it is committed: see `holdfast show %s` and `holdfast resolve %s`.")     \
    X(ANSWER_TOO_LARGE, "answerTooLarge", 503, GRPC_RESOURCE_EXHAUSTED, false,                     \
      "The answer is larger than http.maxAnswer; what the call wrote was rolled back.")            \
    X(MALFORMED, "malformed", 400, GRPC_INTERNAL, false, "The request is not valid HTTP: %s.")     \
    X(HEAD_TOO_LARGE, "headTooLarge", 431, GRPC_RESOURCE_EXHAUSTED, false,                         \
      "The request's head is larger than 64 KiB.")                                                 \
    X(HEAD_SLOW, "headTimeout", 408, GRPC_DEADLINE_EXCEEDED, false,                                \
      "The request's head took too long to come.")                                                 \
    X(BODY_SLOW, "bodyTimeout", 408, GRPC_DEADLINE_EXCEEDED, false,                                \
      "The request's body took too long to come; its call has not begun.")                         \
    X(KEY_MALFORMED, "idempotencyKey", 400, GRPC_INVALID_ARGUMENT, false,                          \
      "The Idempotency-Key is not valid: %s.")                                                     \
    X(KEY_RUNNING, "idempotencyKeyInUse", 409, GRPC_ABORTED, true,                                 \
      "The first request with this Idempotency-Key is still at work.")                             \
    X(KEY_MISUSED, "idempotencyKeyReused", 422, GRPC_INVALID_ARGUMENT, false,                      \
      "This Idempotency-Key was used for another request.")                                        \
    X(KEY_BODY_TOO_LARGE, "idempotencyBodyTooLarge", 413, GRPC_RESOURCE_EXHAUSTED, false,          \
      "The body is larger than http.idempotency.maxBody, which a request with an "                 \
      "Idempotency-Key must not exceed.")                                                          \
    X(KEY_ANSWER_TOO_LARGE, "idempotencyAnswerTooLarge", 503, GRPC_RESOURCE_EXHAUSTED, false,      \
      "The answer is larger than http.idempotency.maxAnswer; what the call wrote was rolled "      \
      "back.")                                                                                     \
    X(KEY_QUOTA, "idempotencyQuota", 503, GRPC_UNAVAILABLE, true,                                  \
      "As much as http.idempotency.quota allows is recorded of answers to requests with an "       \
      "Idempotency-Key.")                                                                          \
    X(KEY_FAILED, "idempotencyLost", 503, GRPC_UNAVAILABLE, true,                                  \
      "Whether the request was carried out before cannot be told.")                                \
    X(VERSION, "version", 505, GRPC_UNIMPLEMENTED, false,                                          \
      "HTTP/2, HTTP/1.1 and HTTP/1.0 are spoken here.")                                            \
    X(NO_GRPC, "noGrpc", 501, GRPC_UNIMPLEMENTED, false,                                           \
      "The service is spoken to by HTTP/1.1 only (http.upstreamProtocol), which is not gRPC's.")   \
    X(NOT_HTTP2, "notHttp2", 502, GRPC_UNAVAILABLE, false,                                         \
      "The service does not speak HTTP/2 (http.upstreamProtocol, http.upstreamTls).")              \
    X(NO_TUNNEL, "noTunnel", 501, GRPC_UNIMPLEMENTED, false,                                       \
      "The service is spoken to by HTTP/2 (http.upstreamProtocol): there is no upgrade, and no "   \
      "CONNECT.")

enum error_answer {
#define X(name, reason, status, grpc, again, sentence) ERROR_ANSWER_##name,
    ERROR_ANSWER_LIST(X)
#undef X
};

/* An answer and its head. */
#define ERROR_ANSWER_BYTES_MAX 4096u

struct error_answer_form {
    bool close;   /* says that the connection ends */
    bool to_head; /* no body */
    bool is_grpc; /* 200 with gRPC's status, and `reason: sentence` as its message */
};

/*
 * Appends the whole answer. `detail` goes into the sentence where it has a place for one, else it
 * may be NULL. Errors: those of buffer_append().
 */
MUST_CHECK enum status error_answer_append(enum error_answer answer, const char *detail,
                                           const struct error_answer_form *form,
                                           struct buffer *out);

/* Its HTTP status. */
unsigned error_answer_status(enum error_answer answer);

#endif
