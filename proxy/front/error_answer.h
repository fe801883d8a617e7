#ifndef HOLDFAST_FRONT_ERROR_ANSWER_H
#define HOLDFAST_FRONT_ERROR_ANSWER_H

/* Answers of the front's own. Pure; any thread. */

#include <stdbool.h>

#include "base/buffer.h"
#include "holdfast/error.h"

/* X(name, reason in the body, status, may be sent again, sentence; "%s" stands for the detail) */
#define ERROR_ANSWER_LIST(X)                                                                       \
    X(QUEUE_FULL, "queueFull", 503, true,                                                          \
      "As many requests as may are waiting for the call that is open.")                            \
    X(QUEUE_TIMEOUT, "queueTimeout", 503, true,                                                    \
      "The request waited as long as it may for other calls to end.")                              \
    X(LATE, "late", 503, true, "The call that this request belongs to has ended already.")         \
    X(LIMIT, "limit", 503, true, "As many calls as may are open.")                                 \
    X(DRAINING, "draining", 503, true, "The proxy is shutting down.")                              \
    X(TIMEOUT, "timeout", 503, true,                                                               \
      "The service took longer than http.callTimeout; what the call wrote was rolled back.")       \
    X(SERVICE_LOST, "serviceLost", 503, true,                                                      \
      "The service could not be reached, or broke off before its answer was complete; what a "     \
      "call wrote was rolled back.")                                                               \
    X(ROLLED_BACK, "rolledBack", 503, true, "What the call wrote was rolled back: %s.")            \
    X(CONFLICT, "conflict", 503, false,                                                            \
      "What the call wrote could not be undone without overwriting newer data: see `holdfast "     \
      "show %s` and `holdfast resolve %s`.")                                                       \
    X(ANSWER_TOO_LARGE, "answerTooLarge", 503, false,                                              \
      "The answer is larger than http.maxAnswer; what the call wrote was rolled back.")            \
    X(MALFORMED, "malformed", 400, false, "The request is not valid HTTP: %s.")                    \
    X(HEAD_TOO_LARGE, "headTooLarge", 431, false, "The request's head is larger than 64 KiB.")     \
    X(HEAD_SLOW, "headTimeout", 408, false, "The request's head took too long to come.")           \
    X(BODY_SLOW, "bodyTimeout", 408, false,                                                        \
      "The request's body took too long to come; its call has not begun.")                         \
    X(KEY_MALFORMED, "idempotencyKey", 400, false, "The Idempotency-Key is not valid: %s.")        \
    X(KEY_RUNNING, "idempotencyKeyInUse", 409, true,                                               \
      "The first request with this Idempotency-Key is still at work.")                             \
    X(KEY_MISUSED, "idempotencyKeyReused", 422, false,                                             \
      "This Idempotency-Key was used for another request.")                                        \
    X(KEY_BODY_TOO_LARGE, "idempotencyBodyTooLarge", 413, false,                                   \
      "The body is larger than http.idempotency.maxBody, which a request with an "                 \
      "Idempotency-Key must not exceed.")                                                          \
    X(KEY_ANSWER_TOO_LARGE, "idempotencyAnswerTooLarge", 503, false,                               \
      "The answer is larger than http.idempotency.maxAnswer; what the call wrote was rolled "      \
      "back.")                                                                                     \
    X(KEY_QUOTA, "idempotencyQuota", 503, true,                                                    \
      "As much as http.idempotency.quota allows is recorded of answers to requests with an "       \
      "Idempotency-Key.")                                                                          \
    X(KEY_FAILED, "idempotencyLost", 503, true,                                                    \
      "Whether the request was carried out before cannot be told.")                                \
    X(VERSION, "version", 505, false,                                                              \
      "HTTP/1.1 and HTTP/1.0 are spoken here; HTTP/2 and others are not.")

enum error_answer {
#define X(name, reason, status, again, sentence) ERROR_ANSWER_##name,
    ERROR_ANSWER_LIST(X)
#undef X
};

/*
 * Appends the whole answer. `detail` goes into the sentence where it has a place for one, else it
 * may be NULL. `close`: says that the connection ends. `to_head`: no body. Errors: those of
 * buffer_append().
 */
MUST_CHECK enum status error_answer_append(enum error_answer answer, const char *detail, bool close,
                                           bool to_head, struct buffer *out);

/* Its HTTP status. */
unsigned error_answer_status(enum error_answer answer);

#endif
