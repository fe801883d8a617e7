/*
 * Reads by preference (elsewhere.h).
 *
 * Invariant: `elsewhere_busy` is set exactly while a request is kept that is not answered. Whatever
 * ends the stream answers it, or tries elsewhere.
 *
 * Nothing is freed but from elsewhere_free(): a handler of the stream may be on the stack.
 */
#include "route/elsewhere.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "holdfast/clock.h"
#include "holdfast/limits.h"
#include "holdfast/log.h"
#include "net/stream_tls.h"
#include "route/dispatch_private.h"
#include "route/follow.h"
#include "wire/bson_walk.h"
#include "wire/op_msg.h"

#define RETRY_MS_MIN 20u
#define RETRY_MS_MAX 500u
#define ATTEMPT_MS 5000u

enum state {
    NONE,
    WAITING,    /* for a member, or for the next attempt */
    CONNECTING, /* the stream is being opened */
    ASKING,     /* it has been asked hello */
    IDLE,
    WORKING, /* the request is with it */
};

struct elsewhere {
    struct connection *connection;
    enum state state;
    struct stream stream;
    struct event timer;
    struct buffer incoming; /* of a reply */
    char name[TOPOLOGY_NAME_BYTES];
    char avoided[TOPOLOGY_NAME_BYTES]; /* it failed last */
    int32_t hello_id;
    /* the request */
    struct buffer message;
    struct command_view view; /* into `message` */
    struct selection_preference preference;
    struct expected expected;        /* what is told if its answer is lost */
    char place[TOPOLOGY_NAME_BYTES]; /* where its cursor is; "": by preference */
    int64_t cursor;
    uint64_t since_ms;
    unsigned attempts;
    bool streaming; /* a reply with moreToCome came */
};

static struct topology *topology_of(const struct connection *connection)
{
    return connection->shared->options.topology;
}

/* ------------------------------------------------------------------ whether it is one */

/* The cursor of a getMore, or the first of a killCursors. 0: none. */
static int64_t cursor_of(const struct command_view *view)
{
    struct bson_element element;
    struct slice fields;
    int64_t cursor = 0;
    if (bson_name_is(view->name, "getMore")) {
        return bson_element_find(view->body, "getMore", &element) &&
                       bson_element_integer(&element, &cursor)
                   ? cursor
                   : 0;
    }
    return bson_name_is(view->name, "killCursors") &&
                   bson_element_find(view->body, "cursors", &element) &&
                   element.type == BSON_TYPE_ARRAY && bson_fields_open(element.value, &fields) &&
                   bson_element_next(&fields, &element) && bson_element_integer(&element, &cursor)
               ? cursor
               : 0;
}

static bool is_placed(struct connection *connection, const struct command_view *view,
                      char ret_place[TOPOLOGY_NAME_BYTES], int64_t *ret_cursor)
{
    struct cursor_places *places = &connection->shared->cursor_places;
    if (!cursor_places_any(places)) {
        return false;
    }
    *ret_cursor = cursor_of(view);
    return *ret_cursor != 0 && cursor_places_find(places, *ret_cursor, ret_place);
}

static bool is_read(const struct command_view *view)
{
    static const char *const names[] = {"find", "aggregate", "count", "distinct", NULL};
    return bson_name_is_one_of(view->name, names) && command_classify(view) == COMMAND_PASS;
}

static bool is_preferred(struct connection *connection, const struct command_view *view)
{
    struct selection_preference preference;
    struct topology_target target;
    const struct elsewhere *elsewhere = connection->elsewhere;
    return view->read_preference.size > 0 && is_read(view) &&
           selection_preference_parse(view->read_preference, &preference) &&
           topology_choose(topology_of(connection), &preference,
                           elsewhere == NULL ? "" : elsewhere->name,
                           elsewhere == NULL ? "" : elsewhere->avoided, true,
                           &target) != TOPOLOGY_CHOICE_PRIMARY;
}

bool elsewhere_decide(struct connection *connection, const struct wire_header *header,
                      struct slice available, const struct command_view *view,
                      struct dispatch *dispatch)
{
    char place[TOPOLOGY_NAME_BYTES];
    int64_t cursor = 0;
    if (!follow_is_on(connection) || connection->shared->options.observe_only ||
        connection->link.domain != NULL || /* what a service reads may be its call's */
        connection->login.user[0] != '\0' || connection->login.pending[0] != '\0' ||
        view->has_autocommit || !dispatch->expects_reply ||
        (!is_placed(connection, view, place, &cursor) && !is_preferred(connection, view))) {
        return false;
    }
    dispatch_own(connection, header, available, DISPATCH_ELSEWHERE, dispatch);
    return true;
}

/* ------------------------------------------------------------------ its end */

static void close_stream(struct elsewhere *elsewhere)
{
    stream_close(&elsewhere->stream);
    stream_init(&elsewhere->stream);
    elsewhere->stream.transport = &stream_transport_permitted;
    elsewhere->stream.gathers = true;
    buffer_free(&elsewhere->incoming);
    elsewhere->name[0] = '\0';
    (void)event_del(&elsewhere->timer);
    elsewhere->state = NONE;
}

static void finish(struct elsewhere *elsewhere)
{
    struct connection *connection = elsewhere->connection;
    connection->elsewhere_busy = false;
    buffer_free(&elsewhere->message);
    if (elsewhere->state == WORKING) {
        elsewhere->state = IDLE;
        worker_timer_start(&elsewhere->timer, ELSEWHERE_IDLE_MS);
    }
    connection_continue(connection);
}

/* In the middle of a stream of replies no error can stand for the next one. */
static void lose(struct elsewhere *elsewhere)
{
    struct connection *connection = elsewhere->connection;
    (void)snprintf(elsewhere->avoided, sizeof elsewhere->avoided, "%s", elsewhere->name);
    close_stream(elsewhere);
    if (elsewhere->streaming) {
        connection_end_client(connection);
        return;
    }
    cursor_places_forget(&connection->shared->cursor_places, elsewhere->cursor);
    follow_answer_lost(connection, &elsewhere->expected);
    finish(elsewhere);
}

static void refuse(struct elsewhere *elsewhere)
{
    const char *mode = selection_mode_name(elsewhere->preference.mode);
    LOG(LOG_WARNING, "net", "No member was found for a read in time",
        LOG_CONNECTION(elsewhere->connection), LOG_TEXT("mode", mode),
        LOG_NUMBER("waitedMillis", elsewhere->connection->shared->options.selection_ms));
    close_stream(elsewhere);
    follow_answer_unsatisfied(elsewhere->connection, &elsewhere->expected, mode);
    finish(elsewhere);
}

void elsewhere_close(struct connection *connection)
{
    if (connection->elsewhere != NULL) {
        close_stream(connection->elsewhere);
        buffer_free(&connection->elsewhere->message);
        connection->elsewhere_busy = false;
    }
}

void elsewhere_free(struct connection *connection)
{
    elsewhere_close(connection);
    free(connection->elsewhere);
    connection->elsewhere = NULL;
}

/* ------------------------------------------------------------------ reaching a member */

static bool is_too_late(const struct elsewhere *elsewhere)
{
    return clock_monotonic_ms() - elsewhere->since_ms >
           elsewhere->connection->shared->options.selection_ms;
}

static void wait_a_moment(struct elsewhere *elsewhere)
{
    unsigned doubled = elsewhere->attempts < 6 ? elsewhere->attempts : 6;
    uint64_t wait_ms = (uint64_t)RETRY_MS_MIN << doubled;
    elsewhere->attempts++;
    elsewhere->state = WAITING;
    worker_timer_start(&elsewhere->timer, wait_ms > RETRY_MS_MAX ? RETRY_MS_MAX : wait_ms);
}

/* Where a cursor is it stays: without that member it is lost. */
static void fail(struct elsewhere *elsewhere)
{
    (void)snprintf(elsewhere->avoided, sizeof elsewhere->avoided, "%s", elsewhere->name);
    if (elsewhere->place[0] != '\0') {
        lose(elsewhere);
        return;
    }
    close_stream(elsewhere);
    if (is_too_late(elsewhere)) {
        refuse(elsewhere);
    } else {
        wait_a_moment(elsewhere);
    }
}

static void send_bytes(struct elsewhere *elsewhere, struct slice bytes)
{
    counter_add_alone(&elsewhere->connection->owner->counters.server_bytes_out, bytes.size);
    if (stream_send(&elsewhere->stream, bytes) != STATUS_OK) {
        lose(elsewhere);
    }
}

static void send_request(struct elsewhere *elsewhere)
{
    elsewhere->state = WORKING;
    elsewhere->avoided[0] = '\0';
    (void)event_del(&elsewhere->timer); /* a read may take as long as it likes */
    send_bytes(elsewhere, buffer_slice(&elsewhere->message));
}

static void ask_hello(struct elsewhere *elsewhere)
{
    bson_t body = BSON_INITIALIZER;
    struct buffer out;
    elsewhere->hello_id = elsewhere->connection->next_request_id++;
    BSON_APPEND_INT32(&body, "isMaster", 1);
    BSON_APPEND_UTF8(&body, "$db", "admin");
    buffer_init(&out, LIMIT_MESSAGE_BYTES_MAX);
    enum status status =
        op_msg_append(&out, elsewhere->hello_id, 0, 0, slice_make(bson_get_data(&body), body.len));
    if (status == STATUS_OK) {
        status = stream_send(&elsewhere->stream, buffer_slice(&out));
    }
    if (status == STATUS_OK) {
        elsewhere->state = ASKING;
    } else {
        fail(elsewhere);
    }
    buffer_free(&out);
    bson_destroy(&body);
}

static void on_connected(void *context, enum status status)
{
    struct elsewhere *elsewhere = context;
    if (status == STATUS_OK) {
        ask_hello(elsewhere);
    } else {
        fail(elsewhere);
    }
}

static void on_readable(void *context)
{
    struct elsewhere *elsewhere = context;
    elsewhere_read(elsewhere->connection);
}

static void on_drained(void *context)
{
    (void)context;
}

static const struct stream_callbacks callbacks = {
    .connected = on_connected,
    .readable = on_readable,
    .drained = on_drained,
};

static void connect_to(struct elsewhere *elsewhere, const struct topology_target *target)
{
    struct connection *connection = elsewhere->connection;
    struct tls *tls = connection->shared->options.upstream_tls;
    close_stream(elsewhere);
    (void)snprintf(elsewhere->name, sizeof elsewhere->name, "%s", target->name);
    enum status status = target->address_count == 0 ? STATUS_UNREACHABLE : STATUS_OK;
    if (status == STATUS_OK && tls != NULL) {
        status = stream_use_tls_towards(&elsewhere->stream, tls, target->host);
    }
    if (status == STATUS_OK) {
        size_t at = elsewhere->attempts % target->address_count;
        status = stream_connect(&elsewhere->stream, connection->owner->worker,
                                (const struct sockaddr *)&target->addresses[at], target->sizes[at],
                                &callbacks, elsewhere);
    }
    if (status == STATUS_OK) {
        elsewhere->state = CONNECTING;
        worker_timer_start(&elsewhere->timer, ATTEMPT_MS);
    } else {
        fail(elsewhere);
    }
}

static bool choose(struct elsewhere *elsewhere, struct topology_target *ret_target)
{
    struct topology *topology = topology_of(elsewhere->connection);
    if (elsewhere->place[0] != '\0') {
        return topology_member_target(topology, elsewhere->place, ret_target);
    }
    return topology_choose(topology, &elsewhere->preference,
                           elsewhere->state == IDLE ? elsewhere->name : "", elsewhere->avoided,
                           false, ret_target) != TOPOLOGY_CHOICE_NONE;
}

static void begin(struct elsewhere *elsewhere)
{
    struct topology_target target = {0}; /* of a cluster none is chosen: no address */
    if (!choose(elsewhere, &target)) {
        fail(elsewhere);
    } else if (elsewhere->state == IDLE && strcmp(elsewhere->name, target.name) == 0) {
        send_request(elsewhere);
    } else {
        connect_to(elsewhere, &target);
    }
}

static void on_timer(evutil_socket_t descriptor, short what, void *context)
{
    (void)descriptor;
    (void)what;
    struct elsewhere *elsewhere = context;
    switch (elsewhere->state) {
    case WAITING:
        begin(elsewhere);
        break;
    case CONNECTING:
    case ASKING:
        fail(elsewhere);
        break;
    case IDLE:
        close_stream(elsewhere);
        break;
    case NONE:
    case WORKING:
        break;
    }
}

/* ------------------------------------------------------------------ a request */

/* NULL: out of memory. */
static struct elsewhere *made(struct connection *connection)
{
    struct elsewhere *elsewhere = connection->elsewhere;
    if (elsewhere == NULL) {
        elsewhere = memory_new_aligned(1, sizeof *elsewhere, _Alignof(struct elsewhere));
        if (elsewhere == NULL) {
            return NULL;
        }
        elsewhere->connection = connection;
        stream_init(&elsewhere->stream);
        elsewhere->stream.transport = &stream_transport_permitted;
        elsewhere->stream.gathers = true;
        buffer_init(&elsewhere->incoming, LIMIT_MESSAGE_BYTES_MAX + LIMIT_RECEIVE_BUFFER_BYTES);
        buffer_init(&elsewhere->message, LIMIT_MESSAGE_BYTES_MAX);
        (void)event_assign(&elsewhere->timer, worker_base(connection->owner->worker), -1, 0,
                           on_timer, elsewhere);
        connection->elsewhere = elsewhere;
    }
    return elsewhere;
}

void elsewhere_start(struct connection *connection, const struct wire_header *header,
                     struct slice message, const struct dispatch *dispatch)
{
    struct elsewhere *elsewhere = made(connection);
    struct op_msg parsed;
    if (elsewhere == NULL ||
        buffer_append(&elsewhere->message, message.data, message.size) != STATUS_OK ||
        op_msg_parse(buffer_slice(&elsewhere->message), &parsed) != STATUS_OK ||
        command_view_parse(parsed.body, &elsewhere->view, NULL) != STATUS_OK) {
        connection_refuse(connection, "out of memory for a command");
        return;
    }
    connection->elsewhere_busy = true;
    follow_not_needed(connection);
    elsewhere->expected = dispatch->expected;
    elsewhere->expected.request_id = header->request_id;
    elsewhere->streaming = false;
    elsewhere->attempts = 0;
    elsewhere->since_ms = clock_monotonic_ms();
    elsewhere->cursor = 0;
    elsewhere->place[0] = '\0';
    if (!is_placed(connection, &elsewhere->view, elsewhere->place, &elsewhere->cursor)) {
        elsewhere->place[0] = '\0';
        if (!selection_preference_parse(elsewhere->view.read_preference, &elsewhere->preference)) {
            /* Another connection has ended its cursor meanwhile. */
            elsewhere->preference =
                (struct selection_preference){.mode = SELECTION_PRIMARY_PREFERRED};
        }
    }
    begin(elsewhere);
}

/* ------------------------------------------------------------------ its reply */

static void note_cursor(struct elsewhere *elsewhere, struct slice document)
{
    struct cursor_places *places = &elsewhere->connection->shared->cursor_places;
    struct reply_view view;
    bool parsed = reply_view_parse(document, &view) == STATUS_OK;
    if (elsewhere->cursor != 0 && (!parsed || !view.has_cursor || view.cursor_id == 0)) {
        cursor_places_forget(places, elsewhere->cursor); /* or it is none, or killed */
    } else if (parsed && view.ok && view.has_cursor) {
        cursor_places_note(places, view.cursor_id, elsewhere->name);
    }
}

static void take_hello(struct elsewhere *elsewhere, const struct wire_header *header,
                       struct slice document)
{
    bool only_secondary = elsewhere->preference.mode == SELECTION_SECONDARY;
    if (header->response_to == elsewhere->hello_id &&
        (elsewhere->place[0] != '\0' ||
         topology_is_member(topology_of(elsewhere->connection), document, only_secondary))) {
        send_request(elsewhere);
    } else {
        fail(elsewhere);
    }
}

/* False: it is not what was asked for. */
static bool take_answer(struct elsewhere *elsewhere, const struct wire_header *header,
                        const struct op_msg *parsed, struct slice message)
{
    struct connection *connection = elsewhere->connection;
    if (!elsewhere->streaming && header->response_to != elsewhere->expected.request_id) {
        return false;
    }
    note_cursor(elsewhere, parsed->body);
    elsewhere->streaming = (parsed->flags & OP_MSG_MORE_TO_COME) != 0;
    connection_send_client(connection, message);
    return true;
}

static void broken(struct elsewhere *elsewhere)
{
    if (elsewhere->state == ASKING) {
        fail(elsewhere);
    } else if (elsewhere->state == WORKING) {
        lose(elsewhere);
    } else {
        close_stream(elsewhere);
    }
}

/* One whole message is at the front. False: the stream has another life by now. */
static bool take_message(struct elsewhere *elsewhere, const struct wire_header *header)
{
    struct op_msg parsed;
    struct slice message = slice_front(buffer_slice(&elsewhere->incoming), header->length);
    enum state state = elsewhere->state;
    if (header->opcode != WIRE_OPCODE_MSG || op_msg_parse(message, &parsed) != STATUS_OK ||
        (state != ASKING && state != WORKING)) {
        broken(elsewhere);
        return false;
    }
    if (state == ASKING) {
        take_hello(elsewhere, header, parsed.body);
    } else if (!take_answer(elsewhere, header, &parsed, message)) {
        lose(elsewhere);
    }
    if (elsewhere->state != WORKING) {
        return false;
    }
    buffer_consume(&elsewhere->incoming, header->length);
    return true;
}

static void process(struct elsewhere *elsewhere)
{
    struct wire_header header;
    while (elsewhere->incoming.size >= WIRE_HEADER_BYTES) {
        if (wire_header_parse(buffer_slice(&elsewhere->incoming), &header) != STATUS_OK) {
            broken(elsewhere);
            return;
        }
        if (elsewhere->incoming.size < header.length) {
            return;
        }
        bool answered = elsewhere->state == WORKING;
        if (!take_message(elsewhere, &header)) {
            return;
        }
        if (answered && !elsewhere->streaming) {
            buffer_free(&elsewhere->incoming);
            finish(elsewhere);
            return;
        }
    }
}

static bool may_read(const struct elsewhere *elsewhere)
{
    return (elsewhere->state == ASKING || elsewhere->state == IDLE ||
            elsewhere->state == WORKING) &&
           stream_pending(&elsewhere->connection->downstream) < BACK_PRESSURE_BYTES;
}

void elsewhere_read(struct connection *connection)
{
    struct elsewhere *elsewhere = connection->elsewhere;
    while (elsewhere != NULL && !connection->client_gone && may_read(elsewhere)) {
        uint8_t *memory = worker_receive_buffer(connection->owner->worker);
        size_t size = 0;
        enum status status =
            stream_receive(&elsewhere->stream, memory, LIMIT_RECEIVE_BUFFER_BYTES, &size);
        if (status == STATUS_UNREACHABLE) {
            broken(elsewhere);
        }
        if (status != STATUS_OK) {
            return;
        }
        counter_add_alone(&connection->owner->counters.server_bytes_in, size);
        if (buffer_append(&elsewhere->incoming, memory, size) != STATUS_OK) {
            broken(elsewhere);
            return;
        }
        process(elsewhere);
    }
}
