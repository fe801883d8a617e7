/*
 * See link.h. Descriptors are blocking with a time limit; a reply is read to its exact end.
 */
#include "bench/load/link.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "holdfast/limits.h"
#include "wire/op_msg.h"

static enum status gone(struct error *ret_error, const char *what)
{
    const char *reason = errno == EAGAIN || errno == EWOULDBLOCK ? "it is silent" : strerror(errno);
    return error_set(ret_error, STATUS_UNREACHABLE, "%s: %s", what, reason);
}

enum status link_send(int descriptor, struct slice bytes, struct error *ret_error)
{
    while (bytes.size > 0) {
        struct slice done;
        ssize_t sent = send(descriptor, bytes.data, bytes.size, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) {
            continue;
        }
        if (sent < 0 || !slice_take(&bytes, (size_t)sent, &done)) {
            return gone(ret_error, "cannot send to the target");
        }
    }
    return STATUS_OK;
}

static enum status read_exactly(int descriptor, struct buffer *buffer, size_t size,
                                struct error *ret_error)
{
    enum status status = buffer_reserve(buffer, size);
    if (status != STATUS_OK) {
        return error_set(ret_error, status, "a reply of %zu bytes does not fit", size);
    }
    while (size > 0) {
        ssize_t received = recv(descriptor, buffer->data + buffer->size, size, 0);
        if (received < 0 && errno == EINTR) {
            continue;
        }
        if (received == 0) {
            return error_set(ret_error, STATUS_UNREACHABLE, "the target closed the connection");
        }
        if (received < 0) {
            return gone(ret_error, "no reply from the target");
        }
        buffer_grew(buffer, (size_t)received);
        size -= (size_t)received;
    }
    return STATUS_OK;
}

static enum status read_reply(int descriptor, struct buffer *reply, struct reply_view *ret_view,
                              struct error *ret_error)
{
    struct wire_header header;
    struct op_msg message;
    buffer_clear(reply);
    enum status status = read_exactly(descriptor, reply, WIRE_HEADER_BYTES, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    if (wire_header_parse(buffer_slice(reply), &header) != STATUS_OK) {
        return error_set(ret_error, STATUS_PROTOCOL,
                         "the target does not speak the MongoDB wire protocol");
    }
    status = read_exactly(descriptor, reply, header.length - WIRE_HEADER_BYTES, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    if (op_msg_parse(buffer_slice(reply), &message) != STATUS_OK ||
        reply_view_parse(message.body, ret_view) != STATUS_OK) {
        return error_set(ret_error, STATUS_PROTOCOL, "the target's reply is not valid");
    }
    return STATUS_OK;
}

enum status link_call(int descriptor, const bson_t *command, struct buffer *reply,
                      struct reply_view *ret_view, struct error *ret_error)
{
    struct buffer request;
    buffer_init(&request, LIMIT_MESSAGE_BYTES_MAX);
    enum status status =
        op_msg_append(&request, 1, 0, 0, slice_make(bson_get_data(command), command->len));
    if (status != STATUS_OK) {
        error_set(ret_error, status, "a command does not fit a message");
    } else {
        status = link_send(descriptor, buffer_slice(&request), ret_error);
    }
    if (status == STATUS_OK) {
        status = read_reply(descriptor, reply, ret_view, ret_error);
    }
    buffer_free(&request);
    return status;
}

enum status link_refused(const struct reply_view *view, const char *what, struct error *ret_error)
{
    return error_set(ret_error, STATUS_REFUSED, "%s: %s (%d): %.300s", what,
                     view->code_name == NULL ? "error" : view->code_name, view->code,
                     view->message == NULL ? "write errors" : view->message);
}

enum status link_ask(int descriptor, const bson_t *command, const char *what, struct buffer *reply,
                     struct reply_view *ret_view, struct error *ret_error)
{
    enum status status = link_call(descriptor, command, reply, ret_view, ret_error);
    return status == STATUS_OK && (!ret_view->ok || ret_view->has_write_errors)
               ? link_refused(ret_view, what, ret_error)
               : status;
}

static enum status say_hello(int descriptor, struct error *ret_error)
{
    struct buffer reply;
    struct reply_view view;
    buffer_init(&reply, LIMIT_MESSAGE_BYTES_MAX);
    bson_t *hello = BCON_NEW("hello", BCON_INT32(1), "$db", BCON_UTF8("admin"));
    enum status status = link_ask(descriptor, hello, "hello", &reply, &view, ret_error);
    bson_destroy(hello);
    buffer_free(&reply);
    return status;
}

enum status link_connect(const struct network_address *address, int *ret_descriptor,
                         struct error *ret_error)
{
    const struct timeval silence = {.tv_sec = LINK_SILENCE_SECONDS};
    int on = 1;
    int descriptor = socket(address->storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (descriptor < 0) {
        return error_set(ret_error, STATUS_IO, "cannot make a socket: %s", strerror(errno));
    }
    (void)setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    (void)setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &silence, sizeof silence);
    (void)setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &silence, sizeof silence);
    if (connect(descriptor, (const struct sockaddr *)&address->storage, address->size) != 0) {
        enum status status = gone(ret_error, "cannot connect to the target");
        (void)close(descriptor);
        return status;
    }
    *ret_descriptor = descriptor;
    return STATUS_OK;
}

enum status link_open(const struct network_address *address, int *ret_descriptor,
                      struct error *ret_error)
{
    int descriptor;
    enum status status = link_connect(address, &descriptor, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    status = say_hello(descriptor, ret_error);
    if (status != STATUS_OK) {
        (void)close(descriptor);
        return status;
    }
    *ret_descriptor = descriptor;
    return STATUS_OK;
}
