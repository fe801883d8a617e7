/*
 * Writes of the services of a domain: into the unit of the API call that is open, refused because
 * their call has ended, or plain because none is open. And what the report is told of writes.
 *
 * What changes a namespace as a whole (create, createIndexes, drop) is no part of any unit. It
 * passes through its gate as ever, but does not wait there while a call is open: the unit inside
 * may be that of its own call, which would wait for it in turn.
 *
 * The connection's worker.
 */
#include "observe/observe.h"
#include "route/dispatch_private.h"
#include "wire/reply.h"

bool dispatch_traceparent(const struct command_view *view, struct traceparent *ret_traceparent)
{
    bson_iter_t at;
    return view->has_comment &&
           bson_iter_init_from_data_at_offset(&at, view->body.data, view->body.size,
                                              view->comment_offset, sizeof "comment" - 1) &&
           traceparent_in_comment(&at, ret_traceparent);
}

const struct trace_id *dispatch_trace(const struct command_view *view, struct traceparent *found)
{
    return dispatch_traceparent(view, found) ? &found->trace : NULL;
}

static void observe(struct connection *connection, uint64_t call, const struct trace_id *trace,
                    const struct command_view *view, const struct op_msg *message,
                    size_t message_bytes)
{
    struct observe *observe = connection->shared->options.observe;
    if (observe != NULL) {
        struct observe_writer writer = {
            .user = connection->login.user,
            .client = connection->client,
            .application = connection->application,
            .hash = &connection->observed_writer,
        };
        observe_write(observe, call, trace, &writer, view, message, message_bytes);
    }
}

void dispatch_observe(struct connection *connection, const struct command_view *view,
                      const struct op_msg *message, size_t message_bytes)
{
    struct traceparent traceparent;
    const struct trace_id *found = dispatch_trace(view, &traceparent);
    struct domain_write_call call = {0};
    const char *reason = NULL;
    if (connection->shared->options.observe == NULL) {
        return;
    }
    if (connection->link.domain != NULL && domain_is_observe_only(connection->link.domain)) {
        (void)domain_write_decide(connection->link.domain, connection->link.service, found, true,
                                  NULL, &call, &reason);
    }
    observe(connection, call.observed, found, view, message, message_bytes);
}

bool dispatch_domain_refuses(struct connection *connection, const struct command_view *view,
                             struct dispatch *dispatch)
{
    struct traceparent traceparent;
    const char *reason = NULL;
    if (connection->link.domain == NULL ||
        !domain_refuses(connection->link.domain, connection->link.service,
                        dispatch_trace(view, &traceparent), &reason)) {
        return false;
    }
    dispatch_error(dispatch, REPLY_CODE_NoSuchTransaction, reason);
    return true;
}

/* Sent a second time, where the first was. On the journaled engine such numbers are not the
 * server's.
 */
static bool is_known_again(const struct connection *connection, const struct command_view *view,
                           enum command_class class)
{
    return connection->shared->options.engine->native != NULL && class == COMMAND_WRITE &&
           view->has_transaction_number && view->session_id.size > 0;
}

bool dispatch_domain_write(struct connection *connection, const struct command_view *view,
                           enum command_class class, size_t message_bytes,
                           struct dispatch *dispatch)
{
    struct traceparent traceparent;
    const struct trace_id *found = dispatch_trace(view, &traceparent);
    struct domain_write_call call = {0};
    const char *reason = NULL;
    const struct domain_retry retry = {
        .user = connection->login.user,
        .session_id = view->session_id,
        .number = view->transaction_number,
    };
    switch (domain_write_decide(
        connection->link.domain, connection->link.service, found, class == COMMAND_WRITE,
        is_known_again(connection, view, class) ? &retry : NULL, &call, &reason)) {
    case DOMAIN_WRITE_BESIDE:
        return false;
    case DOMAIN_WRITE_REFUSED:
        dispatch_error(dispatch, REPLY_CODE_NoSuchTransaction, reason);
        return true;
    case DOMAIN_WRITE_IN_CALL:
        break;
    }
    dispatch->call = call;
    dispatch->part = CALL_PART_WRITE;
    if (class != COMMAND_WRITE) {
        dispatch->in_call = true;
        return false;
    }
    observe(connection, call.observed, found, view, &dispatch->message, message_bytes);
    dispatch->kind = DISPATCH_OPERATION;
    dispatch->boundary = DISPATCH_TO_CALL;
    return true;
}
