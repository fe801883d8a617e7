/*
 * See store.h.
 *
 * Invariant: writes wait only while no connection is free.
 */
#include "bench/stub/store.h"

#include <bson/bson.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buffer.h"
#include "bench/load/commands.h"
#include "bench/load/link.h"
#include "holdfast/limits.h"
#include "wire/op_msg.h"
#include "wire/reply.h"

#define REPLY_BYTES_MAX 65536u

struct connection {
    struct watched watched; /* first */
    struct buffer incoming;
    struct store_write *write;    /* NULL: it is free */
    struct connection *next_free; /* only then */
};

struct store {
    struct connection *connections;
    uint32_t opened;
    struct connection *free;
    struct store_write *first; /* of those that wait */
    struct store_write *last;
    struct buffer request;
    int32_t request_id;
    uint32_t documents;
    uint32_t first_document;
    uint32_t document; /* the next one, counted from there */
    uint8_t receive_buffer[REPLY_BYTES_MAX];
};

static enum status open_connection(struct store *store, const struct network_address *address,
                                   int epoll, struct error *ret_error)
{
    struct connection *connection = &store->connections[store->opened];
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
    connection->watched.kind = WATCHED_STORE;
    enum status status = link_open(address, &connection->watched.descriptor, ret_error);
    if (status != STATUS_OK) {
        return error_prefix(ret_error, "connection %u to --mongo", store->opened + 1);
    }
    store->opened++;
    buffer_init(&connection->incoming, REPLY_BYTES_MAX);
    connection->next_free = store->free;
    store->free = connection;
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, connection->watched.descriptor, &event) != 0) {
        return error_set(ret_error, STATUS_IO, "cannot watch a connection: %s", strerror(errno));
    }
    return STATUS_OK;
}

enum status store_open(const struct network_address *address, uint32_t connections,
                       uint32_t documents, uint32_t first_document, int epoll,
                       struct store **ret_store, struct error *ret_error)
{
    struct store *store = calloc(1, sizeof *store);
    if (store != NULL) {
        store->connections = calloc(connections, sizeof *store->connections);
    }
    if (store == NULL || store->connections == NULL) {
        free(store);
        return error_set(ret_error, STATUS_MEMORY, "out of memory for connections");
    }
    store->documents = documents;
    store->first_document = first_document;
    buffer_init(&store->request, LIMIT_MESSAGE_BYTES_MAX);
    enum status status = STATUS_OK;
    for (uint32_t i = 0; i < connections && status == STATUS_OK; i++) {
        status = open_connection(store, address, epoll, ret_error);
    }
    if (status != STATUS_OK) {
        store_close(store);
        return status;
    }
    *ret_store = store;
    return STATUS_OK;
}

struct store *store_close(struct store *store)
{
    for (uint32_t i = 0; store != NULL && i < store->opened; i++) {
        (void)close(store->connections[i].watched.descriptor);
        buffer_free(&store->connections[i].incoming);
    }
    if (store != NULL) {
        buffer_free(&store->request);
        free(store->connections);
    }
    free(store);
    return NULL;
}

static enum status send_write(struct store *store, struct connection *connection,
                              struct store_write *write, struct error *ret_error)
{
    bson_t command = BSON_INITIALIZER;
    commands_upsert(&command, STORE_COLLECTION, (int32_t)(store->first_document + store->document),
                    write->traceparent);
    store->document = (store->document + 1) % store->documents;
    connection->write = write;
    buffer_clear(&store->request);
    enum status status = op_msg_append(&store->request, ++store->request_id, 0, 0,
                                       slice_make(bson_get_data(&command), command.len));
    bson_destroy(&command);
    return status == STATUS_OK
               ? link_send(connection->watched.descriptor, buffer_slice(&store->request), ret_error)
               : error_set(ret_error, status, "out of memory for a command");
}

enum status store_begin(struct store *store, struct store_write *write, struct error *ret_error)
{
    struct connection *connection = store->free;
    write->next = NULL;
    if (connection == NULL) {
        *(store->first == NULL ? &store->first : &store->last->next) = write;
        store->last = write;
        return STATUS_OK;
    }
    store->free = connection->next_free;
    return send_write(store, connection, write, ret_error);
}

/* STATUS_REFUSED with the reason of an error reply. */
static enum status judge(struct slice message, struct error *ret_error)
{
    struct op_msg parsed;
    struct reply_view view;
    if (op_msg_parse(message, &parsed) != STATUS_OK ||
        reply_view_parse(parsed.body, &view) != STATUS_OK) {
        return error_set(ret_error, STATUS_PROTOCOL, "a reply of --mongo is not valid");
    }
    if (!view.ok || view.has_write_errors || view.has_write_concern_error) {
        return link_refused(&view, "update", ret_error);
    }
    return view.has_n && view.n == 1
               ? STATUS_OK
               : error_set(ret_error, STATUS_REFUSED, "update: not one document was changed");
}

static enum status take_reply(struct store *store, struct connection *connection,
                              struct error *ret_error)
{
    struct error error = {0};
    struct store_write *write = connection->write;
    enum status status = judge(buffer_slice(&connection->incoming), &error);
    if (write == NULL || status == STATUS_PROTOCOL) {
        return error_set(ret_error, STATUS_PROTOCOL, "%s",
                         write == NULL ? "a reply of --mongo that nobody asked for"
                                       : error.message);
    }
    buffer_clear(&connection->incoming);
    connection->write = NULL;
    enum status sent = STATUS_OK;
    if (store->first != NULL) {
        struct store_write *next = store->first;
        store->first = next->next;
        sent = send_write(store, connection, next, ret_error);
    } else {
        connection->next_free = store->free;
        store->free = connection;
    }
    write->done(write, status == STATUS_OK ? NULL : &error);
    return sent;
}

enum status store_readable(struct store *store, struct watched *watched, struct error *ret_error)
{
    struct connection *connection = (struct connection *)watched;
    struct buffer *incoming = &connection->incoming;
    struct wire_header header;
    ssize_t received = recv(watched->descriptor, store->receive_buffer,
                            sizeof store->receive_buffer, MSG_DONTWAIT);
    if (received < 0 && (errno == EAGAIN || errno == EINTR)) {
        return STATUS_OK;
    }
    if (received <= 0) {
        return error_set(ret_error, STATUS_UNREACHABLE, "lost a connection to --mongo: %s",
                         received == 0 ? "it was closed" : strerror(errno));
    }
    if (buffer_append(incoming, store->receive_buffer, (size_t)received) != STATUS_OK) {
        return error_set(ret_error, STATUS_PROTOCOL, "a reply of --mongo is too large");
    }
    if (incoming->size < WIRE_HEADER_BYTES) {
        return STATUS_OK;
    }
    if (wire_header_parse(buffer_slice(incoming), &header) != STATUS_OK ||
        header.length < incoming->size) {
        return error_set(ret_error, STATUS_PROTOCOL, "a reply of --mongo is not one message");
    }
    return header.length == incoming->size ? take_reply(store, connection, ret_error) : STATUS_OK;
}
