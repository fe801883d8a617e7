/*
 * A connection as bytes, for another process that goes on with it.
 *
 *   { version: 1, listen: "ADDRESS:PORT", application: "..", user: "..", pending: "..",
 *     conversation: Int64, leaving: Bool, heard: Bool, process: Binary, sessions: [ Int64 ... ],
 *     expected: [ { hello: Bool, requestId: Int32, streaming: Bool, loss: Int32 } ... ],
 *     incoming: Binary }
 *
 * Only a connection at rest is packed: the client may have sent more, and the server may owe
 * replies that need nothing but to be passed on, but nothing is half read, half sent, or known to
 * the engine. Both processes are ours, yet what comes is checked as any peer's bytes: they may be
 * of another version. Fields that are not known are passed over, so that later versions may add
 * some.
 *
 * The connection's worker; unpacking: any thread.
 */
#include <string.h>

#include "holdfast/limits.h"
#include "route/connection.h"

#define PARCEL_VERSION 1

/* ------------------------------------------------------------------ at rest */

static bool is_only_passed_on(const struct expected *expected)
{
    return expected->kind == EXPECT_PASS || expected->kind == EXPECT_HELLO;
}

static bool is_with_engine(const struct connection *connection)
{
    if (connection->active || connection->gate_waiting || connection->gate_admitted ||
        connection->name_wait != NULL || connection->lost_posted || connection->read_watch.active) {
        return true;
    }
    /* Of one that is away it is the proxy's own question. */
    for (uint32_t i = 0; !connection->away && i < connection->expected_count; i++) {
        if (!is_only_passed_on(expected_get(connection, i))) {
            return true;
        }
    }
    return false;
}

static bool has_tls(const struct connection *connection)
{
    return connection->downstream.tls != NULL || connection->upstream.tls != NULL;
}

static bool is_in_message(const struct connection *connection)
{
    return connection->request_remaining > 0 || connection->reply_remaining > 0 ||
           connection->elsewhere_busy || connection->reply_incoming.size > 0 ||
           stream_pending(&connection->upstream) > 0 || stream_pending(&connection->downstream) > 0;
}

bool parcel_can_be_made(const struct connection *connection)
{
    bool at_server = connection->connected && !connection->upstream.ended;
    bool away = connection->away && !connection->refusing; /* it dials anew over there */
    return !connection->client_gone && !connection->server_gone && (at_server || away) &&
           !connection->held && !connection->finishing && !connection->downstream.ended &&
           !has_tls(connection) && !is_with_engine(connection) && !is_in_message(connection);
}

bool parcel_may_be_made_later(const struct connection *connection)
{
    return !connection->client_gone && !connection->server_gone && connection->connected &&
           !has_tls(connection) && !is_with_engine(connection);
}

bool parcel_must_wait(const struct connection *connection)
{
    if (is_with_engine(connection) || connection->elsewhere_busy) {
        return true;
    }
    if (connection->client_gone || connection->server_gone) {
        return false;
    }
    if (connection->away) {
        return false; /* it waits for a server, and may as well over there */
    }
    if (!connection->connected) {
        return connection->upstream.connecting || connection->checking;
    }
    for (uint32_t i = 0; has_tls(connection) && i < connection->expected_count; i++) {
        if (expected_get(connection, i)->kind != EXPECT_HELLO) {
            return true; /* the answer to its command, which its end would lose */
        }
    }
    return is_in_message(connection);
}

/* ------------------------------------------------------------------ packing */

static bool pack_expected(const struct connection *connection, bson_t *state)
{
    bson_t list;
    bool fine = BSON_APPEND_ARRAY_BEGIN(state, "expected", &list);
    /* Of one that is away it is the proxy's own question. */
    uint32_t count = connection->away ? 0 : connection->expected_count;
    for (uint32_t i = 0; fine && i < count; i++) {
        const struct expected *at = expected_get(connection, i);
        char text[16];
        const char *key = NULL;
        bson_t entry;
        (void)bson_uint32_to_string(i, &key, text, sizeof text);
        fine = bson_append_document_begin(&list, key, -1, &entry) &&
               BSON_APPEND_BOOL(&entry, "hello", at->kind == EXPECT_HELLO) &&
               BSON_APPEND_INT32(&entry, "requestId", at->request_id) &&
               BSON_APPEND_BOOL(&entry, "streaming", at->streaming) &&
               BSON_APPEND_INT32(&entry, "loss", (int32_t)at->loss) &&
               bson_append_document_end(&list, &entry);
    }
    return fine && bson_append_array_end(state, &list);
}

static bool pack_sessions(const struct connection *connection, bson_t *state)
{
    bson_t list;
    bool fine = BSON_APPEND_ARRAY_BEGIN(state, "sessions", &list);
    for (uint32_t i = 0; fine && i < UNIT_RECENT_SESSIONS; i++) {
        char text[16];
        const char *key = NULL;
        (void)bson_uint32_to_string(i, &key, text, sizeof text);
        fine = bson_append_int64(&list, key, -1, (int64_t)connection->recent_sessions[i]);
    }
    return fine && bson_append_array_end(state, &list);
}

/* A text of a peer's may be no valid UTF-8; it travels as bytes. */
static bool pack_text(bson_t *state, const char *key, const char *text)
{
    return bson_append_binary(state, key, -1, BSON_SUBTYPE_BINARY, (const uint8_t *)text,
                              (uint32_t)strlen(text));
}

static bool pack(const struct connection *connection, bson_t *state)
{
    const struct login *login = &connection->login;
    return BSON_APPEND_INT32(state, "version", PARCEL_VERSION) &&
           BSON_APPEND_UTF8(state, "listen", listener_address(connection->listener->listener)) &&
           pack_text(state, "application", connection->application) &&
           BSON_APPEND_BOOL(state, "applicationKnown", connection->application_known) &&
           pack_text(state, "user", login->user) && pack_text(state, "pending", login->pending) &&
           BSON_APPEND_INT64(state, "conversation", login->conversation) &&
           BSON_APPEND_BOOL(state, "leaving", login->leaving) &&
           BSON_APPEND_BOOL(state, "heard", connection->received > 0) &&
           bson_append_binary(state, "process", -1, BSON_SUBTYPE_BINARY, connection->process,
                              connection->has_process ? UPSTREAM_PROCESS_BYTES : 0) &&
           pack_sessions(connection, state) && pack_expected(connection, state) &&
           bson_append_binary(state, "incoming", -1, BSON_SUBTYPE_BINARY, connection->incoming.data,
                              (uint32_t)connection->incoming.size);
}

enum status parcel_pack(const struct connection *connection, bson_t *state)
{
    return pack(connection, state) ? STATUS_OK : STATUS_MEMORY;
}

/* ------------------------------------------------------------------ unpacking */

static struct slice binary_of(const bson_t *state, const char *key)
{
    bson_iter_t at;
    bson_subtype_t subtype;
    uint32_t size = 0;
    const uint8_t *data = NULL;
    if (!bson_iter_init_find(&at, state, key) || !BSON_ITER_HOLDS_BINARY(&at)) {
        return (struct slice){0};
    }
    bson_iter_binary(&at, &subtype, &size, &data);
    return slice_make(data, size);
}

static bool bool_of(const bson_t *state, const char *key)
{
    bson_iter_t at;
    return bson_iter_init_find(&at, state, key) && BSON_ITER_HOLDS_BOOL(&at) && bson_iter_bool(&at);
}

static int64_t number_of(const bson_t *state, const char *key, int64_t otherwise)
{
    bson_iter_t at;
    return bson_iter_init_find(&at, state, key) &&
                   (BSON_ITER_HOLDS_INT32(&at) || BSON_ITER_HOLDS_INT64(&at))
               ? bson_iter_as_int64(&at)
               : otherwise;
}

static bool unpack_text(const bson_t *state, const char *key, char *text, size_t size)
{
    struct slice bytes = binary_of(state, key);
    if (bytes.size >= size) {
        return false;
    }
    if (bytes.size > 0) {
        memcpy(text, bytes.data, bytes.size);
    }
    text[bytes.size] = '\0';
    return true;
}

static const struct route_listener *find_listener(const struct route_shared *shared,
                                                  const bson_t *state)
{
    bson_iter_t at;
    const char *listen = bson_iter_init_find(&at, state, "listen") && BSON_ITER_HOLDS_UTF8(&at)
                             ? bson_iter_utf8(&at, NULL)
                             : "";
    for (size_t i = 0; i < shared->listener_count; i++) {
        const struct listener *at_it = shared->listeners[i].listener;
        if (at_it != NULL && strcmp(listener_address(at_it), listen) == 0) {
            return &shared->listeners[i];
        }
    }
    return NULL;
}

static enum expected_loss loss_of(int64_t number)
{
    return number >= LOSS_PLAIN && number <= LOSS_RESUMABLE ? (enum expected_loss)number
                                                            : LOSS_PLAIN;
}

static bool unpack_expected(const bson_t *state, struct parcel *parcel)
{
    bson_iter_t at;
    bson_iter_t entry;
    if (!bson_iter_init_find(&at, state, "expected") || !BSON_ITER_HOLDS_ARRAY(&at) ||
        !bson_iter_recurse(&at, &entry)) {
        return false;
    }
    while (bson_iter_next(&entry)) {
        const uint8_t *data = NULL;
        uint32_t size = 0;
        bson_t document;
        if (!BSON_ITER_HOLDS_DOCUMENT(&entry) || parcel->expected_count == EXPECTED_MAX) {
            return false;
        }
        bson_iter_document(&entry, &size, &data);
        if (!bson_init_static(&document, data, size)) {
            return false;
        }
        parcel->expected[parcel->expected_count++] = (struct expected){
            .kind = bool_of(&document, "hello") ? EXPECT_HELLO : EXPECT_PASS,
            .request_id = (int32_t)number_of(&document, "requestId", 0),
            .streaming = bool_of(&document, "streaming"),
            .loss = loss_of(number_of(&document, "loss", LOSS_PLAIN)),
        };
    }
    return true;
}

static void unpack_sessions(const bson_t *state, struct parcel *parcel)
{
    bson_iter_t at;
    bson_iter_t entry;
    size_t count = 0;
    if (!bson_iter_init_find(&at, state, "sessions") || !BSON_ITER_HOLDS_ARRAY(&at) ||
        !bson_iter_recurse(&at, &entry)) {
        return;
    }
    while (count < UNIT_RECENT_SESSIONS && bson_iter_next(&entry)) {
        parcel->recent_sessions[count++] = (uint64_t)bson_iter_as_int64(&entry);
    }
}

enum status parcel_unpack(struct route_shared *shared, struct slice state, struct parcel *parcel,
                          struct error *ret_error)
{
    bson_t document;
    struct slice process;
    struct slice incoming;
    if (!bson_init_static(&document, state.data, state.size) ||
        !bson_validate(&document, BSON_VALIDATE_NONE, NULL) ||
        number_of(&document, "version", 0) != PARCEL_VERSION) {
        return error_set(ret_error, STATUS_INVALID, "a connection came in another form");
    }
    parcel->listener = find_listener(shared, &document);
    if (parcel->listener == NULL) {
        return error_set(ret_error, STATUS_INVALID, "its listener is not served any more");
    }
    process = binary_of(&document, "process");
    incoming = binary_of(&document, "incoming");
    parcel->has_process = process.size == UPSTREAM_PROCESS_BYTES;
    if (parcel->has_process) {
        memcpy(parcel->process, process.data, process.size);
    }
    parcel->application_known = bool_of(&document, "applicationKnown");
    parcel->heard = bool_of(&document, "heard");
    parcel->login.conversation = number_of(&document, "conversation", LOGIN_NO_CONVERSATION);
    parcel->login.leaving = bool_of(&document, "leaving");
    unpack_sessions(&document, parcel);
    if (!unpack_text(&document, "application", parcel->application, sizeof parcel->application) ||
        !unpack_text(&document, "user", parcel->login.user, sizeof parcel->login.user) ||
        !unpack_text(&document, "pending", parcel->login.pending, sizeof parcel->login.pending) ||
        !unpack_expected(&document, parcel)) {
        return error_set(ret_error, STATUS_INVALID, "a connection came damaged");
    }
    buffer_init(&parcel->incoming, LIMIT_MESSAGE_BYTES_MAX + LIMIT_RECEIVE_BUFFER_BYTES);
    if (incoming.size > 0 &&
        buffer_append(&parcel->incoming, incoming.data, incoming.size) != STATUS_OK) {
        return error_set(ret_error, STATUS_MEMORY, "out of memory for a connection");
    }
    return STATUS_OK;
}
