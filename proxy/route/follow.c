/* A connection to the server that follows the primary (follow.h). The connection's worker. */
#include "route/follow.h"

#include <pthread.h>
#include <string.h>

#include "holdfast/clock.h"
#include "holdfast/limits.h"
#include "holdfast/log.h"
#include "net/stream_tls.h"
#include "route/command_table.h"
#include "route/dispatch_private.h"
#include "route/elsewhere.h"
#include "wire/bson_walk.h"
#include "wire/op_msg.h"
#include "wire/op_query.h"
#include "wire/reply.h"

/* Between attempts: from the first to the second number. A change of the topology cuts it short. */
#define RETRY_MS_MIN 20u
#define RETRY_MS_MAX 500u
/* For a server that takes a connection and does not answer. */
#define ATTEMPT_MS 5000u

#define LABEL_RESUMABLE "ResumableChangeStreamError"

static struct topology *topology_of(const struct connection *connection)
{
    return connection->shared->options.topology;
}

/* ------------------------------------------------------------------ what a loss means */

static const char *label_of(const struct expected *expected)
{
    switch (expected->loss) {
    case LOSS_RETRYABLE:
        return REPLY_LABEL_RETRYABLE;
    case LOSS_TRANSIENT:
        return REPLY_LABEL_TRANSIENT;
    case LOSS_RESUMABLE:
        return LABEL_RESUMABLE;
    case LOSS_PLAIN:
        break;
    }
    return NULL;
}

void follow_note(const struct command_view *view, struct expected *expected)
{
    bool ends = bson_name_is(view->name, "commitTransaction") ||
                bson_name_is(view->name, "abortTransaction");
    if (view->has_autocommit && !ends) {
        expected->loss = LOSS_TRANSIENT;
    } else if (ends || view->has_transaction_number) {
        expected->loss = LOSS_RETRYABLE;
    } else if (bson_name_is(view->name, "getMore") || bson_name_is(view->name, "aggregate")) {
        expected->loss = LOSS_RESUMABLE; /* of a change stream; of others nobody looks at it */
    }
}

/* ------------------------------------------------------------------ dialling */

static void wait_a_moment(struct connection *connection)
{
    unsigned doubled = connection->dial_attempts < 6 ? connection->dial_attempts : 6;
    uint64_t wait_ms = (uint64_t)RETRY_MS_MIN << doubled;
    connection->dial_attempts++;
    worker_timer_start(&connection->dial_timer, wait_ms > RETRY_MS_MAX ? RETRY_MS_MAX : wait_ms);
}

static bool is_too_late(const struct connection *connection)
{
    return clock_monotonic_ms() - connection->dial_since_ms >
           connection->shared->options.selection_ms;
}

static bool connect_to(struct connection *connection, const struct topology_target *target)
{
    const struct router_options *options = &connection->shared->options;
    size_t at = connection->dial_attempts % target->address_count;
    connection->generation = target->generation;
    if (options->upstream_tls != NULL &&
        stream_use_tls_towards(&connection->upstream, options->upstream_tls, target->host) !=
            STATUS_OK) {
        return false;
    }
    return stream_connect(&connection->upstream, connection->owner->worker,
                          (const struct sockaddr *)&target->addresses[at], target->sizes[at],
                          connection_upstream_callbacks(), connection) == STATUS_OK;
}

static void dial(struct connection *connection)
{
    struct topology_target target;
    if (topology_target_get(topology_of(connection), &target)) {
        if (connect_to(connection, &target)) {
            worker_timer_start(&connection->dial_timer, ATTEMPT_MS);
        } else {
            follow_failed(connection);
        }
    } else if (is_too_late(connection)) {
        follow_failed(connection);
    } else {
        wait_a_moment(connection);
    }
}

/* The next attempt's time has come, or that of the one that is on its way is over. */
static void on_timer(evutil_socket_t descriptor, short what, void *context)
{
    (void)descriptor;
    (void)what;
    struct connection *connection = context;
    if (connection->dialling && connection->upstream.descriptor < 0) {
        dial(connection);
    } else if (connection->dialling) {
        follow_failed(connection);
    }
}

void follow_dial(struct connection *connection)
{
    if (connection->server_gone || connection->dialling) {
        return;
    }
    connection->dialling = true;
    connection->away = true;
    connection->dial_since_ms = clock_monotonic_ms();
    connection->dial_attempts = 0;
    (void)event_assign(&connection->dial_timer, worker_base(connection->owner->worker), -1, 0,
                       on_timer, connection);
    /* Not from here: the handler of the former stream's event may be on the stack. */
    worker_timer_start(&connection->dial_timer, 0);
}

static bool client_wants(const struct connection *connection)
{
    return connection->incoming.size > 0 || connection->downstream.readable;
}

static void give_up_attempt(struct connection *connection)
{
    connection_close_upstream(connection);
    while (connection->expected_count > 0) {
        expected_pop(connection); /* the proxy's own question */
    }
}

void follow_failed(struct connection *connection)
{
    give_up_attempt(connection);
    if (is_too_late(connection) && !client_wants(connection)) {
        follow_end(connection); /* its next command begins anew */
        return;
    }
    if (is_too_late(connection)) {
        LOG(LOG_ERROR, "net", "No primary was found for a command in time",
            LOG_CONNECTION(connection),
            LOG_NUMBER("waitedMillis", connection->shared->options.selection_ms));
        follow_end(connection);
        connection->refusing = true;
        requests_read(connection);
        return;
    }
    wait_a_moment(connection);
}

/* ------------------------------------------------------------------ without a server */

bool follow_answers(const struct connection *connection)
{
    return connection->refusing ||
           (connection->dialling && !topology_has_target(topology_of(connection)));
}

void follow_not_needed(struct connection *connection)
{
    if (connection->away) {
        connection->dial_since_ms = clock_monotonic_ms();
        connection->refusing = false;
    }
}

static void remember(struct remembered_hello *hello, struct slice document)
{
    static const char *const removed[] = {"localTime",     "connectionId", "lastWrite",
                                          "operationTime", "$clusterTime", NULL};
    bson_t copy;
    if (command_copy_without(&copy, document, removed) == STATUS_OK) {
        if (copy.len <= sizeof hello->document) {
            pthread_mutex_lock(&hello->mutex);
            memcpy(hello->document, bson_get_data(&copy), copy.len);
            hello->size = copy.len;
            pthread_mutex_unlock(&hello->mutex);
        }
        bson_destroy(&copy);
    }
}

/* False: nothing is remembered. Else `body` is to be destroyed. */
static bool recall(struct connection *connection, bson_t *body)
{
    struct remembered_hello *hello = &connection->shared->hello;
    bson_init(body);
    pthread_mutex_lock(&hello->mutex);
    bool known = hello->size > 0 && hello_rewrite(slice_make(hello->document, hello->size),
                                                  connection->persona, body) == STATUS_OK;
    pthread_mutex_unlock(&hello->mutex);
    if (known) {
        BSON_APPEND_DATE_TIME(body, "localTime", (int64_t)clock_wall_ms());
    } else {
        bson_destroy(body);
    }
    return known;
}

static void refuse(struct connection *connection, const struct command_view *view,
                   struct dispatch *dispatch)
{
    struct expected lost = {0};
    connection->refusing = false;
    follow_note(view, &lost);
    dispatch->kind = DISPATCH_ANSWER;
    bson_init(&dispatch->body);
    reply_put_error(&dispatch->body, REPLY_CODE_FailedToSatisfyReadPreference, label_of(&lost),
                    "Could not find host matching read preference { mode: \"primary\" }: no server "
                    "of upstream.uri is one");
}

static bool parse(const struct wire_header *header, struct slice message,
                  struct op_msg *ret_message, struct command_view *ret_view)
{
    struct op_query query;
    if (header->opcode == WIRE_OPCODE_QUERY) {
        return op_query_parse(message, &query) == STATUS_OK &&
               command_view_parse(query.query, ret_view, NULL) == STATUS_OK &&
               command_classify(ret_view) == COMMAND_HELLO;
    }
    return header->opcode == WIRE_OPCODE_MSG && op_msg_parse(message, ret_message) == STATUS_OK &&
           command_view_parse(ret_message->body, ret_view, NULL) == STATUS_OK;
}

/* One that asks for what only the server can say of a user, or begins a login, waits. */
static bool is_plain_hello(const struct command_view *view)
{
    bson_iter_t at;
    return command_classify(view) == COMMAND_HELLO && !login_hello_begins_one(view) &&
           !(bson_iter_init_from_data(&at, view->body.data, view->body.size) &&
             bson_iter_find(&at, "saslSupportedMechs"));
}

void follow_decide(struct connection *connection, const struct wire_header *header,
                   struct slice available, struct dispatch *dispatch)
{
    struct command_view view;
    if (atomic_load_explicit(&connection->shared->pause, memory_order_relaxed) == ROUTER_PAUSES) {
        dispatch->kind = DISPATCH_BLOCKED; /* a read elsewhere would be cut by the hand-over */
        return;
    }
    dispatch->kind = DISPATCH_MORE;
    if (available.size < header->length) {
        return;
    }
    if (!parse(header, available, &dispatch->message, &view)) {
        dispatch->kind = DISPATCH_REFUSE;
        dispatch->reason = "a message that is no command, while there is no server";
        return;
    }
    dispatch->expects_reply =
        header->opcode == WIRE_OPCODE_QUERY || (dispatch->message.flags & OP_MSG_MORE_TO_COME) == 0;
    dispatch->expected = (struct expected){.kind = EXPECT_PASS, .request_id = header->request_id};
    follow_note(&view, &dispatch->expected);
    if (header->opcode == WIRE_OPCODE_MSG &&
        elsewhere_decide(connection, header, available, &view, dispatch)) {
        return; /* without a primary, too */
    }
    if (command_classify(&view) == COMMAND_HELLO &&
        !dispatch_note_application(connection, &view, dispatch)) {
        return;
    }
    if (is_plain_hello(&view) && recall(connection, &dispatch->body)) {
        dispatch->kind = DISPATCH_ANSWER;
    } else if (!connection->refusing) {
        dispatch->kind = DISPATCH_BLOCKED;
    } else if (command_classify(&view) == COMMAND_HELLO) {
        connection_end_client(connection); /* an error would be taken for what a server says */
    } else {
        refuse(connection, &view, dispatch);
    }
}

bool follow_accept(struct connection *connection, struct slice hello)
{
    if (!topology_accepts(topology_of(connection), hello)) {
        /* Others need not try the same. */
        topology_suspect(topology_of(connection), connection->generation);
        follow_failed(connection);
        return false;
    }
    remember(&connection->shared->hello, hello);
    follow_end(connection);
    connection->away = false;
    connection->refusing = false;
    return true;
}

void follow_end(struct connection *connection)
{
    if (connection->dialling) {
        connection->dialling = false;
        (void)event_del(&connection->dial_timer);
    }
}

/* ------------------------------------------------------------------ going away */

static void send_error(struct connection *connection, const struct expected *expected,
                       const bson_t *body)
{
    struct buffer out;
    buffer_init(&out, LIMIT_MESSAGE_BYTES_MAX);
    if (op_msg_append(&out, 0, expected->request_id, 0,
                      slice_make(bson_get_data(body), body->len)) == STATUS_OK) {
        connection_send_client(connection, buffer_slice(&out));
    }
    buffer_free(&out);
}

void follow_answer_lost(struct connection *connection, const struct expected *expected)
{
    bson_t body = BSON_INITIALIZER;
    reply_put_error(&body, REPLY_CODE_HostUnreachable, label_of(expected),
                    "the connection to the server broke before it had answered");
    send_error(connection, expected, &body);
    bson_destroy(&body);
}

void follow_answer_unsatisfied(struct connection *connection, const struct expected *expected,
                               const char *mode)
{
    bson_t body = BSON_INITIALIZER;
    reply_put_error(&body, REPLY_CODE_FailedToSatisfyReadPreference, label_of(expected),
                    "Could not find host matching read preference { mode: \"%s\" }", mode);
    send_error(connection, expected, &body);
    bson_destroy(&body);
}

/* Whether an error can stand for the reply, which has not begun. */
static bool can_answer(const struct expected *expected)
{
    return !expected->streaming && expected->kind != EXPECT_HELLO && expected->kind != EXPECT_LOGIN;
}

static bool can_go(const struct connection *connection)
{
    if (connection->client_gone || connection->server_gone || connection->owner->stopping ||
        connection->login.user[0] != '\0' || connection->login.pending[0] != '\0' ||
        connection->request_remaining > 0 || connection->reply_remaining > 0) {
        return false;
    }
    for (uint32_t i = 0; i < connection->expected_count; i++) {
        if (!can_answer(expected_get(connection, i))) {
            return false;
        }
    }
    return true;
}

static void answer_expected(struct connection *connection)
{
    while (connection->expected_count > 0) {
        struct expected expected = *expected_first(connection);
        expected_pop(connection);
        if (expected.kind == EXPECT_WRITE || expected.kind == EXPECT_SWALLOW) {
            expected_leave(connection, &expected);
        } else if (expected.kind == EXPECT_READ || expected.kind == EXPECT_GET_MORE) {
            dispatch_read_forget(connection);
        }
        if (expected.kind != EXPECT_SWALLOW && expected.kind != EXPECT_OPERATION &&
            expected.kind != EXPECT_PROCESS) {
            follow_answer_lost(connection, &expected);
        }
    }
}

bool follow_lost(struct connection *connection)
{
    if (connection->away) {
        if (connection->upstream.descriptor >= 0) {
            follow_failed(connection);
        }
        return !connection->server_gone;
    }
    if (!can_go(connection)) {
        return false;
    }
    connection_close_upstream(connection);
    connection->away = true;
    if (connection->active) {
        operation_server_gone(connection);
    }
    answer_expected(connection);
    return true;
}

static bool is_idle(const struct connection *connection)
{
    return connection->expected_count == 0 && connection->request_remaining == 0 &&
           connection->reply_remaining == 0 && !connection->active && !connection->gate_waiting &&
           connection->name_wait == NULL;
}

static bool is_current(const struct connection *connection)
{
    return connection->generation == topology_generation(topology_of(connection));
}

void follow_look(struct connection *connection)
{
    if (connection->connected && !is_current(connection) && is_idle(connection) &&
        !follow_lost(connection)) {
        connection_end_client(connection);
    }
    if (connection->refusing && topology_has_target(topology_of(connection))) {
        connection->refusing = false;
    }
    if (connection->away && !connection->dialling && !connection->refusing &&
        !connection->client_gone && client_wants(connection)) {
        follow_dial(connection);
    }
}

static bool is_connected_to(const struct connection *connection,
                            const struct topology_target *target)
{
    struct sockaddr_storage peer = {0};
    socklen_t size = sizeof peer;
    if (getpeername(connection->upstream.descriptor, (struct sockaddr *)&peer, &size) != 0) {
        return false;
    }
    for (size_t i = 0; i < target->address_count; i++) {
        if (target->sizes[i] == size && memcmp(&target->addresses[i], &peer, size) == 0) {
            return true;
        }
    }
    return false;
}

bool follow_adopt(struct connection *connection)
{
    struct topology_target target;
    if (connection->away) {
        return true;
    }
    if (topology_target_get(topology_of(connection), &target) &&
        is_connected_to(connection, &target)) {
        connection->generation = target.generation;
        return true;
    }
    return follow_lost(connection);
}

/* ------------------------------------------------------------------ what tells of a change */

static int32_t concern_code(struct slice document)
{
    bson_iter_t at;
    bson_iter_t found;
    return bson_iter_init_from_data(&at, document.data, document.size) &&
                   bson_iter_find_descendant(&at, "writeConcernError.code", &found) &&
                   BSON_ITER_HOLDS_INT32(&found)
               ? bson_iter_int32(&found)
               : 0;
}

bool follow_reply(struct connection *connection, struct slice document)
{
    struct reply_view view;
    if (document.size > FOLLOW_LOOK_BYTES || reply_view_parse(document, &view) != STATUS_OK ||
        (view.ok && !view.has_write_concern_error)) {
        return true;
    }
    if (!topology_code_is_state_change(view.ok ? concern_code(document) : view.code)) {
        return true;
    }
    topology_suspect(topology_of(connection), connection->generation);
    return connection->login.user[0] == '\0';
}

void follow_changed(struct route_worker *worker)
{
    for (struct connection *at = worker->first; at != NULL; at = at->next) {
        if (at->dialling && (at->upstream.descriptor < 0 || !is_current(at))) {
            give_up_attempt(at);
            at->dial_attempts = 0;
            worker_timer_start(&at->dial_timer, 0);
            requests_read(at); /* there may be none at all now: a hello is answered */
        } else if (at->connected && at->login.user[0] != '\0' && !at->client_gone &&
                   !is_current(at) && is_idle(at)) {
            connection_end_client(at); /* freed from the loop, after this one */
        }
    }
}
