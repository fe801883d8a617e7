/*
 * From the client to the server.
 *
 * A message that needs no change is forwarded from the receive buffer as its bytes arrive; messages
 * one after the other go out with one system call. Only a message that cannot be decided yet, a
 * write, or one that a boundary takes is put together in `incoming`. The connection's worker.
 */
#include "route/connection.h"

#include "holdfast/limits.h"
#include "net/stream_tls.h"
#include "route/elsewhere.h"
#include "route/follow.h"
#include "wire/op_msg.h"
#include "wire/op_query.h"

static bool may_read(const struct connection *connection)
{
    return !connection->client_gone && !connection->server_gone &&
           (connection->connected || (connection->away && follow_answers(connection))) &&
           !connection->active && !connection->gate_waiting && connection->name_wait == NULL &&
           !connection->elsewhere_busy &&
           stream_pending(&connection->upstream) < BACK_PRESSURE_BYTES &&
           stream_pending(&connection->downstream) < BACK_PRESSURE_BYTES;
}

static struct slice part(struct slice data, size_t from, size_t to)
{
    struct slice skipped;
    struct slice result = {0};
    if (slice_take(&data, from, &skipped) && slice_take(&data, to - from, &result)) {
        return result;
    }
    return (struct slice){0};
}

/* The same message with another body: header and body are new, what follows goes on as it comes. */
static void rewrite(struct connection *connection, const struct wire_header *header,
                    const struct dispatch *dispatch, size_t *ret_skipped, uint32_t *ret_rest)
{
    const struct op_msg *message = &dispatch->message;
    uint8_t head[WIRE_HEADER_BYTES + 5];
    size_t body_end = message->body_offset + message->body.size;
    uint32_t rest = header->length - (uint32_t)body_end;
    struct wire_header changed = *header;
    uint32_t flags = message->flags & ~(dispatch->clear_more_to_come ? OP_MSG_MORE_TO_COME : 0u);
    changed.length = (uint32_t)sizeof head + dispatch->body.len + rest;
    wire_header_store(head, &changed);
    slice_store_u32le(head + WIRE_HEADER_BYTES, flags);
    head[WIRE_HEADER_BYTES + 4] = 0; /* section kind 0 */
    connection_send_server(connection, slice_make(head, sizeof head));
    connection_send_server(connection,
                           slice_make(bson_get_data(&dispatch->body), dispatch->body.len));
    *ret_skipped = body_end;
    *ret_rest = rest;
}

/* The same of an OP_QUERY, which is here whole: its query is new. */
static void rewrite_query(struct connection *connection, const struct wire_header *header,
                          struct slice message, const struct dispatch *dispatch)
{
    struct op_query query;
    struct buffer out;
    buffer_init(&out, LIMIT_MESSAGE_BYTES_MAX);
    enum status status = op_query_parse(message, &query);
    if (status == STATUS_OK) {
        query.query = slice_make(bson_get_data(&dispatch->body), dispatch->body.len);
        status = op_query_append(&out, header->request_id, &query);
    }
    if (status == STATUS_OK) {
        connection_send_server(connection, buffer_slice(&out));
    } else {
        connection_refuse(connection, "an OP_QUERY cannot be passed on");
    }
    buffer_free(&out);
}

static void answer(struct connection *connection, const struct wire_header *header,
                   const struct dispatch *dispatch)
{
    struct buffer out;
    buffer_init(&out, LIMIT_MESSAGE_BYTES_MAX);
    struct slice body = slice_make(bson_get_data(&dispatch->body), dispatch->body.len);
    enum status status = header->opcode == WIRE_OPCODE_QUERY
                             ? op_reply_append(&out, 0, header->request_id, body)
                             : op_msg_append(&out, 0, header->request_id, 0, body);
    if (dispatch->expects_reply && status == STATUS_OK) {
        connection_send_client(connection, buffer_slice(&out));
    }
    buffer_free(&out);
}

/* What one decided message takes of `data`; false: nothing more can be done now. */
static bool carry_out(struct connection *connection, const struct wire_header *header,
                      struct dispatch *dispatch, struct slice data, size_t *at, size_t *kept_from)
{
    struct slice available = part(data, *at, data.size);
    size_t here = available.size < header->length ? available.size : header->length;
    if (dispatch->expects_reply &&
        (dispatch->kind == DISPATCH_FORWARD || dispatch->kind == DISPATCH_REWRITE)) {
        /* Before anything is sent: if that breaks the connection, what is expected, and only that,
           leaves its gate. There is room: dispatch_decide() has looked. */
        (void)expected_push(connection, dispatch->expected);
    }
    if (dispatch->kind == DISPATCH_FORWARD) {
        *at += here;
        connection->request_remaining = header->length - (uint32_t)here;
    } else {
        /* What was forwarded before this message goes out before it. */
        connection_send_server(connection, part(data, *kept_from, *at));
        *kept_from = *at;
    }
    if (dispatch->kind != DISPATCH_MORE && dispatch->kind != DISPATCH_BLOCKED) {
        counter_add_alone(&connection->owner->counters.commands, 1);
    }
    switch (dispatch->kind) {
    case DISPATCH_MORE:
    case DISPATCH_BLOCKED:
        return false;
    case DISPATCH_FORWARD:
        return true;
    case DISPATCH_REWRITE: {
        size_t skipped = header->length;
        uint32_t rest = 0;
        if (header->opcode == WIRE_OPCODE_QUERY) {
            rewrite_query(connection, header, slice_front(available, header->length), dispatch);
        } else {
            rewrite(connection, header, dispatch, &skipped, &rest);
        }
        bson_destroy(&dispatch->body);
        *at += skipped;
        *kept_from = *at;
        size_t more = here - skipped < rest ? here - skipped : rest;
        *at += more;
        connection->request_remaining = rest - (uint32_t)more;
        return true;
    }
    case DISPATCH_ANSWER:
        answer(connection, header, dispatch);
        bson_destroy(&dispatch->body);
        *at += header->length;
        *kept_from = *at;
        return true;
    case DISPATCH_OPERATION:
        operation_start(connection, header, part(data, *at, *at + header->length), dispatch);
        *at += header->length;
        *kept_from = *at;
        return !connection->active;
    case DISPATCH_ELSEWHERE:
        elsewhere_start(connection, header, part(data, *at, *at + header->length), dispatch);
        *at += header->length;
        *kept_from = *at;
        return !connection->elsewhere_busy;
    case DISPATCH_REFUSE:
        connection_refuse(connection, dispatch->reason);
        return false;
    }
    return false;
}

/* What is perhaps spoken instead. */
static const char *invalid_header(struct slice bytes)
{
    return stream_tls_is_spoken(bytes)
               ? "the client speaks TLS, and this listener does not (net.tls.mode)"
               : "the header of a message is not valid";
}

/*
 * Works through `data` as far as possible; returns how much of it is done with. *ret_blocked: what
 * is next has to wait, for replies or for a gate; more bytes would not help.
 */
static size_t process(struct connection *connection, struct slice data, bool *ret_blocked)
{
    size_t at = 0;
    size_t kept_from = 0;
    while (at < data.size && !connection->client_gone && !connection->server_gone &&
           (!connection->away || follow_answers(connection))) {
        if (connection->request_remaining > 0) {
            size_t left = data.size - at;
            size_t size =
                left < connection->request_remaining ? left : connection->request_remaining;
            at += size;
            connection->request_remaining -= (uint32_t)size;
            continue;
        }
        struct wire_header header;
        struct slice available = part(data, at, data.size);
        if (available.size < WIRE_HEADER_BYTES) {
            break;
        }
        struct dispatch dispatch = {0};
        if (wire_header_parse(available, &header) != STATUS_OK) {
            dispatch.kind = DISPATCH_REFUSE;
            dispatch.reason = invalid_header(available);
        } else {
            available.size = available.size < header.length ? available.size : header.length;
            if (connection->away) {
                follow_decide(connection, &header, available, &dispatch);
            } else {
                dispatch_decide(connection, &header, available, &dispatch);
            }
        }
        if (!carry_out(connection, &header, &dispatch, data, &at, &kept_from)) {
            *ret_blocked = dispatch.kind == DISPATCH_BLOCKED;
            break;
        }
    }
    if (at > kept_from) {
        connection_send_server(connection, part(data, kept_from, at));
    }
    return at;
}

static void keep(struct connection *connection, struct slice rest)
{
    if (rest.size > 0 && !connection->client_gone &&
        buffer_append(&connection->incoming, rest.data, rest.size) != STATUS_OK) {
        connection_refuse(connection, "out of memory for a message");
    }
}

static bool is_partial(struct slice kept)
{
    struct wire_header header;
    return kept.size < WIRE_HEADER_BYTES ||
           (wire_header_parse(kept, &header) == STATUS_OK && kept.size < header.length);
}

bool requests_wait_for_client(const struct connection *connection)
{
    const struct buffer *kept = &connection->incoming;
    bool in_message =
        connection->request_remaining > 0 || connection->received == 0 || kept->size > 0;
    return in_message && may_read(connection) && !connection->downstream.readable &&
           (kept->size == 0 || is_partial(buffer_slice(kept)));
}

/* False: nothing more can be done now. */
static bool read_more(struct connection *connection)
{
    bool blocked = false;
    uint8_t *memory = worker_receive_buffer(connection->owner->worker);
    size_t size = 0;
    enum status status =
        stream_receive(&connection->downstream, memory, LIMIT_RECEIVE_BUFFER_BYTES, &size);
    if (status == STATUS_UNREACHABLE) {
        connection_end_client(connection);
        return false;
    }
    if (status != STATUS_OK) {
        return false;
    }
    counter_add_alone(&connection->owner->counters.client_bytes_in, size);
    struct slice data = slice_make(memory, size);
    connection->received += size;
    if (connection->incoming.size > 0) {
        keep(connection, data);
        return true;
    }
    size_t done = process(connection, data, &blocked);
    keep(connection, part(data, done, size));
    return !blocked;
}

void requests_read(struct connection *connection)
{
    size_t tried = SIZE_MAX; /* bytes of `incoming` that led to nothing */
    bool blocked = false;
    if (connection->reading) {
        return;
    }
    connection->reading = true;
    if (follow_is_on(connection)) {
        follow_look(connection);
    }
    while (!blocked && may_read(connection)) {
        if (connection->incoming.size > 0 && connection->incoming.size != tried) {
            size_t done = process(connection, buffer_slice(&connection->incoming), &blocked);
            if (!connection->client_gone) {
                buffer_consume(&connection->incoming, done);
                if (connection->incoming.size == 0) {
                    buffer_free(&connection->incoming);
                }
            }
            tried = connection->incoming.size;
            continue;
        }
        if (!read_more(connection)) {
            break;
        }
    }
    connection->reading = false;
}
