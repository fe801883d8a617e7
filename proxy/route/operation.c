/*
 * A boundary's request on a connection: its message, its channel to the server, its answer.
 *
 * While it is active nothing is read from the client, and everything that comes from the server
 * answers its commands. The connection's worker.
 */
#include "route/dispatch_private.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "holdfast/clock.h"
#include "holdfast/limits.h"
#include "holdfast/log.h"
#include "wire/reply.h"

/* Of a worker, beyond those at work: some 12 KB each. */
#define SPARE_REQUESTS_MAX 64u

static struct connection *connection_of_channel(struct engine_channel *channel)
{
    return (struct connection *)(void *)((uint8_t *)channel - offsetof(struct connection, channel));
}

static void tell_lost(struct connection *connection, enum status status)
{
    void (*answered)(void *, enum status, struct slice) = connection->answered;
    connection->answered = NULL;
    if (answered != NULL) {
        answered(connection->answered_context, status, (struct slice){0});
    }
}

static void on_lost_task(struct worker_task *task)
{
    struct connection *connection =
        (struct connection *)(void *)((uint8_t *)task - offsetof(struct connection, lost_task));
    enum status status = connection->lost_unsent ? STATUS_NOT_FOUND : STATUS_UNREACHABLE;
    connection->lost_posted = connection->lost_unsent = false;
    tell_lost(connection, status);
    connection_continue(connection);
}

void operation_server_gone(struct connection *connection)
{
    if (connection->answered != NULL && !connection->lost_posted) {
        connection->lost_posted = true; /* never from inside send() */
        connection->lost_task.run = on_lost_task;
        worker_post(connection->owner->worker, &connection->lost_task);
    }
}

/* The command that was to be sent never left. */
static void not_sent(struct connection *connection)
{
    connection->lost_unsent = !connection->lost_posted;
    operation_server_gone(connection);
}

static void channel_send_message(struct engine_channel *channel, struct slice body,
                                 struct slice sections,
                                 void (*answered)(void *, enum status, struct slice), void *context)
{
    struct connection *connection = connection_of_channel(channel);
    struct buffer out;
    connection->answered = answered;
    connection->answered_context = context;
    int32_t request_id = connection->next_request_id++;
    buffer_init(&out, LIMIT_MESSAGE_BYTES_MAX);
    bool sent = !connection->server_gone && !connection->away &&
                op_msg_append_with_sections(&out, request_id, 0, 0, body, sections) == STATUS_OK &&
                expected_push(connection, (struct expected){.kind = EXPECT_OPERATION,
                                                            .request_id = request_id});
    if (sent) {
        connection_send_server(connection, buffer_slice(&out));
    } else {
        not_sent(connection);
    }
    buffer_free(&out);
}

static void channel_send(struct engine_channel *channel, struct slice body,
                         void (*answered)(void *, enum status, struct slice), void *context)
{
    channel_send_message(channel, body, (struct slice){0}, answered, context);
}

/* Without what the client wants of replies: here one has to come, and no more than that. */
static void send_request(struct connection *connection)
{
    const struct op_msg *message = &connection->request->message;
    uint32_t wishes = OP_MSG_MORE_TO_COME | OP_MSG_EXHAUST_ALLOWED;
    if ((message->flags & wishes) == 0) {
        connection_send_server(connection, buffer_slice(&connection->request_bytes));
        return;
    }
    uint8_t head[WIRE_HEADER_BYTES + sizeof(uint32_t)];
    const struct wire_header header = {
        .length = (uint32_t)(sizeof head + message->sections.size),
        .request_id = connection->request_id,
        .opcode = WIRE_OPCODE_MSG,
    };
    wire_header_store(head, &header);
    slice_store_u32le(head + WIRE_HEADER_BYTES,
                      message->flags & ~(wishes | OP_MSG_CHECKSUM_PRESENT));
    connection_send_server(connection, slice_make(head, sizeof head));
    connection_send_server(connection, message->sections);
}

static void channel_forward(struct engine_channel *channel,
                            void (*answered)(void *, enum status, struct slice), void *context)
{
    struct connection *connection = connection_of_channel(channel);
    connection->answered = answered;
    connection->answered_context = context;
    if (!connection->server_gone && !connection->away &&
        expected_push(connection, (struct expected){.kind = EXPECT_OPERATION,
                                                    .request_id = connection->request_id})) {
        send_request(connection);
    } else {
        not_sent(connection);
    }
}

void operation_take_reply(struct connection *connection, struct slice reply)
{
    void (*answered)(void *, enum status, struct slice) = connection->answered;
    connection->answered = NULL;
    if (answered != NULL) {
        answered(connection->answered_context, STATUS_OK, reply);
    }
}

/* ------------------------------------------------------------------ telling of it */

/* The trace of a command whose unit is not known is what its own comment names. */
static const uint8_t *trace_of(const struct boundary_request *request)
{
    return request->unit_id == 0 && request->has_parent ? request->parent.trace.bytes
                                                        : request->unit_trace.trace_id;
}

static void end_span(const struct connection *connection, int32_t code, uint64_t now_us)
{
    const struct boundary_request *request = connection->request;
    const struct command_view *view = &request->view;
    struct span span = {.kind = SPAN_CLIENT,
                        .failed = code != 0,
                        .code = code,
                        .started_us = connection->request_started_us,
                        .ended_us = now_us,
                        .unit = request->unit_id};
    if (span.started_us < request->unit_began_us) {
        span.started_us = request->unit_began_us; /* it was its first */
    }
    span_child(&request->unit_trace, &span.context);
    if (request->unit_id == 0 || !span_is_wanted(&span.context)) {
        return;
    }
    if (request->has_parent && memcmp(request->parent.parent, request->unit_trace.parent_id,
                                      sizeof request->parent.parent) != 0) {
        memcpy(span.linked_trace_id, request->parent.trace.bytes, sizeof span.linked_trace_id);
        memcpy(span.linked_span_id, request->parent.parent, sizeof span.linked_span_id);
    }
    const char *collection = view->collection == NULL ? "" : view->collection;
    (void)snprintf(span.name, sizeof span.name, "%.40s%s%.110s", view->name,
                   collection[0] == '\0' ? "" : " ", collection);
    (void)snprintf(span.operation, sizeof span.operation, "%s", view->name);
    (void)snprintf(span.database, sizeof span.database, "%s",
                   view->database == NULL ? "" : view->database);
    (void)snprintf(span.collection, sizeof span.collection, "%s", collection);
    (void)snprintf(span.user, sizeof span.user, "%.127s", connection->login.user);
    (void)snprintf(span.application, sizeof span.application, "%s", connection->application);
    (void)snprintf(span.client, sizeof span.client, "%s", connection->client);
    span_end(&span);
}

/* The code of the first of the documents that a write could not write. */
static int32_t first_write_error(struct slice errors)
{
    bson_iter_t at;
    bson_iter_t code;
    return bson_iter_init_from_data(&at, errors.data, errors.size) && bson_iter_next(&at) &&
                   BSON_ITER_HOLDS_DOCUMENT(&at) && bson_iter_recurse(&at, &code) &&
                   bson_iter_find(&code, "code") && BSON_ITER_HOLDS_INT32(&code)
               ? bson_iter_int32(&code)
               : REPLY_CODE_InternalError;
}

/* 0: it went well. */
static int32_t code_of(struct slice reply)
{
    struct reply_view view;
    if (reply.size == 0 || reply_view_parse(reply, &view) != STATUS_OK) {
        return REPLY_CODE_HostUnreachable; /* what is answered, if anybody is there */
    }
    if (view.ok) {
        return view.has_write_errors ? first_write_error(view.write_errors) : 0;
    }
    return view.code != 0 ? view.code : REPLY_CODE_InternalError;
}

/* For trace and log, of which neither is there in most setups. */
static void tell(struct connection *connection, struct slice reply)
{
    const struct boundary_request *request = connection->request;
    uint64_t now_us = clock_wall_us();
    int32_t code = code_of(reply);
    end_span(connection, code, now_us);
    LOG(LOG_DEBUG, "command", "Command carried out",
        LOG_NUMBER(request->unit_id == 0 ? NULL : "unit", request->unit_id),
        LOG_HEX("trace", trace_of(request), TRACE_ID_BYTES),
        LOG_HEX("session", request->view.session_id.data, request->view.session_id.size),
        LOG_CONNECTION(connection), LOG_TEXT("command", request->view.name),
        LOG_TEXT_IF("database", request->view.database),
        LOG_TEXT_IF("collection", request->view.collection), LOG_NUMBER("code", code),
        LOG_NUMBER("micros", now_us - connection->request_started_us));
}

/* ------------------------------------------------------------------ its memory */

/*
 * A request is as large as all the rest of a connection three times over, and most connections are
 * idle: so those at work share the worker's, last in, first out, for its memory is in the caches.
 */
static struct boundary_request *take_spare(struct route_worker *worker)
{
    struct boundary_request *request = worker->spare_requests;
    if (request == NULL) {
        return memory_new_aligned(1, sizeof *request, _Alignof(struct boundary_request));
    }
    worker->spare_requests = request->context;
    worker->spare_count--;
    return request;
}

static void give_back(struct route_worker *worker, struct boundary_request *request)
{
    if (worker->spare_count == SPARE_REQUESTS_MAX) {
        free(request);
        return;
    }
    request->context = worker->spare_requests;
    worker->spare_requests = request;
    worker->spare_count++;
}

void operation_free_spare(struct route_worker *worker)
{
    while (worker->spare_requests != NULL) {
        struct boundary_request *request = worker->spare_requests;
        worker->spare_requests = request->context;
        free(request);
    }
    worker->spare_count = 0;
}

/* ------------------------------------------------------------------ its end */

static void on_completed(struct boundary_request *request, struct slice reply)
{
    struct connection *connection = request->context;
    bool comes_again = request->outlives_server && reply.size > 0;
    connection->active = false;
    if (connection->request_started_us != 0) {
        tell(connection, reply);
    }
    connection->request = NULL;
    give_back(connection->owner, request);
    buffer_free(&connection->request_bytes);
    if (reply.size == 0) {
        connection_end_server(connection);
    } else if (!connection->request_unanswered) {
        struct buffer out;
        buffer_init(&out, LIMIT_MESSAGE_BYTES_MAX);
        if (op_msg_append(&out, 0, connection->request_id, 0, reply) == STATUS_OK) {
            connection_send_client(connection, buffer_slice(&out));
        } else {
            connection_end_client(connection);
        }
        buffer_free(&out);
    }
    if (connection->server_gone && (!comes_again || !connection_come_again(connection))) {
        connection_end_client(connection);
    }
    connection_continue(connection);
}

/*
 * The request of a loan is of no message and is never answered: it keeps the connection as it is
 * while somebody else's command is on its way there.
 */
bool operation_lend(struct connection *connection)
{
    struct boundary_request *request = take_spare(connection->owner);
    if (request == NULL) {
        return false;
    }
    request->context = connection;
    request->engine = connection->shared->options.engine;
    request->channel = &connection->channel;
    request->slot = NULL;
    request->completed = on_completed;
    connection->channel.process = connection->has_process ? connection->process : NULL;
    boundary_lend(request);
    connection->request = request;
    connection->request_started_us = 0;
    connection->request_unanswered = true;
    connection->active = true;
    return true;
}

void operation_take_back(struct connection *connection)
{
    boundary_take_back(connection->request);
}

void operation_init(struct connection *connection)
{
    connection->channel = (struct engine_channel){
        .worker = connection->owner->worker,
        .local_address = connection->local_address,
        .send = channel_send,
        .send_message = channel_send_message,
        .forward = channel_forward,
    };
    connection->next_request_id = 1;
}

void operation_start(struct connection *connection, const struct wire_header *header,
                     struct slice message, const struct dispatch *dispatch)
{
    struct route_shared *shared = connection->shared;
    struct boundary_request *request = take_spare(connection->owner);
    if (request == NULL ||
        buffer_append(&connection->request_bytes, message.data, message.size) != STATUS_OK ||
        op_msg_parse(buffer_slice(&connection->request_bytes), &request->message) != STATUS_OK ||
        command_view_parse(request->message.body, &request->view, NULL) != STATUS_OK) {
        if (dispatch->boundary == DISPATCH_TO_CALL && dispatch->call.slot != NULL) {
            domain_write_done(dispatch->call.slot);
        }
        if (request != NULL) {
            give_back(connection->owner, request);
        }
        connection_refuse(connection, "out of memory for a command");
        return;
    }
    connection->request = request;
    request->context = connection;
    request->slot = NULL;
    request->stale_cursor = dispatch->stale_cursor;
    request->read_is_lost = dispatch->read_is_lost;
    request->authorized = &connection->authorized;
    request->has_parent = dispatch_traceparent(&request->view, &request->parent);
    connection->request_started_us = span_is_on() || log_is_on(LOG_DEBUG) ? clock_wall_us() : 0;
    request->engine = shared->options.engine;
    request->channel = &connection->channel;
    request->user = connection->login.user;
    request->client = connection->client;
    request->application = connection->application;
    request->connection = connection->number;
    request->reader_group =
        connection->link.domain == NULL
            ? 0
            : domain_reader_group(connection->link.domain, connection->link.service);
    request->domain = connection->link.domain;
    request->service = connection->link.service;
    request->process = connection->has_process ? connection->process : NULL;
    request->draining = atomic_load(&shared->draining);
    request->completed = on_completed;
    connection->active = true;
    connection->carried_unit |= dispatch->boundary != DISPATCH_TO_READ;
    connection->request_id = header->request_id;
    connection->request_unanswered = (request->message.flags & OP_MSG_MORE_TO_COME) != 0;
    switch (dispatch->boundary) {
    case DISPATCH_TO_DRIVER:
        driver_start(request);
        break;
    case DISPATCH_TO_NATIVE:
        native_commit_start(request);
        break;
    case DISPATCH_TO_PLAIN:
        plain_start(request);
        break;
    case DISPATCH_TO_READ:
        reading_start(request);
        break;
    case DISPATCH_TO_CALL:
        request->key = dispatch->call.key;
        request->slot = dispatch->call.slot;
        request->part = dispatch->part;
        call_write_start(request);
        break;
    case DISPATCH_TO_COMMENT:
        comment_start(request);
        break;
    }
    if (connection->active && !connection->request_unanswered &&
        connection->downstream.peer_closed) {
        connection_end_client(connection); /* it left before: nothing would tell so later */
    }
}
