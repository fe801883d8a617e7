/*
 * From the server to the client.
 *
 * A reply that nobody changes is forwarded as its bytes arrive, however large it is; its header
 * tells how long it is, and `expected` what it answers. The connection's worker.
 */
#include "route/connection.h"

#include "holdfast/limits.h"
#include "holdfast/log.h"
#include "route/follow.h"
#include "route/hello.h"
#include "wire/op_msg.h"
#include "wire/op_query.h"
#include "wire/reply.h"

/* Header and flags. */
#define REPLY_HEAD_BYTES (WIRE_HEADER_BYTES + 4u)

static void broken_server(struct connection *connection, const char *reason)
{
    LOG(LOG_ERROR, "net", "Connection to the server closed: its reply makes no sense",
        LOG_TEXT("upstream", connection->shared->options.upstream_name), LOG_CONNECTION(connection),
        LOG_NUMBER(connection->active && connection->request->unit_id != 0 ? "unit" : NULL,
                   connection->active ? connection->request->unit_id : 0),
        LOG_TEXT("reason", reason));
    connection_end_server(connection);
}

/* One that is held has no reply to come, but its server may die: that it is told of here only. */
static bool may_read(const struct connection *connection)
{
    return !connection->server_gone &&
           (connection->connected || connection->checking || connection->held) &&
           (connection->client_gone ||
            stream_pending(&connection->downstream) < BACK_PRESSURE_BYTES);
}

/* The reply's document, of either opcode. */
static bool reply_document(const struct wire_header *header, struct slice message,
                           struct slice *ret_document)
{
    if (header->opcode == WIRE_OPCODE_MSG) {
        struct op_msg parsed;
        if (op_msg_parse(message, &parsed) != STATUS_OK) {
            return false;
        }
        *ret_document = parsed.body;
        return true;
    }
    return op_reply_parse(message, ret_document) == STATUS_OK;
}

static void send_hello(struct connection *connection, const struct wire_header *header,
                       uint32_t flags, struct slice document)
{
    bson_t rewritten = BSON_INITIALIZER;
    struct buffer out;
    buffer_init(&out, LIMIT_MESSAGE_BYTES_MAX);
    enum status status = hello_rewrite(document, connection->persona, &rewritten);
    struct slice body = slice_make(bson_get_data(&rewritten), rewritten.len);
    if (status == STATUS_OK) {
        status = header->opcode == WIRE_OPCODE_MSG
                     ? op_msg_append(&out, header->request_id, header->response_to,
                                     flags & OP_MSG_MORE_TO_COME, body)
                     : op_reply_append(&out, header->request_id, header->response_to, body);
    }
    if (status == STATUS_OK) {
        connection_send_client(connection, buffer_slice(&out));
    } else {
        broken_server(connection, "its hello is no document");
    }
    buffer_free(&out);
    bson_destroy(&rewritten);
}

/* A reply that is needed whole: hello, a step of a login, an answer to a boundary. */
static void take_whole(struct connection *connection, struct expected expected,
                       const struct wire_header *header, uint32_t flags, struct slice message)
{
    struct slice document;
    if (!reply_document(header, message, &document)) {
        broken_server(connection, "it is not a valid reply");
        return;
    }
    if (expected.kind == EXPECT_OPERATION) {
        if (follow_is_on(connection)) {
            (void)follow_reply(connection, document); /* the boundary tells the client */
        }
        operation_take_reply(connection, document);
        return;
    }
    if (expected.kind == EXPECT_READ || expected.kind == EXPECT_GET_MORE) {
        struct reply_view view;
        bool ok = reply_view_parse(document, &view) == STATUS_OK && view.ok;
        bool disturbed = dispatch_read_disturbed(connection);
        if (!disturbed) {
            dispatch_read_take_cursor(connection, ok && view.has_cursor ? view.cursor_id : 0);
        }
        if (!disturbed || (expected.kind == EXPECT_GET_MORE &&
                           (!ok || dispatch_read_shows_nothing(connection, &view)))) {
            dispatch_read_forget(connection);
            connection_send_client(connection, message);
            return;
        }
        dispatch_read_again(connection, expected.kind, ok && view.has_cursor ? view.cursor_id : 0);
        return;
    }
    if (expected.kind == EXPECT_CURSOR) {
        struct reply_view view;
        if (reply_view_parse(document, &view) == STATUS_OK && view.has_cursor) {
            cursor_set_note(&connection->shared->options.engine->loose_cursors, view.cursor_id);
        }
        connection_send_client(connection, message);
        return;
    }
    if (expected.kind == EXPECT_PROCESS) {
        process_check_take(connection, document);
        return;
    }
    login_reply(&connection->login, document);
    connection->observed_writer = 0;
    if (expected.kind == EXPECT_HELLO) {
        send_hello(connection, header, flags, document);
    } else {
        connection_send_client(connection, message);
    }
}

/* What tells that the server is not the primary any more is short, and here at once. */
static bool may_pass(struct connection *connection, const struct wire_header *header,
                     struct slice data)
{
    struct slice document;
    return header->length > FOLLOW_LOOK_BYTES || data.size < header->length ||
           !reply_document(header, slice_front(data, header->length), &document) ||
           follow_reply(connection, document);
}

/*
 * The next reply begins at the front of `data`. Returns how many bytes are done with; 0: more are
 * needed.
 */
static size_t take_reply(struct connection *connection, struct slice data)
{
    struct wire_header header;
    struct expected *first = expected_first(connection);
    if (data.size < REPLY_HEAD_BYTES) {
        return 0;
    }
    if (wire_header_parse(data, &header) != STATUS_OK || header.length < REPLY_HEAD_BYTES ||
        (header.opcode != WIRE_OPCODE_MSG && header.opcode != WIRE_OPCODE_REPLY)) {
        broken_server(connection, "its header is not valid");
        return 0;
    }
    if (first == NULL || (!first->streaming && first->request_id != header.response_to)) {
        broken_server(connection, "it answers nothing that was asked");
        return 0;
    }
    uint32_t flags = header.opcode == WIRE_OPCODE_MSG
                         ? slice_load_u32le(slice_rest(data, WIRE_HEADER_BYTES).data)
                         : 0;
    bool more = (flags & OP_MSG_MORE_TO_COME) != 0;
    bool whole_needed = first->kind == EXPECT_HELLO || first->kind == EXPECT_LOGIN ||
                        first->kind == EXPECT_OPERATION || first->kind == EXPECT_PROCESS ||
                        first->kind == EXPECT_CURSOR ||
                        ((first->kind == EXPECT_READ || first->kind == EXPECT_GET_MORE) &&
                         dispatch_read_disturbed(connection)) ||
                        (first->kind == EXPECT_READ && dispatch_read_wants_cursor(connection));
    if (whole_needed && data.size < header.length) {
        return 0;
    }
    struct expected expected = *first;
    first->streaming = more;
    if (!more) {
        expected_pop(connection);
        if (expected.kind == EXPECT_WRITE || expected.kind == EXPECT_SWALLOW) {
            expected_leave(connection, &expected);
        }
    }
    if (whole_needed) {
        take_whole(connection, expected, &header, flags, slice_front(data, header.length));
        return header.length;
    }
    if (expected.kind == EXPECT_READ || expected.kind == EXPECT_GET_MORE) {
        dispatch_read_forget(connection);
    }
    if (follow_is_on(connection) && !may_pass(connection, &header, data)) {
        connection_end_client(connection);
        return header.length;
    }
    size_t here = data.size < header.length ? data.size : header.length;
    connection->reply_remaining = header.length - (uint32_t)here;
    connection->reply_discarded = expected.kind == EXPECT_SWALLOW;
    if (!connection->reply_discarded) {
        connection_send_client(connection, slice_front(data, here));
    }
    return here;
}

static size_t process(struct connection *connection, struct slice data)
{
    size_t at = 0;
    while (at < data.size && !connection->server_gone && connection->upstream.descriptor >= 0) {
        struct slice rest = slice_rest(data, at);
        size_t done;
        if (connection->reply_remaining > 0) {
            done =
                rest.size < connection->reply_remaining ? rest.size : connection->reply_remaining;
            connection->reply_remaining -= (uint32_t)done;
            if (!connection->reply_discarded) {
                connection_send_client(connection, slice_front(rest, done));
            }
        } else {
            done = take_reply(connection, rest);
        }
        if (done == 0) {
            break;
        }
        at += done;
    }
    return at;
}

static void process_received(struct connection *connection, struct slice data)
{
    struct buffer *kept = &connection->reply_incoming;
    bool had = kept->size > 0;
    if (had && buffer_append(kept, data.data, data.size) != STATUS_OK) {
        broken_server(connection, "out of memory for a reply");
        return;
    }
    size_t done = process(connection, had ? buffer_slice(kept) : data);
    if (connection->server_gone || connection->upstream.descriptor < 0) {
        return; /* with what was kept */
    }
    if (had) {
        buffer_consume(kept, done);
        if (kept->size == 0) {
            buffer_free(kept);
        }
        return;
    }
    struct slice rest = slice_rest(data, done);
    if (rest.size > 0 && buffer_append(kept, rest.data, rest.size) != STATUS_OK) {
        broken_server(connection, "out of memory for a reply");
    }
}

static bool read_more(struct connection *connection)
{
    uint8_t *memory = worker_receive_buffer(connection->owner->worker);
    size_t size = 0;
    enum status status =
        stream_receive(&connection->upstream, memory, LIMIT_RECEIVE_BUFFER_BYTES, &size);
    if (status == STATUS_UNREACHABLE) {
        connection_lose_server(connection);
    }
    if (status != STATUS_OK) {
        return false;
    }
    counter_add_alone(&connection->owner->counters.server_bytes_in, size);
    process_received(connection, slice_make(memory, size));
    return true;
}

void replies_read(struct connection *connection)
{
    bool some = false;
    if (connection->reading) {
        return;
    }
    connection->reading = true;
    while (may_read(connection) && read_more(connection)) {
        some = true;
    }
    connection->reading = false;
    if (some || connection->server_gone || connection->away) {
        connection_continue(connection);
    }
}
