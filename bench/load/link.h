#ifndef HOLDFAST_BENCH_LINK_H
#define HOLDFAST_BENCH_LINK_H

/*
 * A blocking connection to the target, for what is done one at a time: hello and making documents.
 * A run takes the descriptor and reads without blocking; so does the stub service.
 *
 * Any thread; the caller closes the descriptor.
 */

#include <bson/bson.h>

#include "base/buffer.h"
#include "holdfast/error.h"
#include "net/listener.h"
#include "wire/reply.h"

/* How long the target may be silent before it counts as gone. */
#define LINK_SILENCE_SECONDS 30

/* Connects, and says nothing. Errors: STATUS_UNREACHABLE. */
MUST_CHECK enum status link_connect(const struct network_address *address, int *ret_descriptor,
                                    struct error *ret_error);

/* Connects and says hello. Errors: STATUS_UNREACHABLE, STATUS_PROTOCOL, STATUS_REFUSED. */
MUST_CHECK enum status link_open(const struct network_address *address, int *ret_descriptor,
                                 struct error *ret_error);

/*
 * Sends all bytes: a request is small and the one before it was answered, so that it fits the
 * socket's buffer and this does not wait. Errors: STATUS_UNREACHABLE.
 */
MUST_CHECK enum status link_send(int descriptor, struct slice bytes, struct error *ret_error);

/*
 * Sends a command and reads the answer into *reply, a buffer with a limit, emptied first; `view`
 * looks into it. An error reply is STATUS_OK with !ret_view->ok. Errors: STATUS_UNREACHABLE,
 * STATUS_PROTOCOL, STATUS_LIMIT, STATUS_MEMORY.
 */
MUST_CHECK enum status link_call(int descriptor, const bson_t *command, struct buffer *reply,
                                 struct reply_view *ret_view, struct error *ret_error);

/*
 * The same, where an error reply and refused writes are STATUS_REFUSED with the reason; `what` says
 * what was asked. *ret_view is set then, too.
 */
MUST_CHECK enum status link_ask(int descriptor, const bson_t *command, const char *what,
                                struct buffer *reply, struct reply_view *ret_view,
                                struct error *ret_error);

/* The reason of an error reply, in words; `what` says what was asked. Returns STATUS_REFUSED. */
enum status link_refused(const struct reply_view *view, const char *what, struct error *ret_error);

#endif
